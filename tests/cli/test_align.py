"""``mmdistill align``, and ``--align`` in the commands that take it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_views import homography, largest_distance, scene, seen_by
from command_line import fails, run

from mmdistill.toolkit.alignment import Alignment, read_alignment, write_alignment
from mmdistill.toolkit.alignment.alignment import to_rows
from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.images import read_image, write_image
from mmdistill.toolkit.sequence import Image

RGB, TIR = (320, 240), (240, 200)
MATRIX = homography(1.1, 2, (44, 24), TIR)


def write_folder(folder: Path, images: Iterable[Image]) -> Path:
    for index, image in enumerate(images):
        write_image(folder / f"{index:03d}.png", image)
    return folder


@pytest.fixture(scope="module")
def cameras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of two cameras, ``rgb`` and ``tir``, related by ``MATRIX``."""
    root = tmp_path_factory.mktemp("cameras")
    views = [seen_by(scene(seed), MATRIX, TIR) for seed in (5, 6)]
    write_folder(root / "rgb", (view.rgb for view in views))
    write_folder(root / "tir", (view.tir for view in views))
    return root


@pytest.fixture
def points(tmp_path: Path) -> Path:
    tir = np.array([[20.0, 30], [210, 25], [200, 170], [30, 180], [120, 100], [60, 60]])
    mapped = np.column_stack([tir, np.ones(len(tir))]) @ MATRIX.T
    rows = np.hstack([mapped[:, :2] / mapped[:, 2:], tir])
    path = tmp_path / "points.csv"
    path.write_text("x_rgb,y_rgb,x_tir,y_tir\n" + "\n".join(",".join(map(str, row)) for row in rows))
    return path


@pytest.fixture
def aligned(tmp_path: Path) -> Path:
    """The alignment of ``MATRIX`` as a file."""
    write_alignment(tmp_path / "known.json", Alignment(to_rows(MATRIX), RGB, TIR))
    return tmp_path / "known.json"


def of(cameras: Path) -> list[object]:
    return ["--rgb", cameras / "rgb", "--tir", cameras / "tir"]


def test_point_pairs_give_file_and_pictures(
    cameras: Path, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "alignment.json"
    assert run("align", *of(cameras), "--points", points, "--out", out, "--delay", 0.25) == 0
    alignment = read_alignment(out)
    assert largest_distance(alignment.matrix, MATRIX, TIR) < 0.01
    assert (alignment.rgb_size, alignment.tir_size, alignment.delay, alignment.method) == (RGB, TIR, 0.25, "points")
    board = read_image(out.with_suffix(".png"))
    assert board.shape == (240, 320, 3)
    first = np.s_[40:80, 80:120]  # the second row and third column of the squares
    assert alignment.mask[first].all()
    expected = alignment.warp(read_image(cameras / "tir/000.png"))[first][..., 0]
    assert np.corrcoef(board[first][..., 0].ravel(), expected.ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(board[80:120, 80:120], read_image(cameras / "rgb/000.png")[80:120, 80:120])
    assert cv2.imreadanimation(str(out.with_suffix(".gif")))[1].frames[1].shape == (240, 320, 3)
    said = capsys.readouterr().out
    assert "6 of 6 point pairs agree" in said
    assert f"TIR covers {100 * alignment.coverage:.0f} % of RGB's frame" in said


@pytest.mark.slow
def test_frames_give_the_homography(cameras: Path, tmp_path: Path) -> None:
    out = tmp_path / "alignment.json"
    assert run("align", *of(cameras), "--out", out, "--frames", 2, "--quiet") == 0
    alignment = read_alignment(out)
    assert largest_distance(alignment.matrix, MATRIX, TIR) < 1.5
    assert alignment.method == "automatic"
    assert alignment.delay is None


@pytest.mark.slow
def test_an_unreliable_result_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "rgb", [np.full((100, 120, 3), 90, np.uint8) + np.uint8([[[0]] * 60 + [[40]] * 60])])
    noise = np.random.default_rng(0).integers(0, 255, (100, 120, 1), dtype=np.uint8).repeat(3, axis=2)
    write_folder(tmp_path / "tir", [noise])
    line = fails(capsys, "align", *of(tmp_path), "--out", tmp_path / "a.json", "--quiet")
    assert "not reliable" in line
    assert "--points" in line
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (["--out", "a.txt"], 2, "--out: expected a name that ends in .json"),
        (["--delay", "soon"], 2, "--delay"),
        (["--frames", 0], 2, "--frames"),
        (["--points", "nothing.csv"], 1, "nothing.csv"),
    ],
)
def test_wrong_options(
    cameras: Path, capsys: pytest.CaptureFixture[str], options: list[object], status: int, says: str
) -> None:
    assert says in fails(capsys, "align", *of(cameras), *options, status=status)


