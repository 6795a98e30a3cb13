from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmdistill.toolkit.box_files import write_boxes
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.evaluation.results import (
    CORNER_COLUMNS,
    EMPTY_LINES,
    EXTRA_BOXES,
    EXTRA_FILES,
    INVALID_BOXES,
    LABELED_FRAMES_ONLY,
    MISSING_LAST_BOX,
    NAME_MISMATCH,
    REPEATED_RUNS,
    RESTARTS,
    TRACKER_PREFIX,
    TRACKER_SUFFIX,
    VOT_CODES,
    ResultFolder,
    fit_length,
    read_results,
    sequences_with_results,
)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["man.txt", "ADRNet_man.txt"], "man.txt"),
        (["ADRNet_man.txt", "ADRNet_woman.txt", "ADRNet_man2.txt"], "ADRNet_man.txt"),
        (["ADRNet_a_man.txt", "ADRNet_man.txt"], "ADRNet_man.txt"),
        (["SiamX_v2_man.txt", "SiamX_v2_old_man.txt"], "SiamX_v2_man.txt"),
    ],
)
def test_result_is_found_with_or_without_prefix(tmp_path: Path, files: list[str], expected: str) -> None:
    for file in files:
        (tmp_path / file).touch()
    assert ResultFolder(tmp_path).find("man") == tmp_path / expected


def test_names_with_quotes_are_found(tmp_path: Path) -> None:
    (tmp_path / "X_baby's [1]`.txt").touch()
    assert ResultFolder(tmp_path).find("baby's [1]`") == tmp_path / "X_baby's [1]`.txt"


def test_result_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "woman.txt").touch()
    assert ResultFolder(tmp_path).find("man") is None
    with pytest.raises(DataError, match="expected a folder"):
        ResultFolder(tmp_path / "absent")


def test_ambiguous_result(tmp_path: Path) -> None:
    for file in ("A_man.txt", "B_man.txt"):
        (tmp_path / file).touch()
    with pytest.raises(DataError, match=r"A_man\.txt and B_man\.txt"):
        ResultFolder(tmp_path).find("man")


@pytest.mark.parametrize(
    ("frames", "rows", "kind"),
    [
        (4, [0, 1, 2, 3], None),
        (5, [0, 1, 2, 3, 3], MISSING_LAST_BOX),
        (3, [0, 1, 2], EXTRA_BOXES),
        (2, [0, 1], EXTRA_BOXES),
    ],
)
def test_length_is_fitted_and_said(frames: int, rows: list[int], kind: str | None) -> None:
    boxes, data_issues = np.arange(16.0).reshape(4, 4), DataIssues()
    fitted = fit_length(boxes, frames, where="man.txt", data_issues=data_issues)
    np.testing.assert_array_equal(fitted, boxes[rows])
    expected = [] if kind is None else [f"{kind}: 1", f"  man.txt: 4 boxes for {frames} frames"]
    assert data_issues.lines() == expected


EVERY_FOURTH = np.arange(12) % 4 == 0  # labels on frames 0, 4 and 8


@pytest.mark.parametrize(
    ("count", "kind"),
    [(12, None), (11, None), (9, None), (8, MISSING_LAST_BOX), (3, LABELED_FRAMES_ONLY), (13, EXTRA_BOXES)],
)
def test_where_only_some_frames_have_labels_those_decide(count: int, kind: str | None) -> None:
    labels = np.array([0.0, 4.0, 8.0])
    frames = labels if count == 3 else np.arange(float(count))
    boxes, data_issues = np.repeat(frames[:, None], 4, axis=1), DataIssues()
    fitted = fit_length(boxes, 12, where="x.txt", labeled=EVERY_FOURTH, data_issues=data_issues)
    assert fitted.shape == (12, 4)
    assert fitted[EVERY_FOURTH, 0].tolist() == ([0, 4, 7] if count == 8 else [0, 4, 8])
    assert [line.split(": ")[0] for line in data_issues.lines()[:1]] == ([] if kind is None else [kind])


def test_too_few_boxes_for_the_labels_are_an_error() -> None:
    with pytest.raises(DataError, match="for each of 12 frames, got 7"):
        fit_length(np.zeros((7, 4)), 12, where="x.txt", labeled=EVERY_FOURTH)


def test_too_short_a_result_is_an_error() -> None:
    with pytest.raises(DataError, match=r"man\.txt: expected a box for each of 6 frames, got 4"):
        fit_length(np.zeros((4, 4)), 6, where="man.txt")


def test_results_of_a_benchmark(tmp_path: Path) -> None:
    write_boxes(tmp_path / "a.txt", [[1, 2, 3, 4]] * 2)
    write_boxes(tmp_path / "T_b.txt", [[5, 6, 7, 8]] * 3)
    results = read_results(tmp_path, {"a": 2, "b": 2})
    assert {name: boxes.tolist() for name, boxes in results.items()} == {
        "a": [[1, 2, 3, 4]] * 2,
        "b": [[5, 6, 7, 8]] * 2,
    }


