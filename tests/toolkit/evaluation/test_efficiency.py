from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.efficiency import Cost, read_saved_cost, read_speed, save_cost


def write(folder: Path, name: str, seconds: object, **others: str) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"seconds": seconds, **others}))


def test_the_first_frames_are_counted_apart(tmp_path: Path) -> None:
    write(tmp_path, "a", [2.0, 0.5, 0.5])
    write(tmp_path, "dog's", [4.0, 0.25, 0.25, 0.5])
    speed = read_speed(tmp_path, ["a", "dog's"])
    assert speed is not None
    assert speed.frames_per_second == pytest.approx(5 / 2)
    assert speed.with_first_frames == pytest.approx(7 / 8)
    content = json.loads(speed.to_json())
    assert content["frames_per_second"] == 2.5
    assert (content["frames"], content["first_frames"]) == (5, 2)
    assert content["how"] == "the tracker alone, without reading images"


def test_a_run_that_went_on_in_another_way_says_both(tmp_path: Path) -> None:
    for name, way in (("a", "on paper"), ("b", "by heart"), ("c", "on paper")):
        write(tmp_path, name, [1.0, 1.0], how=way)
    speed = read_speed(tmp_path, ["a", "b", "c"])
    assert speed is not None
    assert speed.how == "the tracker alone, without reading images; on paper and by heart"


def test_results_without_times_have_no_speed(tmp_path: Path) -> None:
    write(tmp_path, "a", [1.0])
    assert read_speed(tmp_path, ["a", "b"]) is None


@pytest.mark.parametrize("seconds", [[], "fast", None, [1, "x"], [1, float("nan")], [-1], [True]])
def test_malformed_times_are_named(tmp_path: Path, seconds: object) -> None:
    write(tmp_path, "a", seconds)
    with pytest.raises(DataError, match=r"a\.json: 'seconds': expected the seconds"):
        read_speed(tmp_path, ["a"])


def test_times_are_read_only_from_a_file_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write(tmp_path, "b", [1.0])
    for target, said in (("/dev/zero", "a character device"), (tmp_path / "b.json", "expected a file below")):
        (tmp_path / "run" / "a.json").unlink(missing_ok=True)
        (tmp_path / "run" / "a.json").symlink_to(target)
        with pytest.raises(DataError, match=rf"a\.json.*{said}"):
            read_speed(tmp_path / "run", ["a"])


def test_a_saved_cost_is_read_back_from_the_folder_alone(tmp_path: Path) -> None:
    assert read_saved_cost(tmp_path) is None
    cost = Cost(12, 34, "DiMP on TIR")
    save_cost(tmp_path / "cost.json", cost)
    assert read_saved_cost(tmp_path) == cost


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"parameters": 1, "what": ""}', "'multiply_adds': expected a count, got 'nothing'"),
        ('{"parameters": NaN, "multiply_adds": 1, "what": ""}', "'parameters': expected a count, got 'nan'"),
        ('{"parameters": 1, "multiply_adds": -1, "what": ""}', "'multiply_adds'"),
        ('{"parameters": 1, "multiply_adds": 1, "what": 3}', "'what'"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_saved_cost_that_is_damaged_is_refused_by_its_field(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "cost.json").write_text(content)
    with pytest.raises(DataError, match=rf"cost\.json.*{said}"):
        read_saved_cost(tmp_path)


@pytest.mark.parametrize("target", ["/dev/zero", "../secret.json"])
def test_a_saved_cost_lies_in_the_folder_itself(tmp_path: Path, target: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "run" / "cost.json").symlink_to(target)
    with pytest.raises(DataError, match=r"cost\.json: expected a (regular file|file below)"):
        read_saved_cost(tmp_path / "run")
