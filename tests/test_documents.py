"""What the documents say is what the code does."""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

import mmdistill
import mmdistill.fusion
import mmdistill.losses
from mmdistill import Pair, SCFDLoss

ROOT = Path(__file__).resolve().parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


# The guides are long scripts, run as a whole by test_guides.py.
EXAMPLES = [f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if not path.name.startswith("distil_")]


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


PAGES = ["README.md", "benchmarks/README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


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


def figures(document: str, name: str) -> list[str]:
    """The lines of the table that stands under a mark."""
    _, _, below = (ROOT / document).read_text().partition(f"<!-- figures: {name} -->\n\n")
    return below.partition("\n\n")[0].splitlines()


@pytest.fixture
def loss_costs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("loss_costs")


def test_the_documents_costs_are_what_the_script_computes(loss_costs: ModuleType) -> None:
    losses, fusions, trunk = loss_costs.losses(), loss_costs.fusions(), loss_costs.trunk()
    features = {name: cost for name, cost in losses.items() if name.startswith(("SCFD", "Review", "FitNets"))}
    fused = {name: cost for name, cost in losses.items() if name.startswith(("MPSD", "Modality"))}
    assert figures("docs/features.md", "loss_costs") == loss_costs.table(features, (1, 2, 3, 4))
    assert figures("docs/fusion.md", "fusions") == loss_costs.table(fusions, (3, 4))
    assert figures("docs/fusion.md", "fusion losses") == loss_costs.table(fused, (3, 4))
    assert {losses[name].parameters + losses[name].total for name in ("HFRDLoss", "KDLoss")} == {0}
    compared = trunk["student's trunk"]
    prose = (ROOT / "docs/features.md").read_text().replace("\n", " ")
    assert f"{compared.parameters:,} parameters and {compared.total / 1e6:,.0f} million multiply-adds" in prose
    written = json.loads((ROOT / "benchmarks/results/loss_costs.json").read_text())
    for part, costs in (("losses", losses), ("fusions", fusions), ("for comparison", trunk)):
        assert written[part] == loss_costs.as_json(costs)


def test_the_costs_are_those_by_hand_and_of_a_whole_step(loss_costs: ModuleType) -> None:
    costs, student, teacher, mid = loss_costs.losses(), (64, 64, 128, 256), (64, 256, 512, 1024), 256
    by_hand = 2 * 18 * 18 * (256 * mid + 9 * mid * 1024)
    assert costs["SCFDLoss"].multiply_adds[4] == by_hand
    convolutions = sum(9 * mid * out * side**2 for out, side in zip(teacher, (144, 72, 36, 18), strict=True))
    share = 2 * convolutions / costs["SCFDLoss"].total
    assert f"are {share:.0%}".replace("%", " %") in (ROOT / "docs/features.md").read_text()
    for sampling in (1.0, 0.5, 0.25):
        with torch.device("meta"):
            loss = SCFDLoss(student, teacher, sampling=sampling, check_values=False)
        pairs = [Pair(*([loss_costs.level_map(c, n) for n in (1, 2, 3, 4)] for _ in "ab")) for c in (student, teacher)]
        name = {1.0: "SCFDLoss", 0.5: "SCFDLoss, sampling=1/2", 0.25: "SCFDLoss, sampling=1/4"}[sampling]
        assert loss_costs.multiply_adds(loss, *pairs) == costs[name].total


def test_the_documents_variance_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "benchmarks/results/sampling_variance.json").read_text())["variance"]
    del measured["batch"]
    expected = [
        f"| {share} | {100 * found['of the batch']:.1f} % | {100 * found['of the gradient']:.1f} % |"
        for share, found in measured.items()
    ]
    assert figures("docs/features.md", "sampling_variance")[2:] == expected


def test_the_documents_step_times_are_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report = json.loads((ROOT / "benchmarks/results/loss_step.json").read_text())
    assert figures("docs/features.md", "loss_step") == importlib.import_module("loss_step").table(report)


@pytest.mark.parametrize("name", ["export_precision_rgb", "export_precision_student"])
def test_the_documents_precisions_are_what_was_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    export_precision, export_tracking = map(importlib.import_module, ("export_precision", "parts.export.tracking"))
    assert figures("docs/export.md", name) == export_precision.table(report)
    assert figures("docs/export.md", f"{name} tracking") == export_tracking.tracking_table(report)


@pytest.mark.parametrize("name", ["tracker_speed", "tracker_memory", "real_sequences"])
def test_the_trackers_figures_are_what_was_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    assert figures("docs/tracking.md", name) == importlib.import_module(name).table(report)


def test_the_demonstrations_figures_are_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report = json.loads((ROOT / "benchmarks/results/demo_parts.json").read_text())
    assert figures("README.md", "demo_parts") == importlib.import_module("demo_parts").table(report)
    claims, prose = importlib.import_module("parts.claims"), (ROOT / "README.md").read_text().replace("\n", " ")
    spread = importlib.import_module("parts.spread")
    for name in ("+ all (CMD)", "+ all, alpha as published"):
        gains = claims.differences(report["seeds"], name, "student", "SR")
        assert f"{spread.with_spread(spread.mean_and_deviation(gains))} points of SR" in prose


