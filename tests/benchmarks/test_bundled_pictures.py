"""Free pictures: their licenses, which are used, and which part each belongs to."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from written_figures import ROOT, measured

from mmdistill.toolkit.data_issues import DataError

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2001 A
License: GPL-2

Files: nature/*.jpg
 city/night.jpg
Copyright: 2002 B
License: CC-BY-4.0
 A long text.

License: GPL-2
 Another text.
"""


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("parts.bundled.pictures")


@pytest.mark.parametrize(
    ("path", "license"),
    [
        ("usr/share/x/nature/tree.jpg", "CC-BY-4.0"),
        ("usr/share/x/night.jpg", "CC-BY-4.0"),
        ("usr/share/x/nature/tree.png", "GPL-2"),
        ("usr/share/x/day.jpg", "GPL-2"),
    ],
)
def test_the_last_matching_license_counts(path: str, license: str) -> None:
    assert importlib.import_module("parts.bundled.licenses").Licenses(COPYRIGHT).find(path) == license


def test_a_copyright_file_for_people_has_the_given_license() -> None:
    licenses = importlib.import_module("parts.bundled.licenses").Licenses
    assert licenses("All is free.\n\nReally: all of it.").find("usr/a.png") == ""
    assert licenses("All is free.", "public domain").find("usr/a.png") == "public domain"


def photograph(seed: int, side: int = 700) -> np.ndarray:
    small = np.random.default_rng(seed).integers(256, size=(8, 10, 3), dtype=np.uint8)
    return cv2.resize(small, (side * 5 // 4, side), interpolation=cv2.INTER_CUBIC)


def cutout(parts: int = 1, size: int = 90) -> np.ndarray:
    picture = np.zeros((size, size, 4), np.uint8)
    picture[..., 0] = np.arange(size) * 255 // size
    for number in range(parts):
        center = (size * (2 * number + 1) // (2 * parts), size // 2)
        mask = np.zeros((size, size), np.uint8)
        cv2.circle(mask, center, size // (2 * parts) - 6, 255, -1)
        picture[..., 3] |= mask
    return picture


def write_package(root: Path, name: str, pictures: dict[str, np.ndarray]) -> None:
    document = root / name / "usr/share/doc" / name / "copyright"
    document.parent.mkdir(parents=True)
    document.write_text(COPYRIGHT)
    for file, picture in pictures.items():
        path = root / name / "usr/share" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)


def test_unusable_pictures_and_copies_are_left_out(module: ModuleType, tmp_path: Path) -> None:
    photographs = {
        "nature/a.jpg": photograph(1),
        "nature/copy.jpg": photograph(1)[::2, ::2],
        "nature/small.jpg": photograph(2, 300),
        "nature/flat.jpg": np.full((700, 900, 3), 90, np.uint8),
        "other/b.jpg": photograph(3),
        "other/c.txt.jpg": photograph(4, 1600),
    }
    flat = cutout()
    flat[..., :3] = 60
    cutouts = {"x/one.png": cutout(), "x/two.png": cutout(2), "x/tiny.png": cutout(size=38), "x/flat.png": flat}
    write_package(tmp_path, "photos", photographs)
    write_package(tmp_path, "objects", cutouts)
    packages = [module.Package("photos", "photographs", r"\.jpg$"), module.Package("objects", "cutouts", r"\.png$")]
    listed: list[dict[str, Any]] = module.collect_pictures(tmp_path, tmp_path / "out", packages)
    assert [(Path(each["source"]).name, each["license"]) for each in listed] == [
        ("a.jpg", "CC-BY-4.0"),
        ("c.txt.jpg", "GPL-2"),
        ("b.jpg", "GPL-2"),
        ("one.png", "GPL-2"),
    ]
    files = [next((tmp_path / "out" / each["kind"]).glob(f"*_{each['sha256'][:12]}.*")) for each in listed]
    written = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    assert [picture.shape for picture in written] == [(700, 875, 3), (1024, 1280, 3), (700, 875, 3), (79, 79, 4)]
    assert str(tmp_path) not in str(listed)


def test_a_missing_package_and_an_unknown_license_are_errors(module: ModuleType, tmp_path: Path) -> None:
    package = module.Package("photos", "photographs", r"\.jpg$")
    with pytest.raises(DataError, match="photos: expected the content of the Debian package"):
        module.collect_pictures(tmp_path, tmp_path / "out", [package])
    write_package(tmp_path, "photos", {"nature/a.jpg": photograph(1)})
    (tmp_path / "photos/usr/share/doc/photos/copyright").write_text("All is free.")
    with pytest.raises(DataError, match=r"a\.jpg: expected a license"):
        module.collect_pictures(tmp_path, tmp_path / "out", [package])


def test_each_picture_has_one_part_whatever_the_others_are(module: ModuleType) -> None:
    files = [Path(f"{number}.png") for number in range(500)]
    parts = module.split_pictures(files)
    assert sorted(path for part in parts.values() for path in part) == sorted(files)
    assert 370 < len(parts["training"]) < 430
    assert min(len(parts["validation"]), len(parts["test"])) > 30
    fewer = module.split_pictures(files[::3])
    assert all(set(fewer[name]) <= set(parts[name]) for name in parts)


def test_the_list_has_a_line_for_each_picture() -> None:
    script = importlib.import_module("bundled_pictures")
    report = measured("bundled_pictures")
    text = (ROOT / "benchmarks/results/bundled_pictures.json").read_text()
    assert script.as_json(report) + "\n" == text
    assert text.count('{"kind"') == len(report["pictures"])
    packages = {package.name for package in importlib.import_module("parts.bundled.pictures").PACKAGES}
    assert {each["package"] for each in report["pictures"]} == packages
    assert all(each["license"] for each in report["pictures"])
    assert len({each["sha256"] for each in report["pictures"]}) == len(report["pictures"])
