"""Online tracking of one target in each of several videos at once: DiMP's, or ATOM's with another target model.

Bhat et al., Learning Discriminative Model Prediction for Tracking, ICCV 2019, arXiv 1904.07220; box refinement from
Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, arXiv 1811.07628.

Random draws and statistics belong to one video each, so a video's result does not depend on the others. On a GPU the
host waits once a frame, for the boxes.
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
    boxes_to_cells,
    cells_to_boxes,
    clamp_to_image,
    cut_pair,
    initial_scale,
    scale_limits,
    search_geometry,
    stack,
)
from mmdistill.reference.tracking.settings import TrackingSettings, published_settings
from mmdistill.reference.tracking.target_model import target_model
from mmdistill.toolkit.boxes import check_initial_box, clip_boxes
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing import ResponseMap
from mmdistill.toolkit.sequence import FramePair, Image, fill_missing_modality
from mmdistill.toolkit.tracking_loop import Result


class _VideoState:
    """The state of one video on the host."""

    def __init__(self, target: Target, limits: ScaleLimits, generator: np.random.Generator) -> None:
        self.target, self.limits, self.generator = target, limits, generator
        self.frames = 1


class _StepMaps(NamedTuple):
    """The score maps of the last step.

    Attributes:
        slots: their s slots.
        scores: ``(s, H', W')``, on the network's device.
        geometries: the search areas.
    """

    slots: list[int]
    scores: Tensor
    geometries: list[CropGeometry]


class BatchTracker:
    """Tracks one target in each of S videos, which may differ in start, length and image size.

    Each video has a slot, see ``BatchTrackerProtocol``. A missing modality is replaced by the other one's image, in
    single frames and in whole videos.

    The same network, seed and frames give the same boxes: ``start`` creates a new random generator.

    Args:
        network: a network on any device; the tracker uses a copy with folded batch norm, so later changes have no
            effect.
        settings: the constants of tracking; by default the published ones of the network's classifier.
        slots: S, the number of slots.
        seed: the random seed, 0 or more.

    Raises:
        DataError: the seed is negative.
        ValueError: the network is in half precision, which is too coarse for boxes; use autocast instead.

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
                f"BatchTracker: expected a network in float32 or float64, got {dtype}; use autocast for half precision"
            )
        self.network = fold_batch_norms(network)
        self.settings = settings or published_settings(network.settings)
        self._model = target_model(self.network)
        self._seed = seed
        self.slots = slots
        self._videos: list[_VideoState | None] = [None] * slots
        self._state: SlotTensors[tuple[Tensor, ...]] = SlotTensors(slots)
        self._modulation: SlotTensors[Modulation] = SlotTensors(slots)
        self._memory = SampleMemory(slots, self.settings.first_frame.samples, self.settings.learning)
        self._maps: _StepMaps | None = None
        self._parameter = next(self.network.parameters())

    @torch.no_grad()
    def start(self, slot: int, frame: FramePair, box: ArrayLike, *, where: str = "start") -> None:
        """Start a video in a slot, in place of any earlier one.

        Args:
            slot: index of the slot, from 0.
            frame: the first frame, images ``(H, W, 3)``, uint8; None where a modality is missing.
            box: the target ``(4,)``, ``x y w h`` in pixels.
            where: names the frame in errors.

        Raises:
            DataError: no image, images of different sizes, or an invalid box.
        """
        images = self._network_inputs(fill_missing_modality(frame, where=where))
        size = _size(images)
        initial = check_initial_box(box, *size, where=where).copy()
        self._videos[slot] = self._maps = None
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
        self._videos[slot] = _VideoState(target, scale_limits(target, size, settings.minimum_side), generator)

    @torch.no_grad()
    def step(
        self, slots: Sequence[int], frames: Sequence[FramePair], *, where: Sequence[str] | None = None
    ) -> list[Result]:
        """Track the next frames of some videos.

        A result's box is the part inside the image; tracking continues from the whole box. A target that is not found
        keeps its last box, with the highest score of the frame. Flags are those of ``localization.Flag``.

        Args:
            slots: the videos' slots, ascending.
            frames: a frame of each, as in ``start``.
            where: names each frame in errors.

        Raises:
            DataError: no image, or images of different sizes; then no video has advanced.
            RuntimeError: a slot without a video.
            ValueError: the slots are not in ascending order, each once.
        """
        if list(slots) != sorted(set(slots)):
            raise ValueError(f"BatchTracker.step: expected slots in ascending order, each once; got {list(slots)}")
        videos = [self._video(slot) for slot in slots]
        names = where or [f"slot {slot}" for slot in slots]
        images = [
            self._network_inputs(fill_missing_modality(frame, where=name))
            for frame, name in zip(frames, names, strict=True)
        ]
        geometries = [search_geometry(video.target, self.network.settings) for video in videos]
        for video in videos:
            video.frames += 1

        chosen = np.array(slots)
        crops = [cut_pair(pair, geometry) for pair, geometry in zip(images, geometries, strict=True)]
        extracted = self.network.extract(stack(crops, like=self._parameter))
        state = self._state[chosen]
        samples = self._model.samples(state, self._model.features(extracted.fused[1][None]))
        score_maps = self._model.score(state, samples)[0]
        self._maps = _StepMaps(list(slots), score_maps, geometries)

        areas = self._search_areas(geometries, images)
        localization, refined = self._localize(chosen, videos, areas, extracted, score_maps)
        columns = [areas.to_image(refined), localization.score[:, None], localization.flag[:, None]]
        rows = torch.cat(columns, dim=1).cpu().numpy()  # the host waits here
        flags = [FLAGS[int(row[5])] for row in rows]
        for video, row, flag in zip(videos, rows, flags, strict=True):
            if flag != "not_found":
                video.target = Target(row[:4], video.limits.scale(row[2:4]))
        self._learn(chosen, videos, flags, samples[0], refined)
        return [
            Result(clip_boxes(video.target.box, *_size(pair)), float(row[4]), flag)
            for video, pair, row, flag in zip(videos, images, rows, flags, strict=True)
        ]

    def response(self, slot: int) -> ResponseMap | None:
        """Return the score map of a slot in the last step; None if it was not in it, or after ``start``."""
        if self._maps is None or slot not in self._maps.slots:
            return None
        position = self._maps.slots.index(slot)
        geometry = self._maps.geometries[position]
        return ResponseMap(
            self._maps.scores[position].float().cpu().numpy(), geometry.to_image([0, 0, geometry.size, geometry.size])
        )

    def _video(self, slot: int) -> _VideoState:
        video = self._videos[slot]
        if video is None:
            raise RuntimeError(f"BatchTracker.step: expected a video in slot {slot}; call start first")
        return video

    def _network_inputs(self, images: Pair[Image]) -> Pair[Image]:
        """Return the network's input images; with one modality, both are one image, which is cut once."""
        modality = self.network.settings.modality
        return images if modality == "rgbt" else Pair(*[getattr(images, modality)] * 2)

    def _first_samples(
        self, images: Pair[Image], target: Target, generator: np.random.Generator
    ) -> tuple[ExtractedFeatures, Tensor, Tensor]:
        """Return the crops' extracted maps, the samples ``(N, 1, C', H, W)`` and their boxes ``(N, 1, 4)``."""
        settings, network = self.settings.first_frame, self.network
        geometry = search_geometry(target, network.settings, settings.patch_factor)
        crops, boxes = augment(
            cut_pair(images, geometry),
            geometry.to_crop(target.box),
            network.settings.crop_size,
            (Transform(), *settings.transforms),
            generator,
        )
        extracted = network.extract(stack(crops, like=self._parameter))
        features = self._model.features(extracted.fused[1][:, None])
        kept = generator.random((settings.dropouts, 1, features.shape[2], 1, 1)) >= settings.dropout
        dropped = features[:1] * upload(kept, features.device).to(features.dtype) / (1 - settings.dropout)
        boxes = np.concatenate([boxes, boxes[:1].repeat(settings.dropouts, axis=0)])
        return extracted, torch.cat([features, dropped]), self._upload(boxes)[:, None]

    def _localize(
        self,
        slots: Slots,
        videos: Sequence[_VideoState],
        areas: SearchAreas,
        extracted: ExtractedFeatures,
        score_maps: Tensor,
    ) -> tuple[Localization, Tensor]:
        """Return the targets' localization, and their refined boxes ``(s, 4)``, crop pixels."""
        settings, share, bounds = self.settings, self.settings.inside_share, areas.image_bounds()
        last_boxes = areas.to_crop(upload(np.stack([video.target.box for video in videos]), areas.corner.device))
        last, size = boxes_to_cells(last_boxes, self.network.settings)
        localization = localize(score_maps, last, size, settings.localization)
        moved = cells_to_boxes(localization.displacement, last_boxes[:, 2:], self.network.settings)
        shape = (settings.refinement.random_boxes, 4)
        jitter = np.stack([video.generator.uniform(-1, 1, shape) for video in videos])
        refined = refine(
            self.network.iou_net,
            self._modulation[slots],
            extracted.fused[0],
            extracted.fused[1],
            clamp_to_image(moved, bounds, share).to(self._parameter.dtype),
            self._upload(jitter),
            settings.refinement,
        )
        return localization, clamp_to_image(refined.double(), bounds, share)

    def _learn(
        self, slots: Slots, videos: Sequence[_VideoState], flags: Sequence[Flag], samples: Tensor, boxes: Tensor
    ) -> None:
        """Add the samples ``(s, C', H, W)`` of reliable frames to the memory; update the target models that are due."""
        settings = self.settings.learning
        hard = np.array([flag == "hard_negative" for flag in flags])
        reliable = hard | np.array([flag == "normal" for flag in flags])
        if not reliable.any():
            return
        added = np.flatnonzero(reliable)
        rates = np.where(hard, settings.hard_negative_rate, settings.rate)
        index = upload(added, samples.device)
        self._memory.add(
            slots[added], samples.index_select(0, index), boxes.index_select(0, index).to(samples.dtype), rates[added]
        )
        due = np.array([(video.frames - 1) % settings.interval == 0 for video in videos])
        iterations = np.where(hard, settings.hard_negative_iterations, np.where(due, settings.iterations, 0))
        iterations[~reliable] = 0
        for count in sorted(set(iterations.tolist()) - {0}):
            chosen = slots[iterations == count]
            features, targets, weights = self._memory.samples(chosen)
            self._state[chosen] = self._model.improve(
                self._state[chosen], features, targets, self._upload(weights), count
            )

    def _search_areas(self, geometries: Sequence[CropGeometry], images: Sequence[Pair[Image]]) -> SearchAreas:
        rows = [
            (geometry.left, geometry.top, geometry.scale, *_size(pair))
            for geometry, pair in zip(geometries, images, strict=True)
        ]
        values = upload(np.array(rows, dtype=np.float64), self._parameter.device)
        return SearchAreas(values[:, :2], values[:, 2:3], values[:, 3:])

    def _upload(self, values: NDArray[np.float64]) -> Tensor:
        """Return host values with the network's device and dtype."""
        return upload(torch.from_numpy(values).to(self._parameter.dtype), self._parameter.device)


def _size(images: Pair[Image]) -> tuple[int, int]:
    """Return the images' width and height, pixels."""
    height, width = images.rgb.shape[:2]
    return width, height
