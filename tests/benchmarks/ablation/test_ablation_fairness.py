"""The ablation's parts share no pair, nothing is chosen on the test video, and all rows have the same settings."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ablation_toy import Command, part, toy

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import open_pairs


def test_students_of_a_seed_have_the_same_video_and_samples() -> None:
    size, choice = replace(toy(part("sizes")), choice_seeds=(1000, 1001)), part("choice")
    rows = part("rows").ROWS
    runs = [part("runs").row_run(size, name, 3, part("rows").Weights(0.1, 10.0, 1.0)) for name in rows]
    assert {each.training for each in runs} == {runs[0].training}
    assert runs[0].training.seed == runs[0].seed == 3
    assert {each.tracks for each in runs} == {"test"}
    assert len({each.folder for each in runs}) == len(rows)
    chosen_on = choice.choices_of(rows)
    assert chosen_on == ["cmd", "kd", "fitnets", "review", "md"]
    tries = [run for name in chosen_on for run in choice.trial_runs(size, name)]
    assert len({each.folder for each in tries}) == len(tries) == 5 * 2 * 2
    assert {replace(each.training, seed=0) for each in tries} == {size.student_training(0, size.choice_steps)}
    assert {each.tracks for each in tries} == {"validation"}
    assert not {each.seed for each in tries} & {0, 1, 2}
    assert size.teacher.seed not in (0, 1, 2)


def test_rate_factors_apply_to_trunk_adaptors_and_fusion() -> None:
    size, sizes = part("sizes").SIZES["cpu"], part("sizes")
    training = replace(size, factors=sizes.RateFactors(trunk=2.5, fusion=0.1)).student_training(3)
    rates = replace(size.student.learning_rates, trunk=0.005, distillation=0.005, fusion=0.0002)
    assert training == replace(size.student, seed=3, learning_rates=rates)
    assert replace(size, factors=sizes.RateFactors()).student_training(3) == replace(size.student, seed=3)


def test_cmd_and_each_baseline_have_as_many_candidates() -> None:
    for size in part("sizes").SIZES.values():
        counts = {len(part("choice").candidates(size, name)) for name in ("cmd", "kd", "fitnets", "review", "md")}
        assert counts == {3}
        assert len(size.choice_seeds) == (1 if size.name == "nightly" else 3)
        assert not {*size.choice_seeds} & {*range(10)}  # the tables' seeds


def test_the_choice_does_not_use_the_test_video(
    run: Command, ablation: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("test video")

    monkeypatch.setattr(ablation, "describe", lambda _: {})
    monkeypatch.setattr(part("video").Videos, "test", refuse)
    parts = part("video").split
    monkeypatch.setattr(part("video"), "split", lambda *given: Without(parts(*given)))
    part("execution").training_video.cache_clear()
    part("execution").held_out_video.cache_clear()
    choices = run("--only-choose")["choice"]
    assert list(choices) == ["cmd", "kd", "fitnets", "review", "md"]
    assert {each["chosen on"] for each in choices.values()} == {"validation sequences"}


class Without(dict[str, Any]):
    """Parts of the pairs that refuse access to the test part."""

    def __getitem__(self, name: str) -> Any:
        assert name != "test"
        return super().__getitem__(name)


def scored(runs: list[Any], values: tuple[float, ...], root: Path) -> None:
    """Write these values as the runs' PR and SR."""
    for each, value in zip(runs, values, strict=True):
        part("runs").write_scores(each, root, {"PR": value, "SR": value, "NPR": 0})


