import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdistill.reference.demo.experiment import DemoResult, DemoSettings
from mmdistill.reference.demo.report import distillation_effect, format_report, run_demo, write_demo_report
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.toolkit.drawing.primitives import ORANGE, SKY, WHITE, YELLOW
from mmdistill.toolkit.evaluation.metrics import score_benchmark
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.scores import BenchmarkScores

DEFAULT = DemoSettings()
TINY = replace(
    DEFAULT,
    teacher=replace(DEFAULT.teacher, width=4, crop_size=64),
    student=replace(DEFAULT.student, width=4, crop_size=64),
    training=replace(DEFAULT.training, steps=2, batch_size=2),
    video=replace(DEFAULT.video, size=(160, 120), target_size=(20.0, 30.0), length=4),
    train_sequences=2,
    test_sequences=3,
)


def test_the_default_scores_at_least_twenty_held_out_sequences() -> None:
    assert DEFAULT.test_sequences >= 20


def test_it_writes_tables_plots_and_a_video_and_repeats_itself(tmp_path: Path) -> None:
    first = run_demo(tmp_path / "first", seed=3, settings=TINY)
    second = run_demo(tmp_path / "second", seed=3, settings=TINY)
    for name in ("table.txt", "demo.json", "success.png", "precision.png", "video.gif"):
        assert (tmp_path / "first" / name).stat().st_size > 0
    for one, two in zip(first, second, strict=True):
        assert one.scores.overall.rates() == two.scores.overall.rates()
        assert one.progress == two.progress
        for name in one.boxes:
            np.testing.assert_array_equal(one.boxes[name], two.boxes[name])
    speed = json.loads((tmp_path / "first" / "speed.json").read_text())["frames_per_second"]
    assert {each.name: each.frames_per_second for each in first} == speed
    figures = json.loads((tmp_path / "first" / "demo.json").read_text())
    assert list(figures) == ["teacher", "student", "distilled student"]
    assert set(figures["student"]["terms"]["first"]) == {"box", "last", "first", "middle", "total"}
    assert {"specific", "common", "fusion", "penalty", "response"} < set(figures["distilled student"]["terms"]["last"])


def test_the_video_shows_both_students_the_label_and_a_legend(tmp_path: Path) -> None:
    sequences = synthetic_sequences(2, seed=0, settings=TINY.video)
    truths = {each.name: (each.boxes,) for each in sequences}

    def result(name: str, shift: float) -> DemoResult:
        boxes = {each.name: each.boxes + np.array([shift, 0, 0, 0]) for each in sequences}
        scored = score_benchmark(boxes, truths, PROTOCOLS["synthetic"])
        network = torch.nn.Linear(1, 1)
        return DemoResult(name, network, Progress(0, {}, []), scored, boxes)  # type: ignore[arg-type]

    write_demo_report(tmp_path, [result("teacher", 0), result("student", -12), result("distilled", 5)], sequences)
    _, frames = cv2.imreadmulti(str(tmp_path / "video.gif"))
    assert len(frames) == TINY.video.length
    assert frames[0].shape[1] == 2 * 360, "RGB beside TIR"
    panel_height = 360 * 120 // 160
    for image in frames:
        for color in (SKY, ORANGE, WHITE):
            near = np.abs(image[..., ::-1].astype(int) - color).max(axis=2) < 40  # a GIF has 256 colors
            left, right = near[:panel_height, :360].sum(), near[:panel_height, 360:].sum()
            assert min(left, right) > 40, "a box in each image"
            assert near[panel_height:].sum() > 15, "a mark in the legend"
        vivid = np.abs(image[..., ::-1].astype(int) - YELLOW).max(axis=2) < 40
        assert vivid[panel_height:].sum() == 0, "no third tracker"


@pytest.mark.slow
def test_both_students_start_from_the_same_weights_and_the_seed_decides(tmp_path: Path) -> None:
    results = run_demo(tmp_path / "a", seed=3, settings=TINY)
    other = run_demo(tmp_path / "b", seed=4, settings=TINY)
    _, alone, distilled = results
    # The first step's tracking terms come before any update.
    for term in ("box", "last", "first", "middle"):
        assert alone.progress.first[term] == distilled.progress.first[term]
        assert alone.progress.first[term] != other[1].progress.first[term]


@pytest.mark.slow
def test_called_again_it_goes_on_from_what_is_there(tmp_path: Path) -> None:
    first = run_demo(tmp_path, seed=3, settings=TINY)
    network = tmp_path / "student" / "results" / "synthetic_0000.txt"
    before = network.stat().st_mtime_ns
    again = run_demo(tmp_path, seed=3, settings=TINY)
    assert network.stat().st_mtime_ns == before
    assert format_report(first) == format_report(again)


def scores(shift: float, spread: float = 0.0) -> BenchmarkScores:
    """Sequences whose boxes are off by so many pixels, more in every other one."""
    truth = np.tile([50.0, 50.0, 20.0, 20.0], (10, 1))
    truths = {str(i): (truth,) for i in range(8)}
    right = np.array([1.0, 0.0, 0.0, 0.0])
    off = {str(i): truth + (shift + spread * (-1) ** i) * right for i in range(8)}
    return score_benchmark(off, truths, PROTOCOLS["synthetic"])


@pytest.mark.parametrize(
    ("alone", "distilled", "says"),
    [
        (scores(8), scores(2), "The interval excludes 0: distillation improves SR at this size and seed."),
        (scores(2), scores(8), "The interval excludes 0: distillation lowers SR at this size and seed."),
        (
            scores(5),
            scores(5),
            ": +0.0 points (95 % interval +0.0 to +0.0, 8 sequences).\nThe interval includes 0",
        ),
        (scores(5), scores(5, spread=4), "The interval includes 0: no significant difference"),
    ],
)
def test_the_effect_of_distillation(alone: BenchmarkScores, distilled: BenchmarkScores, says: str) -> None:
    assert says in distillation_effect(alone, distilled)
