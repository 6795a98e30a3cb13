"""ATOM's classifier: a projection and a filter, learned online on every video's own frames.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, sections 3.2 and 3.3. The paper leaves
open how features are scaled and where the projection starts. Here each map is scaled like DiMP's classification
features, so that the regularisation means the same for every trunk, and the projection starts at the directions that
hold most of the first frame's features: nothing is drawn at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mmdistill.correlation import correlate, score_size
from mmdistill.reference.models.atom_loss import FilterAlone, OnlineLoss, ProjectedFilter, Samples, minimize
from mmdistill.reference.models.dimp_classifier import InstanceNorm, distance_to_center
from mmdistill.toolkit.ranges import Range, Weight, check_fields


@dataclass(frozen=True)
class OnlineSettings:
    """How filters are learned online; the defaults are the published ones.

    Attributes:
        channels: projected channels; all of the features' where these have fewer.
        filter_size: cells along the filter.
        alpha: scores below ``-alpha`` count as ``-alpha``, softly.
        label_sigma: the label's deviation, relative to the root of the target's area.
        filter_regularisation: weight of the filter's square.
        projection_regularisation: weight of the projection's square.
        initial_cg_iterations: conjugate-gradient iterations in each Gauss-Newton iteration on the first frame.
        cg_iterations: the same, later on.
    """

    channels: Annotated[int, Range(1, 4096)] = 64
    filter_size: Annotated[int, Range(1, 64)] = 4
    alpha: Annotated[float, Range(0, 10**9)] = 0.05
    label_sigma: Annotated[float, Range(0.001, 10)] = 0.25
    filter_regularisation: Weight = 0.1
    projection_regularisation: Weight = 1e-4
    initial_cg_iterations: Annotated[int, Range(0, 1000)] = 10
    cg_iterations: Annotated[int, Range(0, 1000)] = 5

    def __post_init__(self) -> None:
        check_fields(self)


class OnlineFilters(NamedTuple):
    """What was learned of S sequences.

    Attributes:
        projection: ``(S, P, C)``.
        filters: of the projected channels, ``(S, P, h, w)``.
    """

    projection: Tensor
    filters: Tensor


class OnlineClassifier:
    """Learns a projection and a filter per sequence, and scores frames by them.

    It has no trained weights. Sequences do not see each other, and no gradient flows through the learning.

    Args:
        settings: the constants of the learning.
        stride: crop pixels per cell; cell i stands at ``i * stride``.
    """

    MINIMUM_SIGMA = 0.5  # cells: the label of a target of a few pixels still reaches a cell

    def __init__(self, settings: OnlineSettings = OnlineSettings(), *, stride: int = 16) -> None:
        self.settings, self.stride = settings, stride

    @torch.no_grad()
    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> OnlineFilters:
        """Return projection and filters learned together on the first frame's samples, which weigh the same.

        Args:
            features: ``(N, S, C, H, W)``.
            boxes: the targets ``(N, S, 4)``, ``x y w h`` in crop pixels.
            iterations: Gauss-Newton iterations; 6 in the paper.
        """
        settings = self.settings
        features = self._normalized(features)
        sequences, channels = features.shape[1:3]
        projection = _principal_directions(features, min(settings.channels, channels))
        size = (settings.filter_size, settings.filter_size)
        weights = (settings.projection_regularisation, settings.filter_regularisation)
        model = ProjectedFilter(projection.shape[1], channels, size, weights, like=features)
        equal = features.new_full(features.shape[:2], 1 / len(features))
        loss = OnlineLoss(model, Samples(features, self._labels(features, boxes), equal), settings.alpha)
        start = model.join(projection, features.new_zeros(sequences, projection.shape[1], *size))
        learned = minimize(loss.linearize, start, iterations, settings.initial_cg_iterations)
        return OnlineFilters(*model.split(learned))

    def project(self, state: OnlineFilters, features: Tensor) -> Tensor:
        """Return the projected features ``(N, S, P, H, W)`` of ``(N, S, C, H, W)``: what a memory keeps."""
        projected = state.projection @ self._normalized(features).flatten(-2)
        return rearrange(projected, "n s p (h w) -> n s p h w", h=features.shape[-2])

    def score(self, state: OnlineFilters, projected: Tensor) -> Tensor:
        """Return scores ``(N, S, H', W')`` of projected features ``(N, S, P, H, W)``."""
        return correlate(projected, state.filters)

    @torch.no_grad()
    def improve(
        self,
        state: OnlineFilters,
        projected: Tensor,
        boxes: Tensor,
        weights: Tensor,
        iterations: int,
    ) -> OnlineFilters:
        """Return the state with filters learned further; the projection stays.

        Args:
            state: what to start from.
            projected: the samples' projected features ``(N, S, P, H, W)``.
            boxes: the targets ``(N, S, 4)``, ``x y w h`` in crop pixels.
            weights: the samples' weights ``(N, S)``, summing to 1 over N; 0 leaves a sample out.
            iterations: Gauss-Newton iterations; 1 in the paper.
        """
        channels, *size = state.filters.shape[1:]
        model = FilterAlone(channels, (size[0], size[1]), self.settings.filter_regularisation, like=projected)
        loss = OnlineLoss(model, Samples(projected, self._labels(projected, boxes), weights), self.settings.alpha)
        learned = minimize(loss.linearize, state.filters.flatten(1), iterations, self.settings.cg_iterations)
        return state._replace(filters=model.filters(learned))

    def _normalized(self, features: Tensor) -> Tensor:
        scale = math.sqrt(1 / features.shape[2]) / self.settings.filter_size
        at_least_single = torch.promote_types(features.dtype, torch.float32)
        normalized: Tensor = InstanceNorm(scale)(features.to(at_least_single))
        return normalized

    def _labels(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return Gaussians ``(N, S, H', W')`` at the boxes' centers."""
        filter_size = (self.settings.filter_size, self.settings.filter_size)
        size = score_size((features.shape[-2], features.shape[-1]), filter_size)
        side = (boxes[..., 2] * boxes[..., 3]).sqrt() / self.stride
        sigma = (self.settings.label_sigma * side).clamp(min=self.MINIMUM_SIGMA)
        return torch.exp(-0.5 * (distance_to_center(boxes, size, self.stride) / sigma[..., None, None]).square())


def _principal_directions(features: Tensor, count: int) -> Tensor:
    """Return orthonormal directions ``(S, count, C)``: no others hold more of the features' square sum."""
    columns = rearrange(features, "n s c h w -> s c (n h w)")
    directions: Tensor = torch.linalg.eigh(columns @ columns.mT).eigenvectors  # one a column, the largest last
    return directions[..., -count:].mT
