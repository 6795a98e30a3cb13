"""The alignment of two cameras: a homography, a delay and both image sizes; reads, writes and applies it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import check_size
from mmdistill.toolkit.io import read_json, write_text
from mmdistill.toolkit.sequence import Image

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Size = tuple[int, int]

MAX_CONDITION = 1e6
"""Largest ratio of the homography's singular values, for coordinates relative to the image sizes."""

MAX_SIDE = 100_000
"""Largest width or height in a file, pixels."""

ROWS_AT_ONCE = 128
"""Rows of the mask that are computed at once, to save memory."""

KEYS = ("homography", "rgb_size", "tir_size", "delay", "score", "method")
REQUIRED = KEYS[:3]


@dataclass(frozen=True)
class Alignment:
    """How the pixels and times of a TIR camera relate to those of an RGB camera.

    Args:
        homography: three rows of three numbers; maps TIR pixels ``(x, y, 1)`` to RGB pixels. The center of the first
            pixel is ``(0, 0)``.
        rgb_size: width and height of RGB images, pixels.
        tir_size: width and height of TIR images, pixels.
        delay: seconds by which TIR shows an event later than RGB; None if unknown.
        score: reliability from 0 to 1; None if it was not measured.
        method: how the homography was found, such as ``points`` or ``automatic``.
        where: the file's name, for errors.

    Raises:
        DataError: a value is not finite, or the homography can't be inverted, mirrors the image, or sends a part of it
            to infinity.
    """

    homography: tuple[tuple[float, ...], ...]
    rgb_size: Size
    tir_size: Size
    delay: float | None = None
    score: float | None = None
    method: str = "manual"
    where: str = "alignment"

    def __post_init__(self) -> None:
        _check_homography(self.matrix, self.rgb_size, self.tir_size, self.where)
        for name, value in (("delay", self.delay), ("score", self.score)):
            if value is not None and not math.isfinite(value):
                raise DataError(f"{self.where}: expected a finite number or null for {name!r}, got {value}")
        if self.score is not None and not 0 <= self.score <= 1:
            raise DataError(f"{self.where}: expected a 'score' from 0 to 1, got {self.score}")

    @property
    def matrix(self) -> Array:
        """The homography ``(3, 3)``."""
        return np.array(self.homography, dtype=np.float64)

    def to_rgb(self, points: ArrayLike) -> Array:
        """Return RGB pixels ``(N, 2)`` of TIR pixels ``(N, 2)``."""
        return transform(self.matrix, points)

    def warp(self, tir: Image) -> Image:
        """Return a TIR image ``(H, W, 3)`` in RGB's frame. Pixels that TIR does not cover repeat TIR's nearest edge.

        The tracker continues crops beyond an image in the same way, so the limit of TIR's view makes no edge.

        Raises:
            DataError: the image has another size than ``tir_size``.
        """
        self.check_size("TIR", (tir.shape[1], tir.shape[0]))
        return np.asarray(
            cv2.warpPerspective(
                *_reduced(tir, self.matrix), self.rgb_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            ),
            dtype=np.uint8,
        )

    @cached_property
    def mask(self) -> Mask:
        """Which pixels of RGB's frame TIR covers, ``(H, W)``; read-only."""
        mask: Mask = np.concatenate(
            [
                self._covered(np.arange(top, min(top + ROWS_AT_ONCE, self.rgb_size[1])))
                for top in range(0, self.rgb_size[1], ROWS_AT_ONCE)
            ]
        )
        mask.flags.writeable = False
        return mask

    def _covered(self, rows: NDArray[np.int64]) -> Mask:
        """Return which pixels of some rows of RGB's frame TIR covers."""
        inverse, (width, height) = np.linalg.inv(self.matrix), self.tir_size
        columns = np.arange(self.rgb_size[0])
        x, y, depth = (row[0] * columns + row[1] * rows[:, None] + row[2] for row in inverse)
        # The sign of the depth at the center of TIR is the sign in front of the camera.
        center = self.to_rgb([[(width - 1) / 2, (height - 1) / 2]])[0]
        front = depth * np.sign(inverse[2] @ [*center, 1.0]) > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = x / depth, y / depth
            mask: Mask = front & (u >= -0.5) & (u <= width - 0.5) & (v >= -0.5) & (v <= height - 0.5)
        return mask

    @cached_property
    def coverage(self) -> float:
        """The share of RGB's frame that TIR covers, from 0 to 1."""
        return float(self.mask.mean())

    @property
    def coverage_note(self) -> str:
        """A line that says which share of RGB's frame TIR covers."""
        return f"{self.where}: TIR covers {100 * self.coverage:.0f} % of RGB's frame; the rest counts as missing"

    def check_size(self, modality: str, size: Size, where: str = "") -> None:
        """Refuse an image of another size than the alignment's.

        Args:
            modality: ``RGB`` or ``TIR``.
            size: width and height of the image, pixels.
            where: name of the image's source.

        Raises:
            DataError: the sizes differ.
        """
        expected = self.rgb_size if modality == "RGB" else self.tir_size
        if tuple(size) != tuple(expected):
            source = f" in {where}" if where else ""
            raise DataError(
                f"{self.where}: is for {modality} images of {expected[0]} x {expected[1]}, got {size[0]} x {size[1]}"
                f"{source}; run `mmdistill align` on this video"
            )

    def describe(self) -> str:
        """Return the homography at the center of TIR in words: scale, rotation and shift.

        The scale compares the cameras' views: 2 if TIR's picture must be enlarged twice beyond a resize to RGB's size.
        """
        width, height = self.tir_size
        jacobian = derivative(self.matrix, self.tir_size)
        nominal = math.sqrt(self.rgb_size[0] * self.rgb_size[1] / (width * height))
        scale = math.sqrt(np.linalg.det(jacobian)) / nominal
        angle = math.degrees(math.atan2(jacobian[1, 0] - jacobian[0, 1], jacobian[0, 0] + jacobian[1, 1]))
        shift = self.to_rgb([[(width - 1) / 2, (height - 1) / 2]])[0] - [
            (self.rgb_size[0] - 1) / 2,
            (self.rgb_size[1] - 1) / 2,
        ]
        right = f"{abs(shift[0]):.1f} pixels {'right' if shift[0] >= 0 else 'left'}"
        down = f"{abs(shift[1]):.1f} {'down' if shift[1] >= 0 else 'up'}"
        turn = f"{abs(angle):.2f} degrees {'clockwise' if angle >= 0 else 'counterclockwise'}"
        return f"scale {scale:.3f}, rotation {turn}, shift {right} and {down}"


