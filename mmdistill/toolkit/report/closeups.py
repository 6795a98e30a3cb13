"""A closer look at two trackers on one sequence: their overlap over time, and frames in which they differ.

Frames with the boxes of two trackers and the truth, small, as images within the report itself.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing import WHITE, Color, draw_box
from mmdistill.toolkit.report.charts import Look, described, legend, legend_entry, lines, swatch
from mmdistill.toolkit.report.comparisons import Divergence, SequencePair, TrackerPair
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.report.markup import DASH, Markup, element, join, signed
from mmdistill.toolkit.sequence import FramePair, Image

WIDTH = 320
"""Of a picture, pixels."""

QUALITY = 80
"""Of the JPEG, percent."""

CLOSEST = 0.4
"""The smallest part of an image that is shown, of its sides."""


def draw_frame(frame: FramePair, truths: Sequence[Array], boxes: Sequence[tuple[Array, Color]]) -> Image:
    """Return what matters of a frame's images, RGB above TIR, with the trackers' boxes and the true one in white.

    Args:
        frame: images of any size, at least one.
        truths: one box ``(4,)`` for both images, or one for RGB and one for TIR.
        boxes: ``(4,)`` with the colors; the first is drawn above the others, below the truth.
    """
    drawn = []
    for image, truth in zip(frame, (truths[0], truths[-1]), strict=True):
        if image is None:
            continue
        x, y, w, h = region(image.shape[1], image.shape[0], [truth, *(box for box, _ in boxes)])
        size = WIDTH, max(1, round(WIDTH * image.shape[0] / image.shape[1]))  # the same for any region
        scale = np.array([size[0] / w, size[1] / h] * 2)
        how = cv2.INTER_AREA if scale[0] < 1 else cv2.INTER_CUBIC
        small = np.array(cv2.resize(image[y : y + h, x : x + w], size, interpolation=how), dtype=np.uint8)
        for box, color in (*reversed(boxes), (truth, WHITE)):
            draw_box(small, (box - (x, y, 0, 0)) * scale, color)
        drawn.append(small)
    return np.concatenate(drawn)


def region(width: int, height: int, boxes: Sequence[Array]) -> tuple[int, int, int, int]:
    """Return what part of an image is shown, ``x y w h``: the boxes with as much again around them.

    It has the image's shape, is at least ``CLOSEST`` of its size, and no more than all of it.
    """
    seen = [box for box in boxes if np.isfinite(box).all()]
    if not seen:
        return 0, 0, width, height
    size = np.array([width, height])
    low = np.min([box[:2] for box in seen], axis=0).clip(0, size)
    high = np.max([box[:2] + box[2:] for box in seen], axis=0).clip(0, size)
    share = float(np.clip(2 * ((high - low) / size).max(), CLOSEST, 1))
    w, h = (max(1, round(share * side)) for side in (width, height))
    x, y = np.rint(((low + high) / 2 - (w / 2, h / 2)).clip(0, (width - w, height - h))).astype(int)
    return int(x), int(y), w, h


def data_uri(image: Image) -> str:
    """Return an image ``(H, W, 3)``, RGB, as the address of a JPEG that needs no file."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


PLACES = 120
"""How finely a sequence's overlap is drawn: the mean of each of so many stretches, or of fewer."""

SHORTEST = 5
"""A stretch is at least so many frames: a page goes to others, and frame by frame it would hold raw results."""

AROUND = 10
"""So many frames before and after they part are shown, too."""

_logger = logging.getLogger(__name__)


def look_id(pair: TrackerPair, each: SequencePair) -> str:
    """Return what links lead to."""
    return f"look-{pair.places[0]}-{pair.places[1]}-{each.number}"


