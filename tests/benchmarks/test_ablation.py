"""The ablation, small: nothing is shared or chosen where it must not be, stages go on, tables say what was measured."""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mmdistill.__main__ import main
from mmdistill.reference.data.images import write_image
from mmdistill.reference.data.pairs import open_pairs
from mmdistill.reference.data.synthetic import SyntheticSettings
from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import save_network
from mmdistill.reference.training.stages import AloneStage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("ablation")


def part(name: str) -> Any:
    return importlib.import_module(f"parts.ablation.{name}")


def toy(sizes: Any) -> Any:
    preset = sizes.SIZES["nightly"]
    samples = replace(preset.student.samples, proposals=replace(preset.student.samples.proposals, count=4))
    student = replace(preset.student, sequences=2, warmup_steps=0, samples=samples)
    return replace(
        preset,
        crop_size=64,
        width=4,
        teacher_width=4,
        teacher=sizes.lasting(replace(student, seed=1000), 2),
        student=sizes.lasting(student, 2),
        video=SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=4),
        train_videos=2,
        train_scenes=1,
        train_procedural=1,
        held_out=(2, 1),
        held_out_length=3,
        validation=(1, 1),
        validation_pairs=3,
        test_pairs=3,
        alphas=(1e-3, 1e-1),
        choice_steps=1,
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder of twelve aligned pairs."""
    generator = np.random.default_rng(0)
    for number in range(12):
        for side in ("rgb", "tir"):
            coarse = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            image = np.asarray(cv2.resize(coarse, (320, 240)), np.uint8)
            write_image(tmp_path / "pairs" / side / f"{number:02d}.png", image)
    return tmp_path / "pairs"


Command = Callable[..., dict[str, Any]]


@pytest.fixture
def run(ablation: ModuleType, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the benchmark at toy size and return its report; a toy has too little video for every attribute."""
    monkeypatch.setitem(ablation.SIZES, "cpu", toy(part("sizes")))
    monkeypatch.setattr(ablation, "described", lambda videos: {"test sequences": len(videos.test())})
    out = tmp_path / "report.json"

    def call(*more: object) -> dict[str, Any]:
        command = ["ablation.py", "--pairs", pairs, "--runs", tmp_path / "runs", "--out", out, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, *more]])
        ablation.main()
        report: dict[str, Any] = json.loads(out.read_text())
        return report

    return call


