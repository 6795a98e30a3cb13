"""Video files of many codecs and containers: frames by index, times, depths, rotation, damage."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.thermal import ThermalRange, stretch
from mmdistill.toolkit.video import VideoFile, open_frames
from mmdistill.toolkit.video.decoding import Decoder
from tests.toolkit.video.films import HEIGHT, WIDTH, film, number, numbered

KINDS = {
    "h264.mp4": ("libx264", {"g": "12", "bf": "3", "sc_threshold": "0"}),
    "open-groups.mkv": ("libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3:scenecut=0:log-level=none"}),
    "h264.avi": ("libx264", {"bf": "2"}),  # its packets have the timestamps of other frames
    "raw.h264": ("libx264", {"bf": "2"}),  # no timestamps
    "broadcast.ts": ("libx264", {"g": "12"}),
    "fields.ts": ("mpeg2video", {"flags": "+ildct+ilme", "g": "12", "bf": "2"}),
    "vp8.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp9.webm": ("libvpx-vp9", {"lag-in-frames": "16", "cpu-used": "8"}),
    "mpeg4.avi": ("mpeg4", {"bf": "2"}),
    "jpeg.avi": ("mjpeg", {}),
    "lossless.mkv": ("ffv1", {}),
}


def record(folder: Path, name: str, count: int = 60) -> Path:
    codec, options = KINDS[name]
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return film(folder / name, [numbered(each) for each in range(count)], codec, pixels=pixels, options=options)


@pytest.mark.parametrize("name", KINDS)
def test_any_frame_at_any_time(tmp_path: Path, name: str) -> None:
    video = VideoFile(record(tmp_path, name))
    assert len(video) == video.available == 60
    assert video.truncation == ""
    assert video.rate == pytest.approx(25)
    in_order = [video.frame(index) for index in range(60)]
    assert [number(image) for image in in_order] == list(range(60))
    for index in (59, 0, 31, 32, 5, 58, 12, 11, 11, 40):
        np.testing.assert_array_equal(video.frame(index), in_order[index])
    times = video.times()
    assert times is not None
    np.testing.assert_allclose(times, np.arange(60) / 25, atol=6e-4)  # Matroska rounds to milliseconds
    with pytest.raises(IndexError, match="frame 60 of 60"):
        video.frame(60)


def test_reading_forward_decodes_each_frame_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = VideoFile(record(tmp_path, "h264.mp4"))
    opened: list[str] = []
    seeks: list[int] = []
    open_, seek = Decoder.__init__, Decoder.seek
    monkeypatch.setattr(Decoder, "__init__", lambda self, *a, **k: (opened.append(a[0]), open_(self, *a, **k))[1])
    monkeypatch.setattr(Decoder, "seek", lambda self, at: (seeks.append(at), seek(self, at))[1])
    assert [number(video.frame(index)) for index in (0, 1, 2, 5, 9, 20)] == [0, 1, 2, 5, 9, 20]
    assert (len(opened), len(seeks)) == (1, 0)
    assert number(video.frame(55)) == 55
    assert number(video.frame(50)) == 50
    assert (len(opened), len(seeks)) == (1, 2), "decoded from the keyframe before"
    other = VideoFile(record(tmp_path, "h264.mp4"))
    opened.clear()
    assert number(other.frame(59)) == 59
    assert (len(opened), len(seeks)) == (1, 3), "at once too"


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_frames_have_their_own_times(tmp_path: Path, name: str) -> None:
    """A phone's video: in the dark a frame takes longer."""
    milliseconds = np.cumsum([0, 33, 33, 34, 33, 66, 67, 66, 67, 33, 400, 33, 34]).tolist()
    images = [numbered(each) for each in range(len(milliseconds))]
    video = VideoFile(film(tmp_path / name, images, milliseconds=milliseconds, options={"bf": "2"}))
    np.testing.assert_allclose(video.times(), np.array(milliseconds) / 1000, atol=1e-6)
    assert video.truncation == ""
    assert video.rate == pytest.approx(12 / (milliseconds[-1] / 1000), rel=0.02)
    frames = open_frames(
        tmp_path / name, film(tmp_path / "y.mp4", [numbered(each) for each in range(23)]), pair_by="time"
    )
    for index, reading in enumerate(frames):
        wanted = milliseconds[index] / 40
        assert number(reading.images.rgb) == index
        assert abs(number(reading.images.tir) - wanted) <= 0.5 + 1e-6


