"""Counts parameters and multiply-adds of every loss and fusion by level, for one image pair at the reference sizes.

Counts the forward pass of convolutions and matrix products with PyTorch's flop counter. Element-wise operations are not
counted. Runs on the meta device, so the result does not depend on the machine. Takes 3 seconds.

Example:
    python benchmarks/loss_costs.py --out benchmarks/results/loss_costs.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from parts.report_fields import machine
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmdistill import ABF, ABFChain, HFRDLoss, MPSDFusion, MPSDLoss, Pair, SCFDLoss
from mmdistill._subsampling import Positions, Tile, draw_grid, draw_tile, grid_strides
from mmdistill.fusion import ChannelAttentionFusion, ConcatFusion, SpatialAttentionFusion
from mmdistill.losses import FitNetsLoss, KDLoss, ModalityDistillationLoss, ReviewKDLoss
from mmdistill.reference.models.resnet import ResNetTrunk

STUDENT, TEACHER, MID = (64, 64, 128, 256), (64, 256, 512, 1024), 256
CROP = 288
SIDES = tuple(CROP >> depth for depth in range(1, 5))
FUSED_LEVELS = (3, 4)


@dataclass(frozen=True)
class Cost:
    """Cost of a module.

    Attributes:
        parameters: number of its parameters.
        multiply_adds: multiply-adds by level number.
    """

    parameters: int
    multiply_adds: dict[int, int]

    @property
    def total(self) -> int:
        """Multiply-adds of all levels."""
        return sum(self.multiply_adds.values())


def level_map(channels: Sequence[int], level: int, batch: int = 1) -> Tensor:
    """Return an empty feature map of a level, numbered from 1, on the meta device."""
    side = SIDES[level - 1]
    return torch.empty(batch, channels[level - 1], side, side, device="meta")


def parameters(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(call: Callable[..., object], *arguments: object) -> int:
    """Return the multiply-adds of a call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(*arguments)
    return int(counter.get_total_flops()) // 2


def chain_cost(loss: nn.Module, chain: nn.Module, share: float = 1.0) -> Cost:
    """Return the cost of a loss with an ABF chain for both modalities."""
    levels = cast(ABFChain, chain).levels
    by_level = {n: 2 * multiply_adds(pass_level, abf, n, share) for n, abf in enumerate(levels, start=1)}
    return Cost(parameters(loss), by_level)


def pass_level(abf: ABF, level: int, share: float) -> None:
    """Run one level of one modality, its 3x3 part at a share of positions, as in ``ABFChain.forward_sampled``."""
    x = level_map(STUDENT, level)
    deeper = level_map((MID,) * 4, level + 1) if level < len(STUDENT) else None
    if share == 1:
        abf(x, deeper)
        return
    positions = sampled_positions(level, share)
    if isinstance(positions, Tile) and deeper is not None:
        x, deeper = positions.crop(x), positions.crop_deeper(deeper)
    abf.expand_at(abf.carry(x, deeper), positions)


def sampled_positions(level: int, share: float) -> Positions:
    """Return positions as ``SCFDLoss`` draws them: a tile of the shallowest level, grids of the others.

    At shares of 1/2 and 1/4 every draw has the same cost.
    """
    size = (SIDES[level - 1],) * 2
    return draw_tile(size, (SIDES[1],) * 2, grid_strides(share)) if level == 1 else draw_grid(size, grid_strides(share))


def adaptors_cost(loss: nn.Module, adaptors: nn.ModuleList, maps: int) -> Cost:
    """Return the cost of a loss with one convolution per level, deepest last, applied to this many maps."""
    levels = range(len(STUDENT) - len(adaptors) + 1, len(STUDENT) + 1)
    by_level = {n: multiply_adds(adapt, level_map(STUDENT, n, maps)) for n, adapt in zip(levels, adaptors, strict=True)}
    return Cost(parameters(loss), by_level)


