"""Aligned RGB-T still images without labels."""

from __future__ import annotations

import copy
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.reference.data.images import list_images, read_image
from mmdistill.reference.data.modalities import modality_folders
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError


class PairFolder:
    """Aligned pairs: two sub-folders (``rgb`` and ``tir``, or their aliases) with the same file names.

    A slice, such as ``PairFolder(root)[:-30]``, is a ``PairFolder`` of those pairs.

    Args:
        root: the folder with the two sub-folders.

    Raises:
        DataError: a sub-folder is missing, or a name is in one of them only.
    """

    def __init__(self, root: str | Path) -> None:
        folders = modality_folders(root)
        if folders is None:
            raise DataError(f"{root}: expected two folders of images, rgb and tir")
        rgb, tir = ([path.name for path in list_images(folder)] for folder in folders)
        for alone in sorted(set(rgb) ^ set(tir)):
            there, missing = folders if alone in rgb else reversed(folders)
            raise DataError(f"{there / alone}: has no partner of the same name in {missing}")
        self.folders = folders
        self.names = rgb

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, which: slice) -> PairFolder:
        view = copy.copy(self)
        view.names = self.names[which]
        return view

    def pair(self, index: int) -> Pair[Image]:
        """Return pair ``index`` in natural order of the names.

        Raises:
            DataError: a file is no image, or the two differ in size.
        """
        paths = [folder / self.names[index] for folder in self.folders]
        rgb, tir = map(read_image, paths)
        if rgb.shape != tir.shape:
            sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in (rgb, tir))
            raise DataError(f"{paths[0]}: expected the size of its partner {paths[1]}, got {sizes}")
        return Pair(rgb, tir)