def transform(matrix: Array, points: ArrayLike) -> Array:
    """Return points ``(N, 2)`` mapped by a homography ``(3, 3)``."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Array = mapped[:, :2] / mapped[:, 2:]
    return result


def derivative(matrix: Array, size: Size) -> Array:
    """Return the derivative ``(2, 2)`` of a homography ``(3, 3)`` at the center of an image of ``size``."""
    x, y, depth = matrix @ [(size[0] - 1) / 2, (size[1] - 1) / 2, 1.0]
    result: Array = matrix[:2, :2] / depth - np.outer([x, y], matrix[2, :2]) / depth**2
    return result


def corners(size: Size) -> Array:
    """Return the outer corners of an image ``(4, 2)``, pixels."""
    width, height = size
    return np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]])


def read_alignment(path: str | Path) -> Alignment:
    """Read an alignment that ``write_alignment`` or a person wrote.

    Required are ``homography``, ``rgb_size`` and ``tir_size``; ``delay``, ``score`` and ``method`` may be missing.

    Raises:
        DataError: the file is missing or malformed; the message names the field.
    """
    content = read_json(path)
    unknown = [name for name in content if name not in KEYS]
    if unknown:
        raise DataError(f"{path}: unknown field {unknown[0]!r}, expected {', '.join(KEYS)}")
    for name in REQUIRED:
        if name not in content:
            raise DataError(f"{path}: expected a field {name!r}, there is none")
    method = content.get("method", "manual")
    if not isinstance(method, str):
        raise DataError(f"{path}: expected a text for 'method', got {method!r}")
    alignment = Alignment(
        _read_matrix(content["homography"], path),
        _read_size(content, "rgb_size", path),
        _read_size(content, "tir_size", path),
        _read_number(content, "delay", path),
        _read_number(content, "score", path),
        method,
        where=str(path),
    )
    if not alignment.mask.any():
        raise DataError(f"{path}: TIR covers no part of RGB's frame by this 'homography'")
    return alignment


def write_alignment(path: str | Path, alignment: Alignment) -> None:
    """Write an alignment as JSON."""
    content: dict[str, Any] = {
        "homography": [list(row) for row in alignment.homography],
        "rgb_size": list(alignment.rgb_size),
        "tir_size": list(alignment.tir_size),
        "delay": alignment.delay,
        "score": alignment.score,
        "method": alignment.method,
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
    write_text(path, f"{{\n{lines}\n}}\n")


def to_rows(matrix: ArrayLike) -> tuple[tuple[float, ...], ...]:
    """Return a homography ``(3, 3)`` as rows, scaled so that its last number is 1."""
    matrix = np.asarray(matrix, dtype=np.float64)
    return tuple(tuple(float(value) for value in row) for row in matrix / matrix[2, 2])


def _reduced(tir: Image, matrix: Array) -> tuple[Image, Array]:
    """Return a TIR image averaged to about RGB's resolution, and the homography of its pixels.

    Interpolation between single pixels of a far larger image would be noise.
    """
    height, width = tir.shape[:2]
    scale = math.sqrt(abs(np.linalg.det(derivative(matrix, (width, height)))))
    if scale > 0.6:
        return tir, matrix
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(tir, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    factors = width / size[0], height / size[1]
    enlarge = np.diag([*factors, 1.0])
    enlarge[:2, 2] = [(factor - 1) / 2 for factor in factors]
    return small, matrix @ enlarge


def _check_homography(matrix: Array, rgb_size: Size, tir_size: Size, where: str) -> None:
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise DataError(f"{where}: expected a 'homography' of 3 x 3 finite numbers")
    for name, size in (("rgb_size", rgb_size), ("tir_size", tir_size)):
        if len(size) != 2 or min(size) < 1 or max(size) > MAX_SIDE:
            raise DataError(f"{where}: expected a {name!r} of two numbers from 1 to {MAX_SIDE:,}, got {list(size)}")
        check_size(*size, where)
    relative = np.diag([1 / rgb_size[0], 1 / rgb_size[1], 1.0]) @ matrix @ np.diag([*tir_size, 1.0])
    singular = np.linalg.svd(relative, compute_uv=False)
    if singular[-1] <= singular[0] / MAX_CONDITION:
        raise DataError(f"{where}: expected a 'homography' that can be inverted")
    depths = np.column_stack([corners(tir_size), np.ones(4)]) @ matrix[2]
    if not (depths > 0).all() and not (depths < 0).all():
        raise DataError(f"{where}: expected a 'homography' with all of TIR in front of RGB, a part lies at infinity")
    # Where all depths have one sign, the orientation is that of determinant and sign.
    if np.linalg.det(matrix) * np.sign(depths[0]) <= 0:
        raise DataError(f"{where}: expected a 'homography' that keeps the orientation, it mirrors the image")


def _read_matrix(value: object, path: str | Path) -> tuple[tuple[float, ...], ...]:
    rows = value if isinstance(value, list) else []
    if len(rows) != 3 or not all(isinstance(row, list) and len(row) == 3 and all(map(_is_number, row)) for row in rows):
        raise DataError(f"{path}: expected 'homography' as three rows of three finite numbers")
    return tuple(tuple(float(number) for number in row) for row in rows)


def _read_size(content: Mapping[str, Any], name: str, path: str | Path) -> Size:
    value = content[name]
    if not (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_SIDE for side in value)
    ):
        raise DataError(f"{path}: expected {name!r} as width and height in pixels, such as [640, 480]")
    return value[0], value[1]


def _read_number(content: Mapping[str, Any], name: str, path: str | Path) -> float | None:
    value = content.get(name)
    if value is not None and not _is_number(value):
        raise DataError(f"{path}: expected a finite number or null for {name!r}, got {value!r}")
    return None if value is None else float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
