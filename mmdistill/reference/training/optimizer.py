"""Which parameters learn how fast.

Batch norm where batches are small: what a tracker will compute must be what was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.training.settings import LearningRates, TrainingSettings


def part_of(name: str) -> str:
    """Return which of ``LearningRates`` a stage's parameter belongs to."""
    if name.startswith(("distillation.", "rivals.")):
        return "distillation"
    module = name.removeprefix("network.").split(".")
    if module[0] == "classifier":
        return "optimizer" if module[1] == "optimiser" else "classifier"  # spelled as in weights files
    return {"trunks": "trunk", "fusions": "fusion", "iou_net": "iou_net"}[module[0]]


def build_optimizer(stage: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return Adam or AdamW over a stage's parameters, one group per part; a frozen trunk is left out."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(part_of(name), []).append(parameter)
    rates: LearningRates = settings.learning_rates
    parameters = [{"params": group, "lr": getattr(rates, part)} for part, group in groups.items()]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, weight_decay=settings.weight_decay)
    return torch.optim.Adam(parameters)


def learning_rate_factor(settings: TrainingSettings) -> Callable[[int], float]:
    """Return what the learning rates are multiplied by at a step."""

    def factor(step: int) -> float:
        rise = min((step + 1) / (settings.warmup_steps + 1), 1)
        if settings.decay_every:
            return float(rise * settings.decay_factor ** (step // settings.decay_every))
        return rise * 0.5 * (1 + math.cos(math.pi * min(step / settings.steps, 1)))

    return factor


def prepare_network(network: TrackerNetwork, settings: TrainingSettings) -> None:
    """Put the network into training mode, its trunks as far as the settings let them learn."""
    network.train()
    for trunk in network.trunks.values():
        trunk.requires_grad_(not settings.freeze_trunk)
        if settings.freeze_bn or settings.freeze_trunk:
            trunk.eval()


def keep_statistics(network: nn.Module) -> None:
    """Let batch norm use its running statistics from now on, and no longer move them.

    In a small batch the proposals of a few targets are normalized together, so box estimation learns to tell them from
    each other; alone, by running statistics, a tracker's boxes then get other overlaps than training saw.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
