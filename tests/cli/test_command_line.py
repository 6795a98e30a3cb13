"""The command line as a whole: overview, help, wrong arguments, exit status."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import fails, run

from mmdistill import __version__
from mmdistill.cli.main import COMMANDS, load_command
from mmdistill.cli.parsing import option_names

PROMISED = [
    "demo",
    "track",
    "train",
    "adapt-tir",
    "score",
    "evaluate",
    "check",
    "report",
    "align",
    "compose",
    "convert",
    "export",
]

MAX_SECONDS = 1.0
"""Limit of processor time."""


def test_every_promised_command_is_in_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert list(COMMANDS) == PROMISED
    for name, summary in COMMANDS.items():
        assert sum(line.split(maxsplit=1) == [name, summary] for line in lines) == 1
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_is_the_first_line_of_its_docstring(name: str) -> None:
    assert COMMANDS[name] == (load_command(name).__doc__ or "").splitlines()[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_by_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    description = capsys.readouterr().out.split(" options ")[0]
    assert len(re.findall(rf"^ *(?:torchrun .*)?mmdistill {name}\b", description, re.MULTILINE)) >= 2


@pytest.mark.parametrize("arguments", ["--help", "--version", "train --help", "adapt-tir --help"])
def test_overview_and_longest_helps_take_at_most_a_second_of_processor_time(arguments: str) -> None:
    before = os.times()
    subprocess.run([sys.executable, "-m", "mmdistill", *arguments.split()], check=True, capture_output=True)
    after = os.times()
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    assert seconds <= MAX_SECONDS


def without(modules: tuple[str, ...], *arguments: object) -> str:
    """Run a command in a process in which these modules can't be imported; return its output."""
    code = f"import sys\nfor name in {modules}: sys.modules[name] = None\nfrom mmdistill.__main__ import main\n"
    command = [sys.executable, "-c", f"{code}sys.exit(main())", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_overview_needs_no_other_package(option: str) -> None:
    packages = ("torch", "einops", "tyro", "numpy", "cv2", "matplotlib", "tqdm", "safetensors")
    assert "mmdistill" in without(packages, option)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_commands_needs_no_pytorch(name: str) -> None:
    assert f"mmdistill {name}" in without(("torch",), name, "--help")


def test_scoring_checking_composing_and_reporting_need_no_pytorch(tmp_path: Path) -> None:
    clips, results, page = tmp_path / "clips", tmp_path / "mine", tmp_path / "page.html"
    without(("torch",), "compose", "--count", 2, "--length", 3, "--out", clips, "--quiet")
    assert "2 of 2 sequences" in without(("torch",), "check", "--benchmark", "vot", "--root", clips, "--decode")
    results.mkdir()
    for clip in clips.iterdir():
        if clip.is_dir():
            (results / f"{clip.name}.txt").write_bytes((clip / "groundtruth.txt").read_bytes())
    options = ["--benchmark", "vot", "--annotations", clips]
    scored = without(("torch",), "score", *options, "--results", results, "--out", tmp_path / "scored")
    assert "2 sequences, 6 frames" in scored
    without(("torch",), "report", results, *options[:2], "--root", clips, "--out", page)
    without(("torch",), "report", tmp_path / "scored", "--out", page)
    synthetic = ["--benchmark", "synthetic", "--count", 2, "--seed", 0]
    for name in ("synthetic_0000", "synthetic_0001"):
        (results / f"{name}.txt").write_text("1,2,3,4\n" * 100)
    assert "2 sequences, 200 frames" in without(("torch",), "score", *synthetic, "--results", results)
    without(("torch",), "report", results, *synthetic, "--out", page)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    code = "import sys\nsys.modules['tyro'] = None\nfrom mmdistill.__main__ import main\nsys.exit(main())"
    for arguments in (["score", "--help"], ["compose", "--out", str(tmp_path / "out")]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        expected = f"mmdistill: {arguments[0]} needs tyro: pip install 'mmdistill[tracker]'\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_output_that_is_no_longer_read_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m mmdistill compose --count 1 --length 1 --quiet --out {tmp_path / 'out'}"
    done = subprocess.run(
        ["bash", "-c", f"{command} | (exec <&-; cat < /dev/null); echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    ("arguments", "start", "message"),
    [
        ([], "expected a command: ", "demo, track, "),
        (["fly"], "there is no command fly", "see mmdistill --help"),
        (["track"], "track: ", "missing --weights and --out"),
        (["track", "--weights", "w", "--out", "o"], "--rgb: ", "expected a video"),
        (["track", "--weights", "w", "--out", "o", "--fps", "fast"], "track: ", "--fps: could not convert"),
        (["train", "cook", "--out", "o"], "train: ", "cook"),
        (["score", "--benchmark", "chess", "--results", "r"], "score: ", "chess"),
        (["report", "x", "--out"], "report: ", "--out"),
    ],
)
def test_wrong_arguments_are_status_two_and_one_line(
    arguments: list[str], start: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, *arguments, status=2)
    assert line.startswith(f"mmdistill: {start}")
    assert message in line
    assert "─" not in line


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["trak", "--rgb", "x"], "track"),
        (["trakc", "--help"], "track"),
        (["--vesion"], "--version"),
        (["track", "--weigths", "x", "--out", "y"], "--weights"),
        (["track", "--weights", "x", "--out", "y", "--rbg=x"], "--rgb"),
        (["train", "teacher", "--trainig.steps", "3", "--out", "y"], "--training.steps"),
        (["adapt-tir", "--pairs", "x", "--seting", "D3", "--out", "y"], "--setting"),
    ],
)
def test_a_mistyped_name_gets_the_nearest_one(
    arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(capsys, *arguments, status=2).endswith(f"; did you mean {nearest}?")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["track", "--fps=\x1b[31mred"], r"--fps: could not convert string to float: '\x1b[31mred'"),
        (["track", f"--fps={'x' * 100_000}"], "Error parsing --fps"),
        (["track", "--we\x1b[31mights=a"], r"no option --we\x1b[31mights; did you mean --weights?"),
        (["tra\x1b[31mck"], r"there is no command tra\x1b[31mck; did you mean track?"),
    ],
)
def test_quoted_arguments_are_safe_to_print(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*arguments, "--weights", "a", "--out", "b"] if "=" in arguments[-1] else arguments
    line = fails(capsys, *given, status=2)
    assert says in line
    assert "\x1b" not in line
    assert len(line) <= 320


@pytest.mark.parametrize("name", COMMANDS)
def test_the_names_of_options_are_those_of_the_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    options = capsys.readouterr().out.partition(" options ")[2]  # below the description, which names some too
    shown = set(re.findall(r"^[│ ]*(?:-h, )?--([a-z][a-z0-9.-]*[a-z0-9])\b", options, re.MULTILINE))
    assert {"help"} < shown
    assert shown - {"help"} <= set(option_names(load_command(name)))


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["-h"], ["track", "--help"]):
        assert run(*arguments) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert "usage: mmdistill" in printed.out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"mmdistill {__version__}\n"


def test_module_and_status_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmdistill", "track", "--weights", str(tmp_path / "none"), "--init", "1,2,3,4"]
    done = subprocess.run(
        [*command, "--rgb", str(tmp_path), "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