def look_at(contents: Contents, pair: TrackerPair, each: SequencePair) -> Markup:
    """Return the closer look, with frames where there are images.

    Args:
        contents: of the report, with ground truth.
        pair: the two trackers.
        each: what they do on the sequence.
    """
    first, second = pair.names
    rates = f"SR of {first} {each.SR[0]:.1f}, of {second} {each.SR[1]:.1f}: {signed(each.difference)}."
    return element(
        "article",
        element("h4", each.sequence),
        element("p", rates),
        element("figure", *_timeline(pair, each), class_="chart timeline"),
        _strip(contents, pair, each),
        class_="look",
        id=look_id(pair, each),
    )


def chosen_frames(parting: Divergence, lead: Array, names: tuple[str, str]) -> dict[int, list[str]]:
    """Return the frames that are shown, in order, and why each is.

    Args:
        parting: where the trackers differ.
        lead: the first tracker's IoU less the second's, ``(T,)``.
        names: the trackers'.
    """
    reasons: dict[int, list[str]] = {}
    if lead[parting.first_ahead] > 0:
        reasons.setdefault(parting.first_ahead, []).append(f"{names[0]} furthest ahead")
    if lead[parting.second_ahead] < 0:
        reasons.setdefault(parting.second_ahead, []).append(f"{names[1]} furthest ahead")
    if parting.for_good is not None:
        before, after = parting.for_good - AROUND, parting.for_good + AROUND
        if before >= 0:
            reasons.setdefault(before, []).append(f"{AROUND} frames before")
        reasons.setdefault(parting.for_good, []).insert(0, "they part")
        if after < len(lead):
            reasons.setdefault(after, []).append(f"{AROUND} frames after")
    return dict(sorted(reasons.items()))


def label_spacing(values: Array) -> int:
    """Return how many frames apart labels usually are, 1 where every frame has one: the median distance.

    Args:
        values: a value for each frame ``(T,)``, NaN where it has no label.
    """
    labeled = np.flatnonzero(np.isfinite(values))
    return int(np.median(np.diff(labeled))) if len(labeled) > 1 else 1