def files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_it_chooses_trains_tracks_and_goes_on(run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = run("--seeds", 0, "--tables", 1, "--stage-minutes", 0)
    assert nothing["rows"] == {}
    assert nothing["left"] == [
        "teacher: step 0 of 2",
        "seed_0/student: step 0 of 2",
        "all that the teacher is needed for",
    ]
    chosen = run("--seeds", 0, "--tables", 1, "--choose")
    assert chosen["rows"] == {}
    assert [(each["alpha"], each["beta"]) for each in chosen["choice"]["tried"]] == [(1e-3, 100), (1e-1, 100)]
    capsys.readouterr()
    done = run("--seeds", 0, "--tables", 1)
    assert list(done["rows"]) == ["teacher", "student", "scfd", "scfd_mpsd", "cmd"]
    assert done["left"] == []
    assert done["choice"] == chosen["choice"]
    assert set(done["by seed"]["0"]["cmd"]["loss, first and last steps"]) >= {"specific", "penalty", "response"}
    assert set(done["by seed"]["0"]["student"]["loss, first and last steps"]) == {
        "box", "last", "first", "middle", "total"
    }  # fmt: skip
    assert str(tmp_path) not in (tmp_path / "report.json").read_text()
    assert (tmp_path / "report.png").stat().st_size > 0
    said = capsys.readouterr().out
    assert "Table 1" in said
    assert "| + SCFD | " in said
    assert "nothing is left" in said
    before = files(tmp_path / "runs")
    again = run("--seeds", 0, "--tables", 1)
    assert files(tmp_path / "runs") == before
    assert again["rows"] == done["rows"]
    # The tables of another seed with one more row: what is there stays.
    more = run("--seeds", 0, 1, "--tables", 1, 4, "--only", "student", "kd")
    assert more["rows"]["kd"]["seeds"] == ["0", "1"]
    assert more["rows"]["cmd"]["seeds"] == ["0"]
    assert before.items() <= files(tmp_path / "runs").items()


def test_all_students_of_a_seed_see_the_same_test_video_and_samples(ablation: ModuleType) -> None:
    size = toy(part("sizes"))
    rows = part("rows").ROWS
    runs = [part("runs").row_run(size, name, 3, 0.1, 10.0) for name in rows]
    assert {each.training for each in runs} == {runs[0].training}
    assert runs[0].training.seed == runs[0].seed == 3
    assert {each.tracks for each in runs} == {"test"}
    assert len({each.folder for each in runs}) == len(rows)
    tries = ablation.choice_runs(size, ablation.grid(size))
    assert {each.tracks for each in tries} == {"validation"}
    assert not {each.seed for each in tries} & {0, 1, 2}
    assert size.teacher.seed not in (0, 1, 2)


def test_nothing_of_the_test_video_is_looked_at_for_the_choice(
    run: Command, ablation: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("test video")

    monkeypatch.setattr(ablation, "described", lambda _: {})
    monkeypatch.setattr(part("video").Videos, "test", refuse)
    parts = part("video").split
    monkeypatch.setattr(part("video"), "split", lambda *given: Without(parts(*given)))
    part("runs").training_video.cache_clear()
    part("runs").held_out_video.cache_clear()
    assert run("--choose")["choice"]["chosen on"] == "validation sequences"


class Without(dict[str, Any]):
    """The parts of the pairs, of which the test's can't be had."""

    def __getitem__(self, name: str) -> Any:
        assert name != "test"
        return super().__getitem__(name)


def test_the_best_on_validation_is_chosen(ablation: ModuleType, tmp_path: Path) -> None:
    size = replace(toy(part("sizes")), alphas=(1e-3, 1e-1), betas=(100.0, 10.0), choice_seeds=(8, 9))
    found = {(1e-3, 100.0): (10, 12), (1e-3, 10.0): (30, 10), (1e-1, 100.0): (21, 19), (1e-1, 10.0): (0, 39)}
    for weights, values in found.items():
        for each, value in zip(ablation.choice_runs(size, [weights]), values, strict=True):
            (tmp_path / each.folder).mkdir(parents=True)
            scores = {"PR": value, "SR": value, "NPR": 0}
            (tmp_path / each.folder / "scores.json").write_text(json.dumps(scores))
    choice = ablation.choose(part("runs").Experiment(size), tmp_path)
    assert (choice["alpha"], choice["beta"]) == (1e-3, 10.0)  # 20 on average; the first of two
    assert [each["PR"] for each in choice["tried"]] == [11, 20, 20, 19.5]
    lines = part("report").choice_table({"choice": choice})
    assert lines[2:4] == ["| 0.001 | 100 | 11.0 | 11.0 |", "| **0.001** | **10** | **20.0** | **20.0** |"]
    assert len(part("report").choice_table({"choice": None})) == 2


def test_what_differs_is_refused(run: Command, tmp_path: Path) -> None:
    run("--only", "student", "scfd", "--tables", 1, "--seeds", 0, "--alpha", 0.1, "--beta", 10)
    with pytest.raises(DataError, match="holds an experiment with other settings"):
        run("--steps", 3)
    with pytest.raises(SystemExit):
        run("--only", "student", "scfd", "--tables", 1, "--seeds", 0, "--alpha", 0.2, "--beta", 10)
    report = json.loads((tmp_path / "report.json").read_text())
    assert "distillation.alpha was 0.1, now 0.2" in report["left"][0]
    assert "scfd" not in report["rows"]


def test_a_stage_ends_in_time_and_the_next_goes_on(pairs: Path, tmp_path: Path) -> None:
    runs, sizes = part("runs"), part("sizes")
    size = toy(sizes)
    long = replace(size, student=sizes.lasting(size.student, 100_000))
    experiment = runs.Experiment(long, str(pairs))
    student = runs.row_run(long, "student", 0, 0.0, 0.0)
    steps = []
    for _ in range(2):
        place = runs.Place(experiment, tmp_path, "cpu", 1, time.time() + 1.5, progress=False)
        assert runs.carry_out(student, place) == "stopped"
        assert time.time() < place.end + 2
        steps.append(len((tmp_path / student.folder / "log.jsonl").read_text().splitlines()))
    assert 0 < steps[0] < steps[1]
    assert runs.left(student, tmp_path) == f"seed_0/student: step {steps[1]} of 100000"
    assert not runs.finished(student, tmp_path)


def test_whoever_is_stopped_before_the_time_stops_all(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = part("runs")
    size = toy(part("sizes"))
    begun = []

    def stopped(each: Any, place: Any) -> str:  # noqa: ARG001
        begun.append(each.folder)
        return "stopped"

    monkeypatch.setattr(ablation, "carry_out", stopped)
    place = runs.Place(runs.Experiment(size), tmp_path, "cpu", 1, float("inf"), progress=False)
    with pytest.raises(KeyboardInterrupt):
        ablation.Stage(place, 1).do([runs.teacher_run(size), runs.teacher_tracks(0)], map)
    assert begun == ["teacher"]


@pytest.mark.slow
def test_told_to_stop_no_process_begins_another_run(pairs: Path, tmp_path: Path) -> None:
    runs, sizes = part("runs"), part("sizes")
    size = toy(sizes)
    long = replace(size, student=sizes.lasting(size.student, 100_000))
    place = runs.Place(runs.Experiment(long, str(pairs)), tmp_path, "cpu", 1, float("inf"), progress=False)
    asked = [runs.row_run(long, "student", seed, 0.0, 0.0) for seed in range(6)]

    def begun() -> list[Path]:
        return sorted(path.parent.parent for path in tmp_path.glob("seed_*/student/log.jsonl"))

    def stop() -> None:
        while len(begun()) < 2:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), part("crew").crew(2) as each:
        list(each(partial(runs.carry_out, place=place), asked))
    for child in active_children():
        child.join(timeout=30)
        if child.is_alive():
            child.kill()
    assert begun() == [tmp_path / "seed_0", tmp_path / "seed_1"]


@pytest.mark.slow
def test_several_runs_at_once_measure_the_same(run: Command, tmp_path: Path) -> None:
    given = ("--tables", 1, "--seeds", 0, "--alpha", 0.1, "--beta", 10)
    alone = run(*given)
    together = run(*given, "--jobs", 2, "--runs", tmp_path / "others")
    assert together["left"] == []
    assert together["rows"] == alone["rows"]


def test_no_part_shares_a_pair_with_another(pairs: Path) -> None:
    video = part("video")
    size = toy(part("sizes"))
    parts = video.split(open_pairs(pairs), size)
    assert [each.names[0] for each in parts.values()] == ["00.png", "06.png", "09.png"]
    assert sum(len(each) for each in parts.values()) == 12
    assert len({name for each in parts.values() for name in each.names}) == 12
    video.check_disjoint(parts)
    # The same thermal image once more, under another name.
    twin = pairs / "tir" / "10.png"
    (pairs / "tir" / "02.png").write_bytes(twin.read_bytes())
    with pytest.raises(DataError, match=r"training and test share 1 images, 02\.png, 10\.png"):
        video.check_disjoint(video.split(open_pairs(pairs), size))
    with pytest.raises(DataError, match="expected at least 2 pairs for training, got 1 of 12"):
        video.split(open_pairs(pairs), replace(size, test_pairs=8))


def test_video_is_composed_of_its_parts_pairs_alone(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    pairs_class = importlib.import_module("mmdistill.reference.data.pairs.pairs").Pairs
    pair = pairs_class.pair

    def traced(self: Any, index: int) -> Any:
        read.append(self.names[index])
        return pair(self, index)

    monkeypatch.setattr(pairs_class, "pair", traced)
    videos = part("video").Videos(
        replace(toy(part("sizes")), train_videos=8, train_scenes=8, held_out=(8, 1)), str(pairs)
    )
    seen = {}
    for name in ("training", "validation", "test"):
        read.clear()
        for each in getattr(videos, name)():
            each.frame(0)
        seen[name] = set(read)
    assert len(seen["training"]) > 4
    assert seen["training"] <= {f"{number:02d}.png" for number in range(6)}
    assert seen["validation"] <= {"06.png", "07.png", "08.png"}
    assert seen["test"] <= {"09.png", "10.png", "11.png"}
    # No procedural video is in two of them either.
    first = [getattr(videos, name)()[-1] for name in ("validation", "test")]
    assert not np.array_equal(first[0].boxes, first[1].boxes)


@pytest.mark.parametrize(
    "name",
    ["nightly", *(pytest.param(each, marks=pytest.mark.slow) for each in ("gpu", "cpu", "pretrained"))],
)
def test_every_size_tests_enough_sequences_with_every_attribute(ablation: ModuleType, pairs: Path, name: str) -> None:
    size = replace(ablation.SIZES[name], validation_pairs=3, test_pairs=3)
    assert sum(size.held_out) >= part("sizes").LEAST == 60
    test = part("video").Videos(size, "" if name == "nightly" else str(pairs)).test()
    counts = part("video").present(test)
    assert len(counts) == 6
    assert min(counts.values()) >= 5
    assert size.student.statistics_until == size.student.steps // 2
    assert size.teacher.statistics_until == size.teacher.steps // 2
    calm = [each for each in test if not each.attributes["fast_motion"].any()]
    with pytest.raises(DataError, match="got none with fast_motion"):
        part("video").present(calm)


def test_a_size_with_too_little_video_ends_before_anything_is_trained(
    ablation: ModuleType, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ablation.SIZES, "cpu", toy(part("sizes")))
    command = ["ablation.py", "--pairs", pairs, "--runs", tmp_path / "runs"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    with pytest.raises(DataError, match="expected every attribute in some"):
        ablation.main()
    assert not (tmp_path / "runs" / "teacher").exists()


def test_rows_are_the_papers_networks(ablation: ModuleType) -> None:
    size = ablation.SIZES["pretrained"]
    rows = part("rows").ROWS

    def parameters(settings: Any) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in TrackerNetwork(settings).parameters())

    counts = {name: parameters(size.student_network(row)) for name, row in rows.items()}
    unused = 8_393_728 + 513_000  # layer4 and fc of a trunk, which the paper counts
    assert counts["student"] == counts["scfd"] == counts["afd"] == 19_810_135 - unused
    assert counts["cmd"] == counts["review"] == counts["md"] == 19_894_753 - unused
    assert counts["kd"] == counts["fitnets"] == counts["review_2"] == 31_584_265 - 2 * unused
    assert parameters(size.teacher_network()) == 19_803_055
    assert [size.student_network(row).label_sigma_cells for row in rows.values()] == [pytest.approx(0.9)] * len(rows)
    for name, table in part("rows").TABLES.items():
        assert table[0] == "student"
        if name != "single":
            assert all(rows[row].paper for row in table)
    assert {rows[row].interaction for row in ("afd", "sed", "ced")} == {("add",) * 4, ("sem",) * 4, ("cem",) * 4}
    for _, name, base in part("rows").CLAIMS:
        assert rows[name].paper[0] > rows[base].paper[0]


def test_trunks_start_from_the_weights_that_the_size_says(ablation: ModuleType) -> None:
    runs = part("runs")

    def started(name: str, *trunks: str) -> tuple[str, str]:
        experiment = runs.Experiment(ablation.SIZES[name], "", *trunks)
        return experiment.trunk_of("teacher"), experiment.trunk_of("seed_0/student")

    assert started("cpu", "a") == ("a", "")
    assert started("pretrained", "a") == ("a", "a")
    assert started("pretrained", "a", "b") == ("b", "a")
    assert started("cpu") == started("pretrained") == ("", "")


def figures(value: float) -> dict[str, float]:
    return {"PR": value, "NPR": value, "SR": value / 2}


def verdicts(by_seed: dict[str, dict[str, dict[str, float]]]) -> Any:
    return importlib.import_module("parts.claims").verdicts(part("rows").CLAIMS, by_seed, part("report").SHOWN)


def test_gains_and_gaps_are_taken_seed_by_seed() -> None:
    report = part("report")
    by_seed = {
        "0": {"teacher": figures(60), "student": figures(40), "scfd": figures(50), "cmd": figures(56)},
        "1": {"teacher": figures(70), "student": figures(60), "scfd": figures(68), "cmd": figures(70)},
    }
    rows = report.summary(by_seed)
    assert rows["scfd"]["PR"] == [59.0, 12.7]
    assert rows["scfd"]["PR to student"] == [9.0, 1.4]
    assert rows["scfd"]["PR gap closed"] == [65.0, 21.2]  # 10 of 20, 8 of 10
    assert rows["cmd"]["SR gap closed"] == [90.0, 14.1]
    claims = verdicts(by_seed)
    assert claims["SCFD helps"]["PR"] == {"ahead": [9.0, 1.4], "seeds": 2, "beyond the spread": "yes"}
    assert list(claims) == ["SCFD helps"]  # of the others one side is missing
    lines = report.table({"rows": rows}, "1")
    assert lines[2].startswith("| Teacher | 65.0 ± 7.1 | 32.5 ± 3.5 | +15.0 ± 7.1 |")
    assert lines[3].startswith("| Student | 50.0 ± 14.1 | 25.0 ± 7.1 |  |  |  |  | 78.1/56.0 |")
    assert lines[4].endswith("| +9.0 ± 1.4 | +4.5 ± 0.7 | 65.0 ± 21.2 % | 65.0 ± 21.2 % | 80.3/57.4 |")
    assert lines[5] == f"| + SCFD + MPSD |{' not measured |' * 6} 82.2/58.3 |"
    lines = importlib.import_module("parts.claims").claims_table(claims, report.SHOWN)
    assert lines[2] == "| SCFD helps | +9.0 ± 1.4: yes | +4.5 ± 0.7: yes |"
    by_seed["1"]["teacher"] = figures(60.5)  # SR 0.25 ahead: no gap
    rows = report.summary(by_seed)
    assert rows["cmd"]["SR gap closed"] is None
    assert report.table({"rows": rows}, "1")[6].count("no gap") == 2
    del by_seed["1"]["student"]
    assert report.summary(by_seed)["cmd"]["PR to student"] is None


@pytest.mark.parametrize(
    ("ahead", "says"), [((1.0, 2.0), "yes"), ((-1.0, -2.0), "the reverse"), ((-1.0, 2.0), "within the spread")]
)
def test_a_claim_needs_more_than_the_spread(ahead: tuple[float, float], says: str) -> None:
    by_seed = {str(seed): {"scfd": figures(50 + value), "sed": figures(50)} for seed, value in enumerate(ahead)}
    found = verdicts(by_seed)["SCFD beats SED"]
    assert found["PR"]["beyond the spread"] == says


@pytest.mark.parametrize("name", ["student", "scfd", "cmd", "kd", "fitnets", "afd", "caf", "tf"])
def test_the_commands_of_the_page_train_the_rows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, size = part("rows").ROWS[name], toy(part("sizes"))
    teacher = tmp_path / "teacher.safetensors"
    save_network(teacher, TrackerNetwork(size.teacher_network()))
    found = []
    monkeypatch.setattr("mmdistill.reference.commands.train.run", lambda stage, *_, **__: found.append(stage))
    options = importlib.import_module("paper_hours").options(row).split()
    options += ["--teacher", str(teacher)] if row.parts else ["--crop-size", "64"]
    command = "mmdistill train student --data synthetic --videos 1 --width 4 --device cpu --out"
    monkeypatch.setattr(sys, "argv", [*command.split(), str(tmp_path / "run"), *options])
    main()
    settings = found[0].network.settings
    assert (settings.fusion, settings.streams) == (row.fusion, row.streams)
    if row.parts:
        assert found[0].parts == row.distillation(100.0, 100.0)  # the weights are the defaults
    else:
        assert isinstance(found[0], AloneStage)
