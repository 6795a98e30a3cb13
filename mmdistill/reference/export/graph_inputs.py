"""The inputs of exported graphs: names, shapes, and random valid values to test files with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdistill.reference.tracking.frame_inputs import FrameNumbers

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]
"""Returns random valid values of a shape."""


def draw_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return standard normal values."""
    return torch.randn(shape, generator=generator)


def draw_pixels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return pixels, uint8."""
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def draw_shares(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return weights that sum to 1 over the first axis."""
    return torch.rand(shape, generator=generator).softmax(dim=0)


def draw_kept(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return a dropout mask, 0 and 1 in float32."""
    return (torch.rand(shape, generator=generator) >= 0.2).float()


def draw_integers(low: int, high: int) -> Draw:
    """Return a function that draws whole numbers from ``low`` to below ``high``, int32."""
    return lambda shape, generator: torch.randint(low, high, shape, generator=generator, dtype=torch.int32)


def draw_boxes(crop: int) -> Draw:
    """Return a function that draws boxes near the middle of crops with that side."""
    return lambda shape, generator: crop * (0.3 + 0.2 * torch.rand(shape, generator=generator))


def draw_numbers(crop: int) -> Draw:
    """Return a function that draws ``FrameNumbers`` of targets near the middle of crops with that side."""

    def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        count = shape[0]
        origin, scale = torch.tensor([35.0, 20.0]), 0.5 + torch.rand(count, 1, generator=generator)
        numbers = torch.zeros(shape)
        frame = FrameNumbers.unpack(numbers)  # views
        frame.active[:] = 1
        frame.iterations[:, 0] = torch.randint(0, 3, (count,), generator=generator)
        frame.origin[:, :2], frame.scale[:] = origin, scale
        image, corner, box = torch.unflatten(frame.boxes, 1, (3, 4)).unbind(1)
        image[:, 2:] = corner[:, :2] = torch.tensor([640.0, 480.0])
        box[:, :2] = origin + 0.4 * scale * crop
        box[:, 2:] = scale * crop * (0.15 + 0.1 * torch.rand(count, 2, generator=generator))
        frame.jitter[:] = 0.2 * (torch.rand(frame.jitter.shape, generator=generator) - 0.5)
        frame.jitter[:, :4] = 0
        return numbers

    return draw


@dataclass(frozen=True)
class Input:
    """One input of a graph.

    Attributes:
        name: its name in the file.
        shape: lengths of its axes.
        meaning: what it holds, in one line.
        dtype: of its values.
        draw: returns random valid values.
    """

    name: str
    shape: tuple[int, ...]
    meaning: str
    dtype: torch.dtype = torch.float32
    draw: Draw = draw_normal
