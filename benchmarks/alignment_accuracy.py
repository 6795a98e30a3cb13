"""Measures `mmdistill align`: pairs warped by known homographies, the share recovered, refused and wrong.

TIR of an aligned pair is warped by a random homography: scale 0.7 to 1.4, shift up to 20 % of each side, rotation up to
5 degrees, perspective up to 2 %. The error is the mean distance of positions over the common view, in RGB pixels.

- tuning, held out: single pairs of --pairs, every other one. The thresholds were chosen on the first half.
- held out, own offset removed: the same, against the alignment of the pair before warping, because published pairs are
  themselves a few pixels apart.
- unrelated: RGB of one pair, TIR of another. All must be refused.
- composed: video composed from the held-out half, several frames.
- procedural: synthetic video, whose modalities agree exactly, several frames.

Each case replaces its own figures in --out. Takes 15 minutes on one core.

Examples:
    python benchmarks/alignment_accuracy.py --pairs PAIRS --out benchmarks/results/alignment_accuracy.json \
        --cases tuning unrelated composed procedural --limit 40 --videos 12 --frames 3
    python benchmarks/alignment_accuracy.py --pairs PAIRS --out benchmarks/results/alignment_accuracy.json \
        --cases "held out" --frames 3
    python benchmarks/alignment_accuracy.py --picture docs/pictures/alignment.jpg
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from parts.report_fields import machine

from mmdistill.pair import Pair
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.data_sources import COMPOSED, composed_sequences
from mmdistill.toolkit.alignment.alignment import Alignment, Array, Size, to_rows, transform
from mmdistill.toolkit.alignment.estimation import FINE, FINE_RADII, MIN_SCORE, Estimate, align_automatically, estimate
from mmdistill.toolkit.alignment.orientation import GrayImage
from mmdistill.toolkit.alignment.pictures import checkerboard
from mmdistill.toolkit.alignment.refinement import Level, Refinement, refine_homography
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import Image, TrackingSequence

RECOVERED, WRONG = 2.0, 5.0
"""Largest error of a recovered alignment, and smallest error of a wrong one, RGB pixels."""

SCALES, SHIFT, ANGLE, PERSPECTIVE = (0.7, 1.4), 0.2, 5.0, 0.02
CASES = ("tuning", "held out", "unrelated", "composed", "procedural")
OFFSET_REMOVED = "held out, own offset removed"
ROWS = ("tuning", "held out", OFFSET_REMOVED, "unrelated", "composed", "procedural")


class Outcome(NamedTuple):
    """The result on one warped pair or video.

    Attributes:
        name: of the pair.
        error: mean distance, RGB pixels; infinite without an estimate.
        score: 0 without an estimate.
        seconds: processor time.
    """

    name: str
    error: float
    score: float
    seconds: float


def random_homography(generator: np.random.Generator, size: Size) -> Array:
    """Return a homography from warped TIR to TIR pixels; both images have the same size."""
    sides = np.array(size)
    scale = math.exp(generator.uniform(math.log(SCALES[0]), math.log(SCALES[1])))
    angle = math.radians(generator.uniform(-ANGLE, ANGLE))
    shift = generator.uniform(-SHIFT, SHIFT, 2) * sides
    center = np.eye(3)
    center[:2, 2] = -(sides - 1) / 2
    similar = np.array(
        [
            [scale * math.cos(angle), -scale * math.sin(angle), shift[0]],
            [scale * math.sin(angle), scale * math.cos(angle), shift[1]],
            [0, 0, 1],
        ]
    )
    perspective = np.eye(3)
    perspective[2, :2] = generator.uniform(-PERSPECTIVE, PERSPECTIVE, 2) / sides
    matrix: Array = np.linalg.inv(center) @ similar @ perspective @ center
    return matrix


def warp(tir: Image, matrix: Array) -> Image:
    """Return TIR warped by the inverse of a homography; black where TIR has no pixels."""
    return np.asarray(cv2.warpPerspective(tir, np.linalg.inv(matrix), tir.shape[1::-1]), dtype=np.uint8)


def mean_error(found: Array, truth: Array, size: Size) -> float:
    """Return the mean distance of positions that both images show, RGB pixels."""
    grid = np.stack(np.meshgrid(*(np.linspace(0, side - 1, 15) for side in size)), axis=-1).reshape(-1, 2)
    expected = transform(truth, grid)
    inside = ((expected >= 0) & (expected < size)).all(axis=1)
    return float(np.linalg.norm(transform(found, grid) - expected, axis=1)[inside].mean())


def run(name: str, frames: Sequence[Pair[Image]], truth: Array) -> tuple[Outcome, Estimate | None]:
    """Warp the TIR of frames, estimate their alignment, and compare."""
    size = frames[0].rgb.shape[1], frames[0].rgb.shape[0]
    start = time.process_time()
    found = estimate([Pair(frame.rgb, warp(frame.tir, truth)) for frame in frames])
    seconds = time.process_time() - start
    error = math.inf if found is None else mean_error(found.matrix, truth, size)
    return Outcome(name, error, 0.0 if found is None else found.score, seconds), found


def own_alignment(pair: Pair[Image]) -> Refinement | None:
    """Return the alignment of a published pair, refined from its being aligned."""
    level = Level([Pair(*map(GrayImage, pair))], *FINE)
    return refine_homography(level, np.eye(3), FINE_RADII)


def pair_outcomes(pairs: Pairs, indices: Sequence[int], seed: int, *, offset: bool) -> Iterator[tuple[str, Outcome]]:
    """Yield the outcomes on single pairs, with ``offset`` also against the estimates before warping."""
    case = "held out" if offset else "tuning"
    for index in indices:
        pair = pairs.pair(index)
        size = pair.rgb.shape[1], pair.rgb.shape[0]
        truth = random_homography(np.random.default_rng([seed, index]), size)
        outcome, found = run(pairs.names[index], [pair], truth)
        yield case, outcome
        own = own_alignment(pair) if offset else None
        if own is not None and found is not None:
            yield OFFSET_REMOVED, outcome._replace(error=mean_error(found.matrix, own.matrix @ truth, size))


def unrelated_outcomes(pairs: Pairs, indices: Sequence[int], seed: int) -> Iterator[tuple[str, Outcome]]:
    """Yield the outcomes on RGB and TIR of different pairs."""
    for index in indices:
        pair, other = pairs.pair(index), pairs.pair((index + len(pairs) // 3) % len(pairs))
        size = pair.rgb.shape[1], pair.rgb.shape[0]
        tir = np.asarray(cv2.resize(other.tir, size), dtype=np.uint8)
        truth = random_homography(np.random.default_rng([seed, index]), size)
        outcome, _ = run(pairs.names[index], [Pair(pair.rgb, tir)], truth)
        yield "unrelated", outcome._replace(error=math.inf)


def video_outcomes(
    case: str, videos: Sequence[TrackingSequence], frames: int, seed: int
) -> Iterator[tuple[str, Outcome]]:
    """Yield the outcomes on some frames of each video."""
    for number, video in enumerate(videos):
        chosen = [video.frame(index) for index in np.linspace(0, len(video) - 1, frames).round().astype(int)]
        pairs = [Pair(rgb, tir) for rgb, tir in chosen if rgb is not None and tir is not None]
        size = pairs[0].rgb.shape[1], pairs[0].rgb.shape[0]
        truth = random_homography(np.random.default_rng([seed, number]), size)
        yield case, run(video.name, pairs, truth)[0]


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the shares of a case in percent, and errors of accepted alignments in pixels."""
    accepted = [each.error for each in outcomes if each.score >= MIN_SCORE]

    def share(count: int) -> float:
        return round(100 * count / len(outcomes), 1)

    return {
        "number": len(outcomes),
        "recovered": share(sum(error <= RECOVERED for error in accepted)),
        "near": share(sum(RECOVERED < error <= WRONG for error in accepted)),
        "wrong": share(sum(error > WRONG for error in accepted)),
        "refused": share(len(outcomes) - len(accepted)),
        "median error": round(statistics.median(accepted), 2) if accepted and math.isfinite(max(accepted)) else None,
        "seconds": round(statistics.mean(each.seconds for each in outcomes), 1),
        "calibration": calibration(outcomes),
        "wrong pairs": [
            f"{each.name}: {each.error:.1f}" for each in outcomes if each.score >= MIN_SCORE and each.error > WRONG
        ],
    }


