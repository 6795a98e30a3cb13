"""Photographs and cut-outs of Debian's packages of free pictures: selected, made smaller, and listed with licenses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from parts.bundled.licenses import Licenses

from mmdistill.reference.synthetic.pictures import read_cutout
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import read_image
from mmdistill.toolkit.io import atomic_path

Kind = Literal["photographs", "cutouts"]


@dataclass(frozen=True)
class Package:
    """A package of free pictures.

    Attributes:
        name: the Debian package.
        kind: what its pictures are.
        pattern: regular expression of the paths that are used.
        license: license of all files if the package's copyright file is not machine-readable.
    """

    name: str
    kind: Kind
    pattern: str
    license: str = ""


PUBLIC_DOMAIN = "public domain"

PACKAGES: Sequence[Package] = (
    Package("mate-backgrounds", "photographs", r"/nature/.*\.jpg$"),
    Package("plasma-workspace-wallpapers", "photographs", r"/contents/images/.*\.jpg$"),
    Package("lomiri-wallpapers-16.04", "photographs", r"\.jpg$"),
    Package("lomiri-wallpapers-20.04", "photographs", r"\.jpg$"),
    Package("ukui-wallpapers", "photographs", r"\.jpg$"),
    Package("tuxpaint-stamps-default", "cutouts", r"/stamps/(animals|clothes|food|household|naturalforces|people|plants"
            r"|seasonal|space|sports|town|vehicles|hobbies|medical)/.*\.png$"),
    Package("openclipart-png", "cutouts", r"/(animals|buildings|computer|food|geography|household|office|people|plants"
            r"|recreation|tools|transportation)/.*\.png$", PUBLIC_DOMAIN),
)  # fmt: skip
"""Packages of pictures that may be redistributed."""

LARGEST_SIDE: Mapping[Kind, int] = {"photographs": 1280, "cutouts": 256}
"""Longer side of a prepared picture, pixels."""

SMALLEST_SIDE: Mapping[Kind, int] = {"photographs": 600, "cutouts": 40}
"""Shorter side of a picture that is used, pixels."""

COVERAGE = (0.3, 0.97)
"""Range of the share of a cut-out's box that the object covers."""

MIN_MAIN_PART = 0.9
"""Share of a cut-out's object that is connected."""

MIN_DEVIATION = 12.0
"""Minimum standard deviation of a picture's brightness, gray levels; below it there is nothing to see."""

MAX_LIKENESS = 0.97
"""Correlation of two pictures' small versions above which the second is a copy."""

LIKENESS_SIDE = 16


def collect_pictures(root: Path, out: Path, packages: Sequence[Package] = PACKAGES) -> list[dict[str, Any]]:
    """Write the selected pictures, made smaller, and return the list of them.

    Args:
        root: holds a folder with the extracted content of each package, by its name.
        out: gets the folders ``photographs`` and ``cutouts``.
        packages: the packages.

    Returns:
        for each picture: its kind, package, source, license and the source's SHA-256, whose beginning names the file.

    Raises:
        DataError: a package is missing, or a picture's license is not known.
    """
    listed: list[dict[str, Any]] = []
    for kind in LARGEST_SIDE:
        thumbnails: list[NDArray[np.float64]] = []
        for package in packages:
            if package.kind != kind:
                continue
            for source, picture, license in _usable(root, package):
                thumbnail = _thumbnail(picture)
                if any(float(thumbnail @ other) > MAX_LIKENESS for other in thumbnails):
                    continue
                thumbnails.append(thumbnail)
                digest = hashlib.sha256(source.read_bytes()).hexdigest()
                file = Path(kind) / f"{package.name}_{digest[:12]}{'.jpg' if kind == 'photographs' else '.png'}"
                _write(out / file, picture)
                listed.append(
                    {
                        "kind": kind,
                        "package": package.name,
                        "source": source.relative_to(root / package.name).as_posix(),
                        "license": license,
                        "sha256": digest,
                    }
                )
    return listed


def _usable(root: Path, package: Package) -> Iterator[tuple[Path, NDArray[np.uint8], str]]:
    """Yield source, prepared picture and license of a package's usable pictures, the largest of a folder first."""
    folder = root / package.name
    documents = list(folder.glob("usr/share/doc/*/copyright"))
    if not documents:
        raise DataError(f"{folder}: expected the content of the Debian package, with its copyright file")
    licenses = Licenses(documents[0].read_text(errors="replace"), package.license)
    files = [path for path in folder.rglob("*") if path.is_file() and re.search(package.pattern, path.as_posix())]
    for path in sorted(files, key=lambda path: (path.parent, -path.stat().st_size, path.name)):
        try:
            picture = prepare_photograph(path) if package.kind == "photographs" else prepare_cutout(path)
        except DataError:
            continue  # of a kind that is not read, or without an object
        if picture is None:
            continue
        license = licenses.find(path.relative_to(folder).as_posix())
        if not license:
            raise DataError(f"{path}: expected a license in {documents[0]}, found none")
        yield path, picture, license


def prepare_photograph(path: Path) -> NDArray[np.uint8] | None:
    """Return a photograph ``(H, W, 3)``, RGB, made smaller; None if it is too small or shows nothing."""
    image = read_image(path)
    if min(image.shape[:2]) < SMALLEST_SIDE["photographs"] or image.mean(axis=2).std() < MIN_DEVIATION:
        return None
    return _shrink(image, LARGEST_SIDE["photographs"])


def prepare_cutout(path: Path) -> NDArray[np.uint8] | None:
    """Return a cut-out ``(H, W, 4)``, RGB and alpha, made smaller and without its border; None if it is not usable.

    Usable is one object, large enough, with an outline of its own, and with something to see.
    """
    picture = read_cutout(path)
    covered = picture[..., 3] >= 128
    shortest = min(int(covered.any(axis=axis).sum()) for axis in (0, 1))
    if shortest < SMALLEST_SIDE["cutouts"] or not COVERAGE[0] <= covered.mean() <= COVERAGE[1]:
        return None
    sizes = cv2.connectedComponentsWithStats(covered.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
    if sizes.max() < MIN_MAIN_PART * sizes.sum():
        return None
    if picture[..., :3][covered].mean(axis=1).std() < MIN_DEVIATION:
        return None
    return _shrink(picture, LARGEST_SIDE["cutouts"])


def _shrink(picture: NDArray[np.uint8], largest: int) -> NDArray[np.uint8]:
    scale = largest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(round(side * scale), 1) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return a small gray version as a vector of mean 0 and norm 1."""
    gray = picture[..., :3].mean(axis=2)
    if picture.shape[2] == 4:
        gray = np.where(picture[..., 3] >= 128, gray, 0)
    small = cv2.resize(gray, (LIKENESS_SIDE, LIKENESS_SIDE), interpolation=cv2.INTER_AREA).ravel()
    small = small - small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9))


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    conversion = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, conversion))[1]
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def split_pictures(files: Iterable[Path], held_out: float = 0.2) -> dict[str, list[Path]]:
    """Return the pictures for training, validation and test; a picture's part depends on its name only.

    Args:
        files: the pictures.
        held_out: share of the pictures that are not for training, half for validation and half for test.
    """
    parts: dict[str, list[Path]] = {"training": [], "validation": [], "test": []}
    for path in sorted(files):
        position = int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16) / 2**32
        part = "training" if position >= held_out else "validation" if position < held_out / 2 else "test"
        parts[part].append(path)
    return parts
