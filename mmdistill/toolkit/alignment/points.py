"""The alignment from point pairs that a person marked in both images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Alignment, Array, Mask, Size, to_rows, transform
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import read_text

MIN_POINTS = 4
"""Smallest number of point pairs; four determine a homography exactly."""

TOLERANCE = 0.01
"""Largest residual of an inlier, relative to the diagonal of RGB's frame; at least ``MIN_TOLERANCE``."""

MIN_TOLERANCE = 3.0
"""The same in pixels."""

MIN_INLIERS = 0.6
"""Smallest share of point pairs that must agree with one homography."""

MIN_SPREAD = 0.02
"""Smallest distance of points from a common line, relative to their extent."""


class PointFit(NamedTuple):
    """An alignment from point pairs.

    Attributes:
        alignment: the alignment; its score is the share of point pairs that agree.
        residuals: distance of each point pair from the homography, RGB pixels ``(N,)``.
        inliers: whether each point pair agrees, ``(N,)``.
    """

    alignment: Alignment
    residuals: Array
    inliers: Mask


def read_points(path: str | Path) -> Pair[Array]:
    """Read point pairs: a line ``x_rgb,y_rgb,x_tir,y_tir`` for each, in pixels.

    Commas, semicolons, tabs or spaces separate the numbers. A first line of names, empty lines and lines that start
    with ``#`` are skipped.

    Raises:
        DataError: a line does not have four finite numbers, or there are fewer than four lines.
    """
    rows: list[list[float]] = []
    first = True
    for number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        words = re.split(r"[,;\s]+", text.strip(",; \t"))
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if first and not row and re.search("[a-z]", text, re.IGNORECASE):
            first = False
            continue
        first = False
        if len(row) != 4 or not np.isfinite(row).all():
            raise DataError(f"{path}, line {number}: expected four numbers x_rgb,y_rgb,x_tir,y_tir, got {text!r}")
        rows.append(row)
    if len(rows) < MIN_POINTS:
        raise DataError(f"{path}: expected at least {MIN_POINTS} point pairs, got {len(rows)}")
    points = np.array(rows)
    return Pair(points[:, :2].copy(), points[:, 2:].copy())


def fit_points(points: Pair[Array], rgb_size: Size, tir_size: Size, where: str = "points") -> PointFit:
    """Return the alignment of point pairs; pairs that contradict most of the others are left out.

    Args:
        points: matching points ``(N, 2)`` in RGB and TIR, pixels.
        rgb_size: width and height of RGB images, pixels.
        tir_size: width and height of TIR images, pixels.
        where: the file's name, for errors.

    Raises:
        DataError: a point is outside its image, the points lie on a line, or they contradict each other.
    """
    for name, side, size in zip(("RGB", "TIR"), points, (rgb_size, tir_size), strict=True):
        outside = ((side < -1) | (side > np.array(size))).any(axis=1)
        if outside.any():
            x, y = side[outside][0]
            raise DataError(f"{where}: the {name} point {x:g},{y:g} is outside the image of {size[0]} x {size[1]}")
        if _spread(side) < MIN_SPREAD:
            raise DataError(f"{where}: expected {name} points in an area, they lie on a line")
    tolerance = max(MIN_TOLERANCE, TOLERANCE * float(np.hypot(*rgb_size)))
    matrix, inliers = _fit(points, tolerance)
    if matrix is None or not np.isfinite(matrix).all():
        raise DataError(f"{where}: expected points in an area of both images, three of them lie on a line")
    residuals = np.linalg.norm(transform(matrix, points.tir) - points.rgb, axis=1)
    if inliers.mean() < MIN_INLIERS or inliers.sum() < MIN_POINTS:
        worst = ", ".join(str(index + 1) for index in np.argsort(-residuals)[:3])
        raise DataError(
            f"{where}: {inliers.sum()} of {len(inliers)} point pairs agree within {tolerance:.1f} pixels; check pairs "
            f"{worst}, and the order x_rgb,y_rgb,x_tir,y_tir"
        )
    alignment = Alignment(
        to_rows(matrix), rgb_size, tir_size, score=float(inliers.mean()), method="points", where=where
    )
    return PointFit(alignment, residuals, inliers)


def _fit(points: Pair[Array], tolerance: float) -> tuple[Array | None, Mask]:
    """Return the homography by RANSAC and least squares of its inliers, and which pairs are inliers."""
    inliers: Mask = np.ones(len(points.rgb), dtype=bool)
    if len(points.rgb) == MIN_POINTS:
        found, mask = cv2.findHomography(points.tir, points.rgb, 0)
    else:
        found, mask = cv2.findHomography(
            points.tir, points.rgb, cv2.RANSAC, tolerance, maxIters=5000, confidence=0.9999
        )
        inliers = inliers if mask is None else np.asarray(mask).ravel().astype(bool)
    return None if found is None else np.asarray(found, dtype=np.float64), inliers


def _spread(points: Array) -> float:
    """Return the extent of points across their main direction, relative to that along it."""
    singular = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return float(singular[1] / max(singular[0], 1e-9))


def describe_residuals(fit: PointFit) -> str:
    """Return the residuals in words."""
    count, kept = len(fit.residuals), fit.inliers
    if count == MIN_POINTS:
        return "4 point pairs determine the homography exactly, so errors in them can't be seen; give more"
    outliers = _listed([int(index) + 1 for index in np.flatnonzero(~kept)])
    return (
        f"{kept.sum()} of {count} point pairs agree: median residual {np.median(fit.residuals[kept]):.2f} pixels, "
        f"largest {fit.residuals[kept].max():.2f}" + (f"; left out: {outliers}" if outliers else "")
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
