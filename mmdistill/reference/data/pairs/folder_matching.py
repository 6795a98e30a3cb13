"""Which folder of RGB images and which of TIR images belong together, by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mmdistill.pair import Pair
from mmdistill.reference.data.pairs.scanning import Folder
from mmdistill.reference.data.pairs.words import (
    holds_no_images,
    may_be_partners,
    names_none,
    rest_of,
    side_of,
    weak_side_of,
)
from mmdistill.reference.errors import DataError


@dataclass
class Layout:
    """How the pairs lie in a folder.

    Attributes:
        pairs: folders of RGB and of TIR images that belong together.
        alone: folders of one modality without a partner.
        guessed: the partners that were taken though their own names don't say a modality.
        plain: folders whose names say no modality and that hold images.
    """

    pairs: list[Pair[Folder]] = field(default_factory=list)
    alone: list[Folder] = field(default_factory=list)
    guessed: list[Folder] = field(default_factory=list)
    plain: list[Folder] = field(default_factory=list)


def find_layout(folder: Folder) -> Layout:
    """Return how pairs lie in a folder: modality folders in it, or further down.

    A folder is split into modalities where one sub-folder is named for RGB and one for TIR. All below those is paired
    by path, so that a split into train and test may lie above them or below.

    Raises:
        DataError: several folders may be the partner of one.
    """
    layout = Layout()
    children = [child for child in folder.children if child.count and not holds_no_images(child.name)]
    sides = Pair[list[Folder]]([], [])
    for child in children:
        if (side := side_of(child.name)) is not None:
            getattr(sides, side).append(child)
    sides = _with_short_forms(children, sides)
    if sides.rgb and sides.tir:
        _match(folder, sides, layout)
        children = [child for child in children if child not in (*sides.rgb, *sides.tir)]
    below = {child: find_layout(child) for child in children}
    for child in [*sides.rgb, *sides.tir]:
        # A name such as "thermal_data" may stand above both modalities.
        if child in below and not below[child].pairs:
            del below[child]
            _match_plain(child, below, layout)
    for each in below.values():
        layout.pairs += each.pairs
        layout.alone += each.alone
        layout.guessed += each.guessed
        layout.plain += each.plain
    if folder.images:
        layout.plain.append(folder)
    return layout


def _with_short_forms(children: Iterable[Folder], sides: Pair[list[Folder]]) -> Pair[list[Folder]]:
    """Return the sub-folders of each side; one that has none is given those of a short name, such as ``T``."""
    if sides.rgb and sides.tir:
        return sides
    weak = Pair[list[Folder]]([], [])
    for child in children:
        if (side := weak_side_of(child.name)) is not None:
            getattr(weak, side).append(child)
    filled = Pair(sides.rgb or weak.rgb, sides.tir or weak.tir)
    return filled if filled.rgb and filled.tir else sides


def _match(folder: Folder, sides: Pair[list[Folder]], layout: Layout) -> None:
    """Pair sub-folders by what their names say besides the modality."""
    groups: dict[tuple[str, ...], Pair[list[Folder]]] = defaultdict(lambda: Pair([], []))
    for number, side in enumerate(sides):
        for child in side:
            groups[rest_of(child.name)][number].append(child)
    left = Pair[list[Folder]]([], [])
    for group in groups.values():
        if group.rgb and group.tir:
            _pair(folder, group, layout)
        else:
            left.rgb.extend(group.rgb)
            left.tir.extend(group.tir)
    alike = [Pair(rgb, tir) for rgb in left.rgb for tir in left.tir if may_be_partners(rgb.name, tir.name)]
    if alike:
        rgb = [each for each in left.rgb if any(each is pair.rgb for pair in alike)]
        tir = [each for each in left.tir if any(each is pair.tir for pair in alike)]
        _pair(folder, Pair(rgb, tir), layout)
        left = Pair([each for each in left.rgb if each not in rgb], [each for each in left.tir if each not in tir])
    layout.alone += [*left.rgb, *left.tir]


def _pair(folder: Folder, group: Pair[list[Folder]], layout: Layout) -> None:
    if len(group.rgb) == len(group.tir) == 1:
        layout.pairs.append(Pair(group.rgb[0], group.tir[0]))
        return
    rgb, tir = (_listed(side) for side in group)
    first = " --tir ".join(f"'{side[0].path}'" for side in group)
    raise DataError(f"{folder.path}: which belong together? RGB: {rgb}; TIR: {tir}. Choose, such as --rgb {first}")


def _match_plain(named: Folder, below: dict[Folder, Layout], layout: Layout) -> None:
    """Take a folder of the same name, but for the modality, as the partner: ``img`` and ``img_ir``."""
    partners = [child for child in below if names_none(child.name) and rest_of(child.name) == rest_of(named.name)]
    if len(partners) != 1:
        layout.alone.append(named)
        return
    partner = partners[0]
    del below[partner]
    layout.pairs.append(Pair(partner, named) if side_of(named.name) == "tir" else Pair(named, partner))
    layout.guessed.append(partner)


def _listed(folders: Sequence[Folder], most: int = 4) -> str:
    shown = ", ".join(f"{folder.name} ({folder.count:,})" for folder in folders[:most])
    return shown + (f" and {len(folders) - most} more" if len(folders) > most else "")
