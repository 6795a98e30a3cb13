"""A folder has one run at a time; what dead processes left locks nobody out."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from pair_folders import write_pairs

from mmdistill.cli.main import main
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit import run_control as locks
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.folder_sequence import write_sequence
from mmdistill.toolkit.run_control import LOCK, run_lock

FORK = multiprocessing.get_context("fork")
# The processes do nothing with the threads that they lack.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def hold(folder: Path, connection: Connection) -> None:
    with run_lock(folder):
        connection.send("held")
        connection.recv()


@contextmanager
def holder(folder: Path) -> Iterator[BaseProcess]:
    """A process that holds a folder as long as the block lasts."""
    ours, its = FORK.Pipe()
    process = FORK.Process(target=hold, args=(folder, its))
    process.start()
    its.close()
    assert ours.recv() == "held"
    try:
        yield process
    finally:  # a test that fails leaves no process behind
        with suppress(OSError):  # it may have been killed
            ours.send("end")
        process.join(timeout=10)
        process.kill()


@pytest.fixture(params=["linked", "in place"])
def created(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hard links and on a file system without."""

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if request.param == "in place":
        monkeypatch.setattr(os, "link", refuse)


def write(folder: Path, **changes: object) -> Path:
    path = folder / LOCK
    with run_lock(folder):
        own = json.loads(path.read_text())
    path.write_text(json.dumps(own | changes))
    return path


@pytest.mark.usefixtures("created")
def test_the_lock_names_this_process_and_goes_in_the_end(tmp_path: Path) -> None:
    with run_lock(tmp_path / "new" / "run"):
        found = json.loads((tmp_path / "new" / "run" / LOCK).read_text())
        assert (found["pid"], found["host"]) == (os.getpid(), socket.gethostname())
        assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == [LOCK]
    assert list((tmp_path / "new" / "run").iterdir()) == []


@pytest.mark.usefixtures("created")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_lock_goes_after_an_error(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), run_lock(tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []


def commands(folder: Path) -> Iterator[list[str]]:
    """Every command that writes a folder."""
    weights, clips = folder / "rgb.safetensors", folder / "clips"
    save_network(weights, TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))
    [clip] = synthetic_sequences(1, seed=0, settings=SyntheticSettings(length=2))
    write_sequence(clip, clips / clip.name)
    pairs = write_pairs(folder / "pairs", 4, size=(160, 120))
    yield ["compose", "--count=1", "--length=1"]
    yield ["demo"]
    yield ["train", "rgb", "--data=synthetic", "--videos=1", "--width=4", "--crop-size=96", "--device=cpu"]
    yield ["adapt-tir", "--setting=B2", f"--pairs={pairs}", f"--weights={weights}", "--device=cpu"]
    yield ["track", f"--weights={weights}", f"--rgb={clips / clip.name / 'rgb'}", "--init=50,50,20,20", "--device=cpu"]
    yield ["evaluate", "--benchmark=vot", f"--root={clips}", f"--weights={weights}", "--device=cpu"]


def test_a_second_process_is_refused_by_the_number_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with holder(out) as other:
        before = (out / LOCK).read_bytes()
        with pytest.raises(DataError, match=rf"{out}: process {other.pid} is writing here"), run_lock(out):
            pass
        for arguments in commands(tmp_path):
            assert main([*arguments, f"--out={out}"]) == 1, arguments
            output, errors = capsys.readouterr()
            assert output == ""
            assert errors == (
                f"mmdistill: {out}: process {other.pid} is writing here; wait for it, or give another folder\n"
            )
        assert [path.name for path in out.iterdir()] == [LOCK]
        assert (out / LOCK).read_bytes() == before
    assert list(out.iterdir()) == []


@pytest.mark.usefixtures("created")
def test_a_killed_process_locks_nobody_out(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        assert other.pid is not None
        os.kill(other.pid, signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie as yet
        with run_lock(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("created")
def test_a_number_that_another_process_has_by_now_locks_nobody_out(tmp_path: Path) -> None:
    write(tmp_path, started="long ago")  # by a process of this one's number
    with run_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_process_on_another_machine_is_believed_and_named(tmp_path: Path) -> None:
    path = write(tmp_path, host="elsewhere", pid=77)
    with (
        pytest.raises(DataError, match=rf"process 77 on elsewhere .*remove {LOCK}. is writing here"),
        run_lock(tmp_path),
    ):
        pass
    assert path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "one"}', b'{"pid": -1}', b"[" * 100_000, b"\xff"])
def test_a_lock_without_a_process_holds_as_long_as_it_may_still_be_written(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / LOCK
    path.write_bytes(content)
    with pytest.raises(DataError, match="is writing here"), run_lock(tmp_path):
        pass
    old = path.stat().st_mtime - 60
    os.utime(path, (old, old))
    with run_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_found_out_of_a_process_is_no_reason_to_take_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setattr(locks, "_started", lambda _: "unknown")
    with pytest.raises(DataError, match=f"process {os.getpid()} is writing here"), run_lock(tmp_path):
        pass


def test_processes_without_proc_are_known_by_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def no_proc(path: Path, *arguments: str, **options: str) -> str:
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", no_proc)
    assert locks._started(os.getpid()) is not None
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert locks._started(ended.pid) is None


def test_a_lock_that_another_took_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    path.write_text('{"pid": 3}')
    locks._remove_stale(path, {"pid": 2})
    assert path.read_text() == '{"pid": 3}'
    assert [each.name for each in tmp_path.iterdir()] == [LOCK]


def take(folder: Path, taken: Callable[[], object], begin: Callable[[], object], end: Callable[[], object]) -> None:
    begin()
    try:
        with run_lock(folder):
            taken()
            end()
    except DataError:
        end()


def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path: Path) -> None:
    write(tmp_path, started="long ago")
    count = 6
    begin, end, taken = FORK.Barrier(count), FORK.Barrier(count), FORK.Semaphore(0)
    processes = [FORK.Process(target=take, args=(tmp_path, taken.release, begin.wait, end.wait)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert taken.acquire(block=False)
    assert not taken.acquire(block=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["compose", "--out", str(tmp_path / "file")]) == 1
    assert f"{tmp_path / 'file'}: expected a folder to write, there is a file" in capsys.readouterr().err