def film(path: Path, images: Iterable[Image], rate: float) -> Path:
    writer = None
    for image in images:
        writer = writer or cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, image.shape[1::-1])
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert writer is not None
    writer.release()
    return path


@pytest.mark.slow
def test_two_videos_give_the_delay_and_track_pairs_by_it(
    tmp_path: Path, points: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(3)
    jumps = np.cumsum(np.where(generator.random(100) < 0.15, generator.integers(-30, 31, 100), 0))
    wide = seen_by(scene(5, (480, 240)), np.eye(3), (480, 240))

    def view(image: Image, frame: int, size: tuple[int, int]) -> Image:
        left = int(80 + np.clip(jumps[max(frame, 0)], -70, 70))
        return image[: size[1], left : left + size[0]]

    film(tmp_path / "rgb.avi", (view(wide.rgb, frame, RGB) for frame in range(90)), 15)
    film(tmp_path / "tir.avi", (view(wide.tir, frame - 6, TIR) for frame in range(90)), 15)
    sources: list[object] = ["--rgb", tmp_path / "rgb.avi", "--tir", tmp_path / "tir.avi"]
    out = tmp_path / "alignment.json"
    assert run("align", *sources, "--points", points, "--out", out, "--quiet") == 0
    delay = read_alignment(out).delay
    assert delay is not None
    assert abs(delay - 0.4) < 0.02
    tracked = [*sources, "--init", "120,80,40,32", "--weights", weights, "--align", out, "--video", "none", "--quiet"]
    assert run("track", *tracked, "--pair-by", "time", "--out", tmp_path / "by_time") == 0
    rows = (tmp_path / "by_time/frames.csv").read_text().splitlines()[1:]
    assert sum(row.split(",")[4] == "missing" for row in rows) == 6  # the last frames of RGB have no TIR
    summary = json.loads((tmp_path / "by_time/summary.json").read_text())
    assert summary["inputs"]["align"] == str(out)
    assert any("delay of TIR +0.4" in warning for warning in summary["input_warnings"])
    capsys.readouterr()


@pytest.fixture
def clip_of_two_cameras(clip: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A sequence folder whose TIR has its own view, and its alignment; the target is in both views."""
    matrix = homography(1.3, 0, (24, 14), (112, 92))
    folder = tmp_path / "own" / clip.name
    for path in list_images(clip / "tir"):
        tir = cv2.warpPerspective(read_image(path), np.linalg.inv(matrix), (112, 92))
        write_image(folder / "tir" / path.name, np.asarray(tir, np.uint8))
    for path in list_images(clip / "rgb"):
        write_image(folder / "rgb" / path.name, read_image(path))
    write_boxes(folder / "groundtruth.txt", read_boxes(clip / "groundtruth.txt"))
    write_alignment(tmp_path / "clip.json", Alignment(to_rows(matrix), (160, 120), (112, 92)))
    return folder, tmp_path / "clip.json"


def tracked(weights: Path, folder: Path, box: object, out: Path, *options: object) -> list[list[str]]:
    arguments = ["--weights", weights, "--rgb", folder / "rgb", "--tir", folder / "tir", "--init", box, "--out", out]
    assert run("track", *arguments, "--video", "none", "--quiet", *options) == 0
    return [line.split(",") for line in (out / "frames.csv").read_text().splitlines()[1:]]


def test_track_is_as_on_images_that_were_warped_before(
    clip_of_two_cameras: tuple[Path, Path], weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, file = clip_of_two_cameras
    alignment = read_alignment(file)
    for path in list_images(folder / "tir"):
        warped = cv2.warpPerspective(read_image(path), alignment.matrix, (160, 120), borderMode=cv2.BORDER_REPLICATE)
        write_image(tmp_path / "warped/tir" / path.name, np.asarray(warped, np.uint8))
    write_folder(tmp_path / "warped/rgb", map(read_image, list_images(folder / "rgb")))
    box = ",".join(map(str, read_boxes(folder / "groundtruth.txt")[0]))
    rows = tracked(weights, folder, box, tmp_path / "a", "--align", file)
    assert [row[4] for row in rows] == ["seen"] * 4
    tracked(weights, tmp_path / "warped", box, tmp_path / "b")
    assert (tmp_path / "a/boxes.txt").read_text() == (tmp_path / "b/boxes.txt").read_text()
    assert f"TIR covers {100 * alignment.coverage:.0f} % of RGB's frame" in caplog.text


def test_tir_that_does_not_cover_the_target_counts_as_missing(clip: Path, weights: Path, tmp_path: Path) -> None:
    write_alignment(
        tmp_path / "corner.json", Alignment(to_rows(homography(0.2, 0, (-60, -45), (160, 120))), (160, 120), (160, 120))
    )
    box = "100,70,30,24"
    rows = tracked(weights, clip, box, tmp_path / "a", "--align", tmp_path / "corner.json")
    assert [row[3:5] for row in rows] == [["seen", "uncovered"]] * 4
    (tmp_path / "rgb_alone").mkdir()
    arguments = ["--weights", weights, "--rgb", clip / "rgb", "--init", box, "--out", tmp_path / "b"]
    assert run("track", *arguments, "--video", "none", "--quiet") == 0
    assert (tmp_path / "a/boxes.txt").read_text() == (tmp_path / "b/boxes.txt").read_text()
    assert json.loads((tmp_path / "a/summary.json").read_text())["tir"]["uncovered"] == 4


def test_track_refuses_other_sizes_and_one_modality(
    clip: Path, weights: Path, aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--weights", weights, "--init", "10,10,20,20", "--align", aligned, "--out", tmp_path / "out"]
    line = fails(capsys, "track", "--rgb", clip / "rgb", "--tir", clip / "tir", *arguments)
    assert "known.json: is for TIR images of 240 x 200, got 160 x 120" in line
    assert "--align: expected --rgb and --tir" in fails(capsys, "track", "--rgb", clip / "rgb", *arguments, status=2)


def test_check_compose_and_train_on_pairs(
    cameras: Path,
    aligned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run("check", "--benchmark", "pairs", "--root", cameras, "--align", aligned, "--decode") == 0
    assert "2 of 2 pairs can be used" in capsys.readouterr().out
    assert "% of RGB's frame" in caplog.text
    composed = ["--pairs", cameras, "--align", aligned, "--count", 1, "--length", 2, "--quiet"]
    assert run("compose", *composed, "--out", tmp_path / "composed") == 0
    rgb, tir = (
        read_image(list_images(tmp_path / "composed/synthetic_0000" / side)[0]).mean(axis=2) for side in ("rgb", "tir")
    )
    assert rgb.shape == tir.shape
    edges = [np.hypot(*np.gradient(cv2.GaussianBlur(each, (0, 0), 2))) for each in (rgb, tir)]
    aligned_edges = np.corrcoef(edges[0].ravel(), edges[1].ravel())[0, 1]
    moved = [np.corrcoef(edges[0].ravel(), np.roll(edges[1], 12, axis).ravel())[0, 1] for axis in (0, 1)]
    assert aligned_edges > max(moved) + 0.1
    small: list[object] = ["--width", 4, "--crop-size", 64, "--training.steps", 1, "--training.batch-size", 2]
    small += ["--videos", 2, "--training.workers", 0, "--device", "cpu", "--quiet"]
    training = ["train", "student", "--data", cameras, "--align", aligned, *small, "--out", tmp_path / "run"]
    assert run(*training) == 0
    assert (tmp_path / "run/network.safetensors").exists()


def test_check_and_report_on_sequences(
    clip_of_two_cameras: tuple[Path, Path], aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = clip_of_two_cameras
    root = folder.parent
    assert run("check", "--benchmark", "vot", "--root", root, "--align", file) == 0
    assert run("check", "--benchmark", "vot", "--root", root, "--align", aligned) == 1
    assert "is for RGB images of 320 x 240, got 160 x 120" in capsys.readouterr().out
    boxes = read_boxes(folder / "groundtruth.txt")
    for name, offset in (("one", 1), ("other", 9)):
        write_boxes(tmp_path / name / f"{folder.name}.txt", boxes + np.array([offset, 0, 0, 0]))
    arguments = [
        tmp_path / "one",
        tmp_path / "other",
        "--benchmark",
        "vot",
        "--root",
        root,
        "--out",
        tmp_path / "r.html",
    ]
    assert run("report", *arguments, "--align", file) == 0
    assert "data:image/jpeg" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--benchmark", "gtot", "--root", "."],
        ["check", "--benchmark", "vot", "--annotations", "."],
        ["compose"],
    ],
)
def test_where_an_alignment_has_no_use(
    arguments: list[object], aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", tmp_path / "out"] if arguments[0] == "compose" else []
    assert "--align: " in fails(capsys, *arguments, *out, "--align", aligned, status=2)


def test_train_on_a_benchmark_refuses_an_alignment(
    aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in ("synthetic", "lasher:LasHeR"):
        capsys.readouterr()
        assert run("train", "rgb", "--data", data, "--align", aligned, "--width", 4, "--out", tmp_path / "run") == 1
        assert f"{data} is aligned already" in capsys.readouterr().err
