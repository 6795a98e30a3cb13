"""Prepares the free pictures on which the bundled network is trained, from Debian's packages.

Get the packages with `apt-get download NAME` and extract each with `dpkg-deb -x FILE NAME`; any system can do it. The
pictures are not part of this project. The list has each picture's package, file, license and checksum. Takes 5 minutes.

Example:
    python benchmarks/bundled_pictures.py --packages debian --out pictures \
        --list benchmarks/results/bundled_pictures.json
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parts.bundled.pictures import PACKAGES, collect_pictures
from parts.report_fields import machine

from mmdistill.toolkit.io import write_text


def table(pictures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table: the number of pictures by kind, package and license."""
    counts = Counter((each["kind"], each["package"], each["license"]) for each in pictures)
    lines = ["| Kind | Debian package | License | Pictures |", "| --- | --- | --- | ---: |"]
    lines += [f"| {' | '.join(names)} | {count} |" for names, count in sorted(counts.items())]
    return lines


def as_json(report: Mapping[str, Any]) -> str:
    """Return the report as JSON with a line for each picture."""
    pictures = ",\n  ".join(json.dumps(each) for each in report["pictures"])
    head = json.dumps({"machine": report["machine"]}, indent=1).removesuffix("\n}")
    return f'{head},\n "pictures": [\n  {pictures}\n ]\n}}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(package.name for package in PACKAGES)
    parser.add_argument("--packages", type=Path, required=True, help=f"folder with the extracted packages: {names}")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared pictures")
    parser.add_argument("--list", type=Path, required=True, help="JSON list of the pictures")
    arguments = parser.parse_args()
    pictures = collect_pictures(arguments.packages, arguments.out)
    write_text(arguments.list, as_json({"machine": machine(), "pictures": pictures}) + "\n")
    print("\n".join(table(pictures)))


if __name__ == "__main__":
    main()
