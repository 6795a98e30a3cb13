"""alignment_accuracy.py: its homographies, its error and its shares, by hand; and a run at toy size."""

import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from camera_views import scene

from mmdistill.toolkit.images import write_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("alignment_accuracy")


def test_homographies_are_within_the_stated_limits(benchmark: ModuleType) -> None:
    generator, size = np.random.default_rng(0), (400, 300)
    for _ in range(50):
        matrix = benchmark.random_homography(generator, size)
        center = np.array([(side - 1) / 2 for side in size])
        x, y, depth = matrix @ [*center, 1]
        assert (np.abs(np.array([x, y]) / depth - center) <= 0.2 * np.array(size) + 1e-9).all()
        near = [matrix @ [center[0] + dx, center[1] + dy, 1] for dx, dy in ((0, 0), (1e-3, 0), (0, 1e-3))]
        moved = np.array([each[:2] / each[2] for each in near])
        scale = math.sqrt(np.linalg.det((moved[1:] - moved[0]).T / 1e-3))
        assert 0.69 < scale < 1.41


def test_the_error_is_the_mean_distance_over_the_common_view(benchmark: ModuleType) -> None:
    shifted = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert benchmark.mean_error(shifted, np.eye(3), (100, 80)) == pytest.approx(5)
    half = np.array([[1.0, 0, 50], [0, 1, 0], [0, 0, 1]])
    assert benchmark.mean_error(np.eye(3), half, (100, 80)) == pytest.approx(50)


def test_every_outcome_is_in_one_share(benchmark: ModuleType) -> None:
    rows = [("a", 0.5, 0.9), ("b", 2.0, 0.6), ("c", 3.0, 1.0), ("d", 80.0, 0.7), ("e", 1.0, 0.4), ("f", math.inf, 0.0)]
    outcomes = [benchmark.Outcome(name, error, score, 1.0) for name, error, score in rows]
    summary = benchmark.summarize(outcomes)
    shares = [summary[name] for name in ("recovered", "near", "wrong", "refused")]
    assert shares == [33.3, 16.7, 16.7, 33.3]
    assert summary["wrong pairs"] == ["d: 80.0"]
    assert [(row["from"], row["number"], row["right"]) for row in summary["calibration"]] == [
        (0.0, 1, 0.0),
        (0.1, 1, 100.0),
        (0.5, 2, 50.0),
        (0.9, 2, 100.0),
    ]


def test_a_run_writes_its_cases(benchmark: ModuleType, tmp_path: Path) -> None:
    for number in range(4):
        pair = scene(number)
        write_image(tmp_path / "pairs/rgb" / f"{number}.png", pair.rgb)
        write_image(tmp_path / "pairs/tir" / f"{number}.png", pair.tir)
    out = tmp_path / "report.json"
    for case in ("held out", "unrelated"):
        benchmark.main(["--pairs", str(tmp_path / "pairs"), "--out", str(out), "--cases", case, "--limit", "1"])
    cases = json.loads(out.read_text())["cases"]
    assert list(cases) == ["held out", "held out, own offset removed", "unrelated"]
    assert cases["unrelated"]["refused"] == 100
