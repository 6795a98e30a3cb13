"""Lines of JSON for each tracked frame."""

from __future__ import annotations

import errno
import io
import json

import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.toolkit.frame_stream import FrameStream
from mmdistill.toolkit.tracking_loop import TrackedFrame, as_reading

READING = as_reading(Pair(np.zeros((60, 80, 3), np.uint8), None))


def frame(number: int, score: float = 0.75, box: float = 5.0, time: float | None = None) -> TrackedFrame:
    reading = READING._replace(time=time)
    return TrackedFrame(number, reading, np.array([box, 6, 20, 10.12349]), score, "normal", 0.0312345678)


class Pipe(io.StringIO):
    """Counts flushes, and fails from some write on."""

    def __init__(self, fails_at: int = 99, error: int = errno.EPIPE) -> None:
        super().__init__()
        self.flushed = ""
        self._left, self._error = fails_at, error

    def write(self, text: str) -> int:
        self._left -= 1
        if self._left < 0:
            raise OSError(self._error, "cannot write")
        return super().write(text)

    def flush(self) -> None:
        self.flushed = self.getvalue()


def test_each_line_is_written_at_once() -> None:
    pipe = Pipe()
    stream = FrameStream(pipe)
    for number in (1, 2, 3):
        stream.write(frame(number, time=number / 4))
        assert [json.loads(line)["frame"] for line in pipe.flushed.splitlines()] == list(range(1, number + 1))
    assert json.loads(pipe.flushed.splitlines()[-1]) == {
        "frame": 3,
        "time": 0.75,
        "box": [5.0, 6.0, 20.0, 10.123],
        "score": 0.75,
        "flag": "normal",
        "seconds": 0.031235,
    }


def test_what_is_no_number_is_null() -> None:
    pipe = Pipe()
    FrameStream(pipe).write(frame(2, score=float("nan"), box=float("inf")))
    assert "NaN" not in pipe.flushed
    written = json.loads(pipe.flushed)
    assert (written["time"], written["score"], written["box"][0]) == (None, None, None)


@pytest.mark.parametrize("error", [errno.EPIPE, errno.EINVAL])
def test_a_reader_may_close_its_pipe(error: int) -> None:
    pipe = Pipe(1, error)
    stream = FrameStream(pipe)
    stream.write(frame(1))
    assert not stream.closed
    for number in (2, 3):
        stream.write(frame(number))
        assert stream.closed
    assert len(pipe.getvalue().splitlines()) == 1


def test_a_full_disk_is_an_error() -> None:
    with pytest.raises(OSError, match="cannot write"):
        FrameStream(Pipe(0, errno.ENOSPC)).write(frame(1))
