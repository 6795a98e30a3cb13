"""Online tracking of one target in each of several videos at once: DiMP's, or ATOM's with another target model.

Bhat et al., Learning Discriminative Model Prediction for Tracking, ICCV 2019, arXiv 1904.07220; box refinement from
Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, arXiv 1811.07628.

Random draws and statistics belong to one video each, so a video's result does not depend on the others. On a GPU the
host waits once a frame, for the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.crops import CropGeometry
from mmdistill.reference.device import upload
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.tracker_network import ExtractedFeatures, TrackerNetwork
from mmdistill.reference.tracking.augmentation import Transform, augment
from mmdistill.reference.tracking.frame_inputs import HostFrame, Slots
from mmdistill.reference.tracking.localization import FLAGS
from mmdistill.reference.tracking.runners import GraphRunner, StepRunner
from mmdistill.reference.tracking.search_area import (
    ScaleLimits,
    Target,
    cut_pair,
    initial_scale,
    scale_limits,
    search_areas,
    search_geometry,
    stack,
)
from mmdistill.reference.tracking.settings import RefinementSettings, TrackingSettings, published_settings
from mmdistill.reference.tracking.step import TrackStep
from mmdistill.toolkit.boxes import Array, check_initial_box, clip_boxes
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing import ResponseMap
from mmdistill.toolkit.sequence import FramePair, Image, fill_missing_modality
from mmdistill.toolkit.tracking_loop import Result

JITTER_BLOCK = 64
"""Frames whose jitter is drawn at once."""


class _HostState:
    """The state of all slots on the host: arrays with one row per slot.

    Attributes:
        started: whether the slot has a video, ``(S,)``.
        frames: number of frames, ``(S,)``.
        targets: the targets.
        limits: the limits of their scales.
    """

    def __init__(self, slots: int, refinement: RefinementSettings) -> None:
        self.started = np.zeros(slots, dtype=bool)
        self.frames = np.zeros(slots, dtype=np.int64)
        self.targets = Target(np.zeros((slots, 4)), np.ones(slots))
        self.limits = ScaleLimits(np.ones((slots, 2)), np.ones(slots), np.ones(slots))
        self._generators = [np.random.default_rng()] * slots
        self._jitter = np.zeros((slots, JITTER_BLOCK, 1 + refinement.random_boxes, 4))
        self._limits = np.repeat([refinement.center_jitter, refinement.size_jitter], 2)

    def start(self, slot: int, target: Target, limits: ScaleLimits, generator: np.random.Generator) -> None:
        """Start a video in a slot."""
        for state, values in zip((*self.targets, *self.limits), (*target, *limits), strict=True):
            state[slot] = values
        self.started[slot], self.frames[slot], self._generators[slot] = True, 1, generator

    def jitter(self, slots: Slots) -> Array:
        """Return the next frame's jitter ``(s, K, 4)``, see ``FrameNumbers``."""
        positions = (self.frames[slots] - 1) % JITTER_BLOCK
        for slot in slots[positions == 0]:
            drawn = self._jitter[slot, :, 1:]
            drawn[...] = self._generators[slot].uniform(-self._limits, self._limits, drawn.shape)
        return self._jitter[slots, positions]


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
        compiled: whether ``torch.compile`` compiles the frame's functions, in the first frame. It takes up to a minute,
            and needs a C++ compiler on a CPU. Boxes change by rounding only.

    Raises:
        DataError: the seed is negative.
        ValueError: the network is in half precision, which is too coarse for boxes; use autocast instead.

    Attributes:
        network: the copy.
        settings: the constants.
        slots: S.
    """

    GPU_RUNNER: type[StepRunner] = GraphRunner
    """Runs the frame's functions on a GPU; ``StepRunner`` does it without CUDA graphs."""

    def __init__(
        self,
        network: TrackerNetwork,
        settings: TrackingSettings | None = None,
        *,
        slots: int = 1,
        seed: int = 0,
        compiled: bool = False,
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
        self.slots = slots
        self._seed = seed
        self._host = _HostState(slots, self.settings.refinement)
        on_gpu = next(self.network.parameters()).device.type == "cuda"
        runner = self.GPU_RUNNER if on_gpu else StepRunner
        self._runner = runner(self.network, self.settings, slots, compiled=compiled)
        self._areas: dict[int, CropGeometry] = {}

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
        self._host.started[slot] = False
        self._areas.clear()
        settings, step = self.settings, self._runner.step()
        network, model = step.network, step.model
        generator = np.random.default_rng(self._seed)
        target = Target(initial, initial_scale(initial, network.settings.search_area, network.settings.crop_size))
        extracted, features, boxes = self._first_samples(step, images, target, generator)
        state = model.learn(features, boxes, settings.first_frame.iterations)
        modulation = network.iou_net.modulate(extracted.fused[0][:1], extracted.fused[1][:1], boxes[0])
        self._runner.start(slot, state, modulation, model.samples(state, features)[:, 0], boxes[:, 0])
        self._host.start(slot, target, scale_limits(target, size, settings.minimum_side), generator)

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
        if not slots:
            return []
        host, chosen = self._host, np.array(slots, dtype=np.int64)
        if not host.started[chosen].all():
            missing = next(slot for slot in slots if not host.started[slot])
            raise RuntimeError(f"BatchTracker.step: expected a video in slot {missing}; call start first")
        names = where or [f"slot {slot}" for slot in slots]
        images = [
            self._network_inputs(fill_missing_modality(frame, where=name))
            for frame, name in zip(frames, names, strict=True)
        ]
        targets = Target(host.targets.box[chosen], host.targets.scale[chosen])
        areas = search_areas(targets, self.network.settings)
        learning = self.settings.learning
        due = learning.iterations * (host.frames[chosen] % learning.interval == 0)
        frame = HostFrame(chosen, images, areas, due, targets.box, host.jitter(chosen), self.network.settings.crop_size)
        host.frames[chosen] += 1
        rows = self._runner.track(frame)
        flags = rows[:, 5].astype(np.int64)
        found = flags != FLAGS.index("not_found")
        moved = chosen[found]
        host.targets.box[moved] = rows[found, :4]
        limits = ScaleLimits(*(values[moved] for values in host.limits))
        host.targets.scale[moved] = limits.scale(rows[found, 2:4])
        self._runner.learn(chosen, rows[:, 6].astype(np.int64))
        self._areas = {slot: frame.geometry(number) for number, slot in enumerate(slots)}
        boxes = clip_boxes(rows[:, :4], *np.array([_size(pair) for pair in images]).T)
        return [
            Result(box, score, FLAGS[flag])
            for box, score, flag in zip(boxes, rows[:, 4].tolist(), flags.tolist(), strict=True)
        ]

    def response(self, slot: int) -> ResponseMap | None:
        """Return the score map of a slot in the last step; None if it was not in it, or after ``start``."""
        if slot not in self._areas:
            return None
        geometry = self._areas[slot]
        scores = self._runner.score_map(slot).float().cpu().numpy()
        return ResponseMap(scores, geometry.to_image([0, 0, geometry.size, geometry.size]))

    def _network_inputs(self, images: Pair[Image]) -> Pair[Image]:
        """Return the network's input images; with one modality, both are one image, which is cut once."""
        modality = self.network.settings.modality
        return images if modality == "rgbt" else Pair(*[getattr(images, modality)] * 2)

    def _first_samples(
        self, step: TrackStep, images: Pair[Image], target: Target, generator: np.random.Generator
    ) -> tuple[ExtractedFeatures, Tensor, Tensor]:
        """Return the crops' extracted maps, the samples ``(N, 1, C', H, W)`` and their boxes ``(N, 1, 4)``."""
        settings, network = self.settings.first_frame, step.network
        geometry = search_geometry(target, network.settings, settings.patch_factor)
        crops, boxes = augment(
            cut_pair(images, geometry),
            geometry.to_crop(target.box),
            network.settings.crop_size,
            (Transform(), *settings.transforms),
            generator,
        )
        extracted = network.extract(stack(crops, step.dtype, self._runner.device))
        features = step.model.features(extracted.fused[1][:, None])
        kept = generator.random((settings.dropouts, 1, features.shape[2], 1, 1)) >= settings.dropout
        dropped = features[:1] * upload(kept, features.device).to(features.dtype) / (1 - settings.dropout)
        boxes = np.concatenate([boxes, boxes[:1].repeat(settings.dropouts, axis=0)])
        uploaded = upload(torch.from_numpy(boxes).to(features.dtype), features.device)
        return extracted, torch.cat([features, dropped]), uploaded[:, None]


def _size(images: Pair[Image]) -> tuple[int, int]:
    """Return the images' width and height, pixels."""
    height, width = images.rgb.shape[:2]
    return width, height
