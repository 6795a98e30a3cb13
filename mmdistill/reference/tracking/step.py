"""A tracked frame as functions of tensors, of fixed shapes and without reads by the host.

``TrackStep.forward`` tracks one frame of S slots; ``TrackStep.learn`` improves their target models. Both are pure: they
return the new state. So they can be captured as CUDA graphs, compiled, and exported. Slots are independent.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmdistill.pair import Pair
from mmdistill.reference.crops import normalization_rows, normalize
from mmdistill.reference.models.pooled_iou import PooledIoU
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.box_refinement import refine
from mmdistill.reference.tracking.frame_inputs import FrameNumbers
from mmdistill.reference.tracking.localization import FLAGS, localize
from mmdistill.reference.tracking.search_area import (
    ImageBounds,
    SearchAreas,
    boxes_to_cells,
    cells_to_boxes,
    clamp_to_image,
)
from mmdistill.reference.tracking.settings import TrackingSettings
from mmdistill.reference.tracking.state import Placement, TargetState, place_samples
from mmdistill.reference.tracking.target_model import target_model


class TrackedStep(NamedTuple):
    """The result of one frame of S slots.

    Attributes:
        rows: ``(S, 7)``: box ``x y w h`` in image pixels, score, index into ``FLAGS``, iterations of the target model.
        score_maps: ``(S, H', W')``.
        sample: the maps that the target model learns from, ``(S, C, H, W)``.
        box: the target in them, ``(S, 4)``, ``x y w h`` in crop pixels.
        placement: where the sample is written, and the memory's state after it.
    """

    rows: Tensor
    score_maps: Tensor
    sample: Tensor
    box: Tensor
    placement: Placement

    @property
    def iterations(self) -> Tensor:
        """Iterations of each slot's target model that are due, ``(S,)``, int64."""
        return self.rows[:, 6].long()


class TrackStep(nn.Module):
    """The functions of a tracked frame.

    Args:
        network: with folded batch norms.
        settings: the constants of tracking.
        windowed: whether the IoU features are computed in windows around the boxes. The host reads their positions. The
            CPU does it so, because it saves most of the time.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, network: TrackerNetwork, settings: TrackingSettings, *, windowed: bool = False) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.windowed = windowed
        self.model = target_model(network)
        self.pooled_iou = PooledIoU(network.iou_net)
        parameter = next(network.parameters())
        # Kept on the device: an upload in each frame would take longer than the arithmetic.
        scale, offset = normalization_rows(network.settings.crop_size)
        self.register_buffer("scale", scale.to(parameter.device), persistent=False)
        self.register_buffer("offset", offset.to(parameter.device), persistent=False)
        self.dtype = parameter.dtype  # of the images

    def forward(self, target: TargetState, pixels: Tensor, numbers: Tensor) -> TrackedStep:
        """Track one frame.

        Args:
            target: the state before.
            pixels: crops, ``(S, M, size, size, 3)``, RGB order, M modalities of the network; integers from 0 to 255.
            numbers: ``(S, N)``, see ``FrameNumbers``.
        """
        settings = self.settings
        frame = FrameNumbers.unpack(numbers)
        level3, level4, features = self.extract(pixels)
        samples = self.model.samples(target.model, features)
        score_maps = self.model.score(target.model, samples)[0]

        # Positions in float64, the network's arithmetic in its own dtype.
        areas = SearchAreas(frame.origin[:, None], frame.scale[:, None])
        known = torch.unflatten(frame.boxes, 1, (3, 4))
        image, corner, last_boxes = areas.to_crop(known).to(samples.dtype).unbind(1)
        bounds = ImageBounds(image[:, :2], corner[:, :2], image[:, 2:])
        last, size = boxes_to_cells(last_boxes)
        localization = localize(score_maps, last, size, settings.localization)
        moved = cells_to_boxes(localization.position, last_boxes[:, 2:])
        refined = refine(
            self.network.iou_net,
            self.pooled_iou,
            target.modulation,
            level3,
            level4,
            clamp_to_image(moved, bounds, settings.inside_share),
            torch.unflatten(frame.jitter.to(samples.dtype), 1, (-1, 4)),
            settings.refinement,
            windowed=self.windowed,
        )
        refined = clamp_to_image(refined, bounds, settings.inside_share)
        hard = localization.flag == FLAGS.index("hard_negative")
        reliable = (localization.flag <= FLAGS.index("hard_negative")) & (frame.active[:, 0] > 0)
        found = localization.flag != FLAGS.index("not_found")
        in_image = areas.to_image(refined[:, None].to(numbers.dtype))[:, 0]
        box = torch.where(found[:, None], in_image, known[:, 2])
        learning = settings.learning
        due = frame.iterations[:, 0].masked_fill(hard, learning.hard_negative_iterations)
        rates = learning.rate + (learning.hard_negative_rate - learning.rate) * hard
        columns = (localization.score, localization.flag, due * reliable)
        rows = torch.cat([box, *(column[:, None] for column in columns)], dim=1)
        placement = place_samples(target, reliable, rates, settings.first_frame.samples, learning)
        return TrackedStep(rows, score_maps, samples[0], refined, placement)

    def learn(
        self,
        model: tuple[Tensor, ...],
        samples: Tensor,
        boxes: Tensor,
        weights: Tensor,
        iterations: Tensor,
        most: int,
    ) -> tuple[Tensor, ...]:
        """Return the target models after learning from their samples.

        Args:
            model: the target model's tensors, ``(S, ...)``.
            samples: ``(M, S, C, H, W)``.
            boxes: ``(M, S, 4)``, ``x y w h`` in crop pixels.
            weights: ``(M, S)``, summing to 1 over M.
            iterations: of each slot, ``(S,)``, int64, from 0 to ``most``.
            most: the largest number of iterations.
        """
        return self.model.improve(model, samples, boxes, weights, iterations, most)

    def extract(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the fused levels 3 and 4 of crops, and the classification features ``(1, S, C, H, W)``."""
        level3, level4 = self.network.extract(self.images(pixels)).fused
        return level3, level4, self.model.features(level4[None])

    def compile_functions(self) -> None:
        """Compile the functions with ``torch.compile``; with windows only ``extract``, because the rest is read."""
        if self.windowed:
            self.extract = torch.compile(self.extract)  # type: ignore[method-assign]
        else:
            self.compile()
            self.learn = torch.compile(self.learn)  # type: ignore[method-assign]

    def images(self, pixels: Tensor) -> Pair[Tensor]:
        """Return normalized crops ``(S, 3, size, size)`` of each modality, channels last in memory."""
        normalized = normalize(pixels.movedim(-1, -3), (self.scale, self.offset))
        members = normalized.to(self.dtype).unbind(1)
        return Pair(members[0], members[-1])


def resize_windows(windows: Tensor, rows: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """Return crops ``(S, M, size, size, 3)``, int32, bit for bit those of OpenCV's ``INTER_LINEAR``.

    Args:
        windows: uint8 ``(pixels, 3)``.
        rows: ``(S, M, 2, size)``, see ``Taps``.
        columns: ``(S, 2, size)``.
        weights: ``(S, 2, 2, size)``.
    """
    index = rows[..., None, None] + columns[:, None, None, None]  # (S, M, 2, size, 2, size)
    neighbors = windows.index_select(0, index.flatten()).view(*index.shape, -1)
    across = (neighbors * weights[:, 0, None, None, None, :, :, None]).sum(dim=4, dtype=torch.int32) >> 4
    down = (across * weights[:, 1, None, :, :, None, None]) >> 16
    return (down.sum(dim=2, dtype=torch.int32) + 2) >> 2
