"""Estimates the alignment of two cameras from frame pairs, and refuses when unsure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Alignment, Array, to_rows
from mmdistill.toolkit.alignment.orientation import GrayImage
from mmdistill.toolkit.alignment.refinement import Level, Refinement, refine_homography, refine_similarity
from mmdistill.toolkit.alignment.search import MIN_DISTANCE, best_other_shift, distance, find_candidates
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import Image

CANDIDATES = 16
"""Candidates of the search that are refined."""

NUM_STEPS = CANDIDATES + 2
"""Steps of ``estimate``, at most."""

MIN_SCORE = 0.5
"""Smallest score of an alignment that is not refused."""

EVEN_SIGNIFICANCE, SLOPE = 1.6, 5.0
"""The significance whose score is 0.5, and the slope of the score's logistic function there; see ``Estimate.score``.
Chosen on one half of RoadScene, see ``benchmarks/alignment_accuracy.py``."""

MAX_RUNNER_UP = 0.85
"""Largest correlation of another candidate, relative to the best, that leaves no doubt."""

AMBIGUOUS_SCORE = 0.4
"""Largest score if there is doubt."""

MIN_SIDE = 48
"""Shortest side of an image, pixels."""

HINT = (
    "try frames with more structure that both cameras show (--frames), or point pairs that you mark by hand (--points)"
)


class Resolution(NamedTuple):
    """The arguments of a ``Level``."""

    side: int
    smoothing: float
    block: int


MEDIUM = Resolution(256, 1.2, 40)
"""The resolution at which candidates are compared."""

FINE = Resolution(512, 1.5, 56)
"""The resolution of the homography."""

FINE_RADII = (6, 5, 4)
"""Largest displacements of a block in each pass at the fine resolution, pixels."""


class Estimate(NamedTuple):
    """The best homography between two cameras, sure or not.

    Attributes:
        matrix: homography from TIR to RGB pixels, ``(3, 3)``.
        correlation: correlation of the orientation fields under it.
        runner_up: correlation of the best other candidate, relative to this one's.
        refinement: the fit of the blocks.
    """

    matrix: Array
    correlation: float
    runner_up: float
    refinement: Refinement

    @property
    def score(self) -> float:
        """Reliability from 0 to 1, a logistic function of the significance: correlation times root of blocks.

        The correlation of unrelated images is noise, which falls with the root of the number of blocks. If another
        candidate fits nearly as well, as with a fence, the score is at most ``AMBIGUOUS_SCORE``.
        """
        significance = self.correlation * math.sqrt(self.refinement.blocks)
        score = 1 / (1 + math.exp(-SLOPE * (significance - EVEN_SIGNIFICANCE)))
        return min(score, AMBIGUOUS_SCORE) if self.ambiguous else score

    @property
    def ambiguous(self) -> bool:
        """Whether another candidate fits nearly as well."""
        return self.runner_up > MAX_RUNNER_UP


def estimate(pairs: Sequence[Pair[Image]], after_step: Callable[[], object] = lambda: None) -> Estimate | None:
    """Return the best homography of frame pairs; None if no candidate has enough matching blocks.

    Args:
        pairs: RGB and TIR images ``(H, W, 3)``, of one size per modality.
        after_step: called after each of ``num_steps`` steps, to show progress.

    Raises:
        DataError: no pairs, images of different sizes, or too small ones.
    """
    gray = [Pair(*map(GrayImage, pair)) for pair in pairs]
    _check_sizes(gray)
    rgb_size, tir_size = gray[0].rgb.size, gray[0].tir.size
    candidates = find_candidates(gray, CANDIDATES)
    after_step()
    level = Level(gray, *MEDIUM)
    found: list[tuple[float, Array]] = []
    for candidate in candidates:
        matrix: Array | None = candidate.matrix
        for radius, tolerance in ((8, 3.0), (5, 2.0)):
            matrix = None if matrix is None else refine_similarity(level, matrix, radius, tolerance)
        if matrix is not None:
            correlation, share = level.correlate(matrix)
            found.append((correlation * min(share, 1.0) ** 0.5, matrix))
        after_step()
    if not found:
        return None
    found.sort(key=lambda each: -each[0])
    best, matrix = found[0]
    limit = MIN_DISTANCE * max(rgb_size)
    others = [value / max(best, 1e-6) for value, other in found[1:] if distance(other, matrix, tir_size) > limit]
    others.append(best_other_shift(level.rgb, level.warp(matrix)))
    fine = Level(gray, *FINE)
    refinement = refine_homography(fine, matrix, FINE_RADII)
    after_step()
    if refinement is None:
        return None
    correlation, _ = fine.correlate(refinement.matrix)
    return Estimate(refinement.matrix, correlation, max(others), refinement)


def align_automatically(pairs: Sequence[Pair[Image]], after_step: Callable[[], object] = lambda: None) -> Alignment:
    """Return the alignment of two cameras from frame pairs.

    Args:
        pairs: RGB and TIR images ``(H, W, 3)``, of one size per modality, as the cameras give them.
        after_step: see ``estimate``.

    Raises:
        DataError: the result is not reliable, or the pairs are unusable.
    """
    found = estimate(pairs, after_step)
    if found is None:
        raise DataError(f"align: not reliable: RGB and TIR have no structure in common; {HINT}")
    if found.score < MIN_SCORE:
        reason = f"{found.refinement.blocks} blocks correlate with {found.correlation:.2f}"
        if found.ambiguous:
            reason += f", another alignment fits {100 * found.runner_up:.0f} % as well"
        raise DataError(
            f"align: not reliable: score {found.score:.2f}, expected at least {MIN_SCORE:g}; {reason}; {HINT}"
        )
    (rgb_height, rgb_width), (tir_height, tir_width) = (image.shape[:2] for image in pairs[0])
    sizes = (rgb_width, rgb_height), (tir_width, tir_height)
    return Alignment(to_rows(found.matrix), *sizes, score=round(found.score, 3), method="automatic", where="align")


def _check_sizes(pairs: Sequence[Pair[GrayImage]]) -> None:
    if not pairs:
        raise DataError("align: expected at least one frame with both images, got none")
    for modality in Pair._fields:
        sizes = {getattr(pair, modality).size for pair in pairs}
        if len(sizes) > 1:
            listed = " and ".join(f"{width} x {height}" for width, height in sorted(sizes)[:2])
            raise DataError(f"align: expected {modality.upper()} frames of one size, got {listed}")
        if min(next(iter(sizes))) < MIN_SIDE:
            width, height = next(iter(sizes))
            raise DataError(
                f"align: expected {modality.upper()} images of at least {MIN_SIDE} x {MIN_SIDE} pixels, "
                f"got {width} x {height}"
            )
