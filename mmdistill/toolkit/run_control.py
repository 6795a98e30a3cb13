"""Stopping in good order: what is under way is finished before a signal takes effect.

One run in a folder: a second that is started there is refused.

The lock is a file that names its process. It needs no locking by the file system, so it holds on network drives too.
What a killed process left is recognized: no process of that number runs on this machine, or a younger one does.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import temporary_beside

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end; Windows has no SIGHUP."""


class Interruption(KeyboardInterrupt):
    """A signal asked this process to end, and what was under way is saved.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


def exit_status(interruption: KeyboardInterrupt) -> int:
    """Return the status that shells expect: 128 and the signal's number; 130 for Ctrl-C."""
    return 128 + (interruption.number if isinstance(interruption, Interruption) else signal.SIGINT)


@contextmanager
def interruption() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list, so that what is under way can be finished and saved.

    Who saves then raises ``Interruption``. The second signal raises it at once.

    Outside the main thread, which alone may handle signals, the list stays empty.

    Yields:
        The numbers of the signals that came.
    """
    received: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise Interruption(number)

    with _handling(receive):
        yield received


@contextmanager
def terminable() -> Iterator[None]:
    """Make the signals of ``interruption`` raise ``Interruption``, so that what is open is closed; main thread only."""

    def receive(number: int, _: FrameType | None) -> None:
        raise Interruption(number)

    with _handling(receive):
        yield


@contextmanager
def _handling(receive: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {}
    for number in SIGNALS:
        if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
            continue  # as nohup wants it
        try:
            before[number] = signal.signal(number, receive)
        except ValueError:  # outside the main thread
            break
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


LOCK = ".run.lock"
"""The file's name in the folder of a run."""

UNWRITTEN_SECONDS = 10.0
"""After this age a lock without content belongs to no process that is still writing it."""


@contextmanager
def run_lock(folder: str | Path) -> Iterator[None]:
    """Hold a folder, which is made if missing, until the block ends.

    Raises:
        DataError: another process holds it, or a file is where the folder should be.
        OSError: the folder can't be written.
    """
    path = Path(folder) / LOCK
    acquire(path)
    try:
        yield
    finally:
        release(path)


def acquire(path: Path) -> None:
    """Write a lock in the name of this process.

    Raises:
        DataError: another process holds it, or a file is where its folder should be.
        OSError: it can't be written.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise DataError(f"{path.parent}: expected a folder to write, there is a file")
    for _ in range(3):
        if _create(path):
            return
        found = _read(path)
        if found is not None and _holds(path, found):
            raise DataError(f"{path.parent}: {_holder(found)} is writing here; wait for it, or give another folder")
        _remove_stale(path, found)
    raise DataError(f"{path}: another process takes and leaves this lock at this moment; try again")


def release(path: Path) -> None:
    """Remove the lock of this process; one of another process stays."""
    if _read(path) == _own():
        path.unlink(missing_ok=True)


def _own() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}


def _create(path: Path) -> bool:
    """Write the lock whole if there is none; return whether it is this process's now."""
    content = json.dumps(_own()).encode()
    temporary = temporary_beside(path)
    try:
        temporary.write_bytes(content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except (OSError, AttributeError):  # a file system without links
            return _create_in_place(path, content)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _create_in_place(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _read(path: Path) -> dict[str, object] | None:
    """Return what a lock says; nothing of one that isn't written yet, None where there is none."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _holds(path: Path, found: dict[str, object]) -> bool:
    """Return whether the process that a lock names still runs; one on another machine is believed to."""
    pid = found.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or pid < 1:
        with suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime < UNWRITTEN_SECONDS
        return False
    if found.get("host") != socket.gethostname():
        return True
    started = _started(pid)
    return started is not None and (started == found.get("started") or "unknown" in (started, found.get("started")))


def _holder(found: dict[str, object]) -> str:
    pid, host = str(found.get("pid", "of unknown number"))[:20], str(found.get("host"))[:100]
    if "host" not in found or host == socket.gethostname():
        return f"process {pid}"
    return f"process {pid} on {host if host.isprintable() else ascii(host)} (if it is gone, remove {LOCK})"


def _remove_stale(path: Path, found: dict[str, object] | None) -> None:
    """Remove a lock, but not one that another process has put in its place since it was read."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _read(aside) != found and not path.exists():
            aside.rename(path)
        aside.unlink(missing_ok=True)


def _started(pid: int) -> str | None:
    """Return when a process of this machine started, in any unit; "unknown" if nothing says it; None if none runs."""
    try:
        # The fields are counted behind the command's name, which may hold anything but is in parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"  # a zombie runs no more
    except (OSError, IndexError):
        pass
    if os.name == "nt":
        return _started_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # another user's
        pass
    with suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
        )
        return shown.stdout.strip() or "unknown"
    return "unknown"


def _started_on_windows(pid: int) -> str | None:
    """Return the same on Windows, where signal 0 would end the process."""
    with suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run(
            ["tasklist", "/FI", f"PID eq {pid}", "/NH"], capture_output=True, text=True, timeout=10, check=False
        )
        return "unknown" if f" {pid} " in shown.stdout else None
    return "unknown"
