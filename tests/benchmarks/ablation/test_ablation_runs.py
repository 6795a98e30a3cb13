"""The ablation at toy size: chooses, trains, tracks, stops and resumes."""

import json
import os
import signal
import time
from dataclasses import replace
from functools import partial
from importlib import import_module
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ablation_toy import Command, hang_if, part, toy

from mmdistill.toolkit.data_issues import DataError


def files(root: Path) -> dict[Path, int]:
    """Files and times of their last changes, without the choices, which grow."""
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != "choice.json"}


def test_it_chooses_trains_tracks_and_resumes(run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = run("--seeds", 0, "--tables", 1, "--time-limit", 0)
    assert nothing["rows"] == {}
    assert nothing["unfinished"] == [
        "teacher: step 0 of 2",
        "seed_0/student: step 0 of 2",
        "seed_0/blocks: step 0 of 2",
        "all runs that need the teacher",
    ]
    chosen = run("--seeds", 0, "--tables", 1, "--only-choose")
    assert chosen["rows"] == {}
    trials = chosen["choice"]["cmd"]["trials"]
    assert [each["weights"] for each in trials] == [
        {"alpha": alpha, "beta": 100, "baseline": 0} for alpha in (1e-3, 1e-1)
    ]
    assert list(chosen["choice"]) == ["cmd"]
    capsys.readouterr()
    done = run("--seeds", 0, "--tables", 1)
    assert list(done["rows"]) == ["teacher", "student", "blocks", "scfd", "scfd_mpsd", "cmd"]
    assert done["rows"]["cmd"]["base"] == "blocks"
    assert done["unfinished"] == []
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
    assert "unfinished: 0" in said
    before = files(tmp_path / "runs")
    again = run("--seeds", 0, "--tables", 1)
    assert files(tmp_path / "runs") == before
    assert again["rows"] == done["rows"]
    # The tables of another seed with one more row: what is there stays.
    more = run("--seeds", 0, 1, "--tables", 1, 4, "--only", "student", "kd")
    assert more["rows"]["kd"]["seeds"] == ["0", "1"]
    assert more["rows"]["cmd"]["seeds"] == ["0"]
    assert before.items() <= files(tmp_path / "runs").items()


def test_students_alone_need_no_choice(run: Command, tmp_path: Path) -> None:
    done = run("--seeds", 0, "--only", "student", "--tables", 1)
    assert list(done["rows"]) == ["teacher", "student"]
    assert (done["unfinished"], done["choice"]) == ([], {})
    assert not (tmp_path / "runs" / "choice").exists()


def test_each_row_needs_only_its_own_choice(run: Command, tmp_path: Path) -> None:
    given = ("--seeds", 0, "--tables", 4, "--alpha", 0.1, "--beta", 10, "--only")
    cmd = run(*given, "cmd_2")
    assert cmd["choice"]["cmd"] == {
        "chosen on": "nothing: given",
        "weights": {"alpha": 0.1, "beta": 10, "baseline": 0},
        "trials": [],
    }
    assert list(cmd["rows"]) == ["teacher", "cmd_2"]
    assert not (tmp_path / "runs" / "choice").exists()
    done = run(*given, "cmd_2", "review", "review_2")
    assert list(done["choice"]) == ["cmd", "review"]
    assert list(done["rows"]) == ["teacher", "review_2", "cmd_2", "review"]
    assert done["unfinished"] == []
    folders = sorted(folder.name for folder in (tmp_path / "runs" / "choice").iterdir())
    assert folders == ["review_weight_10_seed_1000", "review_weight_1_seed_1000"]
    weight = done["choice"]["review"]["weights"]["baseline"]
    scores = json.loads((tmp_path / "runs/seed_0/review_2/scores.json").read_text())
    assert scores["run"]["distillation"]["baselines"]["review"] == weight
    assert list(json.loads((tmp_path / "runs/choice.json").read_text())) == ["review"]


def test_a_row_is_executed_as_soon_as_its_weights_are_chosen(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    execute_run = part("execution").execute_run

    def record(each: Any, context: Any) -> str:
        order.append(each.folder)
        return str(execute_run(each, context))

    monkeypatch.setattr(part("execution"), "execute_run", record)
    run("--seeds", 0, "--tables", 4, "--only", "student", "md", "cmd")
    assert order == [
        "teacher",
        "seed_0/student",
        "seed_0/teacher",
        "choice/md_weight_1_seed_1000",
        "choice/md_weight_10_seed_1000",
        "seed_0/md",
        "choice/cmd_alpha_0.001_beta_100_seed_1000",
        "choice/cmd_alpha_0.1_beta_100_seed_1000",
        "seed_0/cmd",
    ]


def test_a_report_is_imported_on_another_machine(run: Command, tmp_path: Path) -> None:
    report, other = tmp_path / "report.json", tmp_path / "other"
    run("--seeds", 0, "--tables", 1, "--only", "student", "scfd")
    kept = report.rename(tmp_path / "kept.json")
    both = run(
        "--seeds", 0, "--tables", 1, "--only", "student", "scfd", "cmd", "--work-dir", other, "--import-report", kept
    )
    assert both["unfinished"] == []
    before = json.loads(kept.read_text())
    assert both["choice"] == before["choice"]
    assert both["teacher"] == before["teacher"]
    assert {name: both["by seed"]["0"][name] for name in ("teacher", "student", "scfd")} == before["by seed"]["0"]
    assert sorted(path.parent.name for path in other.rglob("network.safetensors")) == ["cmd", "teacher"]
    # Another teacher, or other settings: what is measured next could not stand beside it.
    before["teacher"] = "0" * 64
    kept.write_text(json.dumps(before))
    with pytest.raises(DataError, match=r"teacher: expected the weights of kept\.json, 000000000000, got "):
        run("--seeds", 0, "--tables", 1, "--work-dir", tmp_path / "third", "--import-report", kept)
    with pytest.raises(DataError, match=r"kept\.json: measured with other settings"):
        run("--steps", 3, "--work-dir", tmp_path / "fourth", "--import-report", kept)


def test_other_settings_are_refused(run: Command, tmp_path: Path) -> None:
    run("--only", "student", "scfd", "--tables", 1, "--seeds", 0, "--alpha", 0.1, "--beta", 10)
    with pytest.raises(DataError, match="holds runs with other settings"):
        run("--steps", 3)
    with pytest.raises(SystemExit):
        run("--only", "student", "scfd", "--tables", 1, "--seeds", 0, "--alpha", 0.2, "--beta", 10)
    report = json.loads((tmp_path / "report.json").read_text())
    assert "distillation.alpha was 0.1, now 0.2" in report["unfinished"][0]
    assert "scfd" not in report["rows"]


def test_a_stage_ends_in_time_and_the_next_resumes(pairs: Path, tmp_path: Path) -> None:
    runs, sizes = part("runs"), part("sizes")
    size = toy(sizes)
    long = replace(size, student=sizes.with_steps(size.student, 100_000))
    experiment = runs.Experiment(long, str(pairs))
    student = runs.row_run(long, "student", 0, part("rows").Weights())
    steps = []
    for _ in range(2):
        context = part("execution").RunContext(experiment, tmp_path, "cpu", 1, time.time() + 1.5, progress=False)
        assert part("execution").execute_run(student, context) == "stopped"
        assert time.time() < context.end + 2
        steps.append(len((tmp_path / student.folder / "log.jsonl").read_text().splitlines()))
    assert 0 < steps[0] < steps[1]
    assert runs.describe_progress(student, tmp_path) == f"seed_0/student: step {steps[1]} of 100000"
    assert not runs.finished(student, tmp_path)


def test_a_signal_before_the_time_limit_stops_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, stage = part("runs"), part("execution")
    size = toy(part("sizes"))
    begun = []

    def stopped(each: Any, context: Any) -> str:  # noqa: ARG001
        begun.append(each.folder)
        return "stopped"

    monkeypatch.setattr(stage, "execute_run", stopped)
    context = part("execution").RunContext(runs.Experiment(size), tmp_path, "cpu", 1, float("inf"), progress=False)
    with pytest.raises(KeyboardInterrupt):
        stage.Stage(context, 1).execute([runs.teacher_run(size), runs.teacher_tracking_run(0)], map)
    assert begun == ["teacher"]


@pytest.mark.slow
def test_after_a_signal_all_processes_end_in_good_order_and_none_starts_another_run(
    pairs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs, sizes = part("runs"), part("sizes")
    size = toy(sizes)
    long = replace(size, student=sizes.with_steps(replace(size.student, workers=1), 100_000))
    context = part("execution").RunContext(
        runs.Experiment(long, str(pairs)), tmp_path, "cpu", 1, float("inf"), progress=False
    )
    asked = [runs.row_run(long, "student", seed, part("rows").Weights()) for seed in range(6)]
    processes: list[BaseProcess] = []

    def begun() -> list[Path]:
        return sorted(path.parent.parent for path in tmp_path.glob("seed_*/student/log.jsonl"))

    def stop() -> None:
        while len(begun()) < 2:
            time.sleep(0.1)
        processes.extend(active_children())
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), part("pool").pool(2) as each:
        list(each(partial(part("execution").execute_run, context=context), asked))
    assert exit_statuses(processes) == [0, 0]
    assert sorted(capfd.readouterr().err.splitlines()) == [
        f"{run.folder}: stopped after step {steps_of(tmp_path / run.folder)}; the same command resumes it"
        for run in asked[:2]
    ]
    assert begun() == [tmp_path / "seed_0", tmp_path / "seed_1"]


def exit_statuses(processes: list[BaseProcess]) -> list[int | None]:
    """Wait for processes; another thread may be waiting for them too, which makes ``join`` return early."""
    end = time.monotonic() + 10
    while any(process.exitcode is None for process in processes) and time.monotonic() < end:
        time.sleep(0.05)
    return [process.exitcode for process in processes]


def steps_of(folder: Path) -> int:
    return len((folder / "log.jsonl").read_text().splitlines())


@pytest.mark.slow
def test_a_process_that_does_not_stop_is_killed_after_the_grace_time() -> None:
    pool = part("pool")
    start = time.monotonic()
    with pool.pool(2, end=time.time() + 20, grace=0.5) as each:  # a busy machine starts the processes slowly
        found = list(each(hang_if, [False, True, False]))
        assert list(each(hang_if, [False])) == ["stopped"]
        processes = active_children()
    assert found == ["", pool.NOT_STOPPED, ""]
    assert time.monotonic() - start < 40
    assert None not in exit_statuses(processes)
    with pytest.raises(KeyboardInterrupt), pool.pool(2, grace=0.5) as each:  # noqa: PT012 (the processes start before)
        results = each(hang_if, [False, True])
        assert next(results) == ""
        processes = active_children()
        raise KeyboardInterrupt
    assert -signal.SIGKILL in exit_statuses(processes)


@pytest.mark.slow
def test_parallel_runs_give_the_same_figures(run: Command, tmp_path: Path) -> None:
    given = ("--tables", 1, "--seeds", 0, "--alpha", 0.1, "--beta", 10)
    alone = run(*given)
    together = run(*given, "--jobs", 2, "--work-dir", tmp_path / "others")
    assert together["unfinished"] == []
    assert together["rows"] == alone["rows"]


def test_losses_that_only_some_steps_log_have_no_mean(tmp_path: Path) -> None:
    lines = [
        {"step": step, "box": float(step)} | ({"gradient norm box": 1.0} if step != 1 else {}) for step in range(3)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mean_losses = import_module("parts.report_fields").mean_losses
    assert mean_losses(tmp_path / "log.jsonl") == {"box": [1.0, 1.0]}