def test_the_best_on_validation_is_chosen(tmp_path: Path) -> None:
    choice, report, weights = part("choice"), part("report"), part("rows").Weights
    size = replace(toy(part("sizes")), alphas=(1e-3, 1e-1), betas=(100.0, 10.0), choice_seeds=(8, 9))
    scored(choice.trial_runs(size, "cmd"), (10, 12, 30, 10, 21, 19, 0, 39), tmp_path)
    scored(choice.trial_runs(size, "md"), (10, 12, 30, 10), tmp_path)
    found = {name: choice.choose(size, name, tmp_path) for name in ("cmd", "md")}
    assert choice.read_weights(found, "scfd") == weights(1e-3, 10.0)  # 20 on average; the first of two
    assert choice.read_weights(found, "md") == weights(baseline=10.0)
    assert choice.read_weights(found, "student") == weights()
    assert choice.read_weights(found, "kd") is None
    assert [each["PR"] for each in found["cmd"]["trials"]] == [11, 20, 20, 19.5]
    assert found["md"]["trials"][1]["by seed"]["9"] == {"PR": 10, "NPR": 0, "SR": 10}
    lines = report.choice_table({"choice": found})
    assert lines[2:4] == [
        "| + SCFD + MPSD + HFRD (CMD) | 0.001 | 100 |  | 2 | 11.0 | 11.0 |",
        "| **+ SCFD + MPSD + HFRD (CMD)** | **0.001** | **10** |  | **2** | **20.0** | **20.0** |",
    ]
    assert lines[6] == "| MD, 1 Res18 |  |  | 1 | 2 | 11.0 | 11.0 |"
    assert len(report.choice_table({"choice": {}})) == 2


def test_no_part_shares_a_pair_with_another(pairs: Path) -> None:
    video = part("video")
    size = toy(part("sizes"))
    parts = video.split(open_pairs(pairs), size)
    assert [each.names[0] for each in parts.values()] == ["00.png", "06.png", "09.png"]
    assert sum(len(each) for each in parts.values()) == 12
    assert len({name for each in parts.values() for name in each.names}) == 12
    video.check_disjoint(parts)
    # The same thermal image once more, under another name.
    twin = pairs / "tir" / "10.png"
    (pairs / "tir" / "02.png").write_bytes(twin.read_bytes())
    with pytest.raises(DataError, match=r"training and test share 1 images, 02\.png, 10\.png"):
        video.check_disjoint(video.split(open_pairs(pairs), size))
    with pytest.raises(DataError, match="expected at least 2 pairs for training, got 1 of 12"):
        video.split(open_pairs(pairs), replace(size, test_pairs=8))


def test_video_uses_only_the_pairs_of_its_part(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    pairs_class = importlib.import_module("mmdistill.toolkit.datasets.image_pairs.pairs").Pairs
    pair = pairs_class.pair

    def traced(self: Any, index: int) -> Any:
        read.append(self.names[index])
        return pair(self, index)

    monkeypatch.setattr(pairs_class, "pair", traced)
    videos = part("video").Videos(
        replace(toy(part("sizes")), train_videos=8, train_scenes=8, held_out=(8, 1)), str(pairs)
    )
    seen = {}
    for name in ("training", "validation", "test"):
        read.clear()
        for each in getattr(videos, name)():
            each.frame(0)
        seen[name] = set(read)
    assert len(seen["training"]) > 4
    assert seen["training"] <= {f"{number:02d}.png" for number in range(6)}
    assert seen["validation"] <= {"06.png", "07.png", "08.png"}
    assert seen["test"] <= {"09.png", "10.png", "11.png"}
    # No procedural video is in two of them either.
    first = [getattr(videos, name)()[-1] for name in ("validation", "test")]
    assert not np.array_equal(first[0].boxes, first[1].boxes)


@pytest.mark.parametrize(
    "name",
    ["nightly", *(pytest.param(each, marks=pytest.mark.slow) for each in ("gpu", "cpu", "pretrained"))],
)
def test_every_size_tests_enough_sequences_with_every_attribute(ablation: ModuleType, pairs: Path, name: str) -> None:
    size = replace(ablation.SIZES[name], validation_pairs=3, test_pairs=3)
    assert sum(size.held_out) >= 60
    test = part("video").Videos(size, "" if name == "nightly" else str(pairs)).test()
    counts = part("video").count_attributes(test)
    assert len(counts) == 6
    assert min(counts.values()) >= 5
    assert size.student.freeze_bn_after == size.student.steps // 2
    assert size.teacher.freeze_bn_after == size.teacher.steps // 2
    calm = [each for each in test if not each.attributes["fast_motion"].any()]
    with pytest.raises(DataError, match="got none with fast_motion"):
        part("video").count_attributes(calm)


def test_missing_attributes_are_refused_before_training(
    ablation: ModuleType, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ablation.SIZES, "cpu", toy(part("sizes")))
    command = ["ablation.py", "--pairs", pairs, "--work-dir", tmp_path / "runs"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    with pytest.raises(DataError, match="expected every attribute in some"):
        ablation.main()
    assert not (tmp_path / "runs" / "teacher").exists()
