"""Films whose frames can be told apart, written by PyAV, and servers that stream them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from mmdistill.toolkit.images import write_image

WIDTH, HEIGHT, BITS = 96, 64, 8
RATE = 25


def numbered(number: int) -> np.ndarray:
    """An RGB image whose columns are the bits of a number, which any codec keeps."""
    bits = number >> np.arange(BITS) & 1
    row = np.repeat(40 + 180 * bits, WIDTH // BITS).astype(np.uint8)
    image = np.repeat(np.tile(row, (HEIGHT, 1))[..., None], 3, axis=2)
    image[: HEIGHT // 2, :, 0] = 128  # none has one color
    return image


def number(image: np.ndarray | None) -> int:
    """The number of an image."""
    assert image is not None
    columns = image[..., 1].reshape(HEIGHT, BITS, -1).mean(axis=(0, 2))
    return int(((columns > 128) << np.arange(BITS)).sum())


def film(
    path: Path | str,
    images: Sequence[np.ndarray],
    codec: str = "libx264",
    *,
    pixels: str = "yuv420p",
    milliseconds: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, Any] | None = None,
    live: bool = False,
) -> Path:
    """Write a film.

    Args:
        path: the file, or the address of a receiver.
        images: RGB of 8 bits, or gray of the depth of ``pixels``.
        codec: FFmpeg's name of the encoder.
        pixels: FFmpeg's name of the stored format.
        milliseconds: the frames' times; by default 25 frames per second.
        options: of the encoder.
        container: arguments of ``av.open``.
        live: whether frames are sent at their times.
    """
    with av.open(str(path), "w", **(container or {})) as file:
        stream = file.add_stream(codec, rate=RATE, options=options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        if milliseconds is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24" if image.ndim == 3 else pixels)
            frame.pts = index if milliseconds is None else milliseconds[index]
            frame.time_base = Fraction(1, RATE if milliseconds is None else 1000)
            file.mux(stream.encode(frame))
            if live:
                time.sleep(1 / RATE)
        file.mux(stream.encode())
    return Path(path)


def numbered_film(path: Path, count: int, rate: float) -> Path:
    """Write a film of numbered frames by OpenCV, in the codec of the suffix."""
    code = "mp4v" if path.suffix == ".mp4" else "MJPG"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), rate, (WIDTH, HEIGHT))
    for each in range(count):
        writer.write(numbered(each))
    writer.release()
    return path


def numbered_folder(path: Path, stems: Sequence[str]) -> Path:
    """Write a folder of numbered images with these names."""
    for each, stem in enumerate(stems):
        write_image(path / f"{stem}.png", numbered(each))
    return path


@contextmanager
def web_server(folder: Path, *, live: int = 0) -> Iterator[str]:
    """Serve the files of a folder, by parts on request; at ``/live`` an endless film of JPEG.

    Args:
        folder: the folder.
        live: after so many frames the film ends; 0 is never.
    """

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/live":
                return self._stream()
            file = folder / self.path[1:]
            if not file.is_file():
                return self.send_error(404)
            data = file.read_bytes()
            start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self._send(data[start:])
            return None

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            count = 0
            while not live or count < live:
                jpeg = cv2.imencode(".jpg", numbered(count % 256)[..., ::-1])[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                if not self._send(head + jpeg + b"\r\n"):
                    return
                count += 1
                time.sleep(0.01)

        def _send(self, data: bytes) -> bool:
            try:
                self.wfile.write(data)
            except OSError:
                return False
            return True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def rtsp_server(images: Sequence[np.ndarray]) -> Iterator[str]:
    """Serve one film in real time to one client, by RTSP (RFC 2326) with RTP inside the same connection."""
    server = socket.create_server(("127.0.0.1", 0))
    address = f"rtsp://127.0.0.1:{server.getsockname()[1]}/film"
    thread = threading.Thread(target=_serve_rtsp, args=(server, address, images), daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.close()
        thread.join(10)


def _serve_rtsp(server: socket.socket, address: str, images: Sequence[np.ndarray]) -> None:
    description = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=film\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    description += "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
    try:
        client = server.accept()[0]
    except OSError:
        return
    with client, client.makefile("rb") as requests:
        while request := _rtsp_request(requests):
            method, sequence = request
            extra = {
                "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n",
                "DESCRIBE": f"Content-Base: {address}/\r\nContent-Type: application/sdp\r\n",
                "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
            }.get(method, "Session: 1\r\n")
            body = description if method == "DESCRIBE" else ""
            head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
            client.sendall((head + body).encode())
            if method == "PLAY":
                _send_rtp(client, images)
                return


def _rtsp_request(requests: Any) -> tuple[str, str] | None:
    """Return method and number of the next request; None if the client is gone."""
    method = requests.readline().split(b" ")[0].decode()
    sequence = ""
    while (line := requests.readline().strip()) and method:
        name, _, value = line.partition(b":")
        sequence = value.strip().decode() if name.lower() == b"cseq" else sequence
    return (method, sequence) if method else None


def _send_rtp(client: socket.socket, images: Sequence[np.ndarray]) -> None:
    """Send a film as FFmpeg packs it for RTP; a socket of UDP takes the packets, which go on inside the connection."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(0.5)
    address = f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1200"
    options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "repeat-headers=1:keyint=10"}
    arguments = {"options": options, "container": {"format": "rtp"}, "live": True}
    sender = threading.Thread(target=film, args=(address, images), kwargs=arguments, daemon=True)
    sender.start()
    try:
        while sender.is_alive():
            packet = receiver.recv(2048)
            client.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
    except OSError:
        pass
    receiver.close()
    sender.join(10)