def said(folder: Path, frames: dict[str, int]) -> tuple[dict[str, list[list[float]]], list[str]]:
    data_issues = DataIssues()
    results = read_results(folder, frames, data_issues=data_issues)
    return {name: boxes.tolist() for name, boxes in results.items()}, data_issues.lines()


def test_what_is_odd_is_said_kind_by_kind(tmp_path: Path) -> None:
    write_boxes(tmp_path / "T_a.txt", [[1, 2, 3, 4]] * 2)
    (tmp_path / "T_b.txt").write_text("1 2 4 2 4 6 1 6\r\n0\t0\t2\t0\t2\t2\t0\t2\r\n")
    (tmp_path / "BABY`S.txt").write_text("\ufeff1,2,3,4\nnan,nan,nan,nan\n1,2,0,4\n")
    (tmp_path / "T_a_time.txt").write_text("0.1\n0.2\n")
    boxes, lines = said(tmp_path, {"a": 2, "b": 2, "baby's": 3})
    assert boxes["b"] == [[1, 2, 3, 4], [0, 0, 2, 2]]
    assert boxes["baby's"][0] == [1, 2, 3, 4]
    assert sorted(lines) == sorted(
        [
            f"{NAME_MISMATCH}: 1",
            "  BABY`S.txt is baby's",
            f"{TRACKER_PREFIX}: 2",
            f"{EXTRA_FILES}: 1",
            "  T_a_time.txt",
            CORNER_COLUMNS,
            f"{INVALID_BOXES}: 1",
            "  BABY`S.txt: 2 of 3",
        ]
    )


def test_a_file_is_one_sequences_alone(tmp_path: Path) -> None:
    write_boxes(tmp_path / "T_man_walking.txt", [[1, 2, 3, 4]])
    with pytest.raises(DataError, match=r"no result for sequence walking, expected walking\.txt"):
        read_results(tmp_path, {"walking": 1, "man_walking": 1})
    write_boxes(tmp_path / "T_walking.txt", [[5, 6, 7, 8]])
    boxes, _ = said(tmp_path, {"walking": 1, "man_walking": 1})
    assert boxes == {"walking": [[5, 6, 7, 8]], "man_walking": [[1, 2, 3, 4]]}


def test_all_that_is_missing_is_counted(tmp_path: Path) -> None:
    write_boxes(tmp_path / "b.txt", [[1, 2, 3, 4]])
    with pytest.raises(DataError, match=r"no result for sequence a \(and 2 more\)"):
        read_results(tmp_path, dict.fromkeys("abcd", 1))


def test_results_in_a_folder_per_sequence(tmp_path: Path) -> None:
    write_boxes(tmp_path / "a" / "a_001.txt", [[1, 2, 3, 4]])
    write_boxes(tmp_path / "a" / "a_002.txt", [[5, 6, 7, 8]])
    write_boxes(tmp_path / "b" / "boxes.txt", [[5, 6, 7, 8]])
    boxes, lines = said(tmp_path, {"a": 1, "b": 1})
    assert boxes == {"a": [[1, 2, 3, 4]], "b": [[5, 6, 7, 8]]}
    assert lines[0] == f"{NAME_MISMATCH}: 2"
    assert lines[-2:] == [f"{REPEATED_RUNS}: 1", "  a/a_001.txt: of 2"]


def test_empty_lines_are_frames_if_their_number_says_so(tmp_path: Path) -> None:
    (tmp_path / "lost.txt").write_text("1,2,3,4\n\n5,6,7,8\n\n\n")
    (tmp_path / "spaced.txt").write_text("1,2,3,4\n\n5,6,7,8\n\n")
    boxes, lines = said(tmp_path, {"lost": 3, "spaced": 2})
    assert np.isnan(boxes["lost"][1]).all()
    assert boxes["lost"][2] == [5, 6, 7, 8]
    assert boxes["spaced"] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert lines == [f"{INVALID_BOXES}: 1", "  lost.txt: 1 of 3", f"{EMPTY_LINES}: 1", "  spaced.txt"]


def test_what_a_mac_leaves_beside_results_is_no_result(tmp_path: Path) -> None:
    for name in ("Mine_car", "Mine_man"):
        write_boxes(tmp_path / f"{name}.txt", np.ones((2, 4)))
        (tmp_path / f"._{name}.txt").write_bytes(b"\0\xff")
    data_issues = DataIssues()
    assert set(read_results(tmp_path, {"car": 2, "man": 2}, data_issues=data_issues)) == {"car", "man"}
    assert data_issues.lines() == [f"{TRACKER_PREFIX}: 2"]
    (tmp_path / "Mine_man.txt").unlink()
    with pytest.raises(DataError, match="no result for sequence man"):
        read_results(tmp_path, {"car": 2, "man": 2})


