"""Decodes video by PyAV, which is FFmpeg: containers, decoders, and frames as pixels.

PyAV is imported when the first video is opened: importing takes a tenth of a second, and ``--help`` does not need it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import check_size
from mmdistill.toolkit.thermal import Pixels

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Threads = Literal["AUTO", "SLICE"]
"""How a decoder uses threads. ``AUTO``: several frames at once, which is faster. ``SLICE``: one frame after the other,
without delay; an error belongs to the frame at hand."""


class DecodingError(Exception):
    """A recording can't be read any further; the text says why."""


class Decoder:
    """An open video.

    Args:
        address: what FFmpeg opens: ``file:`` and a path, or the address of a stream.
        where: the video's name, for errors.
        threads: how threads are used.
        options: options of FFmpeg's protocols and containers.
        timeout: maximum times to wait when opening and when reading, seconds; None for files.

    Attributes:
        where: the video's name.
        threads: how threads are used.
        container: the container of PyAV.
        stream: the video's stream in the container.

    Raises:
        DataError: the video can't be opened, has no pictures, or pictures above the size limit.
    """

    container: InputContainer
    stream: VideoStream

    def __init__(
        self,
        address: str,
        where: str,
        *,
        threads: Threads = "AUTO",
        options: dict[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
    ) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self.where, self.threads = where, threads
        self._reformatter = VideoReformatter()  # one for all frames: preparing the conversion takes longer than it
        self._errors = av.FFmpegError
        self._read_errors = (OSError, av.ExitError, av.HTTPError)
        start = time.monotonic()
        try:
            self.container = av.open(address, options=options or {}, timeout=timeout, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            too_late = timeout is not None and time.monotonic() - start >= timeout[0]
            reason = "no answer in time" if too_late else explain(error)
            raise DataError(f"{where}: cannot open the video: {reason}") from error
        try:
            self.stream = _video_stream(self.container, where)
            check_size(self.stream.codec_context.width, self.stream.codec_context.height, where)
        except DataError:
            self.container.close()
            raise
        self.stream.thread_type = threads

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Read the encoded frames in the order of the file; the iteration ends where the file is damaged.

        Raises:
            DataError: reading fails, as of a disk or a connection.
        """
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet
        except self._errors as error:
            if isinstance(error, self._read_errors):
                raise DataError(f"{self.where}: cannot read the video: {explain(error)}") from error

    def frames(self) -> Iterator[VideoFrame | None]:
        """Decode frames in the order of presentation; None for data that can't be decoded.

        Raises:
            DecodingError: the container can't be read any further.
        """
        try:
            for packet in self.container.demux(self.stream):
                try:
                    frames: list[VideoFrame | None] = [*packet.decode()]
                except self._errors:
                    frames = [None]
                yield from frames
        except self._errors as error:
            raise DecodingError(explain(error)) from error

    def seek(self, timestamp: int) -> None:
        """Move to the last keyframe at or before a time in units of the stream.

        Raises:
            DecodingError: the container can't be read from there on.
        """
        try:
            self.container.seek(timestamp, stream=self.stream)
        except self._errors as error:
            raise DecodingError(explain(error)) from error

    def to_pixels(self, frame: VideoFrame) -> Pixels:
        """Return a decoded frame as an image: ``(H, W)`` for gray of more than 8 bits, else ``(H, W, 3)`` in BGR order.

        RGB of more than 8 bits is scaled to 16 bits. Other color is converted to 8 bits by the color space that the
        video states. A rotation in the container's metadata, as phones write it, is applied.
        """
        name = frame.format.name
        if name.startswith("gray") and name not in ("gray", "gray8"):
            pixels = _plane(frame, name)
        elif frame.format.is_rgb and max(component.bits for component in frame.format.components) > 8:
            pixels = np.ascontiguousarray(self._reformatter.reformat(frame, format="rgb48le").to_ndarray()[..., ::-1])
        else:
            pixels = self._reformatter.reformat(frame, format="bgr24").to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90)) if frame.rotation % 360 else pixels

    def close(self) -> None:
        """Close the container; the stream must not be used any more."""
        self.container.close()


def explain(error: Exception) -> str:
    """Return the reason in an error of PyAV, without its number and the address, which may have a password."""
    if type(error).__name__ == "ExitError":  # how PyAV ends what takes longer than its timeout
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error)


def _plane(frame: VideoFrame, name: str) -> Pixels:
    """Return the only plane of a gray frame ``(H, W)``."""
    plane = frame.planes[0]
    order = ">" if name.endswith("be") else "<"
    kind: Any = {"grayf32": "f4", "grayf16": "f2"}.get(name.removesuffix("le").removesuffix("be"), "u2")
    rows = np.frombuffer(memoryview(plane), order + kind).reshape(plane.height, -1)
    return np.ascontiguousarray(rows[:, : plane.width].astype(kind))


def _video_stream(container: InputContainer, where: str) -> VideoStream:
    """Return the stream of the video; pictures that are attached, such as the cover of a song, are none."""
    best = container.streams.best("video")
    if best is None:
        raise DataError(f"{where}: expected a video, it has no pictures")
    if best.codec_context is None:
        raise DataError(f"{where}: FFmpeg has no decoder for this video")
    return cast("VideoStream", best)
