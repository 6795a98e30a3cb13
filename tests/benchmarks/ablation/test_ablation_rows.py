"""The ablation's rows are the paper's networks and losses, and match the page's commands."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from ablation_toy import part, toy

from mmdistill.__main__ import main
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.training.settings import BaselineWeights, DistillationSettings
from mmdistill.reference.training.stages import SupervisedStage


def test_rows_are_the_papers_networks(ablation: ModuleType) -> None:
    size = ablation.SIZES["pretrained"]
    rows = part("rows").ROWS

    def parameters(settings: Any) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in TrackerNetwork(settings).parameters())

    counts = {name: parameters(size.student_network(row)) for name, row in rows.items()}
    unused = 8_393_728 + 513_000  # layer4 and fc of a trunk, which the paper counts
    assert counts["student"] == counts["scfd"] == counts["afd"] == 19_810_135 - unused
    assert counts["cmd"] == counts["review"] == counts["md"] == 19_894_753 - unused
    assert counts["kd"] == counts["fitnets"] == counts["review_2"] == 31_584_265 - 2 * unused
    assert parameters(size.teacher_network()) == 19_803_055
    assert [size.student_network(row).label_sigma_cells for row in rows.values()] == [pytest.approx(0.9)] * len(rows)
    for name, table in part("rows").TABLES.items():
        assert table[0] == "student"
        assert {rows[row].base for row in table} - {""} <= {*table}
        assert name == "single" or {row for row in table if rows[row].parts and not rows[row].paper} <= {"cmd_2"}
    assert {rows[row].interaction for row in ("afd", "sed", "ced")} == {("add",) * 4, ("sem",) * 4, ("cem",) * 4}
    for _, name, base in part("rows").CLAIMS:
        assert None in (rows[name].paper, rows[base].paper) or rows[name].paper[0] > rows[base].paper[0]


def test_each_row_is_compared_with_a_student_of_its_trunks_and_fusion() -> None:
    rows = part("rows").ROWS
    for row in rows.values():
        assert bool(row.base) == bool(row.chosen_on) == bool(row.parts)
        if row.parts:
            base = rows[row.base]
            assert base.parts == ()
            assert (base.fusion, base.streams) == (row.fusion, row.streams)
            assert rows[row.chosen_on].parts == row.parts or row.baseline is None
    settings = rows["hfrd_exact"].distillation(part("rows").Weights(alpha=2.0, beta=3.0))
    assert (settings.alpha, settings.beta, settings.weigh_label) == (2.0, 3.0, True)
    assert not rows["cmd"].distillation(part("rows").Weights()).weigh_label
    review = rows["review_2"].distillation(part("rows").Weights(baseline=7.0))
    assert review.baselines == BaselineWeights(review=7.0)


def test_initial_trunk_weights_by_size(ablation: ModuleType) -> None:
    runs = part("runs")

    def start_trackers(name: str, *trunks: str) -> tuple[str, str]:
        size, weights = ablation.SIZES[name], part("rows").Weights()
        experiment = runs.Experiment(size, "", *trunks)
        teacher, student = runs.teacher_run(size), runs.row_run(size, "student", 0, weights)
        return experiment.find_trunk(teacher), experiment.find_trunk(student)

    assert start_trackers("cpu", "a") == ("a", "")
    assert start_trackers("pretrained", "a") == ("a", "a")
    assert start_trackers("pretrained", "a", "b") == ("b", "a")
    assert start_trackers("cpu") == start_trackers("pretrained") == ("", "")


@pytest.mark.parametrize("name", ["student", "scfd", "cmd", "kd", "fitnets", "afd", "caf", "tf", "hfrd_exact"])
def test_the_commands_of_the_page_train_the_rows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, size = part("rows").ROWS[name], toy(part("sizes"))
    teacher = tmp_path / "teacher.safetensors"
    save_network(teacher, TrackerNetwork(size.teacher_network()))
    found = []
    monkeypatch.setattr("mmdistill.reference.training.trainer.train", lambda stage, *_, **__: found.append(stage))
    options = importlib.import_module("paper_hours").options(row).split()
    options += ["--teacher", str(teacher)] if row.parts else ["--crop-size", "64"]
    command = "mmdistill train student --data synthetic --videos 1 --width 4 --device cpu --out"
    monkeypatch.setattr(sys, "argv", [*command.split(), str(tmp_path / "run"), *options])
    main()
    settings = found[0].network.settings
    assert (settings.fusion, settings.streams) == (row.fusion, row.streams)
    if row.parts:
        defaults = DistillationSettings()
        weights = part("rows").Weights(defaults.alpha, defaults.beta, defaults.baselines.kd)
        assert found[0].distillation_settings == row.distillation(weights)
    else:
        assert isinstance(found[0], SupervisedStage)
