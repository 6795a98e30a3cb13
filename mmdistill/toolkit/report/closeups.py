"""Closeups of two trackers on one sequence: IoU over time, and thumbnails of frames in which the trackers differ."""

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
from mmdistill.toolkit.evaluation.formatting import DASH, signed
from mmdistill.toolkit.report.comparisons import Divergence, SequencePair, TrackerPair
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.report.markup import (
    LineStyle,
    Markup,
    element,
    join,
    join_labels,
    join_values,
    legend,
    legend_entry,
    svg_drawing,
    swatch,
)
from mmdistill.toolkit.sequence import FramePair, Image

THUMBNAIL_WIDTH = 320
"""Width of a thumbnail, pixels."""

JPEG_QUALITY = 80
"""Quality of a thumbnail, percent."""

MIN_REGION = 0.4
"""Smallest region of an image that a thumbnail shows, relative to the image's sides."""

MAX_SEGMENTS = 120
"""Largest number of points of an IoU curve over time; each is the mean of a segment of frames."""

MIN_SEGMENT = 5
"""Smallest number of frames in a segment, so that a published page holds no raw results."""

CONTEXT_FRAMES = 10
"""Frames between a divergence and the thumbnails before and after it."""

_logger = logging.getLogger(__name__)


def closeup_id(pair: TrackerPair, each: SequencePair) -> str:
    """Return a closeup's ``id``, the target of links."""
    return f"closeup-{pair.indices[0]}-{pair.indices[1]}-{each.index}"


def closeup(contents: Contents, pair: TrackerPair, each: SequencePair) -> Markup:
    """Return the closeup of a pair of trackers on a sequence; it has thumbnails if there are images.

    Args:
        contents: contents with ground truth.
        pair: the trackers.
        each: the trackers on the sequence.
    """
    first, second = pair.names
    rates = f"SR of {first}: {each.SR[0]:.1f}, of {second}: {each.SR[1]:.1f}, difference: {signed(each.difference)}."
    return element(
        "article",
        element("h4", each.sequence),
        element("p", rates),
        element("figure", *_timeline(pair, each), class_="chart timeline"),
        _thumbnails(contents, pair, each),
        class_="closeup",
        id=closeup_id(pair, each),
    )


def choose_frames(divergence: Divergence, lead: Array, names: tuple[str, str]) -> dict[int, list[str]]:
    """Return the frames to show, in order, each with the reasons.

    Args:
        divergence: where the trackers differ.
        lead: the first tracker's IoU minus the second's, ``(T,)``.
        names: the trackers' names.
    """
    reasons: dict[int, list[str]] = {}
    if lead[divergence.first_ahead] > 0:
        reasons.setdefault(divergence.first_ahead, []).append(f"largest lead of {names[0]}")
    if lead[divergence.second_ahead] < 0:
        reasons.setdefault(divergence.second_ahead, []).append(f"largest lead of {names[1]}")
    if divergence.frame is not None:
        before, after = divergence.frame - CONTEXT_FRAMES, divergence.frame + CONTEXT_FRAMES
        if before >= 0:
            reasons.setdefault(before, []).append(f"{CONTEXT_FRAMES} frames before")
        reasons.setdefault(divergence.frame, []).insert(0, "divergence")
        if after < len(lead):
            reasons.setdefault(after, []).append(f"{CONTEXT_FRAMES} frames after")
    return dict(sorted(reasons.items()))


def label_spacing(values: Array) -> int:
    """Return the median distance between labeled frames; 1 if all frames are labeled.

    Args:
        values: a value for each frame ``(T,)``, NaN without a label.
    """
    labeled = np.flatnonzero(np.isfinite(values))
    return int(np.median(np.diff(labeled))) if len(labeled) > 1 else 1


