"""Target models: the classifiers of DiMP (arXiv 1904.07220) and ATOM (arXiv 1811.07628) behind one interface."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mmdistill.reference.models.atom_classifier import OnlineClassifier, OnlineFilters, OnlineSettings
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.tracker_network import TrackerNetwork


class Filters(NamedTuple):
    """DiMP's target filters ``(S, C, h, w)``."""

    filters: Tensor


class TargetModel(Protocol):
    """Learns and scores the targets of S sequences.

    The state is a named tuple of tensors ``(S, ...)``. Maps are ``(N, S, C, H, W)``, boxes ``(N, S, 4)`` as ``x y w h``
    in crop pixels.
    """

    def features(self, fused: Tensor) -> Tensor:
        """Return the classification features of fused level-4 maps."""
        ...

    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> tuple[Tensor, ...]:
        """Return the state after the first frame."""
        ...

    def samples(self, state: tuple[Tensor, ...], features: Tensor) -> Tensor:
        """Return the maps that are scored and kept in memory."""
        ...

    def score(self, state: tuple[Tensor, ...], samples: Tensor) -> Tensor:
        """Return score maps ``(N, S, H', W')``."""
        ...

    def improve(
        self, state: tuple[Tensor, ...], samples: Tensor, boxes: Tensor, weights: Tensor, iterations: Tensor, most: int
    ) -> tuple[Tensor, ...]:
        """Return the state after learning from samples with weights ``(N, S)`` that sum to 1 over N.

        Each sequence does its own number of iterations, ``(S,)``, int64, from 0 to ``most``.
        """
        ...


class DiMPModel:
    """DiMP's target model: a filter from the learned initializer, improved by the learned optimizer."""

    def __init__(self, classifier: TargetClassifier) -> None:
        self._classifier = classifier

    def features(self, fused: Tensor) -> Tensor:
        """Return the classification features."""
        return self._classifier.features(fused)

    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> Filters:
        """Return the initializer's filter after the optimizer's steps."""
        return Filters(self._classifier.learn(features, boxes, iterations)[-1])

    def samples(self, state: tuple[Tensor, ...], features: Tensor) -> Tensor:  # noqa: ARG002 (ATOM projects with it)
        """Return the features as they are."""
        return features

    def score(self, state: tuple[Tensor, ...], samples: Tensor) -> Tensor:
        """Return each sequence's filter on its maps."""
        (filters,) = state
        return self._classifier.score(filters[None], samples)[0]

    def improve(
        self, state: tuple[Tensor, ...], samples: Tensor, boxes: Tensor, weights: Tensor, iterations: Tensor, most: int
    ) -> Filters:
        """Return the filter after the optimizer's steps."""
        (filters,) = state
        iterates = self._classifier.optimiser(filters, samples, boxes, most, weights)
        return Filters(iterates[iterations, torch.arange(len(filters), device=filters.device)])


class ATOMModel:
    """ATOM's target model: a projection and a filter learned online; the projection is fixed after the first frame."""

    def __init__(self, classifier: OnlineClassifier) -> None:
        self._classifier = classifier

    def features(self, fused: Tensor) -> Tensor:
        """Return the maps as they are."""
        return fused

    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> OnlineFilters:
        """Return projection and filter after Gauss-Newton iterations."""
        return self._classifier.learn(features, boxes, iterations)

    def samples(self, state: tuple[Tensor, ...], features: Tensor) -> Tensor:
        """Return the projected features."""
        return self._classifier.project(OnlineFilters(*state), features)

    def score(self, state: tuple[Tensor, ...], samples: Tensor) -> Tensor:
        """Return each sequence's filter on its projected maps."""
        return self._classifier.score(OnlineFilters(*state), samples)

    def improve(
        self, state: tuple[Tensor, ...], samples: Tensor, boxes: Tensor, weights: Tensor, iterations: Tensor, most: int
    ) -> OnlineFilters:
        """Return the filter after Gauss-Newton iterations."""
        filters = OnlineFilters(*state)
        for done in range(most):
            improved = self._classifier.improve(filters, samples, boxes, weights, 1)
            due = (iterations > done)[:, None, None, None]
            filters = filters._replace(filters=torch.where(due, improved.filters, filters.filters))
        return filters


def target_model(network: TrackerNetwork) -> TargetModel:
    """Return the target model of a network."""
    settings = network.settings
    if network.classifier is not None:
        return DiMPModel(network.classifier)
    return ATOMModel(
        OnlineClassifier(OnlineSettings(filter_size=settings.filter_size, label_sigma=settings.label_sigma))
    )
