"""What every test shares: a fixed seed, one thread, and where real data is."""

import gc
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Machines are shared: a slow example says nothing of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# Real data is not part of the project; it lies beside the checkout where a developer has it.
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # before fixtures of modules compute anything, too


@pytest.fixture(autouse=True, scope="session")
def _hangup() -> None:
    """Let SIGHUP through where whoever started the tests ignores it, as nohup does: the code then ignores it too."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing compiled before, nothing left behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.compiler.reset()
    gc.collect()  # wrapped models go before their group: PyTorch can wait for ever otherwise
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and result files; without it the tests that need it skip."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def metrics(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of published annotations and raw results, unpacked; without it the tests that need it skip."""
    archive = real_data / "metrics.tar.xz"
    if not archive.is_file():
        pytest.skip(f"published results are not here: {archive}")
    folder = tmp_path_factory.mktemp("metrics")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder
