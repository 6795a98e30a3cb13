"""The outputs of ``mmdistill track`` for each frame: files, annotated video, lines on standard output, live window."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from mmdistill.cli.windows import open_window
from mmdistill.toolkit.data_issues import printable
from mmdistill.toolkit.drawing import Panel, draw_frame_pair
from mmdistill.toolkit.frame_stream import FrameStream
from mmdistill.toolkit.interruption import Interruption
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.track_output import TrackOutput
from mmdistill.toolkit.tracking_loop import TrackedFrame
from mmdistill.toolkit.video import Reading, VideoWriter

if TYPE_CHECKING:
    from mmdistill.cli.live_window import LiveWindow

logger = logging.getLogger(__name__)


class FrameOutputs:
    """Writes each frame to every output that was asked for.

    Args:
        files: Boxes, scores and the summary.
        drawing: Draws the annotated picture of a frame.
        video: The annotated video, or None.
        stream: The lines on standard output, or None.
        window: The live window, or None.
    """

    def __init__(
        self,
        files: TrackOutput,
        drawing: FrameDrawing,
        video: VideoWriter | None,
        stream: FrameStream | None,
        window: LiveWindow | None,
    ) -> None:
        self._files, self._drawing = files, drawing
        self._video, self._stream, self._window = video, stream, window

    def write(self, frame: TrackedFrame) -> bool:
        """Write a frame; return whether a reader or the user asked to end the run."""
        self._files.append(frame)
        if frame.reading.problem:
            logger.warning("frame %d: %s", frame.number, frame.reading.problem)
        if self._stream is not None:
            self._stream.write(frame)
        picture: Image | None = None
        if self._video is not None:
            picture = self._drawing(frame)
            self._video.write(picture)
        if self._window is not None:
            self._window.update(lambda: self._drawing(frame) if picture is None else picture)
        reason = self._reason_to_stop()
        if reason:
            self._files.stop(f"{reason} after frame {frame.number}")
        return bool(reason)

    def _reason_to_stop(self) -> str:
        if self._stream is not None and self._stream.closed:
            return "the reader of --stream closed it"
        if self._window is not None and self._window.stopped:
            return "ended in the window"
        return ""


class FrameDrawing:
    """Draws the frames of one video with the same panels and size.

    Args:
        panels: The images side by side.
        first: The first frame, for the size.
        frames: The video's number of frames; None if unknown.
    """

    def __init__(self, panels: Sequence[Panel], first: Reading, frames: int | None) -> None:
        self._panels = panels
        self._of = "" if frames is None else f" of {frames}"
        self._size = next(image.shape[1::-1] for image in first.images if image is not None)

    def __call__(self, frame: TrackedFrame) -> Image:
        """Return the annotated picture ``(rows, columns, 3)``, RGB, of a frame."""
        return draw_frame_pair(
            frame.reading.images,
            {"mmdistill": frame.box},
            score=None if frame.flag == "skipped" else frame.score,
            caption=f"frame {frame.number}{self._of}",
            flag=frame.flag,
            response=frame.response,
            states=frame.reading.states,
            panels=self._panels,
            size=self._size,
        )


class OutcomeLine:
    """Prints a line about the run when it ends, also after Ctrl-C; a context manager around the others.

    Args:
        files: The run's files, whose folder is named.
        file: Where the line is printed; None prints nothing.
    """

    def __init__(self, files: TrackOutput, file: TextIO | None) -> None:
        self._files, self._file = files, file

    def __enter__(self) -> OutcomeLine:
        return self

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not self._files.frames or not (error is None or isinstance(error, Interruption)):
            return
        if self._files.hint:
            logger.warning("%s", self._files.hint)
        if self._file is None:  # print would choose standard output
            return
        rate = f"{self._files.tracking_rate:.1f} frames per second"
        print(f"{printable(self._files.folder)}: {self._files.outcome}, {rate}", file=self._file)


def open_live_window() -> LiveWindow:
    """Open the live window.

    Raises:
        DataError: There is no screen, or no window toolkit.
    """
    from mmdistill.cli.live_window import TITLE, LiveWindow

    return LiveWindow(open_window(TITLE, "--show", "leave it out, and see the video in --out", toolbar=False))
