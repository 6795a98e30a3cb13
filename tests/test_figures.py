"""What the documents say was measured is what the benchmarks' committed output holds."""

import importlib
import math
import re
from types import ModuleType

import pytest
import torch
from written_figures import ROOT, figures, measured

from mmdistill import CMDLoss, HFRDLoss, Pair, SCFDLoss
from mmdistill.reference.models.resnet import ResNetTrunk


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def loss_costs(_here: None) -> ModuleType:
    return importlib.import_module("loss_costs")


def test_the_documents_costs_are_what_the_script_computes(loss_costs: ModuleType) -> None:
    losses, fusions, trunk = loss_costs.losses(), loss_costs.fusions(), loss_costs.trunk()
    features = {name: cost for name, cost in losses.items() if name.startswith(("SCFD", "Review", "FitNets"))}
    fused = {name: cost for name, cost in losses.items() if name.startswith(("MPSD", "Modality"))}
    assert figures("docs/features.md", "loss_costs") == loss_costs.table(features, (1, 2, 3, 4))
    assert figures("docs/fusion.md", "fusions") == loss_costs.table(fusions, (3, 4))
    assert figures("docs/fusion.md", "fusion losses") == loss_costs.table(fused, (3, 4))
    assert {losses[name].parameters + losses[name].total for name in ("HFRDLoss", "KDLoss")} == {0}
    written = measured("loss_costs")
    for part, costs in (("losses", losses), ("fusions", fusions), ("for comparison", trunk)):
        assert written[part] == loss_costs.as_json(costs)


def test_the_costs_are_those_by_hand_and_of_a_whole_step(loss_costs: ModuleType) -> None:
    costs, student, teacher, mid = loss_costs.losses(), (64, 64, 128, 256), (64, 256, 512, 1024), 256
    by_hand = 2 * 18 * 18 * (256 * mid + 9 * mid * 1024)
    assert costs["SCFDLoss"].multiply_adds[4] == by_hand
    for sampling in (1.0, 0.5, 0.25):
        with torch.device("meta"):
            loss = SCFDLoss(student, teacher, sampling=sampling, check_values=False)
        pairs = [Pair(*([loss_costs.level_map(c, n) for n in (1, 2, 3, 4)] for _ in "ab")) for c in (student, teacher)]
        name = {1.0: "SCFDLoss", 0.5: "SCFDLoss, sampling=1/2", 0.25: "SCFDLoss, sampling=1/4"}[sampling]
        assert loss_costs.multiply_adds(loss, *pairs) == costs[name].total


def test_the_documents_variance_is_what_was_measured() -> None:
    report = measured("sampling_variance")
    assert figures("docs/features.md", "sampling_variance") == importlib.import_module("sampling_variance").table(
        report
    )


def test_the_documents_alignment_is_what_was_measured() -> None:
    report = measured("alignment_accuracy")
    assert figures("docs/two_cameras.md", "alignment_accuracy") == importlib.import_module("alignment_accuracy").table(
        report
    )


def map_sizes(teacher: str) -> list[int]:
    """Return C * H * W of the four levels of a teacher in the table."""
    if found := re.match(r"ResNet-(\d+), crop (\d+)", teacher):
        depth, crop = map(int, found.groups())
        with torch.device("meta"):
            return [level[0].numel() for level in ResNetTrunk(depth)(torch.empty(1, 3, crop, crop))]
    found = re.match(r"ViT-B, (\d+)x(\d+) tokens", teacher)
    assert found is not None
    return [768 * math.prod(map(int, found.groups()))] * 4


def test_a_sum_in_means_is_the_paper_alpha_times_the_size_of_the_map() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in figures("docs/losses.md", "sum in means")]
    assert len(rows) == 2 + 6
    alpha = CMDLoss(hfrd=HFRDLoss()).alpha
    for teacher, *cells in rows[2:]:
        assert [int(cell.replace(",", "")) for cell in cells] == [round(alpha * size) for size in map_sizes(teacher)]


def test_the_overlap_of_kept_tokens_is_what_was_measured() -> None:
    report = measured("token_overlap")
    assert figures("docs/distill_a_vit_tracker.md", "token_overlap") == importlib.import_module("token_overlap").table(
        report
    )


def test_the_documents_step_times_are_what_was_measured() -> None:
    report = measured("loss_step")
    assert figures("docs/features.md", "loss_step") == importlib.import_module("loss_step").table(report)


@pytest.mark.parametrize("name", ["export_precision_rgb", "export_precision_student"])
def test_the_documents_precisions_are_what_was_measured(name: str) -> None:
    report = measured(name)
    export_precision, export_tracking = map(importlib.import_module, ("export_precision", "parts.export.tracking"))
    assert figures("docs/export.md", name) == export_precision.table(report)
    assert figures("docs/export.md", f"{name} tracking") == export_tracking.tracking_table(report)


