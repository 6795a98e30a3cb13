"""The command line where POSIX-only names are missing and processes are spawned, as on Windows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network

SIGNALS = [
    *("SIGALRM", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGHUP", "SIGIO", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF"),
    *("SIGPWR", "SIGQUIT", "SIGSTOP", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2"),
    *("SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ", "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer"),
    *("getitimer", "siginterrupt", "sigpending", "sigwait", "sigwaitinfo", "sigtimedwait"),
]
FUNCTIONS = [
    *("chown", "fchmod", "fchown", "fork", "forkpty", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid"),
    *("getpgrp", "getpriority", "getsid", "getuid", "killpg", "lchown", "mkfifo", "mknod", "nice", "openpty", "pread"),
    *("preadv", "pwrite", "pwritev", "sched_getaffinity", "sched_setaffinity", "sched_yield", "sendfile", "setpgid"),
    *("setsid", "statvfs", "fstatvfs", "sysconf", "uname", "wait", "wait3", "wait4", "waitid", "WNOHANG", "ctermid"),
    *("O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NOCTTY", "O_SYNC", "posix_fadvise"),
]
MODULES = ["fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "readline", "syslog"]

# The standard library and other packages chose their own functions as they were imported on this system, so the names
# are removed from the modules that code of ours sees, once those packages are imported.
PREPARE = f"""
import importlib, multiprocessing, os, signal, sys, types
for name in sys.argv.pop(1).split(","):
    importlib.import_module(name)
import concurrent.futures.process, ctypes, pathlib, socket, subprocess, tempfile
multiprocessing.set_start_method("spawn")


class Without(types.ModuleType):
    def __init__(self, module, names):
        super().__init__(module.__name__)
        self.__dict__.update(module=module, names=names)

    def __getattr__(self, name):
        if name in self.names:
            raise AttributeError(f"module {{self.module.__name__!r}} has no attribute {{name!r}}, as on Windows")
        return getattr(self.module, name)

    def __dir__(self):
        return [name for name in dir(self.module) if name not in self.names]


for name in {MODULES}:
    sys.modules[name] = None
sys.modules["signal"] = Without(signal, {SIGNALS})
sys.modules["os"] = Without(os, {FUNCTIONS})
"""


PACKAGES = ["cv2", "matplotlib.pyplot", "numpy", "tqdm", "tyro"]
TORCH = ["einops", "safetensors.torch", "torch", "torch._dynamo", "torch.utils.data", "torch.distributed"]
if os.name == "posix":
    PACKAGES += ["multiprocessing.popen_spawn_posix", "multiprocessing.resource_tracker"]


def run(*arguments: object, torch: bool = False) -> str:
    """Run a command in such a process and return its output.

    Args:
        arguments: The words after ``mmdistill``.
        torch: Whether the command needs PyTorch.
    """
    code = f"{PREPARE}\nfrom mmdistill.__main__ import main\nsys.exit(main())"
    packages = ",".join([*PACKAGES, *(TORCH if torch else [])])
    command = [sys.executable, "-c", code, packages, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_names_are_missing() -> None:
    code = "import os, signal; print(hasattr(os, 'fork'), hasattr(signal, 'SIGCHLD'), hasattr(signal, 'SIGINT'))"
    done = subprocess.run([sys.executable, "-c", PREPARE + code, "numpy"], capture_output=True, text=True, check=True)
    assert done.stdout == "False False True\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_overview(option: str) -> None:
    assert "mmdistill" in run(option)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two sequences of 3 frames."""
    run("compose", "--count", 2, "--length", 3, "--out", tmp_path / "clips", "--quiet")
    return tmp_path / "clips"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_network(tmp_path / "rgb.safetensors", TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))
    return tmp_path / "rgb.safetensors"


def test_composing_scoring_and_checking(clips: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert "2 of 2 sequences" in run("check", "--benchmark", "vot", "--root", clips)
    results.mkdir()
    for clip in ("synthetic_0000", "synthetic_0001"):
        (results / f"{clip}.txt").write_bytes((clips / clip / "groundtruth.txt").read_bytes())
    options = ["--benchmark", "vot", "--annotations", clips, "--results", results, "--out", tmp_path / "scored"]
    assert "2 sequences, 6 frames  100.0" in run("score", *options)
    run("report", tmp_path / "scored", "--out", tmp_path / "report.html")


def test_tracking(clips: Path, weights: Path, tmp_path: Path) -> None:
    clip, out = clips / "synthetic_0000", tmp_path / "out"
    box = (clip / "groundtruth.txt").read_text().splitlines()[0]
    run("track", "--weights", weights, "--rgb", clip / "rgb", f"--init={box}", "--out", out, torch=True)
    assert len((out / "boxes.txt").read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_training(workers: int, clips: Path, tmp_path: Path) -> None:
    small = ["--width=4", "--crop-size=96", "--training.steps=2", f"--training.workers={workers}", "--device=cpu"]
    samples = ["--training.samples.train-frames=1", "--training.samples.test-frames=1"]
    run("train", "rgb", "--data", clips, "--out", tmp_path / "run", *small, *samples, torch=True)
    assert (tmp_path / "run" / "network.safetensors").exists()


@pytest.mark.slow
def test_evaluating_in_processes(clips: Path, weights: Path, tmp_path: Path) -> None:
    options = ["--benchmark", "vot", "--root", clips, "--out", tmp_path / "scored"]
    run("evaluate", *options, "--weights", weights, "--workers", 2, "--device", "cpu", "--quiet", torch=True)
    assert (tmp_path / "scored" / "scores.json").exists()
