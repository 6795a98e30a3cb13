"""Checkpoints that are complete but don't fit the run that loads them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmdistill.reference.models.weights import read_tensors, write_tensors
from mmdistill.reference.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from mmdistill.toolkit.data_issues import DataError

IDENTITY = json.dumps({"seed": 0, "training": {"steps": 10}})
PROGRESS = Progress(3, {"box": 0.5}, [{"box": 0.25}], {"steps skipped": 1})


def run(width: int = 4) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A stage after a step, with a parameter that never gets a gradient."""
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    stage.register_parameter("unused", nn.Parameter(torch.zeros(2)))
    optimizer = torch.optim.Adam(stage.parameters())
    stage(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return stage, optimizer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint.safetensors", *run(), PROGRESS, IDENTITY)
    return tmp_path / "checkpoint.safetensors"


def load(path: Path, identity: str = IDENTITY, width: int = 4, steps: int = 10) -> Progress:
    return load_checkpoint(path, *run(width), identity, steps=steps)


def changed(path: Path, tensors: Mapping[str, Tensor | None], **metadata: str) -> None:
    """Write a checkpoint again with some entries changed, or left out where they are None, and a digest that fits."""
    before, said = read_tensors(path)
    after = {name: value for name, value in {**before, **tensors}.items() if value is not None}
    write_tensors(path, after, said | metadata)


def test_what_was_saved_comes_back(saved: Path) -> None:
    (stage, optimizer), (wanted, expected) = run(), run()
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.zero_()
    optimizer.state.clear()
    assert load_checkpoint(saved, stage, optimizer, IDENTITY, steps=10) == PROGRESS
    torch.testing.assert_close(stage.state_dict(), wanted.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_the_same_state_has_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save_checkpoint(tmp_path / name, *run(), PROGRESS, IDENTITY)
        assert (tmp_path / name).read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"optimizer.1.exp_avg": None}, "missing optimizer.1.exp_avg$"),
        ({"optimizer.1.step": None}, "missing optimizer.1.step$"),
        ({"optimizer.1.momentum_buffer": torch.zeros(4)}, "unknown optimizer.1.momentum_buffer$"),
        ({"optimizer.99.step": torch.tensor(1.0)}, "unknown optimizer.99.step$"),
        ({"optimizer.x.step": torch.tensor(1.0)}, "unknown optimizer.x.step$"),
        ({"optimizer.01.step": torch.tensor(1.0)}, "unknown optimizer.01.step$"),
        ({"optimizer.": torch.tensor(1.0)}, "unknown optimizer.$"),
        ({"stray": torch.zeros(1)}, "unknown stray$"),
        ({"stage.0.weight": None}, "missing stage.0.weight$"),
        ({"optimizer.1.exp_avg": torch.zeros(3, 4)}, r"misshapen optimizer.1.exp_avg \(3, 4\) instead of \(4, 3\)$"),
        ({"optimizer.1.step": torch.zeros(1)}, r"misshapen optimizer.1.step \(1,\) instead of \(\)$"),
        ({"optimizer.1.exp_avg": torch.full((4, 3), torch.inf)}, "infinite or NaN optimizer.1.exp_avg$"),
        ({"optimizer.1.exp_avg": torch.zeros(4, 3).int()}, "of another type optimizer.1.exp_avg torch.int32$"),
        (
            {"optimizer.1.exp_avg": torch.zeros(4, 3).double()},
            "tensors of other types than the run's: optimizer.1.exp_avg torch.float64 instead of torch.float32$",
        ),
        (
            {"stage.0.weight": torch.zeros(4, 3).half()},
            "tensors of other types than the run's: stage.0.weight torch.float16 instead of torch.float32$",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_run_are_named(saved: Path, tensors: dict[str, Tensor | None], says: str) -> None:
    changed(saved, tensors)
    with pytest.raises(DataError, match=says) as raised:
        load(saved)
    assert str(raised.value).startswith(f"{saved}: ")


@pytest.mark.parametrize(
    ("progress", "says"),
    [
        ({"step": 11}, "expected a step from 0 to 10, the run's last step, got 11$"),
        ({"step": -1}, "expected a step from 0 to 10, the run's last step, got -1$"),
        ({"step": 2.5}, "Progress.step: expected int, got 2.5"),
        ({"step": True}, "Progress.step: expected int, got True"),
        ({"steps": 3}, "unknown settings 'steps'"),
        ({"first": {"box": "0.5"}}, "Progress.first.'box': expected float, got '0.5'"),
        ({"latest": {"box": 0.5}}, "Progress.latest: expected list, got "),
        ({"latest": [["box", 0.5]]}, "Progress.latest.0: expected dict, got "),
        ({"incidents": {"steps skipped": 0.5}}, "Progress.incidents.'steps skipped': expected int, got 0.5"),
    ],
)
def test_progress_that_cannot_be_is_refused(saved: Path, progress: dict[str, object], says: str) -> None:
    fields = json.loads(read_tensors(saved)[1]["progress"])
    changed(saved, {}, progress=json.dumps(fields | progress))
    with pytest.raises(DataError, match=says) as raised:
        load(saved)
    assert str(raised.value).startswith(f"{saved}: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "can't read its progress"),
        ("[" * 50_000, "nested too deeply"),
        ("{}", "missing step"),
        (" " * 99_999, "got 99,999"),
    ],
)
def test_progress_that_is_no_progress_is_refused(saved: Path, text: str, says: str) -> None:
    changed(saved, {}, progress=text)
    with pytest.raises(DataError, match=rf"{saved}: can't read its progress .*{says}|{says}"):
        load(saved)


@pytest.mark.parametrize("identity", ["", "[" * 50_000, '{"seed": ' + "9" * 5000 + "}"])
def test_settings_that_cannot_be_read_are_other_settings(saved: Path, identity: str) -> None:
    changed(saved, {}, identity=identity)
    with pytest.raises(DataError, match=r"belongs to a run with other settings \(unreadable settings\)"):
        load(saved)


def test_a_file_of_another_run_or_stage_changes_nothing(saved: Path) -> None:
    with pytest.raises(DataError, match=r"a run with other settings \(seed was 0, now 1\)"):
        load(saved, json.dumps({"seed": 1, "training": {"steps": 10}}))
    stage, optimizer = run(width=5)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    with pytest.raises(DataError, match=r"misshapen optimizer.1.exp_avg \(4, 3\) instead of \(5, 3\)"):
        load_checkpoint(saved, stage, optimizer, IDENTITY, steps=10)
    torch.testing.assert_close(stage.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("says", ["expected a training checkpoint 'mmdistill-training-4', got 'mmdistill-network-2'"])
def test_other_files_of_ours_are_no_checkpoint(saved: Path, says: str) -> None:
    changed(saved, {}, format="mmdistill-network-2")
    with pytest.raises(DataError, match=says):
        load(saved)


def test_a_setting_that_is_long_is_cut(saved: Path) -> None:
    changed(saved, {}, identity=json.dumps({"seed": "x" * 10**6}))
    with pytest.raises(DataError, match="seed was xxx") as raised:
        load(saved)
    assert len(str(raised.value)) < 400
