"""Students whose MPSD blocks are compared: initial trunk, losses, and normalization of the maxima."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from parts.ablation.rows import Row, Weights
from parts.ablation.runs import Run
from parts.ablation.sizes import Size

from mmdistill.reference.models.config import Fusion
from mmdistill.reference.training.settings import Part

Start = Literal["random", "imagenet"]

VARIANTS: Mapping[str, Fusion] = {"none": "mpsd", "paths": "mpsd-paths", "layer_norm": "mpsd-layer-norm"}
"""``MPSDFusion``'s ``normalize`` to the tracker's fusion name."""

DISTILLATIONS: Mapping[str, tuple[Part, ...]] = {"alone": (), "mpsd": ("mpsd",), "cmd": ("scfd", "mpsd", "hfrd")}
"""Distillation losses by name; none for ``"alone"``."""

SIZE_OF: Mapping[Start, str] = {"random": "cpu", "imagenet": "pretrained"}
"""Initial trunk to the ablation's preset."""


@dataclass(frozen=True)
class Group:
    """Students that are compared with each other.

    Attributes:
        start: initial weights of the trunk.
        distilled_with: key of ``DISTILLATIONS``.
    """

    start: Start
    distilled_with: str

    @property
    def title(self) -> str:
        """Title in the tables."""
        trunk = {"random": "random trunk", "imagenet": "ImageNet trunk"}[self.start]
        return f"{trunk}, {'own loss alone' if self.distilled_with == 'alone' else self.distilled_with.upper()}"


GROUPS = (
    Group("random", "alone"),
    Group("imagenet", "alone"),
    Group("random", "mpsd"),
    Group("imagenet", "mpsd"),
    Group("random", "cmd"),
)
"""Groups in the order of training."""


def student_run(group: Group, variant: str, seed: int, size: Size, weights: Weights) -> Run:
    """Return a student's run; it tracks the validation sequences."""
    row = Row(variant, VARIANTS[variant], DISTILLATIONS[group.distilled_with])
    return Run(
        f"{group.start}/{group.distilled_with}/{variant}/seed_{seed}",
        size.student_network(row),
        size.student_training(seed),
        row.distillation(weights),
        "validation",
        seed,
    )


def all_runs(groups: Sequence[Group], seeds: Sequence[int]) -> Iterator[tuple[Group, str, int]]:
    """Yield group, variant and seed of every run: group by group, and seed by seed in each."""
    yield from ((group, variant, seed) for group in groups for seed in seeds for variant in VARIANTS)
