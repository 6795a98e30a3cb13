"""Locks an output folder, so that a second process that writes there is refused.

The lock is a file with the process's number, machine and start time. It works on network drives too, because it needs
no locking by the file system. A lock whose process has ended is stale and is replaced.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import temporary_path

LOCK_FILE_NAME = ".run.lock"

MAX_EMPTY_SECONDS = 10.0
"""Age limit of a lock without content; an older one is stale, a younger one may still be being written."""

MAX_ATTEMPTS = 3
"""How often a lock is tried again after a stale one was removed."""

UNKNOWN = "unknown"
"""The start time of a process where the operating system does not state it."""


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Lock a folder until the block ends; creates the folder if missing.

    Raises:
        DataError: another process holds the lock, or the folder's name belongs to a file.
        OSError: the folder can't be written.
    """
    path = Path(folder) / LOCK_FILE_NAME
    acquire_lock(path)
    try:
        yield
    finally:
        release_lock(path)


def acquire_lock(path: Path) -> None:
    """Write a lock file for this process.

    Raises:
        DataError: another process holds the lock, or the folder's name belongs to a file.
        OSError: the file can't be written.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise DataError(f"{path.parent}: expected a folder to write, got a file")
    for _ in range(MAX_ATTEMPTS):
        if _create(path):
            return
        owner = _read(path)
        if owner is not None and _is_held(path, owner):
            raise DataError(f"{path.parent}: {_describe(owner)} is writing here; wait for it, or choose another folder")
        _remove_stale(path, owner)
    raise DataError(f"{path}: another process creates and removes this lock at the moment; try again")


def release_lock(path: Path) -> None:
    """Remove the lock file of this process; another process's lock stays."""
    if _read(path) == _this_process():
        path.unlink(missing_ok=True)


def _this_process() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _start_time(os.getpid())}


def _create(path: Path) -> bool:
    """Write the lock atomically if there is none; return whether this process now holds it."""
    content = json.dumps(_this_process()).encode()
    temporary = temporary_path(path)
    try:
        temporary.write_bytes(content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except (OSError, AttributeError):  # the file system or the platform has no hard links
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
    """Return the content of a lock file: empty if invalid or not yet written, None if there is no file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_held(path: Path, owner: dict[str, object]) -> bool:
    """Return whether a lock's process still runs; a process on another machine is assumed to run."""
    pid = owner.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or pid < 1:
        with suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime < MAX_EMPTY_SECONDS
        return False
    if owner.get("host") != socket.gethostname():
        return True
    started = _start_time(pid)
    return started is not None and (started == owner.get("started") or UNKNOWN in (started, owner.get("started")))


def _describe(owner: dict[str, object]) -> str:
    pid, host = str(owner.get("pid", "of unknown number"))[:20], str(owner.get("host"))[:100]
    if "host" not in owner or host == socket.gethostname():
        return f"process {pid}"
    return f"process {pid} on {host if host.isprintable() else ascii(host)} (if it has ended, remove {LOCK_FILE_NAME})"


def _remove_stale(path: Path, owner: dict[str, object] | None) -> None:
    """Remove a stale lock, unless another process has replaced it since ``owner`` was read."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with suppress(FileNotFoundError, FileExistsError):  # Windows does not rename onto an existing file
        path.rename(aside)
        try:
            if _read(aside) != owner and not path.exists():
                aside.rename(path)
        finally:
            aside.unlink(missing_ok=True)


def _start_time(pid: int) -> str | None:
    """Return the start time of a process of this machine, in any unit; None if it does not run."""
    try:
        # The command's name comes before the fields, in parentheses, and may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"  # a zombie has ended
    except (OSError, IndexError):
        pass
    if os.name == "nt":
        return _start_time_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # another user's process
        pass
    return (_output("ps", "-o", "lstart=", "-p", str(pid)) or "").strip() or UNKNOWN


def _start_time_on_windows(pid: int) -> str | None:
    """Return ``UNKNOWN``, or None if the process does not run; on Windows, ``os.kill(pid, 0)`` would end it."""
    listed = _output("tasklist", "/FI", f"PID eq {pid}", "/NH")
    return UNKNOWN if listed is None or f" {pid} " in listed else None


def _output(*command: str) -> str | None:
    """Return the standard output of a command; None if it can't be run."""
    with suppress(OSError, subprocess.SubprocessError):
        # Localized messages of Windows may have another encoding than Python expects.
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=False)
        return done.stdout
    return None
