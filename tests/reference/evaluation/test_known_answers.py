"""Published figures, recomputed from the trackers' own result files."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdistill.reference.data.box_files import read_boxes
from mmdistill.reference.evaluation.results import read_results
from mmdistill.reference.evaluation.rules import RULES, Rule
from mmdistill.reference.evaluation.scoring import Scores, score_benchmark

ARCHIVE = Path(__file__).parents[4] / "shared" / "data" / "metrics.tar.xz"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ARCHIVE.is_file(), reason=f"no result files: {ARCHIVE.name} is absent"),
]

Truths = dict[str, tuple[np.ndarray, ...]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def lasher(archive: Path) -> Truths:
    return {path.stem: (read_boxes(path),) for path in (archive / "LasHeR245" / "annos").iterdir()}


@pytest.fixture(scope="module")
def rgbt234(archive: Path) -> Truths:
    folders = [path.parent for path in (archive / "RGBT234" / "gt").glob("*/visible.txt")]
    return {path.name: (read_boxes(path / "visible.txt"), read_boxes(path / "infrared.txt")) for path in folders}


@pytest.fixture(scope="module")
def gtot(archive: Path) -> Truths:
    def corners(path: Path) -> np.ndarray:
        values = np.loadtxt(path)
        return np.concatenate([values[:, :2], values[:, 2:] - values[:, :2]], axis=1)

    folders = [path.parent for path in archive.glob("GTOT/gt/groundtruth/*/groundTruth_v.txt")]
    return {path.name: (corners(path / "groundTruth_v.txt"), corners(path / "groundTruth_i.txt")) for path in folders}


def score(results: Path, truths: Truths, rule: Rule) -> Scores:
    predicted = read_results(results, {name: len(truth[0]) for name, truth in truths.items()})
    return score_benchmark(predicted, truths, rule).overall


@pytest.mark.parametrize(
    ("tracker", "figures"),
    [
        ("mfDiMP", (44.7, 39.5, 34.3)),
        ("APFNet", (50.0, 43.9, 36.2)),
        ("DAPNet", (43.1, 38.3, 31.4)),
        ("MANet", (45.5, 38.3, 32.6)),
        ("FANet", (44.1, 38.4, 30.9)),
    ],
)
def test_lasher(archive: Path, lasher: Truths, tracker: str, figures: tuple[float, ...]) -> None:
    assert len(lasher) == 245
    scores = score(archive / "LasHeR245" / "results" / tracker, lasher, RULES["lasher"])
    assert (round(scores.PR, 1), round(scores.NPR, 1), round(scores.SR, 1)) == figures


@pytest.mark.parametrize(("tracker", "figures"), [("ADRNet", (80.7, 57.0)), ("DFAT", (76.1, 55.5))])
def test_rgbt234(archive: Path, rgbt234: Truths, tracker: str, figures: tuple[float, ...]) -> None:
    assert len(rgbt234) == 234
    scores = score(archive / "RGBT234" / "results" / tracker, rgbt234, RULES["rgbt234"])
    assert (round(scores.PR, 1), round(scores.SR, 1)) == figures


@pytest.mark.parametrize(
    ("tracker", "figures"), [("ADRNet", (90.4, 73.9)), ("JMMAC", (90.2, 73.1)), ("MaCNet", (88.6, 71.2))]
)
def test_gtot(archive: Path, gtot: Truths, tracker: str, figures: tuple[float, ...]) -> None:
    assert len(gtot) == 50
    scores = score(archive / "GTOT" / "results" / tracker, gtot, RULES["gtot"])
    assert (round(scores.PR, 1), round(scores.SR, 1)) == figures


def test_the_rule_matters(archive: Path, gtot: Truths) -> None:
    other = replace(RULES["gtot"], aggregation="sequences", success="mean")
    scores = score(archive / "GTOT" / "results" / "ADRNet", gtot, other)
    assert abs(scores.SR - 73.9) > 1
