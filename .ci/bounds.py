"""Print which lower bounds of pyproject.toml .ci/lowest tests with and which it does not, as the files have them."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def declared(root: Path) -> list[tuple[str, str]]:
    """Return each requirement of pyproject.toml and its lower bound, in order."""
    return list(dict.fromkeys(re.findall(r'"([\w-]+)>=([\w.]+)"', (root / "pyproject.toml").read_text())))


def installed(root: Path) -> list[tuple[str, str]]:
    """Return what .ci/lowest installs: the pins of constraints-lowest.txt, and those in the script itself."""
    pin = r"^([\w-]+)==([\w.]+)"
    pins = re.findall(pin, (root / "constraints-lowest.txt").read_text(), re.MULTILINE)
    return pins + re.findall(r"\s([\w-]+)==([\w.]+)", (root / ".ci/lowest").read_text())


def report(root: Path) -> list[str]:
    """Return two lines: the bounds that are tested, and those that are not, with the version that is there instead."""
    pins = installed(root)
    tested, untested = list[str](), list[str]()
    for name, bound in declared(root):
        versions = [version for pinned, version in pins if pinned == name]
        if any(f"{version}.".startswith(f"{bound}.") for version in versions):
            tested.append(f"{name} {bound}")
        else:
            untested.append(f"{name} {bound} ({f'tested with {versions[0]}' if versions else 'not pinned'})")
    return [f"Lower bounds tested: {', '.join(tested)}", f"Lower bounds NOT tested: {', '.join(untested) or 'none'}"]


if __name__ == "__main__":
    print("\n".join(report(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])))
