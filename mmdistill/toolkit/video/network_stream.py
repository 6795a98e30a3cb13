"""Reads live video from an address in the network, such as ``rtsp://camera/stream``."""

from __future__ import annotations

import re
from contextlib import closing
from urllib.parse import urlsplit

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.thermal import Pixels
from mmdistill.toolkit.video.decoding import Decoder, DecodingError, Threads
from mmdistill.toolkit.video.live import LiveSource

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "http", "https")
"""How addresses begin that can be read."""

OPEN_TIMEOUT = 10.0
"""Maximum time to connect and to receive the first frames, seconds."""

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/]*@")
_OPTIONS = {"rtsp": {"rtsp_flags": "prefer_tcp"}, "rtsps": {"rtsp_flags": "prefer_tcp"}}
"""Over UDP, lost packets damage frames; it is used where a camera offers nothing else."""


def is_address(source: str) -> bool:
    """Return whether a source is an address in the network, not a file.

    Raises:
        DataError: addresses of this kind can't be read.
    """
    match = _ADDRESS.match(source)
    if match is None:
        return False
    if match[1].lower() not in SCHEMES:
        raise DataError(f"{without_password(source)}: expected {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    return True


def is_recording(address: str) -> bool:
    """Return whether an address is a recording, a file on a web server: it states its duration.

    Raises:
        DataError: the address can't be opened.
    """
    if urlsplit(address).scheme.lower() not in ("http", "https"):
        return False
    with closing(open_address(address)) as decoder:
        return decoder.container.duration is not None


def open_address(address: str, *, timeout: float = OPEN_TIMEOUT, threads: Threads = "SLICE") -> Decoder:
    """Open an address.

    Args:
        address: begins with one of ``SCHEMES``.
        timeout: maximum time to wait for data, seconds; to connect, at least ``OPEN_TIMEOUT``.
        threads: how threads are used; ``SLICE`` decodes without delay.

    Raises:
        DataError: the address can't be opened.
    """
    options = _OPTIONS.get(urlsplit(address).scheme.lower(), {})
    timeouts = max(timeout, OPEN_TIMEOUT), timeout
    return Decoder(address, without_password(address), threads=threads, options=options, timeout=timeouts)


def without_password(address: str) -> str:
    """Return an address without user and password, for errors and files.

    >>> without_password("rtsp://admin:secret@10.0.0.7:554/live?channel=1")
    'rtsp://10.0.0.7:554/live?channel=1'
    """
    return _PASSWORD.sub("://", address)


class NetworkStream(LiveSource):
    """The newest frame of a stream; see ``LiveSource``.

    Args:
        address: begins with one of ``SCHEMES``. User and password go before the host: ``rtsp://user:password@host/``.
        timeout: maximum time to wait for a frame, seconds.

    Raises:
        DataError: the address can't be opened, or has no video.
    """

    def __init__(self, address: str, *, timeout: float = 5.0) -> None:
        super().__init__(without_password(address), timeout)
        self._decoder = open_address(address, timeout=timeout)
        self._frames = self._decoder.frames()
        self._end = ""
        self._count = 0
        self._start()

    def _read(self) -> Pixels | None:
        try:
            for frame in self._frames:
                if frame is not None:  # else it was damaged on its way
                    self._count += 1
                    return self._decoder.to_pixels(frame)
            self._end = f"the stream ended after {self._count} frames"
        except DecodingError as error:
            self._end = f"the stream broke off after {self._count} frames: {error}"
        return None

    def _release(self) -> None:
        self._decoder.close()

    def _reason(self) -> str:
        return self._end or f"the stream gave no frame for {self._timeout:g} seconds"
