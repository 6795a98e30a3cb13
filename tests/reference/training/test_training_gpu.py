"""Training on a GPU is what it is on the processor; these run wherever PyTorch finds a GPU."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, Stage, SupervisedStage
from mmdistill.reference.training.train_step import TrainStep
from mmdistill.reference.training.trainer import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")

GPU = torch.device("cuda")
SETTINGS = TrainingSettings(steps=4, batch_size=2, checkpoint_every=2)
KINDS = pytest.mark.parametrize("distilled", [False, True], ids=["alone", "distilled"])


def stage(student: TrackerNetwork, teacher: TrackerNetwork, distilled: bool, device: torch.device) -> Stage:
    torch.manual_seed(4)
    own = copy.deepcopy(student)
    return DistilledStage(own, copy.deepcopy(teacher).to(device)) if distilled else SupervisedStage(own)


def learned(
    made: Stage, batch: Batch, device: torch.device, settings: TrainingSettings = SETTINGS
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Take a step; return the terms' values and each parameter's gradient."""
    train_step = TrainStep(made, settings, device, DistributedContext())
    result = train_step.run(0, [batch])
    assert not result.skipped
    return result.values, {name: p.grad.cpu() for name, p in made.named_parameters() if p.grad is not None}


@KINDS
def test_a_step_is_the_processors(
    distilled: bool, batch: Batch, student: TrackerNetwork, teacher: TrackerNetwork
) -> None:
    steps = []
    for device in (torch.device("cpu"), GPU):
        made = stage(student.double(), teacher.double(), distilled, device).double()
        steps.append(learned(made, batch.map(Tensor.double), device))
    (values, gradients), (on_gpu, gradients_on_gpu) = steps
    assert on_gpu == pytest.approx(values, rel=1e-6)
    torch.testing.assert_close(gradients_on_gpu, gradients, rtol=1e-5, atol=1e-8)


@KINDS
def test_a_step_in_half_precision_is_near(
    distilled: bool, batch: Batch, student: TrackerNetwork, teacher: TrackerNetwork
) -> None:
    values, _ = learned(stage(student, teacher, distilled, GPU), batch, GPU)
    half = replace(SETTINGS, precision="bfloat16")
    rounded, gradients = learned(stage(student, teacher, distilled, GPU), batch, GPU, half)
    assert rounded["total"] == pytest.approx(values["total"], rel=0.1)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_shared_statistics_of_one_process_are_its_own(
    batch: Batch, student: TrackerNetwork, teacher: TrackerNetwork, tmp_path: Path
) -> None:
    if not dist.is_nccl_available():
        pytest.skip("this PyTorch is built without NCCL")
    values, _ = learned(stage(student, teacher, True, GPU), batch, GPU)
    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=(tmp_path / "meet").as_uri(), rank=0, world_size=1)
    try:
        made = stage(student, teacher, True, GPU)
        shared, _ = learned(made, batch, GPU, replace(SETTINGS, sync_batch_norm=True))
        assert any(isinstance(module, nn.SyncBatchNorm) for module in made.modules())
    finally:
        dist.destroy_process_group()
    assert shared == pytest.approx(values, rel=1e-2)


@KINDS
def test_a_run_goes_on_from_its_checkpoint(
    distilled: bool, sampler: Sampler, student: TrackerNetwork, teacher: TrackerNetwork, tmp_path: Path
) -> None:
    def run(steps: int) -> int:
        made = stage(student, teacher, distilled, GPU)
        return train(made, sampler, replace(SETTINGS, steps=steps), tmp_path, device=GPU, progress=False).step

    assert run(4) == 4
    assert run(4) == 4
    assert all(value.isfinite().all() for value in load_network(tmp_path / "network.safetensors").state_dict().values())
