"""Distill in two processes with DistributedDataParallel. Only a tap reaches the student's deepest layer.

With such a layer ``find_unused_parameters=True`` raises "ready only once". ``static_graph=True`` works. Lines for
distillation end in ``# distill``. The other lines are an ordinary DDP run.
"""

import json
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmdistill import FeatureTaps, HFRDLoss, SCFDLoss, Terms  # distill

WORLD = 2
LAYERS = ["layer1", "layer2", "layer3"]


class Tracker(nn.Module):
    """Scores come from layer2. The output of layer3 is unused."""

    def __init__(self, width):
        super().__init__()
        for name, inputs, outputs in zip(LAYERS, (3, width, 2 * width), (width, 2 * width, 4 * width)):
            self.add_module(name, nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU()))
        self.head = nn.Conv2d(4 * width, 1, 3, padding=1)

    def trunk(self, images):
        levels = {}
        for name in LAYERS:
            images = levels[name] = getattr(self, name)(images)
        return levels

    def forward(self, rgb, tir):
        return self.head(torch.cat([self.trunk(rgb)["layer2"], self.trunk(tir)["layer2"]], dim=1)).squeeze(1)


def batch(number, size=4):
    """Images of 48x48 with a target in both modalities and a decoy in RGB, and the label."""
    generator = torch.Generator().manual_seed(number)
    x, y = (1 + 10 * torch.rand(2, size, 1, 1, generator=generator)).unbind()
    label = torch.exp(-((torch.arange(12.0)[:, None] - y) ** 2 + (torch.arange(12.0) - x) ** 2) / 2)
    target = F.interpolate(label[:, None], scale_factor=4)
    noise = 0.2 * torch.randn(2, size, 3, 48, 48, generator=generator)
    return noise[0] + target + target.flip(2), noise[1] + target, label


def worker(rank, folder, steps):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    net = DistributedDataParallel(Tracker(8), static_graph=True)  # not find_unused_parameters  # distill
    scfd = SCFDLoss((8, 16, 32), (16, 32, 64), interaction=("sem", "sem", "cem"))  # distill
    teacher = Tracker(16).eval().requires_grad_(False)  # yours comes from a checkpoint  # distill
    taps, teacher_taps = FeatureTaps(net, LAYERS), FeatureTaps(teacher, LAYERS)  # distill
    groups = [{"params": net.parameters(), "lr": 3e-3}]
    groups += scfd.param_groups(lr=3e-3)  # before it is wrapped  # distill
    optimizer = torch.optim.AdamW(groups)
    scfd, hfrd = DistributedDataParallel(scfd), HFRDLoss()  # distill
    history = []
    for step in range(steps):
        rgb, tir, label = batch(WORLD * step + rank)
        with taps:  # distill
            scores = net(rgb, tir)
        loss = F.mse_loss(scores, label)
        with torch.no_grad(), teacher_taps:  # distill
            teacher_scores = teacher(rgb, tir)  # distill
        features = scfd(taps.pair(), teacher_taps.pair())  # distill
        terms = Terms.weighted((1e-5, features), (1.0, hfrd(scores, teacher_scores, label)))  # distill
        optimizer.zero_grad()
        (loss + terms.total).backward()  # distill
        optimizer.step()
        stats = {"loss": loss, **terms.as_dict()}  # distill
        history.append({name: value.item() for name, value in stats.items()})
    reached = all(parameter.grad is not None for parameter in net.parameters())
    checksum = sum(parameter.double().abs().sum().item() for parameter in net.parameters())
    Path(folder, f"{rank}.json").write_text(json.dumps({"history": history, "reached": reached, "checksum": checksum}))
    del net, scfd, taps  # before their group: PyTorch can wait forever otherwise, and taps hold net  # distill
    dist.destroy_process_group()


def main(steps=10):
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (folder, steps), nprocs=WORLD)
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(WORLD)]


if __name__ == "__main__":
    history = main()
    print(*(json.dumps(rank["history"][-1]) for rank in history), sep="\n")