@pytest.mark.parametrize("name", ["tracker_speed", "tracker_memory", "real_sequences"])
def test_the_trackers_figures_are_what_was_measured(name: str) -> None:
    report = measured(name)
    assert figures("docs/tracking.md", name) == importlib.import_module(name).table(report)


def test_the_demonstrations_figures_are_what_was_measured() -> None:
    report = measured("demo_parts")
    assert figures("README.md", "demo_parts") == importlib.import_module("demo_parts").table(report)


def test_what_the_settings_teach_is_what_was_measured() -> None:
    report = measured("tir_transfer")
    assert figures("docs/tir.md", "tir_transfer") == importlib.import_module("tir_transfer").table(report)


def test_what_the_settings_reach_is_what_was_measured() -> None:
    report = measured("tir_settings")
    tables, claims = map(importlib.import_module, ("parts.tir_settings_report", "parts.seed_statistics"))
    assert figures("docs/tir.md", "tir_settings") == tables.table(report)
    assert figures("docs/tir.md", "tir_settings real") == tables.table(report, "real")
    assert figures("docs/tir.md", "tir_settings losses") == tables.losses_table(report)
    assert figures("docs/tir.md", "tir_settings claims") == claims.claims_table(report["claims"], tables.FIGURES)
    assert report["claims"] == tables.evaluate_claims(report["by seed"])
    assert all(row["seeds"] == [0, 1, 2] for row in report["settings"].values())


def test_the_known_answers_are_what_was_measured() -> None:
    report = measured("known_answers")
    assert figures("docs/benchmarks.md", "known_answers") == importlib.import_module("known_answers").table(report)


@pytest.mark.slow
def test_the_estimates_for_the_papers_tables_are_what_the_script_computes() -> None:
    page, hours = "docs/how_far_from_the_paper.md", importlib.import_module("paper_hours")
    report = measured("paper_hours")
    assert report["rows"] == hours.count()
    assert figures(page, "paper_hours") == hours.table(report)
    assert figures(page, "paper_hours evaluation") == hours.evaluation_table(report)
    schedule = hours.SCHEDULE
    command = (
        f"--training.steps {schedule.steps} --training.decay-every {schedule.decay_every} --training.batch-size 32"
    )
    assert (ROOT / page).read_text().count(command) == 2
    by_hand = schedule.steps * report["rows"]["cmd"]["10^12 operations a step"] / (8 * 10) / 3600
    assert report["rows"]["cmd"]["hours"] == round(by_hand, 1)


def test_the_time_of_scoring_is_within_its_budget() -> None:
    report = measured("scoring_speed")
    assert report["seconds"]["total"] < report["budget"]


def test_the_speed_of_the_input_is_what_was_measured() -> None:
    report = measured("input_speed")
    input_speed = importlib.import_module("input_speed")
    assert figures("docs/training.md", "input_speed") == input_speed.table(report)
    assert figures("docs/training.md", "input_speed steps") == input_speed.steps_table(report)
    assert report["opening"]["frame pairs"] == 600_000
    assert report["opening"]["processor seconds"] < report["opening"]["budget"]


def test_the_speed_measured_is_within_its_budgets() -> None:
    report = measured("tracker_speed")
    for network in report["networks"].values():
        assert network["frames"] >= 50
        assert [part for part, most in report["budgets"].items() if network["trunks"][part] > most] == []


def test_the_counted_operations_are_those_of_the_report() -> None:
    step_counts, report = importlib.import_module("step_counts"), measured("step_counts")
    assert figures("docs/gpu_speed.md", "step_counts") == step_counts.frame_table(report)
    assert figures("docs/gpu_speed.md", "step_counts training") == step_counts.training_table(report)


def test_the_expected_speed_is_what_was_computed() -> None:
    expected_gpu, report = importlib.import_module("expected_gpu"), measured("expected_gpu")
    assert figures("docs/gpu_speed.md", "expected_gpu") == expected_gpu.table(report)
    assert figures("docs/gpu_speed.md", "expected_gpu training") == expected_gpu.training_table(report)
    assert report["training"] == expected_gpu.expected_training(measured("gpu_speed")["cuda"])


def test_the_hosts_time_is_within_its_limits() -> None:
    report = measured("host_time")
    assert [
        videos for videos, limit in report["limits"].items() if report["rows"][videos]["milliseconds"] > limit
    ] == []


def test_the_speed_on_a_gpu_is_what_was_measured() -> None:
    page, report = "docs/gpu_speed.md", measured("gpu_speed")
    gpu_tables, targets = map(importlib.import_module, ("parts.gpu.tables", "parts.gpu.tables"))
    for name, lines in ({"targets": targets.targets_table(report)} | gpu_tables.tables(report)).items():
        assert figures(page, f"gpu_speed {name}") == lines
    assert [name for name, row in report["cpu"]["rows"].items() if "failed" in row] == []