def losses() -> dict[str, Cost]:
    """Return the cost of every loss, on both modalities' levels or on the fused maps of levels 3 and 4."""
    fused = STUDENT[2:], TEACHER[2:]
    with torch.device("meta"):
        scfd, shared = SCFDLoss(STUDENT, TEACHER), SCFDLoss(STUDENT, TEACHER, shared=True)
        review = ReviewKDLoss(STUDENT, TEACHER)
        hints, wide_hints = FitNetsLoss(STUDENT, TEACHER), FitNetsLoss(STUDENT, TEACHER, kernel=3)
        mpsd, modality = MPSDLoss(*fused), ModalityDistillationLoss(*fused)
    return {
        "SCFDLoss": chain_cost(scfd, scfd.chains["rgb"]),
        "SCFDLoss, shared=True": chain_cost(shared, shared.chains["both"]),
        "SCFDLoss, sampling=1/2": chain_cost(scfd, scfd.chains["rgb"], 1 / 2),
        "SCFDLoss, sampling=1/4": chain_cost(scfd, scfd.chains["rgb"], 1 / 4),
        "ReviewKDLoss": chain_cost(review, review.chain),
        "FitNetsLoss": adaptors_cost(hints, hints.regressors, maps=2),
        "FitNetsLoss, kernel=3": adaptors_cost(wide_hints, wide_hints.regressors, maps=2),
        "MPSDLoss": adaptors_cost(mpsd, mpsd.adaptors, maps=4),  # the fused map and its three paths
        "MPSDLoss, one path": adaptors_cost(mpsd, mpsd.adaptors, maps=1),
        "ModalityDistillationLoss": adaptors_cost(modality, modality.adaptors, maps=1),
        "HFRDLoss": Cost(parameters(HFRDLoss()), {}),
        "KDLoss": Cost(parameters(KDLoss()), {}),
    }


def fusions() -> dict[str, Cost]:
    """Return the cost of every fusion, one block for each of levels 3 and 4."""
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "MPSDFusion": MPSDFusion,
        "MPSDFusion, normalize=layer_norm": lambda channels: MPSDFusion(channels, normalize="layer_norm"),
        "MPSDFusion, weighting=channel": lambda channels: MPSDFusion(channels, weighting="channel"),
        "SpatialAttentionFusion": SpatialAttentionFusion,
        "ChannelAttentionFusion": ChannelAttentionFusion,
        "ConcatFusion": ConcatFusion,
    }
    return {name: fusion_cost(make) for name, make in kinds.items()}


def fusion_cost(make: Callable[[int], nn.Module]) -> Cost:
    """Return the cost of a kind of fusion at both levels."""
    with torch.device("meta"):
        blocks = {level: make(STUDENT[level - 1]) for level in FUSED_LEVELS}
    pairs = {level: Pair(level_map(STUDENT, level), level_map(STUDENT, level)) for level in FUSED_LEVELS}
    by_level = {level: multiply_adds(block, pairs[level]) for level, block in blocks.items()}
    return Cost(sum(map(parameters, blocks.values())), by_level)


def trunk() -> dict[str, Cost]:
    """Return the cost of the student's trunk on both modalities, for comparison."""
    with torch.device("meta"):
        network = ResNetTrunk(18)
    images = torch.empty(2, 3, CROP, CROP, device="meta")
    return {"student's trunk": Cost(parameters(network), {0: multiply_adds(network, images)})}


def table(costs: Mapping[str, Cost], levels: Sequence[int]) -> list[str]:
    """Return the lines of a Markdown table, with multiply-adds in millions."""
    head = ["", "Parameters", *(f"Level {level}" for level in levels), "All levels"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, cost in costs.items():
        figures = [*(cost.multiply_adds.get(level, 0) for level in levels), cost.total]
        lines.append([f"`{name}`", f"{cost.parameters:,}", *map(millions, figures)])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def millions(count: int) -> str:
    """Return a count in millions, with one decimal below 100."""
    return f"{count / 1e6:,.0f}" if count >= 1e8 or not count else f"{count / 1e6:.1f}"


def as_json(costs: Mapping[str, Cost]) -> dict[str, object]:
    """Return the costs as JSON."""
    return {
        name: {"parameters": cost.parameters, "multiply-adds": {str(n): x for n, x in cost.multiply_adds.items()}}
        for name, cost in costs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON report")
    out = parser.parse_args().out
    costs_by_part = {"losses": losses(), "fusions": fusions(), "for comparison": trunk()}
    levels = {"losses": (1, 2, 3, 4), "fusions": FUSED_LEVELS, "for comparison": ()}
    for part, costs in costs_by_part.items():
        print(f"{part}, multiply-adds in millions\n", *table(costs, levels[part]), "", sep="\n")
    if out is not None:
        sizes = {"student": STUDENT, "teacher": TEACHER, "mid": MID, "crop": CROP, "levels": SIDES}
        parts = {part: as_json(costs) for part, costs in costs_by_part.items()}
        out.write_text(json.dumps({"machine": machine(), "sizes": sizes, **parts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
