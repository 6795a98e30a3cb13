"""The RGB-T tracker: DiMP's online tracking with a network that sees both modalities.

Bhat et al., Learning Discriminative Model Prediction for Tracking, ICCV 2019; box refinement from Danelljan
et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.data.boxes import Array, check_initial
from mmdistill.reference.data.crops import CropGeometry
from mmdistill.reference.data.sequence import FramePair, Image, complete
from mmdistill.reference.networks.iou_net import Modulation
from mmdistill.reference.networks.rgbt import Extracted, RGBTNetwork
from mmdistill.reference.tracking.augmentation import Transform, augment
from mmdistill.reference.tracking.localisation import Flag, ScoreMap, localise
from mmdistill.reference.tracking.memory import SampleMemory
from mmdistill.reference.tracking.motion import ScaleLimits, Target, initial_scale, keep_inside, scale_limits
from mmdistill.reference.tracking.refinement import refine
from mmdistill.reference.tracking.search import at_cell, cut_pair, in_cells, search_geometry, stack
from mmdistill.reference.tracking.settings import PUBLISHED, TrackingSettings


@dataclass
class _Track:
    """All that belongs to one video; tensors have a sequence axis of S = 1."""

    target: Target
    limits: ScaleLimits
    filters: Tensor  # (S, C', h, w)
    modulation: Modulation
    memory: SampleMemory
    generator: np.random.Generator
    frames: int = 1


class RGBTTracker:
    """Follows one target through one video at a time.

    A modality that is missing, in one frame or in all, is stood in for by the other: the network then sees the same
    image twice.

    The same network, seed and frames give the same boxes: all that is random is drawn from a generator that ``init``
    makes anew.

    Args:
        network: teacher or student, on any device; it is put in eval mode, and stays so.
        settings: the constants of tracking.
        seed: of all that is random.

    Attributes:
        score_map: the last frame's scores ``(H', W')``; zeros after ``init``.
        flag: what was made of them; ``"normal"`` after ``init``.
    """

    score_map: ScoreMap
    flag: Flag
    _track: _Track | None

    def __init__(self, network: RGBTNetwork, settings: TrackingSettings = PUBLISHED, *, seed: int = 0) -> None:
        self._network = network.eval()
        self._settings = settings
        self._seed = seed
        self._forget()

    @torch.no_grad()
    def init(self, frame: FramePair, box: ArrayLike) -> None:
        """Start a video; any earlier one is forgotten.

        Args:
            frame: its first frame, images ``(H, W, 3)``, uint8.
            box: the target ``(4,)``, ``x y w h`` in pixels.

        Raises:
            DataError: no image, images of different sizes, or a box that nobody could start from.
        """
        images = complete(frame, where="init")
        size = _size(images)
        initial = check_initial(box, *size, where="init").copy()
        self._forget()
        network = self._network
        generator = np.random.default_rng(self._seed)
        target = Target(initial, initial_scale(initial, network.settings.search_area, network.settings.crop_size))

        extracted, features, boxes = self._first_samples(images, target, generator)
        filters = network.classifier.learn(features, boxes, self._settings.first_frame.iterations)[-1]
        modulation = network.iou_net.modulate(extracted.fused[0][:1], extracted.fused[1][:1], boxes[0])
        memory = SampleMemory(features, boxes, self._settings.learning)
        limits = scale_limits(target, size, self._settings.minimum_side)
        self._track = _Track(target, limits, filters, modulation, memory, generator)

    @torch.no_grad()
    def update(self, frame: FramePair) -> tuple[Array, float]:
        """Find the target in the next frame.

        Args:
            frame: as in ``init``.

        Returns:
            The box ``(4,)`` as ``x y w h``, pixels, and the score where it was found. Where it was not found, the last
            box and the largest score.

        Raises:
            DataError: no image, or images of different sizes.
            RuntimeError: ``init`` was not called.
        """
        if self._track is None:
            raise RuntimeError("RGBTTracker.update: call init with the first frame before")
        images, track = complete(frame, where="update"), self._track
        size = _size(images)
        track.frames += 1
        network = self._network
        geometry = search_geometry(track.target, network.settings)
        extracted = self._extract([cut_pair(images, geometry)])
        features = network.classifier.features(extracted.fused[1][None])

        # From here to the new target all boxes are in crop pixels.
        known = geometry.to_crop(track.target.box)
        self.score_map = network.classifier.score(track.filters[None], features)[0, 0, 0].float().cpu().numpy()
        last, cells = in_cells(known, network.settings)
        found = localise(self.score_map, last, cells, self._settings.localisation)
        self.flag = found.flag
        if found.flag != "not_found":
            moved = self._inside(at_cell(found.displacement, known[2:], network.settings), geometry, size)
            refined = self._inside(self._refined(moved, extracted, track), geometry, size)
            box = geometry.to_image(refined)
            track.target = Target(box, track.limits.scale(box[2:]))
            if found.flag != "uncertain":
                self._learn(features, refined, track)
        return track.target.box.copy(), found.score

    def _forget(self) -> None:
        side = self._network.settings.score_size
        self._track = None
        self.score_map = np.zeros((side, side), dtype=np.float32)
        self.flag = "normal"

    def _extract(self, crops: Sequence[Pair[Image]]) -> Extracted:
        return self._network.extract(stack(crops, like=self._parameter))

    def _first_samples(
        self, images: Pair[Image], target: Target, generator: np.random.Generator
    ) -> tuple[Extracted, Tensor, Tensor]:
        """Return what was extracted from the crops, the samples ``(N, S, C', H, W)`` and their boxes ``(N, S, 4)``."""
        settings, network = self._settings.first_frame, self._network
        geometry = search_geometry(target, network.settings, settings.patch_factor)
        crops, boxes = augment(
            cut_pair(images, geometry),
            geometry.to_crop(target.box),
            network.settings.crop_size,
            (Transform(), *settings.transforms),
            generator,
        )
        extracted = self._extract(crops)
        features = network.classifier.features(extracted.fused[1][:, None])
        kept = generator.random((settings.dropouts, 1, features.shape[2], 1, 1)) >= settings.dropout
        dropped = features[:1] * torch.from_numpy(kept).to(features) / (1 - settings.dropout)
        boxes = np.concatenate([boxes, boxes[:1].repeat(settings.dropouts, axis=0)])
        return extracted, torch.cat([features, dropped]), self._tensor(boxes)[:, None]

    def _refined(self, box: Array, extracted: Extracted, track: _Track) -> Array:
        iou_net = self._network.iou_net
        features = iou_net.features(extracted.fused[0], extracted.fused[1])
        refined = refine(
            lambda boxes: iou_net.predict(track.modulation, features, boxes),
            self._tensor(box)[None],
            track.generator,
            self._settings.refinement,
        )
        return refined[0].double().cpu().numpy()

    def _inside(self, box: Array, geometry: CropGeometry, size: tuple[int, int]) -> Array:
        return geometry.to_crop(keep_inside(geometry.to_image(box), size, self._settings.inside_share))

    def _learn(self, features: Tensor, box: Array, track: _Track) -> None:
        settings, hard = self._settings.learning, self.flag == "hard_negative"
        rate = settings.hard_negative_rate if hard else settings.rate
        track.memory.add(0, features[0, 0], self._tensor(box), rate)
        due = (track.frames - 1) % settings.interval == 0
        iterations = settings.hard_negative_iterations if hard else settings.iterations * due
        if iterations:
            known, boxes, weights = track.memory.samples()
            track.filters = self._network.classifier.optimiser(track.filters, known, boxes, iterations, weights)[-1]

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(values).to(self._parameter)

    @property
    def _parameter(self) -> Tensor:
        """Any of the network's: it has the device and the type of all of them."""
        return next(self._network.parameters())


def _size(images: Pair[Image]) -> tuple[int, int]:
    """Return the images' width and height, pixels."""
    height, width = images.rgb.shape[:2]
    return width, height
