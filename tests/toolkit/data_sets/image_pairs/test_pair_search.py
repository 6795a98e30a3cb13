"""Searching for pairs by names of folders and files; most files are empty, because only names count."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.images import write_image

LAYOUTS = {
    "LLVIP": ["visible/train/1.jpg infrared/train/1.jpg", "visible/test/1.jpg infrared/test/1.jpg"],
    "case": ["Visible/train/1.jpg INFRARED/Train/1.JPG"],
    "FLIR v1": ["train/RGB/F_1.jpg train/thermal_8_bit/F_1.jpeg", "val/RGB/F_1.jpg val/thermal_8_bit/F_1.jpeg"],
    "FLIR v2": [
        "images_rgb_train/data/1.jpg images_thermal_train/data/1.jpg",
        "images_rgb_val/data/1.jpg images_thermal_val/data/1.jpg",
    ],
    "FLIR aligned": ["align/FLIR_2_RGB.jpg align/FLIR_2_PreviewData.jpeg"],
    "KAIST": ["set00/V000/visible/I0.jpg set00/V000/lwir/I0.jpg", "set01/V002/visible/I0.jpg set01/V002/lwir/I0.jpg"],
    "MSRS": ["train/vi/00000N.png train/ir/00000N.png", "test/vi/00000N.png test/ir/00000N.png"],
    "M3FD": ["Vis/0.png Ir/0.png", "Vis/1.png Ir/1.png"],
    "RoadScene": ["crop_LR_visible/FLIR_0.jpg cropinfrared/FLIR_0.jpg"],
    "TNO": ["Kaptein/VIS.bmp Kaptein/IR.bmp", "jeep/VIS.bmp jeep/IR.bmp"],
    "TNO numbered": ["Test_vi/VIS1.png Test_ir/IR1.png", "Test_vi/VIS2.png Test_ir/IR2.png"],
    "CVC-14": ["Day/Visible/Pos/1.tif Day/FIR/Pos/1.tif", "Night/Visible/Pos/1.tif Night/FIR/Pos/1.tif"],
    "VEDAI": ["512/0000_co.png 512/0000_ir.png", "512/0001_co.png 512/0001_ir.png"],
    "co, th": ["1_co.png 1_th.png"],
    "v, i": ["00001_v.png 00001_i.png"],
    "v, i glued": ["00001v.png 00001i.png"],
    "vis, ir": ["a-vis.png a-ir.png", "b-vis.png b-ir.png"],
    "suffix in a folder": ["rgb/1_rgb.png ir/1_ir.png"],
    "GTOT": ["a/v/1v.png a/i/1i.png"],
    "LasHeR": ["car/visible/v000001.jpg car/infrared/i000001.jpg"],
    "RGBT234": ["car/visible/1v.jpg car/infrared/1i.jpg"],
    "VT5000": ["Train/RGB/1.jpg Train/T/1.jpg"],
    "RGBT-CC": ["train/1162_RGB.jpg train/1162_T.jpg"],
    "DroneRGBT": ["Train/RGB/1.jpg Train/Infrared/1R.jpg", "Train/RGB/2.jpg Train/Infrared/2R.jpg"],
    "DroneVehicle": ["train/trainimg/1.jpg train/trainimgr/1.jpg"],
    "DJI": ["DJI_0001_W.JPG DJI_0001_T.JPG"],
    "Freiburg": ["day/fl_rgb/fl_rgb_15.png day/fl_ir_aligned/fl_ir_aligned_15.png"],
    "British spelling": ["colour/1.jpg infrared/1.jpg"],
    "glued": ["rgbImages/1.jpg thermalimages/1.jpg"],
    "sizes": ["visible_1920x1080/1.jpg thermal_640x512/1.jpg"],
    "one side plain": ["img/1.png img_ir/1.png"],
    "one file plain": ["1.png 1_thermal.png"],
    "zeros": ["rgb/0001.png tir/1.png"],
    "folder of one side alone": ["rgb/images/1.png tir/1.png"],
    "modality word above both": ["thermal_data/visible/1.png thermal_data/lwir/1.png"],
    "modality word below both": ["rgb/color/1.png tir/color/1.png", "rgb/t/1.png tir/t/1.png"],
    "modality word in both names": ["visible/ir_1.png infrared/ir_1.png"],
}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(pairs: Pairs) -> list[str]:
    return sorted(" ".join(str(path.relative_to(pairs.root)) for path in pairs.files(i)) for i in range(len(pairs)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, *" ".join(LAYOUTS[layout]).split())
    pairs = open_pairs(tmp_path, on_broken="stop")
    assert found(pairs) == sorted(LAYOUTS[layout])
    assert len(set(pairs.names)) == len(pairs)


def test_names_are_the_paths_without_the_modality(tmp_path: Path) -> None:
    touch(tmp_path, *" ".join(LAYOUTS["FLIR v2"] + LAYOUTS["LLVIP"] + LAYOUTS["KAIST"]).split())
    assert open_pairs(tmp_path).names == [
        "set00/V000/I0.jpg",
        "set01/V002/I0.jpg",
        "test/1.jpg",
        "train/1.jpg",
        "train/data/1.jpg",
        "val/data/1.jpg",
    ]


def test_label_folders_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/1.png", "tir/1.png", "labels/1.png", "depth/a/1.png", "tir_mask/1.png", "other/1.png")
    pairs = open_pairs(tmp_path)
    assert found(pairs) == ["rgb/1.png tir/1.png"]
    assert [Path(line.split(":")[0]).name for line in pairs.skipped] == ["depth", "labels", "other", "tir_mask"]


def test_images_without_a_modality_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1_rgb.png", "1_ir.png", "2_ir.png", "1_fused.png", "2_fused.png")
    pairs = open_pairs(tmp_path, on_broken="skip")
    assert found(pairs) == ["1_rgb.png 1_ir.png"]
    assert pairs.skipped == [f"{tmp_path}: 2 images"]
    assert len(pairs.problems) == 1
    assert "2_ir.png: expected an RGB image of the same name" in pairs.problems[0]


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        ("train/RGB/1.jpg train/thermal_8_bit/1.jpg train/thermal_16_bit/1.tiff", ["thermal_8_bit", "thermal_16_bit"]),
        ("crop_HR_visible/1.jpg crop_LR_visible/1.jpg cropinfrared/1.jpg", ["crop_HR_visible", "crop_LR_visible"]),
        ("rgb/1.png color/1.png tir/1.png", ["color (1), rgb (1)", "tir (1)"]),
        ("1.png 1.jpg 1_ir.png", ["1.jpg, 1.png", "1_ir.png"]),
        ("rgb/1.png rgb/1.jpg tir/1.png", ["1.jpg", "1.png"]),
        ("rgb/1.png nir/1.png", ["rgb: expected the TIR folder", "--rgb DIR --tir DIR", "thermal"]),
        ("visible_car/1.png infrared_dog/1.png", ["visible_car: expected the TIR folder"]),
        ("visible_train/1.png infrared_val/1.png", ["visible_train: expected the TIR folder"]),
        ("rgb/car1.png rgb/car2.png tir/dog1.png tir/dog2.png", ["car1.png, car2.png", "dog1.png, dog2.png"]),
        ("left/1.png right/1.png", ["left (1), right (1)", "rgb", "tir", "--rgb DIR --tir DIR"]),
        ("notes.txt", ["expected images"]),
    ],
)
@pytest.mark.parametrize("on_broken", ["stop", "skip"])
def test_ambiguous_folders_are_refused(tmp_path: Path, files: str, facts: list[str], on_broken: str) -> None:
    touch(tmp_path, *files.split())
    with pytest.raises(DataError) as error:
        open_pairs(tmp_path, on_broken=on_broken)  # type: ignore[arg-type]
    assert all(fact in str(error.value) for fact in facts), error.value


def test_several_files_of_one_name_are_a_problem_of_that_name_alone(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/1.png", "rgb/1.jpg", "tir/1.png", "rgb/2.png", "tir/2.png", "rgb/3.png")
    pairs = open_pairs(tmp_path, on_broken="skip")
    assert found(pairs) == ["rgb/2.png tir/2.png"]
    assert len(pairs.problems) == 2
    # The same names on both sides say which is which.
    touch(tmp_path, "tir/1.jpg", "tir/3.png")
    assert len(open_pairs(tmp_path)) == 4


def test_two_folders_of_any_name(tmp_path: Path) -> None:
    touch(tmp_path, "left/a/1_x.png", "left/a/2_x.png", "right/a/1.jpg", "right/a/2.jpg", "right/b/3.jpg")
    pairs = open_pairs(rgb=tmp_path / "left", tir=tmp_path / "right", on_broken="skip")
    assert pairs.names == ["a/1_x.png", "a/2_x.png"]
    assert len(pairs.problems) == 1
    # One folder may lie in the other.
    touch(tmp_path, "day/1.png", "day/thermal/1.png")
    pairs = open_pairs(rgb=tmp_path / "day", tir=tmp_path / "day" / "thermal")
    assert pairs.files(0) == (tmp_path / "day" / "1.png", tmp_path / "day" / "thermal" / "1.png")


def test_two_folders_must_be_two_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    a, b = tmp_path / "a", tmp_path / "b"
    (tmp_path / "link").symlink_to(a)
    for arguments, message in (
        ({"rgb": a}, "--tir: expected a folder"),
        ({"tir": a}, "--rgb: expected a folder"),
        ({"rgb": a, "tir": a}, "--tir: expected another folder"),
        ({"rgb": a, "tir": tmp_path / "link"}, "--tir: expected another folder"),
        ({"rgb": a, "tir": tmp_path / "c"}, "--tir: expected a folder of images, there is no folder .*c"),
        ({"rgb": a, "tir": b, "root": tmp_path}, "--rgb, --tir: are given in place of"),
        ({"rgb": a, "tir": b, "side_by_side": True}, "in place of --side-by-side"),
        (
            {"rgb": a, "tir": b},
            r"a and .*b: expected pairs of one name, got 1 RGB images \(1\.png\).* 1 TIR images \(2\.png\)",
        ),
        ({}, "none is given"),
    ):
        with pytest.raises(DataError, match=message):
            open_pairs(**arguments)
    (tmp_path / "rgb").symlink_to(a)
    (tmp_path / "tir").symlink_to(a)
    with pytest.raises(DataError, match="the same one"):
        open_pairs(tmp_path)


def side_by_side(root: Path, count: int = 3, *, left: int = 3, right: int = 1) -> Path:
    """Write images of two halves, of that many different channels each."""
    generator = np.random.default_rng(0)
    for number in range(count):
        halves = [generator.integers(0, 256, (12, 40, channels), np.uint8) for channels in (left, right)]
        image = np.concatenate([np.broadcast_to(half, (12, 40, 3)) for half in halves], axis=1)
        write_image(root / f"{number}.png", image)
    return root


def test_images_side_by_side(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = open_pairs(side_by_side(tmp_path))
    assert pairs.names == ["0.png", "1.png", "2.png"]
    rgb, tir = pairs.pair(1)
    assert rgb.shape == tir.shape == (12, 40, 3)
    assert (tir == tir[..., :1]).all()
    assert not (rgb == rgb[..., :1]).all()
    assert "left half" in caplog.text


@pytest.mark.parametrize(
    ("left", "right", "message"), [(3, 3, "the right half of 0.png has color"), (1, 1, "the left halves are as gray")]
)
def test_images_of_one_modality_are_never_halved(tmp_path: Path, left: int, right: int, message: str) -> None:
    side_by_side(tmp_path, left=left, right=right)
    with pytest.raises(DataError, match=message):
        open_pairs(tmp_path)
    assert len(open_pairs(tmp_path, side_by_side=True)) == 3


def test_an_image_not_side_by_side_among_others_is_refused(tmp_path: Path) -> None:
    side_by_side(tmp_path, 20)
    color = np.random.default_rng(0).integers(0, 256, (12, 40, 3), np.uint8)
    write_image(tmp_path / "19.png", color)  # not among those examined
    write_image(tmp_path / "17.png", color[:, :-1])
    pairs = open_pairs(tmp_path)
    with pytest.raises(DataError, match=r"19\.png: expected TIR in the right half, it has color"):
        pairs.pair(19)
    with pytest.raises(DataError, match=r"17\.png: .* an odd width of 39"):
        pairs.pair(17)
    assert open_pairs(tmp_path, side_by_side=True).pair(19).rgb.shape == (12, 20, 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: expected images with RGB and TIR side by side"):
        open_pairs(tmp_path / "empty", side_by_side=True)


@pytest.mark.parametrize(
    ("given", "side"), [("rgb", "RGB"), ("tir", "TIR"), ("rgb/train", "RGB"), ("rgb_alone", "RGB")]
)
def test_a_folder_of_one_modality_is_refused_by_its_name(tmp_path: Path, given: str, side: str) -> None:
    for folder in ("data/rgb/train", "data/tir/train", "other/rgb_alone"):
        side_by_side(tmp_path / folder)
    root = next(path for path in (tmp_path / "data" / given, tmp_path / "other" / given) if path.is_dir())
    with pytest.raises(DataError, match=f"{given}: has {side} images only") as error:
        open_pairs(root)
    if given != "rgb_alone":
        assert str(error.value).endswith(f"give {tmp_path / 'data'}")


def test_ignored_entries_circular_links_and_pipes(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/1.png", "tir/1.png", "rgb/2.png", "rgb/Thumbs.db", "rgb/.hidden.png", "rgb/notes.md")
    touch(tmp_path, "__MACOSX/rgb/._1.png", "__MACOSX/tir/._1.png", "@eaDir/rgb/1.png", "rgb/._1.png")
    (tmp_path / "rgb" / "circle").symlink_to(tmp_path)
    (tmp_path / "thermal").mkdir()  # empty, so no candidate
    (tmp_path / "tir" / "3.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "rgb" / "4.png").mkdir()
    os.mkfifo(tmp_path / "tir" / "2.png")
    pairs = open_pairs(tmp_path, on_broken="skip")
    assert found(pairs) == ["rgb/1.png tir/1.png"]
    assert len(pairs.problems) == 3
    assert sum("no regular file" in problem for problem in pairs.problems) == 2
    assert sorted(path.name for path in pairs.ignored) == ["._1.png", "@eaDir", "Thumbs.db", "__MACOSX"]


def test_names_with_terminal_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\x1b[31m\xff.png")
    touch(tmp_path, f"rgb/{name}", f"tir/{name}", f"rgb/a{name}")
    pairs = open_pairs(tmp_path, on_broken="skip")
    assert pairs.names == [name]
    assert "\x1b" not in pairs.problems[0]
    assert r"a\x1b[31m\xff.png" in pairs.problems[0]


def test_a_socket_named_as_an_image_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "rgb/1.png", "tir/1.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("rgb/2.png")
        assert len(open_pairs(tmp_path, on_broken="skip")) == 1


@pytest.mark.parametrize("layout", ["FLIR v1", "RoadScene", "LLVIP", "MSRS"])
def test_the_images_of_a_layout_are_read(tmp_path: Path, layout: str) -> None:
    for index, files in enumerate(LAYOUTS[layout]):
        for side, name in enumerate(files.split()):
            write_image(tmp_path / name, np.full((6, 8, 3), 50 * side + 10 * index, np.uint8))
    pairs = open_pairs(tmp_path)
    for index in range(len(LAYOUTS[layout])):
        rgb, tir = pairs.pair(index)
        assert rgb.shape == tir.shape == (6, 8, 3)
        assert int(tir.mean()) - int(rgb.mean()) == 50


def test_rgb_of_8_bits_pairs_with_tir_of_16(tmp_path: Path) -> None:
    (tmp_path / "tir").mkdir()
    for name in ("0000", "0001"):
        write_image(tmp_path / f"rgb/{name}.jpg", np.full((6, 8, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / f"tir/{name}.tiff"), np.arange(20000, 20480, 10, np.uint16).reshape(6, 8))
    pairs = open_pairs(tmp_path)
    assert pairs.names == ["0000.jpg", "0001.jpg"]
    for rgb, tir in map(pairs.pair, range(2)):
        assert rgb.shape == tir.shape == (6, 8, 3)
        assert np.all(np.diff(tir[..., 0].ravel().astype(int)) >= 0)
        assert tir.min() < 20
        assert tir.max() > 235


NAMES = st.sampled_from(
    "rgb tir RGB ir thermal_8_bit visible crop_ir T v i a train test 00 img img_ir rgb_tir labels".split()  # noqa: SIM905
)
STEMS = st.sampled_from("1 01 2 1_rgb 1_ir 1v 1i v1 i1 1_co rgb ir a 1_rgb_ir ir_rgb".split())  # noqa: SIM905
FILES = st.builds(
    lambda folders, stem, suffix: "/".join((*folders, stem + suffix)),
    st.lists(NAMES, max_size=3),
    STEMS,
    st.sampled_from([".png", ".jpg"]),
)


@settings(max_examples=40)
@given(files=st.sets(FILES, min_size=1, max_size=8))
def test_no_file_is_in_two_pairs(tmp_path_factory: pytest.TempPathFactory, files: set[str]) -> None:
    root = touch(tmp_path_factory.mktemp("pairs"), *files)
    try:
        pairs = open_pairs(root, on_broken="skip")
    except DataError:
        return
    used = [str(path.relative_to(root)) for index in range(len(pairs)) for path in pairs.files(index)]
    assert len(set(used)) == len(used) == 2 * len(pairs)
    assert set(used) <= files
    # What the other half of the names says is never contradicted.
    for index in range(len(pairs)):
        rgb, tir = (str(path.relative_to(root)).casefold() for path in pairs.files(index))
        assert ("rgb" in rgb) >= ("rgb" in tir)
        assert ("ir" in tir) >= ("ir" in rgb)