def test_what_the_settings_teach_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report = json.loads((ROOT / "benchmarks/results/tir_transfer.json").read_text())
    assert figures("docs/tir.md", "tir_transfer") == importlib.import_module("tir_transfer").table(report)


def test_what_the_settings_reach_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report = json.loads((ROOT / "benchmarks/results/tir_settings.json").read_text())
    tables, claims = map(importlib.import_module, ("parts.tir_settings_report", "parts.claims"))
    assert figures("docs/tir.md", "tir_settings") == tables.table(report)
    assert figures("docs/tir.md", "tir_settings real") == tables.table(report, "real")
    assert figures("docs/tir.md", "tir_settings losses") == tables.losses_table(report)
    assert figures("docs/tir.md", "tir_settings claims") == claims.claims_table(report["claims"], tables.FIGURES)
    assert all(row["seeds"] == [0, 1, 2] for row in report["settings"].values())


def test_the_known_answers_are_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report = json.loads((ROOT / "benchmarks/results/known_answers.json").read_text())
    assert figures("docs/benchmarks.md", "known_answers") == importlib.import_module("known_answers").table(report)
    [dfat] = [each for each in report["trackers"] if "published" in each]
    said = "DFAT is published with {} and {}".format(*dfat["published"])
    assert said in (ROOT / "docs/benchmarks.md").read_text()
    assert dfat["without"]


@pytest.fixture
def ablation_report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("parts.ablation.report")


def test_the_ablation_is_what_was_measured_or_said_not_to_be(ablation_report: ModuleType) -> None:
    page, results = "docs/how_far_from_the_paper.md", ROOT / "benchmarks/results/ablation.json"
    report = json.loads(results.read_text()) if results.exists() else {"rows": {}, "claims": {}, "choice": None}
    for name in ("1", "2", "3", "4"):
        assert figures(page, f"ablation {name}") == ablation_report.table(report, name)
    assert figures(page, "ablation choice") == ablation_report.choice_table(report)
    claims_table = importlib.import_module("parts.claims").claims_table
    assert figures(page, "ablation claims") == claims_table(report["claims"], ablation_report.SHOWN)
    assert figures(page, "ablation_sizes") == importlib.import_module("parts.ablation.sizes").table()
    assert ("Not measured yet." in (ROOT / page).read_text()) != results.exists()


@pytest.mark.parametrize("name", ["pretrained"])
def test_the_ablations_controls_are_what_was_measured(name: str, ablation_report: ModuleType) -> None:
    report = json.loads((ROOT / f"benchmarks/results/ablation_{name}.json").read_text())
    page = "docs/how_far_from_the_paper.md"
    assert figures(page, f"ablation {name}") == ablation_report.rows_table(report, ["student"])
    assert report["rows"]["student"]["seeds"] == ["0", "1", "2"]


def test_the_estimates_for_the_papers_tables_are_what_the_script_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    page, hours = "docs/how_far_from_the_paper.md", importlib.import_module("paper_hours")
    report = json.loads((ROOT / "benchmarks/results/paper_hours.json").read_text())
    assert report["rows"] == hours.count()
    assert figures(page, "paper_hours") == hours.table(report)
    assert figures(page, "paper_hours evaluation") == hours.evaluation_table(report)
    text, schedule = (ROOT / page).read_text(), hours.SCHEDULE
    said = f"--training.steps {schedule.steps} --training.decay-every {schedule.decay_every} --training.sequences 32"
    assert text.count(said) == 2
    assert f"are {schedule.tera_flops:g} x 10^12".replace("are ", "are for ") in text
    by_hand = schedule.steps * report["rows"]["cmd"]["10^12 operations a step"] / (8 * 10) / 3600
    assert report["rows"]["cmd"]["hours"] == round(by_hand, 1)


def test_the_time_of_scoring_is_what_was_measured() -> None:
    report = json.loads((ROOT / "benchmarks/results/scoring_speed.json").read_text())
    prose = (ROOT / "docs/benchmarks.md").read_text().replace("\n", " ")
    assert f"({report['sequences']} sequences, {report['frames']:,} frames) takes about half a second" in prose
    assert 0.4 <= report["seconds"]["together"] < 0.6 < report["budget"]


def test_the_speed_of_the_input_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    report = json.loads((ROOT / "benchmarks/results/input_speed.json").read_text())
    input_speed = importlib.import_module("input_speed")
    assert figures("docs/reference.md", "input_speed") == input_speed.table(report)
    assert figures("docs/reference.md", "input_speed steps") == input_speed.steps_table(report)
    prose = (ROOT / "docs/reference.md").read_text().replace("\n", " ")
    assert input_speed.opened(report) in prose
    assert report["opening"]["frame pairs"] == 600_000
    assert report["opening"]["processor seconds"] < report["opening"]["budget"]


def test_the_speed_measured_is_within_its_budgets() -> None:
    report = json.loads((ROOT / "benchmarks/results/tracker_speed.json").read_text())
    for measured in report["networks"].values():
        assert measured["frames"] >= 50
        assert [part for part, most in report["budgets"].items() if measured["trunks"][part] > most] == []