def segment_means(values: Array) -> tuple[list[tuple[int, int]], Array]:
    """Return the first and the last frame of each segment, from 1, and the mean value of each segment.

    A segment is at least as long as the distance between labels, so that labels of every tenth frame give one line.

    Args:
        values: a value for each frame ``(T,)``; NaN is left out of the means. A segment of NaN has a mean of NaN.
    """
    count = max(1, min(len(values) // max(MIN_SEGMENT, label_spacing(values)), MAX_SEGMENTS))
    edges = np.arange(count + 1) * len(values) // count
    labeled = np.isfinite(values)
    sums, counts = (
        np.add.reduceat(each, edges[:-1]) for each in (np.where(labeled, values, 0.0), labeled.astype(float))
    )
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return [(int(low) + 1, int(high)) for low, high in pairwise(edges)], means


def _timeline(pair: TrackerPair, each: SequencePair) -> list[Markup]:
    """Return caption, drawing and legend of IoU over time."""
    assert each.overlaps is not None
    length = len(each.overlaps[0])
    styles = [LineStyle(index) for index in pair.indices]
    segments, _ = segment_means(each.overlaps[0])
    means = [segment_means(overlap)[1] for overlap in each.overlaps]
    curves = [
        element("polyline", class_=f"curve {style.color}", points=points, stroke_dasharray=style.dash or None)
        for style, values in reversed(list(zip(styles, means, strict=True)))
        for points in split_curve(values)
    ]
    mark = None
    caption = "IoU over time; the trackers do not diverge."
    if each.divergence is not None and each.divergence.frame is not None:
        x = len(segments) * (each.divergence.frame + 0.5) / length
        mark = element("line", class_="divergence", x1=f"{x:.2f}", x2=f"{x:.2f}", y1=0, y2=100)
        frame = f"{each.divergence.frame + 1:,} of {length:,}"
        caption = f"IoU over time; the trackers diverge at frame {frame} (vertical line)."
    drawing = svg_drawing(
        f"IoU of {pair.names[0]} and {pair.names[1]} over the frames of {each.sequence}",
        f"{closeup_id(pair, each)}-time",
        element("g", *(element("line", x1=0, x2=len(segments), y1=y, y2=y) for y in (0, 50, 100)), class_="grid"),
        mark,
        *curves,
        element("line", class_="cursor", x1=0, x2=0, y1=0, y2=100),
        class_="drawing",
        viewBox=f"0 0 {len(segments)} 100",
        preserveAspectRatio="none",
        tabindex=0,
        data_labels=join_labels(
            f"frame {low}" if low == high else f"frames {low}{DASH}{high}" for low, high in segments
        ),
        data_bars=True,
    )
    scale = [element("span", text, style=f"top:{top}%") for text, top in (("1", 0), ("0.5", 50), ("0", 100))]
    entries = [
        legend_entry(name, swatch(style), f"{np.nanmean(overlap):.2f}", join_values(values, 2))
        for name, style, overlap, values in zip(pair.names, styles, each.overlaps, means, strict=True)
    ]
    return [
        element("figcaption", caption),
        element("div", element("div", *scale, class_="scale", aria_hidden="true"), drawing, class_="stretched"),
        element("div", element("span", "frame 1"), element("span", f"{length:,}"), class_="ends", aria_hidden="true"),
        legend("mean IoU", entries),
    ]


def split_curve(values: Array) -> list[str]:
    """Return the points of a line for each run of values without NaN between them."""
    known = np.flatnonzero(np.isfinite(values))
    runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return [_points(values, run) for run in runs if len(run)]


def _points(values: Array, run: NDArray[np.intp]) -> str:
    """Return a line through the middle of each segment of a run, or across its only segment."""
    xs = run + 0.5 if len(run) > 1 else run[0] + np.array([0.0, 1.0])
    ys = 100 * (1 - values[run if len(run) > 1 else run.repeat(2)])
    return " ".join(f"{x:g},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def _thumbnails(contents: Contents, pair: TrackerPair, each: SequencePair) -> Markup | None:
    read_frame = contents.ground_truth[each.sequence].frame
    if read_frame is None or each.divergence is None or each.overlaps is None:
        return None
    chosen = choose_frames(each.divergence, each.overlaps[0] - each.overlaps[1], pair.names)
    thumbnails = []
    for index, reasons in chosen.items():
        try:
            image = _thumbnail(contents, pair, each, index, read_frame(index))
        except DataError as error:
            _logger.warning("%s; the report leaves this frame out", error)
            image = element("p", "This frame's images can't be read.", class_="hint")
        title = element("strong", f"Frame {index + 1:,}: {', '.join(reasons)}")
        thumbnails.append(element("figure", image, element("figcaption", title, _ious(pair, each, index))))
    hint = "Regions of frames, RGB above TIR. White: ground truth. Colors: trackers."
    return join(element("p", hint, class_="hint"), element("div", *thumbnails, class_="thumbnails"))


def _ious(pair: TrackerPair, each: SequencePair, index: int) -> Markup | None:
    """Return both trackers' IoU in a frame; the names are for screen readers, others see the markers."""
    assert each.overlaps is not None
    if np.isnan(each.overlaps[0][index]):
        return element("span", "no label")
    values = [
        join(" ", swatch(LineStyle(tracker)), element("span", name, class_="screen-reader"), f" {overlap[index]:.2f}")
        for tracker, name, overlap in zip(pair.indices, pair.names, each.overlaps, strict=True)
    ]
    return element("span", "IoU", *values)


def _thumbnail(contents: Contents, pair: TrackerPair, each: SequencePair, index: int, frame: FramePair) -> Markup:
    boxes = [
        (contents.trackers[tracker].boxes[each.sequence][index], LineStyle(tracker).image_color)
        for tracker in pair.indices
    ]
    ground_truth = [truth[index] for truth in contents.ground_truth[each.sequence].boxes]
    image = draw_thumbnail(frame, ground_truth, boxes)
    height, width = image.shape[:2]
    first, second = pair.names
    description = f"Frame {index + 1} of {each.sequence} with the boxes of {first}, {second} and the ground truth"
    return element("img", src=data_uri(image), alt=description, width=width, height=height)


def draw_thumbnail(frame: FramePair, ground_truth: Sequence[Array], boxes: Sequence[tuple[Array, Color]]) -> Image:
    """Return the region of the boxes in a frame's images, RGB above TIR, with the ground truth in white.

    Args:
        frame: images of any size, at least one.
        ground_truth: one box ``(4,)`` for both images, or one for RGB and one for TIR.
        boxes: the trackers' boxes ``(4,)`` and colors. The first is drawn above the others, below the ground truth.
    """
    drawn = []
    for image, truth in zip(frame, (ground_truth[0], ground_truth[-1]), strict=True):
        if image is None:
            continue
        x, y, w, h = choose_region(image.shape[1], image.shape[0], [truth, *(box for box, _ in boxes)])
        size = THUMBNAIL_WIDTH, max(1, round(THUMBNAIL_WIDTH * image.shape[0] / image.shape[1]))
        scale = np.array([size[0] / w, size[1] / h] * 2)
        interpolation = cv2.INTER_AREA if scale[0] < 1 else cv2.INTER_CUBIC
        small = np.array(cv2.resize(image[y : y + h, x : x + w], size, interpolation=interpolation), dtype=np.uint8)
        for box, color in (*reversed(boxes), (truth, WHITE)):
            draw_box(small, (box - (x, y, 0, 0)) * scale, color)
        drawn.append(small)
    return np.concatenate(drawn)


def choose_region(width: int, height: int, boxes: Sequence[Array]) -> tuple[int, int, int, int]:
    """Return the region ``x y w h`` of an image to show: twice the size of the boxes' enclosing box.

    The region has the image's aspect ratio, and its sides are ``MIN_REGION`` to 1 times the image's.
    """
    finite = [box for box in boxes if np.isfinite(box).all()]
    if not finite:
        return 0, 0, width, height
    size = np.array([width, height])
    low = np.min([box[:2] for box in finite], axis=0).clip(0, size)
    high = np.max([box[:2] + box[2:] for box in finite], axis=0).clip(0, size)
    share = float(np.clip(2 * ((high - low) / size).max(), MIN_REGION, 1))
    w, h = (max(1, round(share * side)) for side in (width, height))
    x, y = np.rint(((low + high) / 2 - (w / 2, h / 2)).clip(0, (width - w, height - h))).astype(int)
    return int(x), int(y), w, h


def data_uri(image: Image) -> str:
    """Return an RGB image ``(H, W, 3)`` as the data URI of a JPEG."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
