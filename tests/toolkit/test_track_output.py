from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.toolkit.box_files import read_boxes
from mmdistill.toolkit.track_output import TrackOutput
from mmdistill.toolkit.tracking_loop import TrackedFrame
from mmdistill.toolkit.video import Reading


def frame(
    number: int, flag: str = "normal", tir: str = "seen", problem: str = "", seconds: float = 0.5
) -> TrackedFrame:
    sizes = Pair((80, 60), (40, 30) if tir == "seen" else None)
    reading = Reading(Pair(None, None), Pair("seen", tir), sizes, problem)  # type: ignore[arg-type]
    return TrackedFrame(number, reading, np.array([number, 2.5, 3, 4]), 0.25, flag, seconds)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open() as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "summary.json").read_text()))


def test_what_is_written(tmp_path: Path) -> None:
    out = tmp_path / "new"
    with TrackOutput(out, {"seed": 3}, 9) as output:
        assert not out.exists()
        output.append(frame(1, "initial", seconds=9.0))
        output.append(frame(2, tir="missing"))
        output.append(frame(3, "not_found", "broken", 'b/3.png: cannot decode, "at all"'))
        output.append(frame(4, "skipped", "black"))
        output.append(frame(5))
        assert output.tracking_rate == pytest.approx(2), "neither the first frame nor one that was skipped counts"
    np.testing.assert_array_equal(read_boxes(out / "boxes.txt"), [[n, 2.5, 3, 4] for n in (1, 2, 3, 4, 5)])
    assert (out / "scores.txt").read_text().split() == ["0.2500"] * 5
    rows = table(out)
    assert list(rows[0]) == ["frame", "score", "flag", "rgb", "tir", "note"]
    assert [row["tir"] for row in rows] == ["seen", "missing", "broken", "black", "seen"]
    assert [row["flag"] for row in rows] == ["initial", "normal", "not_found", "skipped", "normal"]
    assert rows[2]["note"] == 'b/3.png: cannot decode, "at all"'
    written = summary(out)
    assert written["ended"] == "complete"
    assert (written["frames"], written["tracked"], written["skipped"], written["seed"]) == (9, 4, 1, 3)
    assert written["tir"] == {"size": [40, 30], "seen": 2, "missing": 1, "black": 1, "broken": 1, "uncovered": 0}
    assert written["rgb"] == {"size": [80, 60], "seen": 5, "missing": 0, "black": 0, "broken": 0, "uncovered": 0}
    assert written["frames_per_second"]["tracking"] == pytest.approx(2)  # type: ignore[index]
    assert written["lost"] == {"frames": 1, "first": 3}
    assert written["flags"] == {"initial": 1, "normal": 2, "not_found": 1, "skipped": 1}


def test_a_modality_that_the_video_has_not(tmp_path: Path) -> None:
    with TrackOutput(tmp_path, {}, None) as output:
        output.append(frame(1, tir="absent"))
    assert summary(tmp_path)["tir"] is None
    assert summary(tmp_path)["frames"] is None


def test_each_frame_is_on_disk_at_once(tmp_path: Path) -> None:
    with TrackOutput(tmp_path, {}, None) as output:
        for number in range(1, 4):
            output.append(frame(number))
            assert len(read_boxes(tmp_path / "boxes.txt")) == number
            assert len((tmp_path / "scores.txt").read_text().splitlines()) == number
            assert len(table(tmp_path)) == number


@pytest.mark.parametrize(
    ("error", "says"), [(KeyboardInterrupt(), "interrupted"), (ValueError("3.png: broken"), "3.png: broken")]
)
def test_how_it_ended(tmp_path: Path, error: BaseException, says: str) -> None:
    def run() -> None:
        with TrackOutput(tmp_path, {}, 3) as output:
            output.append(frame(1))
            raise error

    with pytest.raises(type(error)):
        run()
    assert summary(tmp_path)["ended"] == says
    assert len(read_boxes(tmp_path / "boxes.txt")) == 1


def test_no_frame_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("1,2,3,4\n")
    with pytest.raises(ValueError, match="early"), TrackOutput(tmp_path, {}, 3):
        raise ValueError("early")
    assert [path.name for path in tmp_path.iterdir()] == ["boxes.txt"]
    assert (tmp_path / "boxes.txt").read_text() == "1,2,3,4\n"


def test_memory_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    with TrackOutput(tmp_path, {}, None) as output:
        for number in range(1, 500):
            output.append(frame(number))
        tracemalloc.start()
        for number in range(500, 3000):
            output.append(frame(number))
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert grown < 20_000
