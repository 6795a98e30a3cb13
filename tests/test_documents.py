"""What the documents say of the code holds: examples run, links lead somewhere, every name is there."""

import re
from pathlib import Path

import pytest

import mmdistill
import mmdistill.fusion
import mmdistill.losses

ROOT = Path(__file__).resolve().parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


# The guides are long scripts, run as a whole by test_guides.py.
EXAMPLES = [f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if not path.name.startswith("distill_")]


@pytest.mark.parametrize("document", ["README.md", *EXAMPLES])
def test_examples_run(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    for example in blocks(document, "python"):
        exec(compile(example, document, "exec"), {})
    capsys.readouterr()


def test_the_readme_begins_with_the_main_job_and_the_tests() -> None:
    main_job, tests = blocks("README.md", "sh")[:2]
    assert main_job.splitlines()[-1] == ".venv/bin/mmdistill demo"
    assert tests.splitlines()[-1] == '.venv-test/bin/python -m pytest -m "not slow"'
    for block in (main_job, tests):
        assert "--constraint constraints.txt" in block


def test_the_readme_shows_what_its_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("README.md", "python")
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out in blocks("README.md", "text")


def test_pins_are_exact_and_requirements_have_no_upper_bounds() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.match(r"[\w-]+==[\w.]+( ;.*)?$", pin) for pin in pins)
    project = (ROOT / "pyproject.toml").read_text()
    assert not re.search(r'"[\w-]+(>=[\w.]+)?,?<', project)


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CODE_OF_CONDUCT.md",
    "benchmarks/README.md",
    "examples/README.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", PAGES)
def test_links_lead_somewhere(document: str) -> None:
    page = ROOT / document
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{document}: {target}"
        assert not heading or heading in anchors(linked), f"{document}: {target}"


def test_every_document_is_on_the_map() -> None:
    linked = set(re.findall(r"\]\(([\w.]+\.md)\)", (ROOT / "docs/README.md").read_text()))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_every_public_name_of_the_losses_is_in_a_document() -> None:
    text = "".join((ROOT / page).read_text() for page in PAGES)
    names = {*mmdistill.__all__, *mmdistill.losses.__all__}
    names |= {name for name in mmdistill.fusion.__all__ if name.endswith("Fusion")}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []
