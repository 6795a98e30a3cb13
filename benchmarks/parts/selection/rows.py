"""The students whose MPSD blocks are compared: how they start, what teaches them, how the maxima are normalized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from parts.ablation.rows import Row
from parts.ablation.runs import Run
from parts.ablation.sizes import Chosen, Size

from mmdistill.reference.models.config import Fusion
from mmdistill.reference.training.settings import Part

Start = Literal["random", "imagenet"]

VARIANTS: Mapping[str, Fusion] = {"none": "mpsd", "paths": "mpsd-paths", "layer_norm": "mpsd-layer-norm"}
"""``MPSDFusion``'s ``normalize``, and the tracker's name for it."""

TAUGHT_BY: Mapping[str, tuple[Part, ...]] = {"alone": (), "mpsd": ("mpsd",), "cmd": ("scfd", "mpsd", "hfrd")}
"""Parts of the distillation by name; alone: the tracker's own loss."""

SIZE_OF: Mapping[Start, str] = {"random": "cpu", "imagenet": "pretrained"}
"""The ablation's size whose students start so."""


@dataclass(frozen=True)
class Block:
    """Runs that are compared with each other.

    Attributes:
        start: what the trunk starts from.
        taught_by: key of ``TAUGHT_BY``.
    """

    start: Start
    taught_by: str

    @property
    def title(self) -> str:
        """What tables call it."""
        trunk = {"random": "random trunk", "imagenet": "ImageNet trunk"}[self.start]
        return f"{trunk}, {'own loss alone' if self.taught_by == 'alone' else self.taught_by.upper()}"


BLOCKS = (
    Block("random", "alone"),
    Block("imagenet", "alone"),
    Block("random", "mpsd"),
    Block("imagenet", "mpsd"),
    Block("random", "cmd"),
)
"""In the order in which they are trained."""


def run_of(block: Block, variant: str, seed: int, size: Size, chosen: Chosen) -> Run:
    """Return a student's run, which tracks the validation sequences."""
    row = Row(variant, VARIANTS[variant], TAUGHT_BY[block.taught_by])
    return Run(
        f"{block.start}/{block.taught_by}/{variant}/seed_{seed}",
        size.student_network(row),
        size.student_training(seed, chosen.factors),
        row.distillation(chosen.alpha, chosen.beta),
        "validation",
        seed,
    )


def in_order(blocks: Sequence[Block], seeds: Sequence[int]) -> Iterator[tuple[Block, str, int]]:
    """Yield block, variant and seed of every run: block by block, in each seed by seed."""
    yield from ((block, variant, seed) for block in blocks for seed in seeds for variant in VARIANTS)
