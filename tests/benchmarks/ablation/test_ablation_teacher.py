"""A teacher that was trained elsewhere is checked, recorded and used; held-out frames are made once."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from ablation_toy import Command, part, toy

from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import CachedSequence


def test_another_experiments_teacher_is_used(
    run: Command, ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ("--seeds", 0, "--tables", 1, "--alpha", 0.1, "--beta", 10, "--only", "student", "scfd")
    own = run(*rows)
    assert own["experiment"]["given_teacher"] == ""
    first, size = tmp_path / "runs", toy(part("sizes"))
    # Wider students, and the same teacher.
    monkeypatch.setitem(ablation.SIZES, "cpu", replace(size, width=6))
    given = run(*rows, "--work-dir", tmp_path / "second", "--teacher", first)
    assert given["unfinished"] == []
    assert given["experiment"]["given_teacher"] == given["teacher"] == own["teacher"]
    assert not (tmp_path / "second/teacher/log.jsonl").exists()
    assert given["by seed"]["0"]["teacher"] == own["by seed"]["0"]["teacher"]
    assert not (tmp_path / "second/seed_0/teacher/results").exists()  # the tracking is copied
    file = first / "teacher/network.safetensors"
    tracked = run(*rows, "--work-dir", tmp_path / "by_file", "--teacher", file)
    assert (tmp_path / "by_file/seed_0/teacher/results").exists()
    assert tracked["by seed"]["0"]["teacher"]["sequences"] == given["by seed"]["0"]["teacher"]["sequences"]
    by_file = run(*rows, "--work-dir", tmp_path / "second", "--teacher", file)
    assert by_file["experiment"] == given["experiment"]
    # Without the option, or with another teacher, the folder does not fit.
    with pytest.raises(DataError, match="holds runs with other settings"):
        run(*rows, "--work-dir", tmp_path / "second")
    monkeypatch.setitem(ablation.SIZES, "cpu", replace(size, test_pairs=2))
    with pytest.raises(DataError, match="its teacher was trained with other settings: test_pairs"):
        run(*rows, "--work-dir", tmp_path / "third", "--teacher", first)


def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    teachers, size = part("teacher_import"), toy(part("sizes"))
    experiment = part("runs").Experiment(size)
    with pytest.raises(DataError, match=r"teacher/network\.safetensors: expected a teacher's weights file"):
        teachers.use_teacher(tmp_path, experiment, ["cmd"])
    file = tmp_path / "one.safetensors"
    save_network(file, TrackerNetwork(student_settings(width=4, crop_size=96)))
    with pytest.raises(DataError, match="expected crop_size 64"):
        teachers.use_teacher(file, experiment, ["student", "cmd"])
    assert len(teachers.use_teacher(file, experiment, ["student"]).given_teacher) == 64
    root = tmp_path / "runs"
    teachers.copy_teacher(file, root)
    teachers.copy_teacher(file, root)
    other = tmp_path / "other.safetensors"
    save_network(other, TrackerNetwork(student_settings(width=4, crop_size=96)))
    with pytest.raises(DataError, match="got others"):
        teachers.copy_teacher(other, root)


def test_held_out_frames_are_made_once_if_they_fit(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execution, size = part("execution"), toy(part("sizes"))
    experiment = part("runs").Experiment(size, str(pairs))
    execution.held_out_video.cache_clear()
    video = execution.held_out_video(experiment, "test")
    assert {type(each) for each in video} == {CachedSequence}
    assert video[0].frame(1).rgb is video[0].frame(1).rgb
    assert execution.held_out_video(experiment, "test")[0] is video[0]
    frames = size.held_out_length * sum(size.held_out)
    monkeypatch.setattr(execution, "MAX_CACHED_BYTES", frames * sum(image.nbytes for image in video[0].frame(0)) - 1)
    execution.held_out_video.cache_clear()
    assert CachedSequence not in {type(each) for each in execution.held_out_video(experiment, "test")}
    execution.held_out_video.cache_clear()


def test_the_pretrained_size_has_the_teacher_of_the_cpu_size(tmp_path: Path) -> None:
    runs, sizes = part("runs"), part("sizes").SIZES
    (tmp_path / "experiment.json").write_text(json.dumps(runs.Experiment(sizes["cpu"], "p", "t").describe()))
    part("teacher_import").check_recipe(tmp_path, runs.Experiment(sizes["pretrained"], "p", "t"))
    with pytest.raises(DataError, match=r"pairs, trunk$"):
        part("teacher_import").check_recipe(tmp_path, runs.Experiment(sizes["pretrained"], "q", "u"))
    for size in sizes.values():
        assert size.choice_steps == size.student.steps // 2