def stretches(values: Array) -> tuple[list[tuple[int, int]], Array]:
    """Return the first and last frame, from 1, of each stretch that is drawn as one place, and the values' means.

    A stretch is no shorter than the labels are apart, so that those of every tenth frame make one line.

    Args:
        values: ``(T,)``; NaN counts for nothing, and a stretch of nothing else is NaN.
    """
    places = max(1, min(len(values) // max(SHORTEST, label_spacing(values)), PLACES))
    edges = np.arange(places + 1) * len(values) // places
    known = np.isfinite(values)
    sums, counts = (np.add.reduceat(each, edges[:-1]) for each in (np.where(known, values, 0.0), known.astype(float)))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return [(int(low) + 1, int(high)) for low, high in pairwise(edges)], means


def _timeline(pair: TrackerPair, each: SequencePair) -> list[Markup]:
    """Return caption, drawing and legend of the overlap over time."""
    assert each.overlaps is not None
    length = len(each.overlaps[0])
    looks = [Look(place) for place in pair.places]
    spans, _ = stretches(each.overlaps[0])
    means = [stretches(overlap)[1] for overlap in each.overlaps]
    curves = [
        element("polyline", class_=f"curve {look.color}", points=points, stroke_dasharray=look.dash or None)
        for look, values in reversed(list(zip(looks, means, strict=True)))
        for points in _unbroken(values)
    ]
    parting = None
    caption = "IoU over time; they do not part."
    if each.parting is not None and each.parting.for_good is not None:
        at = len(spans) * (each.parting.for_good + 0.5) / length
        parting = element("line", class_="parting", x1=f"{at:.2f}", x2=f"{at:.2f}", y1=0, y2=100)
        caption = f"IoU over time; they part at frame {each.parting.for_good + 1:,} of {length:,}, the upright line."
    drawing = described(
        f"IoU of {pair.names[0]} and {pair.names[1]} over the frames of {each.sequence}",
        f"{look_id(pair, each)}-time",
        element("g", *(element("line", x1=0, x2=len(spans), y1=y, y2=y) for y in (0, 50, 100)), class_="grid"),
        parting,
        *curves,
        element("line", class_="cursor", x1=0, x2=0, y1=0, y2=100),
        class_="drawing",
        viewBox=f"0 0 {len(spans)} 100",
        preserveAspectRatio="none",
        tabindex=0,
        data_labels=lines(f"frame {low}" if low == high else f"frames {low}{DASH}{high}" for low, high in spans),
        data_bars=True,
    )
    scale = [element("span", name, style=f"top:{top}%") for name, top in (("1", 0), ("0.5", 50), ("0", 100))]
    entries = [
        legend_entry(name, swatch(look), f"{np.nanmean(overlap):.2f}", _values(values))
        for name, look, overlap, values in zip(pair.names, looks, each.overlaps, means, strict=True)
    ]
    return [
        element("figcaption", caption),
        element("div", element("div", *scale, class_="scale", aria_hidden="true"), drawing, class_="stretched"),
        element("div", element("span", "frame 1"), element("span", f"{length:,}"), class_="ends", aria_hidden="true"),
        legend("mean IoU", entries),
    ]


def _unbroken(values: Array) -> list[str]:
    """Return the points of a line for each run of values between those that are NaN."""
    known = np.flatnonzero(np.isfinite(values))
    runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return [_points(values, run) for run in runs if len(run)]


def _points(values: Array, run: NDArray[np.intp]) -> str:
    """Return a line through the middle of each place of a run; a single place's from its left side to its right."""
    xs = run + 0.5 if len(run) > 1 else run[0] + np.array([0.0, 1.0])
    ys = 100 * (1 - values[run if len(run) > 1 else run.repeat(2)])
    return " ".join(f"{x:g},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def _values(values: Array) -> str:
    return " ".join(f"{value:.2f}" if np.isfinite(value) else DASH for value in values)


def _strip(contents: Contents, pair: TrackerPair, each: SequencePair) -> Markup | None:
    read = contents.truths[each.sequence].frame
    if read is None or each.parting is None or each.overlaps is None:
        return None
    chosen = chosen_frames(each.parting, each.overlaps[0] - each.overlaps[1], pair.names)
    pictures = []
    for index, reasons in chosen.items():
        try:
            picture = _picture(contents, pair, each, index, read(index))
        except DataError as error:
            _logger.warning("%s; the report does without this frame", error)
            picture = element("p", "This frame's images can't be read.", class_="hint")
        why = element("strong", f"Frame {index + 1:,}: {', '.join(reasons)}")
        pictures.append(element("figure", picture, element("figcaption", why, _ious(pair, each, index))))
    says = "Parts of frames, the trackers' boxes in their colors and the ground truth in white; RGB above TIR."
    return join(element("p", says, class_="hint"), element("div", *pictures, class_="strip"))


def _ious(pair: TrackerPair, each: SequencePair, index: int) -> Markup | None:
    """Return both trackers' IoU in a frame, their names for those only who can't see their marks."""
    assert each.overlaps is not None
    if np.isnan(each.overlaps[0][index]):
        return element("span", "no label")
    both = [
        join(" ", swatch(Look(place)), element("span", name, class_="unseen"), f" {overlap[index]:.2f}")
        for place, name, overlap in zip(pair.places, pair.names, each.overlaps, strict=True)
    ]
    return element("span", "IoU", *both)


def _picture(contents: Contents, pair: TrackerPair, each: SequencePair, index: int, frame: FramePair) -> Markup:
    drawn = [(contents.trackers[place].boxes[each.sequence][index], Look(place).on_images) for place in pair.places]
    image = draw_frame(frame, [boxes[index] for boxes in contents.truths[each.sequence].boxes], drawn)
    height, width = image.shape[:2]
    says = (
        f"Frame {index + 1} of {each.sequence} with the boxes of {pair.names[0]}, {pair.names[1]} and the ground truth"
    )
    return element("img", src=data_uri(image), alt=says, width=width, height=height)
