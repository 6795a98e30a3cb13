from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdistill.toolkit.box_files import write_boxes
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.evaluation.metrics import score_benchmark
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.scores import save_curves
from mmdistill.toolkit.report.contents import GroundTruth, collect_raw, collect_scored, name_folders, read_ground_truth

BOX = np.tile([100.0, 100, 40, 30], (20, 1))
TRUTHS = {name: GroundTruth((BOX,)) for name in ("car", "man", "red_man", "bus")}


def raw(folder: Path, names: Sequence[str], *, offset: float = 2.0, prefix: str = "") -> Path:
    for name in names:
        write_boxes(folder / f"{prefix}{name}.txt", BOX + np.array([offset, 0, 0, 0]))
    return folder


def test_names_are_the_folders_or_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain", "a=b", "sub/plain"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    named = name_folders(["plain", "a=b", "second=sub/plain", "third=a=b", "."])
    assert list(named) == ["plain", "a=b", "second", "third", tmp_path.name]
    assert named["second"] == Path("sub/plain")
    assert named["third"] == Path("a=b")
    for given, says in (
        (["plain", "sub/plain"], "sub/plain: two trackers are named 'plain'; name it with NAME=sub/plain"),
        (["=plain"], "=plain: the tracker has no name"),
        (["none"], "none: expected a tracker's folder, there is none"),
        (["x=none"], "none: expected a tracker's folder"),
        ([], "report: expected a folder for each tracker, got none"),
    ):
        with pytest.raises(DataError) as error:
            name_folders(given)
        assert str(error.value).startswith(says)


def test_raw_results_are_compared_on_what_all_have(tmp_path: Path) -> None:
    folders = {
        "whole": raw(tmp_path / "whole", list(TRUTHS)),
        "prefixed": raw(tmp_path / "prefixed", ["car", "red_man"], prefix="My_Tracker_"),
        "scored": raw(tmp_path / "scored" / "results", ["red_man", "car", "man", "other"]).parent,
    }
    contents = collect_raw(folders, TRUTHS, PROTOCOLS["lasher"], {})
    # red_man.txt is nobody's result for "man".
    assert contents.sequences == ("car", "red_man")
    assert contents.total == 4
    assert [tracker.missing for tracker in contents.trackers] == [(), ("man", "bus"), ("bus",)]
    boxes = dict.fromkeys(contents.sequences, BOX + np.array([2, 0, 0, 0]))
    alone = score_benchmark(boxes, dict.fromkeys(contents.sequences, (BOX,)), PROTOCOLS["lasher"])
    assert contents.trackers[0].scores.to_json() == alone.to_json()
    for each in contents.trackers:
        # As the rule counts them: the first is the truth.
        np.testing.assert_array_equal(each.boxes["car"], np.concatenate([BOX[:1], boxes["car"][1:]]))


def test_nothing_to_compare(tmp_path: Path) -> None:
    one, other, none = raw(tmp_path / "one", ["car"]), raw(tmp_path / "other", ["bus"]), tmp_path / "none"
    none.mkdir()
    with pytest.raises(DataError, match=r"no sequence has results of all trackers \(a 1, b 1 of 4\)"):
        collect_raw({"a": one, "b": other}, TRUTHS, PROTOCOLS["vot"], {})
    with pytest.raises(DataError, match=r"none: no result for any of 4 sequences, such as car\.txt"):
        collect_raw({"a": one, "b": none}, TRUTHS, PROTOCOLS["vot"], {})


def test_scored_folders_are_compared_by_their_curves(tmp_path: Path) -> None:
    results = {name: dict.fromkeys(TRUTHS, BOX + np.array([k, 0, 0, 0])) for k, name in enumerate(("a", "b"))}
    attributes = {"car": {"OCC": [True]}, "bus": {"OCC": [True]}}
    truths = {name: truth.boxes for name, truth in TRUTHS.items()}
    del results["b"]["bus"]
    folders = {}
    for name, boxes in results.items():
        known = {sequence: truths[sequence] for sequence in boxes}
        scores = score_benchmark(boxes, known, PROTOCOLS["vot"], attributes=attributes)
        folders[name] = tmp_path / name
        save_curves(tmp_path / name / "curves.json", scores)
    contents = collect_scored(folders, {})
    assert contents.sequences == ("car", "man", "red_man")
    assert contents.total == 4
    assert [tracker.missing for tracker in contents.trackers] == [(), ("bus",)]
    assert contents.trackers[0].scores.attribute_sequences == {"OCC": ("car",)}
    assert contents.ground_truth == {}
    both = collect_raw(
        {name: raw(tmp_path / "raw" / name, results["b"], offset=k) for k, name in enumerate(("a", "b"))},
        TRUTHS,
        PROTOCOLS["vot"],
        {},
    )
    for one, other in zip(contents.trackers, both.trackers, strict=True):
        assert one.scores.overall.rates() == other.scores.overall.rates()

    with pytest.raises(DataError, match=r"has no curves\.json"):
        collect_scored({**folders, "c": tmp_path}, {})
    other_rule = score_benchmark(results["a"], truths, replace(PROTOCOLS["vot"], success="trapezoids"))
    save_curves(tmp_path / "c" / "curves.json", other_rule)
    with pytest.raises(DataError, match=r"c: scored by another protocol than .*a; score both by one"):
        collect_scored({**folders, "c": tmp_path / "c"}, {})
    shorter = score_benchmark({"car": BOX[:9]}, {"car": (BOX[:9],)}, PROTOCOLS["vot"])
    save_curves(tmp_path / "c" / "curves.json", shorter)
    with pytest.raises(DataError, match="car: the trackers were scored on different numbers of frames: 20, 9"):
        collect_scored({**folders, "c": tmp_path / "c"}, {})


def test_annotations_here_and_images_there(tmp_path: Path, small_benchmark) -> None:
    pictured = read_ground_truth("vot", None, small_benchmark.sequences, DataIssues())[0]
    assert pictured["car2"].frame is not None
    write_boxes(tmp_path / "car2.txt", small_benchmark.truths["car2"] + 1)
    write_boxes(tmp_path / "elsewhere.txt", BOX)
    both = read_ground_truth("vot", tmp_path, small_benchmark.sequences, DataIssues())[0]
    np.testing.assert_array_equal(both["car2"].boxes[0], small_benchmark.truths["car2"] + 1)
    assert both["car2"].attributes["TC"].all()
    assert both["car2"].frame is not None
    assert both["car2"].frame(3).rgb is not None
    assert both["elsewhere"].frame is None
    bare = read_ground_truth("vot", small_benchmark.sequences, None, DataIssues())[0]
    assert bare["car2"].frame is None
    assert bare["car2"].attributes["TC"].all()