@pytest.mark.parametrize(("pixels", "bits"), [("gray10le", 10), ("gray12le", 12), ("gray14le", 14), ("gray16le", 16)])
def test_deep_gray_is_stretched_as_thermal_images_are(tmp_path: Path, pixels: str, bits: int) -> None:
    random = np.random.default_rng(0)
    base = random.integers(2 ** (bits - 1), 2 ** (bits - 1) + 300, (HEIGHT, WIDTH))
    stored = [(base + index).astype(np.uint16) for index in range(30)]
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for image in stored:
            frame = av.VideoFrame(WIDTH, HEIGHT, pixels)
            rows = np.zeros((HEIGHT, frame.planes[0].line_size // 2), "<u2")
            rows[:, :WIDTH] = image
            frame.planes[0].update(rows.tobytes())
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    video = VideoFile(path)
    shared = ThermalRange()
    shared.measure(0, stored[0])
    shared.measure(25, stored[25])
    for index in (29, 0, 24, 26):
        limits = shared.at(index, stored[index])
        assert limits is not None
        expected = stretch(stored[index], limits)
        np.testing.assert_array_equal(video.frame(index), np.repeat(expected[..., None], 3, axis=2))
        assert len(np.unique(expected)) > 150


def test_8_bit_gray_keeps_its_values(tmp_path: Path) -> None:
    stored = np.arange(HEIGHT * WIDTH, dtype=np.int64).reshape(HEIGHT, WIDTH) % 256
    video = VideoFile(film(tmp_path / "x.mkv", [stored.astype(np.uint8)], "ffv1", pixels="gray"))
    np.testing.assert_array_equal(video.frame(0)[..., 1], stored)


def test_deep_rgb_keeps_its_high_byte(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    with av.open(str(tmp_path / "x.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb48le"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb48le")))
        file.mux(stream.encode())
    np.testing.assert_array_equal(VideoFile(tmp_path / "x.mkv").frame(0), stored // 256)


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_a_rotation_in_the_metadata_is_applied(tmp_path: Path, matrix: tuple[int, ...], turns: int) -> None:
    """Phones store pictures as the sensor reads them, and how to turn them."""
    upright = VideoFile(film(tmp_path / "x.mp4", [numbered(5)] * 3)).frame(2)
    data = bytearray((tmp_path / "x.mp4").read_bytes())
    a, b, c, d = (65536 * each for each in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    turned = VideoFile(tmp_path / "turned.mp4").frame(2)
    np.testing.assert_array_equal(turned, np.rot90(upright, turns))
    by_opencv = cv2.VideoCapture(str(tmp_path / "turned.mp4")).read()[1]
    assert turned.shape == by_opencv.shape
    np.testing.assert_allclose(turned.astype(int), by_opencv[..., ::-1].astype(int), atol=3)


@pytest.mark.parametrize(("primaries", "matrix"), [(1, "ITU709"), (6, "ITU601")])
def test_colors_are_those_of_the_stated_color_space(tmp_path: Path, primaries: int, matrix: str) -> None:
    color = np.full((HEIGHT, WIDTH, 3), (30, 144, 255), np.uint8)
    with av.open(str(tmp_path / "x.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.colorspace = primaries
        frame = av.VideoFrame.from_ndarray(color, format="rgb24")
        file.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=matrix)))
        file.mux(stream.encode())
    np.testing.assert_allclose(VideoFile(tmp_path / "x.mp4").frame(0).astype(int), color, atol=3)


@pytest.mark.parametrize("damaged", [0, 1, 20, 40, 58, 59])
def test_a_damaged_frame_shifts_no_other(tmp_path: Path, damaged: int) -> None:
    """Also where several frames are decoded at once, and at the end, where the decoder gives all it has."""
    path = record(tmp_path, "jpeg.avi")
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]
    end = starts[damaged + 1] - 8 if damaged < 59 else data.index(b"idx1")
    data[starts[damaged] : end] = bytes(end - starts[damaged])
    path.write_bytes(data)
    video = VideoFile(path)
    assert len(video) == 60
    for order in (range(60), (59, 58, 41, 40, 39, 20, 3, 1, 0)):
        for index in order:
            if index == damaged:
                with pytest.raises(DataError, match=rf"jpeg\.avi: cannot decode frame {damaged + 1} of 60"):
                    video.frame(index)
            else:
                assert number(video.frame(index)) == index


def test_a_recording_that_begins_amid_a_group_starts_at_its_first_keyframe(tmp_path: Path) -> None:
    """As of a stream that was saved from some moment on."""
    path = film(
        tmp_path / "x.ts", [numbered(each) for each in range(40)], options={"g": "10", "bf": "0", "sc_threshold": "0"}
    )
    with av.open(str(path)) as whole, av.open(str(tmp_path / "cut.ts"), "w") as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for each, packet in enumerate(whole.demux(video=0)):
            if each >= 4 and packet.size:
                packet.stream = stream
                cut.mux(packet)
    video = VideoFile(tmp_path / "cut.ts")
    assert [number(video.frame(index)) for index in range(len(video))] == list(range(10, 40))


def test_sound_alone_and_the_cover_of_a_song_are_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.mka"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        file.mux(stream.encode(sound))
        file.mux(stream.encode())
    with pytest.raises(DataError, match=r"song\.mka: expected a video, it has no pictures"):
        VideoFile(tmp_path / "song.mka")


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("reordered", ["0", "2"])
def test_a_trimmed_recording_begins_at_the_frame_it_states(tmp_path: Path, codec: str, reordered: str) -> None:
    """The frames before are decoded, as later ones refer to them, but not shown."""
    options = {"g": "40", "bf": reordered, "sc_threshold": "0"}
    film(tmp_path / "x.mp4", [numbered(each) for each in range(40)], codec, options=options)
    data = bytearray((tmp_path / "x.mp4").read_bytes())
    movie, edit, track = (data.index(kind) + 4 for kind in (b"mvhd", b"elst", b"mdhd"))
    scale, rate = (struct.unpack_from(">I", data, at + 12)[0] for at in (movie, track))
    (first,) = struct.unpack_from(">i", data, edit + 12)
    struct.pack_into(">Ii", data, edit + 8, 30 * scale // 25, first + 5 * rate // 25)
    (tmp_path / "x.mp4").write_bytes(data)
    video = VideoFile(tmp_path / "x.mp4")
    assert (len(video), video.truncation) == (30, "")
    assert [number(video.frame(index)) for index in (*range(30), 3, 28, 0)] == [*range(5, 35), 8, 33, 5]
    np.testing.assert_allclose(video.times(), np.arange(30) / 25, atol=1e-6)


@pytest.mark.parametrize("share", [0.97, 0.6])
@pytest.mark.parametrize("reordered", ["0", "3"])
def test_a_cut_recording_of_reordered_frames(tmp_path: Path, share: float, reordered: str) -> None:
    """The frames that can be decoded are all there; the count is that of the file's index."""
    options = {"bf": reordered, "sc_threshold": "0"}
    container = {"container_options": {"movflags": "+faststart"}}
    path = film(tmp_path / "x.mp4", [numbered(each) for each in range(80)], options=options, container=container)
    assert VideoFile(path).truncation == ""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    video = VideoFile(path)
    assert 10 < video.available < 80
    assert (len(video), video.truncation) == (80, f"{path}: states 80 frames, {video.available} can be decoded")
    numbers = [number(video.frame(index)) for index in range(video.available)]
    assert (np.diff(numbers) > 0).all()
    assert numbers[:10] == list(range(10))
    with pytest.raises(DataError, match="states 80 frames"):
        video.frame(video.available)


def test_a_video_of_an_unknown_codec(tmp_path: Path) -> None:
    data = bytearray(record(tmp_path, "jpeg.avi", 3).read_bytes())
    at = data.index(b"strf") + 24
    data[at : at + 4] = b"NONE"
    (tmp_path / "x.avi").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.avi: FFmpeg has no decoder for this video"):
        VideoFile(tmp_path / "x.avi")


def test_sound_beside_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w", container_options={"movflags": "+faststart"}) as file:
        sound, pictures = file.add_stream("aac", rate=8000, layout="mono"), file.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for each in range(40):
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(numbered(each), format="rgb24")))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 8000, 320 * each
            file.mux(sound.encode(samples))
        file.mux(pictures.encode())
        file.mux(sound.encode())
    video = VideoFile(path)
    assert [number(video.frame(index)) for index in range(len(video))] == list(range(40))
    assert video.truncation == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    cut = VideoFile(path)
    assert cut.truncation == f"{path}: states 40 frames, {cut.available} can be decoded"


def test_pictures_above_the_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "x.mp4", [numbered(1)])
    monkeypatch.setenv("MMDISTILL_MAX_PIXELS", "5000")
    with pytest.raises(DataError, match=r"x\.mp4: the image has 96 x 64 = 6,144 pixels"):
        VideoFile(path)


def test_a_name_that_ffmpeg_would_take_for_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "x.mp4", [numbered(each) for each in range(3)])
    path.rename(tmp_path / "concat:x%03d.mp4")
    monkeypatch.chdir(tmp_path)
    assert number(VideoFile("concat:x%03d.mp4").frame(2)) == 2
