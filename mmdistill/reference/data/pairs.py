"""Aligned RGB-T still images without labels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.reference.data.images import list_images, natural_order, read_image
from mmdistill.reference.data.modalities import modality_folders
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError


class PairFolder:
    """Aligned pairs on disk.

    Two sub-folders (``rgb`` and ``tir``, or their aliases) with the same file names; or many such, as in KAIST:
    ``setXX/VYYY/{visible,lwir}``; or, if so said, one folder of images with RGB on the left and TIR on the right.

    A slice, such as ``PairFolder(root)[:-30]``, is a ``PairFolder`` of those pairs.

    Args:
        root: the folder.
        side_by_side: whether each image holds both modalities.

    Raises:
        DataError: there are no pairs, a sub-folder is missing, or a name is in one of them only.

    Attributes:
        root: the folder.
        names: of the pairs, relative to the folders of images.
    """

    def __init__(self, root: str | Path, *, side_by_side: bool = False) -> None:
        self.root = Path(root)
        self._side_by_side = side_by_side
        if side_by_side:
            self._files = [Pair(path, path) for path in list_images(root)]
            self.names = [pair.rgb.name for pair in self._files]
            return
        folders = pair_folders(root)
        if not folders:
            raise DataError(f"{root}: expected two folders of images, rgb and tir, or KAIST's setXX/VYYY with such")
        self._files = [pair for each in folders for pair in _same_names(each)]
        self.names = [str(_place(pair.rgb).relative_to(self.root) / pair.rgb.name) for pair in self._files]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, which: slice) -> PairFolder:
        view = copy.copy(self)
        view._files, view.names = self._files[which], self.names[which]
        return view

    def pair(self, index: int) -> Pair[Image]:
        """Return pair ``index`` in natural order of the names.

        Raises:
            DataError: a file is no image, or the two differ in size.
        """
        files = self._files[index]
        if self._side_by_side:
            return _halves(read_image(files.rgb), files.rgb)
        rgb, tir = map(read_image, files)
        if rgb.shape != tir.shape:
            sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in (rgb, tir))
            raise DataError(f"{files.rgb}: expected the size of its partner {files.tir}, got {sizes}")
        return Pair(rgb, tir)


def pair_folders(root: str | Path) -> Sequence[Pair[Path]]:
    """Return a folder's two folders of images, or all of KAIST's ``setXX/VYYY``; nothing where it has neither.

    Raises:
        DataError: only one of two is there.
    """
    here = modality_folders(root)
    if here is not None:
        return [here]
    videos = sorted(Path(root).glob("set*/V*"), key=lambda path: natural_order(str(path)))
    found = (modality_folders(video) for video in videos)
    return [folders for folders in found if folders is not None]


def _same_names(folders: Pair[Path]) -> list[Pair[Path]]:
    rgb, tir = ([path.name for path in list_images(folder)] for folder in folders)
    for alone in sorted(set(rgb) ^ set(tir)):
        there, missing = folders if alone in rgb else reversed(folders)
        raise DataError(f"{there / alone}: has no partner of the same name in {missing}")
    return [Pair(folders.rgb / name, folders.tir / name) for name in rgb]


def _place(image: Path) -> Path:
    """Return the folder that holds an image's modality."""
    return image.parent.parent


def _halves(image: Image, path: Path) -> Pair[Image]:
    width = image.shape[1]
    if width % 2:
        raise DataError(f"{path}: expected RGB and TIR side by side, of equal size, got a width of {width} pixels")
    return Pair(image[:, : width // 2], image[:, width // 2 :])
