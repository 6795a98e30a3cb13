"""Finding the pairs in a folder: two folders, images side by side, or KAIST's tree."""

from __future__ import annotations

from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.reference.data.frames import OnBroken
from mmdistill.reference.data.image_files import SUFFIXES, list_images, natural_order
from mmdistill.reference.data.modalities import modality_folders
from mmdistill.reference.data.pairs.pairs import MEMORY, Pairs
from mmdistill.reference.data.pairs.sources import SideBySide, Source, TwoFiles
from mmdistill.reference.errors import DataError

EXPECTED = (
    "two folders with the same file names (rgb and tir, visible and infrared or lwir), such folders in a tree as "
    "KAIST's setXX/VYYY/{visible,lwir}, or images with RGB in the left half and TIR in the right"
)


def open_pairs(root: str | Path, *, on_broken: OnBroken = "stop", memory: int = MEMORY) -> Pairs:
    """Return the pairs in a folder, in natural order of their names; no image is read yet.

    Args:
        root: a folder that holds two folders, ``rgb`` and ``tir`` or aliases, with the same file names; or such
            folders at most two levels down, as KAIST's ``setXX/VYYY/{visible,lwir}/I00000.jpg``; or images side by
            side, RGB left, TIR right.
        on_broken: stop: a file without a partner is an error. skip: it is left out and listed in ``problems``.
        memory: bytes of decoded images that are kept.

    Raises:
        DataError: the folder is missing or holds no pair.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of pairs, there is none")
    sources: dict[str, Source] = {}
    problems: list[str] = []
    if modality_folders(root) is not None:
        _add_two_folders(root, "", sources, problems)
    else:
        for folder in _tree(root):
            _add_two_folders(folder, f"{folder.relative_to(root).as_posix()}/", sources, problems)
        if not sources and not problems and _holds_images(root):
            sources |= {path.name: SideBySide(path) for path in list_images(root)}
    if problems and on_broken == "stop":
        raise DataError(problems[0])
    if not sources:
        raise DataError(problems[0] if problems else f"{root}: expected {EXPECTED}")
    return Pairs(root, sources, problems, memory=memory)


def _add_two_folders(folder: Path, prefix: str, sources: dict[str, Source], problems: list[str]) -> None:
    """Add the pairs of a folder's two sub-folders, their names prefixed, and what has no partner."""
    try:
        folders = modality_folders(folder)
        assert folders is not None
        names = Pair(*(list_images(side).names for side in folders))
    except DataError as error:
        problems.append(str(error))
        return
    partners = set(names.rgb) & set(names.tir)
    for name in names.rgb:
        if name in partners:
            sources[prefix + name] = TwoFiles(folders.rgb / name, folders.tir / name)
    for here, there, listed in ((folders.rgb, folders.tir, names.rgb), (folders.tir, folders.rgb, names.tir)):
        alone = (name for name in listed if name not in partners)
        problems += [f"{here / name}: has no partner of the same name in {there}" for name in alone]


def _tree(root: Path) -> list[Path]:
    """Return the folders at most two levels down that hold a modality's folder."""
    below = [folder for pattern in ("*/", "*/*/") for folder in root.glob(pattern) if folder.is_dir()]
    found = [folder for folder in below if folder.name[0] != "." and _holds_modality(folder)]
    return sorted(found, key=lambda folder: natural_order(folder.relative_to(root).as_posix()))


def _holds_modality(folder: Path) -> bool:
    try:
        return modality_folders(folder) is not None
    except DataError:
        return True  # one without the other


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES and path.name[0] != "." for path in folder.iterdir())
