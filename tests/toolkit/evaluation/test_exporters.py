from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.exporters import RESULT_FORMATS, export_results
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.results import read_results

BOXES = {"baby`s": np.array([[1.0, 2, 3, 4], [1 / 3, -2, 10.5, 0.1]]), "man 2": np.array([[0.0, 0, 5, 6]])}


def test_every_benchmark_has_a_form() -> None:
    assert set(RESULT_FORMATS) == set(PROTOCOLS)


@pytest.mark.parametrize("benchmark", RESULT_FORMATS)
def test_what_is_exported_is_read_again(tmp_path: Path, benchmark: str) -> None:
    folder = export_results(tmp_path, BOXES, benchmark, "Our_Tracker")
    assert folder == tmp_path / "Our_Tracker"
    again = read_results(folder, {name: len(boxes) for name, boxes in BOXES.items()})
    for name, boxes in BOXES.items():
        np.testing.assert_allclose(again[name], boxes, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("benchmark", "file", "first"),
    [
        ("gtot", "T_man 2.txt", "0.0 0.0 5.0 0.0 5.0 6.0 0.0 6.0"),
        ("rgbt234", "T_man 2.txt", "0.0 0.0 5.0 0.0 5.0 6.0 0.0 6.0"),
        ("lasher", "man 2.txt", "0.0,0.0,5.0,6.0"),
    ],
)
def test_lines_are_as_in_published_results(tmp_path: Path, benchmark: str, file: str, first: str) -> None:
    folder = export_results(tmp_path, BOXES, benchmark, "T")
    assert (folder / file).read_text() == f"{first}\n"


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", ".hidden", ".."])
def test_a_tracker_must_have_a_folders_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="--tracker"):
        export_results(tmp_path, BOXES, "lasher", name)


def test_corners_are_those_of_published_results(metrics: Path, tmp_path: Path) -> None:
    """DFAT's first box of RGBT234's afterrain is 144,53,24,45 in 8 columns."""
    folder = export_results(tmp_path, {"afterrain": [[144, 53, 24, 45]]}, "rgbt234", "DFAT")
    [published] = (metrics / "RGBT234" / "results" / "DFAT").glob("DFAT_afterrain.txt")
    ours = (folder / "DFAT_afterrain.txt").read_text().splitlines()
    assert ours[0] == published.read_text().splitlines()[0]
