"""The target's model: what a tracker learns of its target to find it again; DiMP's or ATOM's, called alike."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from mmdistill.reference.models.atom_classifier import OnlineClassifier, OnlineFilters, OnlineSettings
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.tracker_network import TrackerNetwork


class Filters(NamedTuple):
    """What DiMP has learned of its targets: filters ``(S, C, h, w)``."""

    filters: Tensor


class TargetModel(Protocol):
    """How targets are learned and scored; S sequences at once, ``State`` a named tuple of tensors ``(S, ...)``.

    Maps are ``(N, S, C, H, W)``, boxes ``(N, S, 4)`` as ``x y w h`` in crop pixels.
    """

    def features(self, fused: Tensor) -> Tensor:
        """Return the classification features of fused level-4 maps."""
        ...

    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> tuple[Tensor, ...]:
        """Return the state after the first frame."""
        ...

    def samples(self, state: tuple[Tensor, ...], features: Tensor) -> Tensor:
        """Return what is scored and kept of features."""
        ...

    def score(self, state: tuple[Tensor, ...], samples: Tensor) -> Tensor:
        """Return score maps ``(N, S, H', W')``."""
        ...

    def improve(
        self, state: tuple[Tensor, ...], samples: Tensor, boxes: Tensor, weights: Tensor, iterations: int
    ) -> tuple[Tensor, ...]:
        """Return the state after learning from samples with weights ``(N, S)`` that sum to 1 over N."""
        ...


class DiMPModel:
    """DiMP's: a filter from the learned initializer, improved by the learned optimizer."""

    def __init__(self, classifier: TargetClassifier) -> None:
        self._classifier = classifier

    def features(self, fused: Tensor) -> Tensor:
        """Return the classification features."""
        return self._classifier.features(fused)

    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> Filters:
        """Return the initializer's filter after some steps of the optimizer."""
        return Filters(self._classifier.learn(features, boxes, iterations)[-1])

    def samples(self, state: tuple[Tensor, ...], features: Tensor) -> Tensor:  # noqa: ARG002 (ATOM's need it)
        """Return the features as they are."""
        return features

    def score(self, state: tuple[Tensor, ...], samples: Tensor) -> Tensor:
        """Return each sequence's filter on its maps."""
        (filters,) = state
        return self._classifier.score(filters[None], samples)[0]

    def improve(
        self, state: tuple[Tensor, ...], samples: Tensor, boxes: Tensor, weights: Tensor, iterations: int
    ) -> Filters:
        """Return the filter after some steps of the optimizer."""
        (filters,) = state
        return Filters(self._classifier.optimiser(filters, samples, boxes, iterations, weights)[-1])


class ATOMModel:
    """ATOM's: a projection and a filter learned online from nothing; the projection stays after the first frame."""

    def __init__(self, classifier: OnlineClassifier) -> None:
        self._classifier = classifier

    def features(self, fused: Tensor) -> Tensor:
        """Return the maps as they are."""
        return fused

    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> OnlineFilters:
        """Return projection and filter after some Gauss-Newton iterations."""
        return self._classifier.learn(features, boxes, iterations)

    def samples(self, state: tuple[Tensor, ...], features: Tensor) -> Tensor:
        """Return the projected features."""
        return self._classifier.project(OnlineFilters(*state), features)

    def score(self, state: tuple[Tensor, ...], samples: Tensor) -> Tensor:
        """Return each sequence's filter on its projected maps."""
        return self._classifier.score(OnlineFilters(*state), samples)

    def improve(
        self, state: tuple[Tensor, ...], samples: Tensor, boxes: Tensor, weights: Tensor, iterations: int
    ) -> OnlineFilters:
        """Return the filter after some Gauss-Newton iterations."""
        return self._classifier.improve(OnlineFilters(*state), samples, boxes, weights, iterations)


def target_model(network: TrackerNetwork) -> TargetModel:
    """Return the model of a network's kind."""
    settings = network.settings
    if network.classifier is not None:
        return DiMPModel(network.classifier)
    return ATOMModel(
        OnlineClassifier(OnlineSettings(filter_size=settings.filter_size, label_sigma=settings.label_sigma))
    )
