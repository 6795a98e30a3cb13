"""Lists the frames of a recording with their times, so that any frame can be found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.video.decoding import Decoder, Threads
from mmdistill.toolkit.video.pairing import VIDEO_RATE_TOLERANCE
from mmdistill.toolkit.video.reading import Times

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

COMPARED_FRAMES = 16
"""How many frames are decoded to check that packets and frames have the same timestamps."""

MAX_DAMAGED_SHARE = 0.25
"""The largest share of these packets without a frame. More means that a packet holds less than a frame."""


class FrameIndex(NamedTuple):
    """The frames of a recording in the order of presentation.

    Attributes:
        num_frames: number of frames.
        timestamps: ``(T,)``, ascending, in units of the stream; None if the frames have none, or not in order.
        keyframes: the timestamps at which decoding can start, ascending.
        times: seconds from the first frame ``(T,)``; None without timestamps.
        rate: frames per second; None if neither the recording nor its times state it.
        stated: number of frames that the recording states; None if it does not.
    """

    num_frames: int
    timestamps: NDArray[np.int64] | None
    keyframes: NDArray[np.int64]
    times: Times | None
    rate: float | None
    stated: int | None


class _Listing(NamedTuple):
    """Timestamps of all frames and of keyframes, in the order of presentation."""

    timestamps: Sequence[int]
    keyframes: Sequence[int]


def index_frames(open_decoder: Callable[[Threads], Decoder]) -> FrameIndex:
    """List the frames of a recording.

    The timestamps are those of the packets, which need no decoding. In some recordings a packet is no frame, or has
    another timestamp: fields of interlaced video, H.264 in AVI. So the first frames are decoded and compared. If they
    differ, all frames are decoded.

    Args:
        open_decoder: opens the recording at its start.
    """
    with closing(open_decoder("SLICE")) as decoder:
        stream, container = decoder.stream, decoder.container
        unit = None if stream.time_base is None else stream.time_base.numerator / stream.time_base.denominator
        average = stream.average_rate
        stated_rate = average.numerator / average.denominator if average else None
        stated, duration = stream.frames, container.duration
        packets = _list_packets(decoder)
    with closing(open_decoder("SLICE")) as decoder:
        frames = (frame for frame in decoder.frames() if frame is not None)
        first = list(islice(frames, COMPARED_FRAMES))
        listing: _Listing | None
        if packets is not None and _agree(packets, first):
            num_frames, listing = len(packets.timestamps), packets
        else:
            num_frames, listing = _list_frames(chain(first, frames))
    times = None
    if listing is not None and unit is not None:
        times = (np.array(listing.timestamps, dtype=np.float64) - listing.timestamps[0]) * unit
    rate = _rate(stated_rate, times, unit or 0.0)
    if not stated and duration and rate:
        stated = round(duration / 1e6 * rate)
    timestamps, keyframes = (None, []) if listing is None else listing
    return FrameIndex(
        num_frames,
        None if timestamps is None else np.array(timestamps, dtype=np.int64),
        np.array(keyframes, dtype=np.int64),
        times,
        rate,
        stated or None,
    )


def _list_packets(decoder: Decoder) -> _Listing | None:
    """Return the timestamps of all packets; None if some have none or the same one."""
    # Not the packets, which hold the data of the whole file.
    packets = [(each.pts, each.is_keyframe, each.is_discard, each.is_corrupt) for each in decoder.packets()]
    while packets and packets[-1][3]:  # a truncated file ends in the middle of a packet
        packets.pop()
    shown = [pts for pts, _, is_discarded, _ in packets if not is_discarded]  # phones trim a video by discarding
    timestamps = sorted(pts for pts in shown if pts is not None)
    keyframes = sorted(pts for pts, is_keyframe, _, _ in packets if is_keyframe and pts is not None)
    if not timestamps or len(set(timestamps)) < len(shown):
        return None
    # Frames before the first keyframe refer to frames before the start.
    start = keyframes[0] if keyframes else timestamps[0]
    return _Listing([pts for pts in timestamps if pts >= start], keyframes)


def _agree(packets: _Listing, frames: Sequence[VideoFrame]) -> bool:
    """Return whether the first frames have the timestamps of packets, but for a few damaged ones."""
    decoded = [frame.pts for frame in frames if frame.pts is not None]
    if not decoded or len(decoded) < len(frames) or not set(decoded) <= set(packets.timestamps) or not _ascend(decoded):
        return False
    expected = sum(pts <= decoded[-1] for pts in packets.timestamps)
    return expected - len(decoded) <= max(1, MAX_DAMAGED_SHARE * expected)


def _list_frames(frames: Iterable[VideoFrame]) -> tuple[int, _Listing | None]:
    """Return the number of frames, and their timestamps if they ascend."""
    decoded = [(frame.pts, bool(frame.key_frame)) for frame in frames]
    timestamps = [pts for pts, _ in decoded if pts is not None]
    if not decoded or len(timestamps) < len(decoded) or not _ascend(timestamps):
        return len(decoded), None
    return len(decoded), _Listing(timestamps, [pts for pts, is_keyframe in decoded if is_keyframe and pts is not None])


def _ascend(timestamps: Sequence[int]) -> bool:
    return bool((np.diff(timestamps) > 0).all())


def _rate(stated: float | None, times: Times | None, unit: float) -> float | None:
    """Return the stated rate, or the rate of the times if they differ by more than rounding.

    Args:
        stated: frames per second, or None.
        times: seconds, or None.
        unit: the unit of timestamps, seconds, to which times are rounded.
    """
    if times is None or len(times) < 2:
        return stated
    span = float(times[-1] - times[0])
    measured = (len(times) - 1) / span
    if stated is not None and abs(stated / measured - 1) <= VIDEO_RATE_TOLERANCE + unit / span:
        return stated
    return measured
