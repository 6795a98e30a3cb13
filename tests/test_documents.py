"""What the documents say is what the code does."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_examples_run(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    for example in blocks(document, "python"):
        exec(compile(example, document, "exec"), {})
    capsys.readouterr()


def test_the_readme_begins_with_the_main_job_and_the_tests() -> None:
    main_job, tests = blocks("README.md", "sh")[:2]
    assert main_job.splitlines()[-1] == ".venv/bin/mmdistill demo"
    assert tests.splitlines()[-1] == ".venv-test/bin/python -m pytest"
    for block in (main_job, tests):
        assert "--constraint constraints.txt" in block


def test_the_library_half_never_names_the_reference_half() -> None:
    library = [path for path in (ROOT / "mmdistill").rglob("*.py") if "reference" not in path.parts]
    assert len(library) > 10
    importing = [path.name for path in library if "mmdistill.reference" in path.read_text()]
    assert importing == ["__main__.py"]


def test_pins_are_exact_and_requirements_have_no_upper_bounds() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.match(r"[\w-]+==[\w.]+( ;.*)?$", pin) for pin in pins)
    project = (ROOT / "pyproject.toml").read_text()
    assert not re.search(r'"[\w-]+(>=[\w.]+)?,?<', project)
