"""The reference tracker: DiMP's online tracking of one target in each of S videos at once.

Bhat et al., Learning Discriminative Model Prediction for Tracking, ICCV 2019; box refinement from Danelljan et al.,
ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019.

What is random, and what belongs to one video alone, is kept per video, so that each is tracked as if it were alone.
On an accelerator the host waits once a frame, for the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.crops import CropGeometry
from mmdistill.reference.device import upload
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.iou_net import Modulation
from mmdistill.reference.models.tracker_network import ExtractedFeatures, TrackerNetwork
from mmdistill.reference.tracking.augmentation import Transform, augment
from mmdistill.reference.tracking.box_refinement import refine
from mmdistill.reference.tracking.localization import FLAGS, Flag, Localization, localize
from mmdistill.reference.tracking.memory import SampleMemory, Slots, SlotTensors
from mmdistill.reference.tracking.search_area import (
    ScaleLimits,
    SearchAreas,
    Target,
    at_cells,
    cut_pair,
    in_cells,
    initial_scale,
    keep_inside,
    scale_limits,
    search_geometry,
    stack,
)
from mmdistill.reference.tracking.settings import TrackingSettings, published_settings
from mmdistill.reference.tracking.target_model import target_model
from mmdistill.toolkit.boxes import Array, check_initial, clipped
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image, complete


class Step(NamedTuple):
    """What was found in one frame of each of s videos.

    Attributes:
        boxes: the part inside the image, ``(s, 4)`` as ``x y w h``, pixels; of the last box where the target was not
            found. The tracker itself goes on from the whole box.
        scores: where it was found ``(s,)``; else the largest.
        flags: whether to believe it, one per video.
        score_maps: ``(s, H', W')``, on the network's device.
        search_areas: what part of the frame the score map is of, ``(s, 4)`` as ``x y w h``, image pixels.
    """

    boxes: Array
    scores: Array
    flags: tuple[Flag, ...]
    score_maps: Tensor
    search_areas: Array


class _Video:
    """What the host keeps of one video."""

    def __init__(self, target: Target, limits: ScaleLimits, generator: np.random.Generator) -> None:
        self.target, self.limits, self.generator = target, limits, generator
        self.frames = 1


class BatchTracker:
    """Follows one target in each of S videos, which may start, end and differ in size as they like.

    A modality that is missing, in one frame or in all, is stood in for by the other: the network then sees the same
    image twice.

    The same network, seed and frames give the same boxes: all that is random is drawn from a generator that ``start``
    makes anew.

    Args:
        network: on any device; what tracks is a copy with batch norm folded, so later changes to it are not seen.
        settings: the constants of tracking; the published ones of its kind (DiMP, ATOM) if not given.
        slots: S, how many videos at once.
        seed: of all that is random, not negative.

    Raises:
        DataError: the seed is negative.
        ValueError: the network is in half precision, which has not the digits for boxes; use autocast instead.

    Attributes:
        network: the copy.
        settings: the constants.
        slots: S.
    """

    def __init__(
        self, network: TrackerNetwork, settings: TrackingSettings | None = None, *, slots: int = 1, seed: int = 0
    ) -> None:
        if seed < 0:
            raise DataError(f"seed: expected 0 or more, got {seed}")
        dtype = next(network.parameters()).dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"BatchTracker: expected a network in float32 or float64, got {dtype}; use autocast for half"
            )
        self.network = fold_batch_norms(network)
        self.settings = settings or published_settings(network.settings)
        self._model = target_model(self.network)
        self._seed = seed
        self.slots = slots
        self._videos: list[_Video | None] = [None] * slots
        self._state: SlotTensors[tuple[Tensor, ...]] = SlotTensors(slots)
        self._modulation: SlotTensors[Modulation] = SlotTensors(slots)
        self._memory = SampleMemory(slots, self.settings.first_frame.samples, self.settings.learning)
        self._example = next(self.network.parameters())

    @torch.no_grad()
    def start(self, slot: int, frame: FramePair, box: ArrayLike, *, where: str = "start") -> None:
        """Start a video in a slot; any earlier one there is forgotten.

        Args:
            slot: which, from 0.
            frame: the video's first frame, images ``(H, W, 3)``, uint8.
            box: the target ``(4,)``, ``x y w h`` in pixels.
            where: what gave them, named in errors.

        Raises:
            DataError: no image, images of different sizes, or a box that nobody could start from.
        """
        images = self._seen(complete(frame, where=where))
        size = _size(images)
        initial = check_initial(box, *size, where=where).copy()
        self._videos[slot] = None
        network, settings = self.network, self.settings
        generator = np.random.default_rng(self._seed)
        scale = initial_scale(initial, network.settings.search_area, network.settings.crop_size)
        target = Target(initial, scale)

        slots = np.array([slot])
        extracted, features, boxes = self._first_samples(images, target, generator)
        state = self._model.learn(features, boxes, settings.first_frame.iterations)
        self._state[slots] = state
        modulation = network.iou_net.modulate(extracted.fused[0][:1], extracted.fused[1][:1], boxes[0])
        self._modulation[slots] = modulation
        self._memory.start(slot, self._model.samples(state, features)[:, 0], boxes[:, 0])
        self._videos[slot] = _Video(target, scale_limits(target, size, settings.minimum_side), generator)

    @torch.no_grad()
    def step(self, slots: Sequence[int], frames: Sequence[FramePair], *, where: Sequence[str] | None = None) -> Step:
        """Find the targets in the next frames of some videos.

        Args:
            slots: whose, ascending.
            frames: one of each, as in ``start``.
            where: what gave each, named in errors.

        Raises:
            DataError: no image, or images of different sizes; no video has moved on then.
            RuntimeError: no video was started in a slot.
            ValueError: the slots are not in ascending order, each once.
        """
        if list(slots) != sorted(set(slots)):
            raise ValueError(f"BatchTracker.step: expected slots in ascending order, each once; got {list(slots)}")
        videos = [self._video(slot) for slot in slots]
        names = where or [f"slot {slot}" for slot in slots]
        images = [self._seen(complete(frame, where=name)) for frame, name in zip(frames, names, strict=True)]
        geometries = [search_geometry(video.target, self.network.settings) for video in videos]
        for video in videos:
            video.frames += 1

        chosen = np.array(slots)
        crops = [cut_pair(pair, geometry) for pair, geometry in zip(images, geometries, strict=True)]
        extracted = self.network.extract(stack(crops, like=self._example))
        state = self._state[chosen]
        samples = self._model.samples(state, self._model.features(extracted.fused[1][None]))
        score_maps = self._model.score(state, samples)[0]

        areas = self._areas(geometries, images)
        found, refined = self._locate(chosen, videos, areas, extracted, score_maps)
        outcome = torch.cat([areas.to_image(refined), found.score[:, None], found.flag[:, None]], dim=1).cpu().numpy()
        boxes, scores = outcome[:, :4], outcome[:, 4]
        flags = tuple(FLAGS[int(flag)] for flag in outcome[:, 5])
        for video, box, flag in zip(videos, boxes, flags, strict=True):
            if flag != "not_found":
                video.target = Target(box, video.limits.scale(box[2:]))
        self._learn(chosen, videos, flags, samples[0], refined)
        return Step(
            np.stack([clipped(video.target.box, *_size(pair)) for video, pair in zip(videos, images, strict=True)]),
            scores,
            flags,
            score_maps,
            np.stack([geometry.to_image([0, 0, geometry.size, geometry.size]) for geometry in geometries]),
        )

    def _video(self, slot: int) -> _Video:
        video = self._videos[slot]
        if video is None:
            raise RuntimeError(f"BatchTracker.step: no video was started in slot {slot}; call start before")
        return video

    def _seen(self, images: Pair[Image]) -> Pair[Image]:
        """Return the images the network sees; a single modality's in both places, which are cut once."""
        modality = self.network.settings.modality
        return images if modality == "rgbt" else Pair(*[getattr(images, modality)] * 2)

    def _first_samples(
        self, images: Pair[Image], target: Target, generator: np.random.Generator
    ) -> tuple[ExtractedFeatures, Tensor, Tensor]:
        """Return what was extracted from the crops, the samples ``(N, 1, C', H, W)`` and their boxes ``(N, 1, 4)``."""
        settings, network = self.settings.first_frame, self.network
        geometry = search_geometry(target, network.settings, settings.patch_factor)
        crops, boxes = augment(
            cut_pair(images, geometry),
            geometry.to_crop(target.box),
            network.settings.crop_size,
            (Transform(), *settings.transforms),
            generator,
        )
        extracted = network.extract(stack(crops, like=self._example))
        features = self._model.features(extracted.fused[1][:, None])
        kept = generator.random((settings.dropouts, 1, features.shape[2], 1, 1)) >= settings.dropout
        dropped = features[:1] * upload(kept, features.device).to(features.dtype) / (1 - settings.dropout)
        boxes = np.concatenate([boxes, boxes[:1].repeat(settings.dropouts, axis=0)])
        return extracted, torch.cat([features, dropped]), self._uploaded(boxes)[:, None]

    def _locate(
        self,
        slots: Slots,
        videos: Sequence[_Video],
        areas: SearchAreas,
        extracted: ExtractedFeatures,
        score_maps: Tensor,
    ) -> tuple[Localization, Tensor]:
        """Return where the targets were found, and their refined boxes ``(s, 4)``, crop pixels."""
        settings = self.settings
        known = areas.to_crop(upload(np.stack([video.target.box for video in videos]), areas.corner.device))
        last, cells = in_cells(known, self.network.settings)
        found = localize(score_maps, last, cells, settings.localization)
        moved = self._inside(at_cells(found.displacement, known[:, 2:], self.network.settings), areas)
        shape = (settings.refinement.random_boxes, 4)
        jitter = np.stack([video.generator.uniform(-1, 1, shape) for video in videos])
        refined = refine(
            self.network.iou_net,
            self._modulation[slots],
            extracted.fused[0],
            extracted.fused[1],
            moved.to(self._example.dtype),
            self._uploaded(jitter),
            settings.refinement,
        )
        return found, self._inside(refined.double(), areas)

    def _learn(
        self, slots: Slots, videos: Sequence[_Video], flags: Sequence[Flag], samples: Tensor, boxes: Tensor
    ) -> None:
        """Keep the samples ``(s, C', H, W)`` of those that are believed, and improve the models that are due."""
        settings = self.settings.learning
        hard = np.array([flag == "hard_negative" for flag in flags])
        believed = hard | np.array([flag == "normal" for flag in flags])
        if not believed.any():
            return
        kept = np.flatnonzero(believed)
        rates = np.where(hard, settings.hard_negative_rate, settings.rate)
        index = upload(kept, samples.device)
        self._memory.add(
            slots[kept], samples.index_select(0, index), boxes.index_select(0, index).to(samples.dtype), rates[kept]
        )
        due = np.array([(video.frames - 1) % settings.interval == 0 for video in videos])
        iterations = np.where(hard, settings.hard_negative_iterations, np.where(due, settings.iterations, 0))
        iterations[~believed] = 0
        for count in sorted(set(iterations.tolist()) - {0}):
            chosen = slots[iterations == count]
            known, targets, weights = self._memory.samples(chosen)
            self._state[chosen] = self._model.improve(
                self._state[chosen], known, targets, self._uploaded(weights), count
            )

    def _inside(self, boxes: Tensor, areas: SearchAreas) -> Tensor:
        """Return boxes ``(s, 4)`` in crop pixels, kept inside their images."""
        return areas.to_crop(keep_inside(areas.to_image(boxes), areas.image_size, self.settings.inside_share))

    def _areas(self, geometries: Sequence[CropGeometry], images: Sequence[Pair[Image]]) -> SearchAreas:
        rows = [
            (geometry.left, geometry.top, geometry.scale, *_size(pair))
            for geometry, pair in zip(geometries, images, strict=True)
        ]
        values = upload(np.array(rows, dtype=np.float64), self._example.device)
        return SearchAreas(values[:, :2], values[:, 2:3], values[:, 3:])

    def _uploaded(self, values: NDArray[np.float64]) -> Tensor:
        """Return host values in the network's type on its device."""
        return upload(torch.from_numpy(values).to(self._example.dtype), self._example.device)


def _size(images: Pair[Image]) -> tuple[int, int]:
    """Return the images' width and height, pixels."""
    height, width = images.rgb.shape[:2]
    return width, height