def calibration(outcomes: Sequence[Outcome]) -> list[dict[str, float]]:
    """Return for ranges of the score the number of outcomes and the percentage with an error below ``WRONG``."""
    rows = []
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.01)):
        inside = [each.error <= WRONG for each in outcomes if low <= each.score < high]
        right = round(100 * sum(inside) / len(inside), 1) if inside else math.nan
        rows.append({"from": low, "to": min(high, 1.0), "number": len(inside), "right": right})
    return [row for row in rows if row["number"]]


def draw(path: Path, seed: int) -> None:
    """Write checkerboards of a synthetic frame before and after its alignment, side by side."""
    (video,) = synthetic_sequences(1, seed=seed, settings=replace(COMPOSED, low_illumination=0.0))
    rgb, tir = video.frame(0)
    assert rgb is not None
    assert tir is not None
    size = rgb.shape[1], rgb.shape[0]
    warped = Pair(rgb, warp(tir, random_homography(np.random.default_rng(seed), size)))
    before = Alignment(to_rows(np.eye(3)), size, size)
    boards = [checkerboard(warped, each) for each in (before, align_automatically([warped]))]
    write_image(path, np.concatenate([boards[0], np.full((size[1], 8, 3), 255, np.uint8), boards[1]], axis=1))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the report."""
    pairs = open_pairs(options.pairs)
    halves = [list(range(first, len(pairs), 2))[: options.limit] for first in (0, 1)]
    held_out = pairs[1::2]
    composed = composed_sequences(held_out, slice(None), count=options.videos, seed=options.seed, length=100)
    settings = replace(COMPOSED, camera_motion=SyntheticSettings().camera_motion)
    procedural = synthetic_sequences(options.videos, seed=options.seed, settings=settings)
    sources: dict[str, Callable[[], Iterator[tuple[str, Outcome]]]] = {
        "tuning": lambda: pair_outcomes(pairs, halves[0], options.seed, offset=False),
        "held out": lambda: pair_outcomes(pairs, halves[1], options.seed, offset=True),
        "unrelated": lambda: unrelated_outcomes(pairs, halves[1], options.seed),
        "composed": lambda: video_outcomes("composed", composed, options.frames, options.seed),
        "procedural": lambda: video_outcomes("procedural", procedural, options.frames, options.seed),
    }
    outcomes: dict[str, list[Outcome]] = {}
    for case in options.cases:
        for name, outcome in sources[case]():
            outcomes.setdefault(name, []).append(outcome)
            if options.verbose:
                print(f"{name}: {outcome.name} error {outcome.error:.2f} score {outcome.score:.2f}", flush=True)
    return {
        "machine": machine(),
        "limits": {"recovered": RECOVERED, "wrong": WRONG, "score": MIN_SCORE},
        "warps": {"scale": SCALES, "shift": SHIFT, "degrees": ANGLE, "perspective": PERSPECTIVE},
        "frames": options.frames,
        "seed": options.seed,
        "cases": {name: summarize(each) for name, each in outcomes.items()},
    }


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the cases."""
    lines = [
        "| Pairs | Number | Within 2 pixels | 2 to 5 pixels | Over 5 pixels | Refused | Median error |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in (each for each in ROWS if each in report["cases"]):
        case = report["cases"][name]
        shares = " | ".join(f"{case[part]:.1f} %" for part in ("recovered", "near", "wrong", "refused"))
        error = "" if case["median error"] is None else f"{case['median error']:.2f}"
        lines.append(f"| {name} | {case['number']} | {shares} | {error} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="folder of aligned pairs")
    parser.add_argument("--out", type=Path, help="JSON report")
    parser.add_argument("--picture", type=Path, help="only write this picture of the documentation")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="cases to measure; default all")
    parser.add_argument("--limit", type=int, help="pairs of each half; default all")
    parser.add_argument("--videos", type=int, default=15, help="videos of each kind; default 15")
    parser.add_argument("--frames", type=int, default=4, help="frames of a video; default 4")
    parser.add_argument("--seed", type=int, default=0, help="seed of the homographies; default 0")
    parser.add_argument("--verbose", action="store_true", help="print each outcome")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    if options.picture is not None:
        draw(options.picture, options.seed)
        return
    if options.pairs is None or options.out is None:
        parser.error("expected --pairs and --out, or --picture")
    report = measure(options)
    if options.out.exists():
        report["cases"] = json.loads(options.out.read_text())["cases"] | report["cases"]
    write_text(options.out, json.dumps(report, indent=2) + "\n")
    print("\n".join(table(report)))


if __name__ == "__main__":
    main()
