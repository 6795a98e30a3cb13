"""Streams from servers of this computer: HTTP with JPEG, RTSP with H.264, MPEG-TS over UDP."""

from __future__ import annotations

import re
import socket
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.video import CameraFrames, Frames, NetworkStream, open_frames, open_input
from mmdistill.toolkit.video.network_stream import is_address, without_password
from tests.toolkit.video.films import film, number, numbered, rtsp_server, web_server


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "://" in thread.name]


def test_a_slow_reader_of_http_gets_the_newest_frame(tmp_path: Path) -> None:
    with web_server(tmp_path) as address:
        stream = NetworkStream(f"{address}/live")
        try:
            assert stream.frame().shape == numbered(0).shape
            time.sleep(0.4)
            numbers = [number(stream.frame()) for _ in range(5)]
        finally:
            stream.close()
    assert numbers[0] > 10, "those in between are gone"
    assert (np.diff(numbers) > 0).all()
    assert not threads()


@pytest.mark.slow
def test_rtsp() -> None:
    with rtsp_server([numbered(index) for index in range(30)]) as address:
        frames = open_input(address)
        assert isinstance(frames, CameraFrames)
        assert frames.length is None
        numbers: list[int] = []
        with pytest.raises(DataError, match=rf"^{address}: the stream (ended|broke off) after \d+ frames"):
            numbers.extend(number(reading.images.rgb) for reading in frames)
        frames.close()
    assert len(numbers) > 10
    assert (np.diff(numbers) > 0).all()
    assert numbers[-1] == 29


@pytest.mark.slow
def test_mpeg_ts_over_udp() -> None:
    address = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    images = [numbered(index) for index in range(40)]
    options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "repeat-headers=1:keyint=5"}
    arguments = {"options": options, "container": {"format": "mpegts"}, "live": True}
    sender = threading.Thread(target=film, args=(f"{address}?pkt_size=1316", images), kwargs=arguments)
    sender.start()
    stream = NetworkStream(address, timeout=0.5)
    numbers: list[int] = []
    with pytest.raises(DataError, match=r"udp://.*: the stream .*(0\.5 seconds|in time)"):
        numbers.extend(number(stream.frame()) for _ in count())
    sender.join()
    assert len(numbers) > 10
    assert (np.diff(numbers) > 0).all()


@pytest.mark.slow
def test_rgb_and_tir_from_two_streams_until_both_end(tmp_path: Path) -> None:
    with web_server(tmp_path, live=40) as rgb, web_server(tmp_path) as tir:
        frames = open_input(f"{rgb}/live", f"{tir}/live", on_broken="skip")
        states = []
        for reading in frames:
            states.append(reading.states)
            if reading.states.rgb == "broken":
                break
        assert states[0] == ("seen", "seen")
        assert states[-1] == ("broken", "seen")
        assert re.match(rf"{rgb}/live: the stream (ended|broke off) after 40 frames", reading.problem)
        frames.close()
    assert not threads()


def test_a_file_on_a_web_server_is_a_recording(tmp_path: Path) -> None:
    """All of its frames count, so none is left out for a slow reader."""
    film(tmp_path / "x.mp4", [numbered(index) for index in range(60)], options={"g": "20"})
    with web_server(tmp_path) as address:
        frames = open_input(f"{address}/x.mp4", tir=str(tmp_path / "x.mp4"))
        assert isinstance(frames, Frames)
        assert len(frames) == 60
        readings = list(frames)
        assert [number(reading.images.rgb) for reading in readings] == list(range(60))
        assert [number(reading.images.tir) for reading in readings] == list(range(60))
        assert number(frames.frame(3).rgb) == 3
        with pytest.raises(DataError, match=r"^http://.*/none\.mp4: cannot open the video: .*404"):
            open_input(f"{address}/none.mp4")


def test_addresses_that_cannot_be_opened() -> None:
    port = free_port(socket.SOCK_STREAM)
    for scheme in ("rtsp", "http"):
        with pytest.raises(DataError, match=rf"^{scheme}://127\.0\.0\.1:{port}/x: cannot open the video: .*refused"):
            open_input(f"{scheme}://me:secret@127.0.0.1:{port}/x")
    with pytest.raises(DataError, match=r"^ftp://host/x: expected rtsp://, .*http://"):
        open_input("ftp://me:secret@host/x")
    assert not threads()


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdistill.toolkit.video.network_stream.OPEN_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        start = time.perf_counter()
        with pytest.raises(DataError, match="cannot open the video: no answer in time"):
            NetworkStream(address, timeout=0.3)
        assert time.perf_counter() - start < 3


def test_a_stream_does_not_mix_with_a_recording(tmp_path: Path) -> None:
    write_image(tmp_path / "tir" / "1.png", numbered(1))
    with web_server(tmp_path) as address:
        with pytest.raises(
            DataError, match=rf"expected two cameras or two recordings, got {address}/live for RGB and .*tir"
        ):
            open_input(f"{address}/live", str(tmp_path / "tir"))
        with pytest.raises(DataError, match="--pair-by time: expected two recordings"):
            open_input(f"{address}/live", f"{address}/live", pair_by="time")
        with pytest.raises(DataError, match=r"/live: expected a recording, got a live stream"):
            open_frames(f"{address}/live")


@pytest.mark.parametrize(
    ("source", "address"),
    [("rtsp://host/x", True), ("HTTP://host/x", True), ("clip/rgb", False), ("c:/clip", False), ("0", False)],
)
def test_what_is_an_address(source: str, address: bool) -> None:
    assert is_address(source) is address


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("rtsp://me:a@b@host:1/x?u=me@home", "rtsp://host:1/x?u=me@home"),
        ("http://host/a@b", "http://host/a@b"),
        ("clip/a@b", "clip/a@b"),
    ],
)
def test_passwords_are_not_shown(given: str, shown: str) -> None:
    assert without_password(given) == shown
