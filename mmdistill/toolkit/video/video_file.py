"""Reads video files, and recordings at an address, as frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import SUFFIXES
from mmdistill.toolkit.images import check_pixels
from mmdistill.toolkit.io import check_regular_file
from mmdistill.toolkit.thermal import Pixels
from mmdistill.toolkit.video.decoding import Decoder, DecodingError, Threads
from mmdistill.toolkit.video.frame_index import index_frames
from mmdistill.toolkit.video.image_sequences import IndexedImages
from mmdistill.toolkit.video.network_stream import open_address, without_password
from mmdistill.toolkit.video.pairing import VIDEO_RATE_TOLERANCE
from mmdistill.toolkit.video.reading import Times
from mmdistill.toolkit.video.recording_length import describe_truncation

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MIN_SEEK_FRAMES = 25
"""Smallest number of frames that a seek must save; decoding so few is as fast."""


class VideoFile(IndexedImages):
    """The frames of a video file; frames of more than 8 bits of gray share a range, see ``ThermalRange``.

    Opening reads the whole file once, without decoding it. Reading forward is fast; other frames are decoded from the
    keyframe before them. A truncated file has its stated length, and its missing frames are broken.

    Args:
        path: the file.

    Attributes:
        where: the file's name, for errors.
        rate: frames per second, as the file or its times state; None if neither does.
        truncation: a description of a truncated file; else empty.
        available: number of decodable frames.

    Raises:
        DataError: the file is missing, is an image, or can't be decoded as a video.
    """

    named_by_time = False
    rate_tolerance = VIDEO_RATE_TOLERANCE

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.where = str(path)
        self._path = self._local_file(path)
        self._index = index_frames(self._open)
        # Frames without timestamps are counted, so none may get lost.
        self._threads: Threads = "SLICE" if self._index.timestamps is None else "AUTO"
        self.available, self.rate = self._index.num_frames, self._index.rate
        if not self.available:
            raise DataError(f"{self.where}: the video has no frame that can be decoded")
        self.truncation = self._describe_truncation()
        self._length = max(self._index.stated or 0, self.available) if self.truncation else self.available
        self._decoder: Decoder | None = None
        self._frames: Iterator[VideoFrame | None] = iter(())
        self._next = 0
        self._ahead: tuple[int, VideoFrame] | None = None

    def __len__(self) -> int:
        return self._length

    def times(self) -> Times | None:
        """Return the presentation time of each decodable frame ``(T,)``, seconds from the first; None if unknown."""
        if self._index.times is None and self.rate is not None:
            return np.arange(self.available) / self.rate
        return self._index.times

    def time(self, index: int) -> float | None:
        """Return the presentation time of frame ``index`` (from 0), seconds from the first; None if unknown."""
        if self._index.times is not None:
            return float(self._index.times[index]) if index < self.available else None
        return None if self.rate is None else index / self.rate

    def _local_file(self, path: str | Path) -> Path | None:
        """Return the file, if it can be a video; None if the video is elsewhere."""
        path = Path(path)
        if not path.exists():
            raise DataError(f"{path}: expected a folder of images or a video file, there is none")
        check_regular_file(path)
        if path.suffix.lower() in SUFFIXES:
            raise DataError(f"{path}: expected a folder of images or a video file, got one image")
        return path

    def _open(self, threads: Threads) -> Decoder:
        return Decoder(f"file:{self._path}", self.where, threads=threads)

    def _describe_truncation(self) -> str:
        times = self.times()
        if self._index.stated is None or self.rate is None or times is None:
            return ""
        return describe_truncation(
            self._path, self.where, self._index.stated, self.available, float(times[-1]), self.rate
        )

    def _pixels(self, index: int) -> Pixels:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.where}: frame {index} of {len(self)}")
        if index >= self.available:
            raise DataError(self.truncation)
        try:
            frame = self._decode(index)
        except DecodingError as error:
            raise DataError(f"{self.where}: cannot read frame {index + 1} of {len(self)}: {error}") from error
        if frame is None:
            raise DataError(f"{self.where}: cannot decode frame {index + 1} of {len(self)}")
        assert self._decoder is not None
        pixels = self._decoder.to_pixels(frame)
        check_pixels(pixels, f"{self.where}: frame {index + 1}")
        return pixels

    def _decode(self, index: int) -> VideoFrame | None:
        """Return a frame, or None if it is damaged."""
        saved = self._keyframe_before(index)[0] - self._next
        if self._decoder is None or index < self._next or saved >= MIN_SEEK_FRAMES:
            self._move_to(index)
        while (item := self._take()) is not None:
            position, frame = item
            if position == index:
                return frame
            if position > index:
                self._ahead, self._next = item, position
                break
        if self._threads == "AUTO":
            # With several frames at once, a damaged one may take others with it: decode again one by one.
            self._threads = "SLICE"
            self._move_to(index)
            return self._decode(index)
        return None

    def _take(self) -> tuple[int, VideoFrame] | None:
        """Return the next frame that can be decoded, with its index; None at the end."""
        item, self._ahead = self._ahead, None
        while item is None:
            try:
                frame = next(self._frames)
            except StopIteration:
                return None
            position = None if frame is None else self._position(frame)
            if frame is not None and position is not None:
                item = position, frame
        self._next = item[0] + 1
        return item

    def _position(self, frame: VideoFrame) -> int | None:
        """Return a decoded frame's index, or None if it is not listed; without timestamps, frames are counted."""
        timestamps = self._index.timestamps
        if timestamps is None:
            return self._next
        position = int(np.searchsorted(timestamps, -1 if frame.pts is None else frame.pts))
        return position if position < len(timestamps) and timestamps[position] == frame.pts else None

    def _move_to(self, index: int) -> None:
        """Continue at the last keyframe at or before a frame, or at the start."""
        position, timestamp = self._keyframe_before(index)
        if self._decoder is None or self._decoder.threads != self._threads:
            self._restart()
            if position < MIN_SEEK_FRAMES:
                return
        if not position or not self._seek(timestamp, index):
            self._restart()

    def _seek(self, timestamp: int, index: int) -> bool:
        """Continue at a timestamp, and return whether a frame is reached from there."""
        assert self._decoder is not None
        try:
            self._decoder.seek(timestamp)
        except DecodingError:
            return False
        self._frames, self._ahead = self._decoder.frames(), None
        first = self._take()
        if first is None or first[0] > index:  # the container's own index is wrong
            return False
        self._ahead, self._next = first, first[0]
        return True

    def _restart(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = self._open(self._threads)
        self._frames, self._ahead, self._next = self._decoder.frames(), None, 0

    def _keyframe_before(self, index: int) -> tuple[int, int]:
        """Return index and timestamp of the last keyframe at or before a frame; zeros if there is none."""
        timestamps, keyframes = self._index.timestamps, self._index.keyframes
        if timestamps is None:
            return 0, 0
        number = int(np.searchsorted(keyframes, timestamps[index], side="right")) - 1
        if number < 0:
            return 0, 0
        return int(np.searchsorted(timestamps, keyframes[number])), int(keyframes[number])


class WebVideo(VideoFile):
    """The frames of a video file on a web server; see ``VideoFile``.

    Opening reads the whole file; it is read again frame by frame.

    Args:
        address: begins with ``http://`` or ``https://``.

    Raises:
        DataError: the address can't be opened, or is no recording.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__(address)

    def _local_file(self, path: str | Path) -> None:
        self.where = without_password(str(path))

    def _open(self, threads: Threads) -> Decoder:
        return open_address(self._address, threads=threads)