@pytest.mark.parametrize(
    ("files", "others", "present"),
    [
        (["girl", "boy", "blue_girl"], [], ["girl", "boy"]),
        (["boy", "man", "blue_girl", "red_car"], [], ["boy", "man"]),  # more results than sequences
        (["boy", "T_girl"], [], ["girl", "boy"]),
        (["boy", "blue_girl"], ["blue_girl"], ["boy"]),
        (["T_boy", "T_man", "T_blue_girl"], ["blue_girl"], ["boy", "man"]),
        (["T_boy", "T_man", "T_girl", "T_blue_girl"], [], ["girl", "boy", "man"]),
        (["T_girl"], [], ["girl"]),
        (["boy", "T_GIRL", "T_man"], [], ["girl", "boy", "man"]),
        ([], [], []),
    ],
)
def test_the_file_of_another_sequence_is_no_prefixed_result(
    tmp_path: Path, files: list[str], others: list[str], present: list[str]
) -> None:
    for name in files:
        (tmp_path / f"{name}.txt").write_text("1,2,3,4\n")
    assert sequences_with_results(tmp_path, ["girl", "boy", "man"], others) == present


def test_frames_with_a_code_of_vot_have_no_box(tmp_path: Path) -> None:
    lines = ["1", "1,2,3,4", "5,6,7,8", "2", "0", "0.0", "1", "9,9,9,9"]
    (tmp_path / "car" / "car_001.txt").parent.mkdir()
    (tmp_path / "car" / "car_001.txt").write_text("\n".join(lines))
    (tmp_path / "man.txt").write_text("1\n1 2 4 2 4 6 1 6\n2\n0\n")
    boxes, said_lines = said(tmp_path, {"car": 8, "man": 4})
    assert [box[0] for box in boxes["car"] if not np.isnan(box).all()] == [1, 5, 9]
    assert np.isnan(np.array(boxes["car"])[[0, 3, 4, 5, 6]]).all()
    assert boxes["man"][1] == [1, 2, 3, 4]
    assert np.isnan(np.array(boxes["man"])[[0, 2, 3]]).all()
    expected = [
        f"{VOT_CODES}: 2",
        "  car_001.txt: 5 of 8",
        "  man.txt: 3 of 4",
        f"{RESTARTS}: 1",
        "  car_001.txt: 1 times",
    ]
    assert set(expected) <= set(said_lines)
    assert not any(line.startswith(INVALID_BOXES) for line in said_lines)


def test_codes_alone_are_no_boxes_and_other_numbers_no_codes(tmp_path: Path) -> None:
    for text, line in (("1\n0\n2\n", "0, 1 and 2 only"), ("1,2,3,4\n3\n", "line 2"), ("1,2,3,4\n-1\n", "line 2")):
        (tmp_path / "car.txt").write_text(text)
        with pytest.raises(DataError, match=rf"car\.txt.*{line}"):
            read_results(tmp_path, {"car": text.count("\n")})


def test_a_trackers_name_may_stand_behind(tmp_path: Path) -> None:
    for name in ("man", "man_walking", "car"):
        write_boxes(tmp_path / f"{name}_My_KCF.txt", [[len(name), 2, 3, 4]])
    boxes, lines = said(tmp_path, {"man": 1, "man_walking": 1, "car": 1})
    assert {name: box[0][0] for name, box in boxes.items()} == {"man": 3, "man_walking": 11, "car": 3}
    assert lines == [f"{TRACKER_SUFFIX}: 3"]
    for name in ("man", "car"):  # what is left may be another sequence's
        (tmp_path / f"{name}_My_KCF.txt").unlink()
        with pytest.raises(DataError, match="no result for sequence man,"):
            read_results(tmp_path, {"man": 1})


def test_a_folder_without_the_results_says_what_it_holds(tmp_path: Path) -> None:
    for tracker in ("KCF", "APFNet"):
        write_boxes(tmp_path / tracker / "car.txt", [[1, 2, 3, 4]])
    with pytest.raises(DataError, match=r"no result for sequence car.*folders below it hold results: APFNet, KCF"):
        read_results(tmp_path, {"car": 1})
    (tmp_path / "raw" / "car").mkdir(parents=True)
    (tmp_path / "raw" / "car" / "car_001.bin").touch()
    (tmp_path / "raw" / "car.json").touch()
    with pytest.raises(DataError, match=r"1 \.bin, 1 \.json"):
        read_results(tmp_path / "raw", {"car": 1})


@pytest.mark.parametrize("name", ["car.csv", "car.TXT", "Mine_car.csv"])
def test_text_of_another_suffix_is_read(tmp_path: Path, name: str) -> None:
    write_boxes(tmp_path / name, [[1, 2, 3, 4]])
    assert read_results(tmp_path, {"car": 1})["car"].tolist() == [[1, 2, 3, 4]]


def test_text_counts_before_other_kinds_and_those_are_named(tmp_path: Path) -> None:
    write_boxes(tmp_path / "car.csv", [[5, 6, 7, 8]])
    write_boxes(tmp_path / "car.txt", [[1, 2, 3, 4]])
    boxes, lines = said(tmp_path, {"car": 1})
    assert boxes == {"car": [[1, 2, 3, 4]]}
    assert lines == [f"{EXTRA_FILES}: 1", "  car.csv"]
