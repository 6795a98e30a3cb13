"""The ten settings of TIR-CMD's Table 1, as data.

What a branch sees of a batch of pairs: one modality, or both mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor

from mmdistill._checks.arguments import argument_error, check_choice, check_int, check_number, check_text
from mmdistill._checks.shapes import check_min_axes, check_pair, check_same_shape
from mmdistill.pair import Pair

ModalityMix = Literal["rgb", "tir", "rgb-tir", "tir-rgb"]
"""One modality, or both: which first, or on the left."""


def mix(
    pair: Pair[Tensor], seen: ModalityMix, *, layout: Literal["halves", "side-by-side"] = "halves", dim: int = 0
) -> Tensor:
    """Return what a branch sees of a batch of pairs.

    ``"rgb"`` and ``"tir"`` are that member. The mixed two come in the paper's two readings:

    - ``"halves"``: ``"rgb-tir"`` is RGB in the first half of the batch and TIR in the second, ``"tir-rgb"`` the other
      way round. Of an odd batch the middle sample goes with the first half; a batch of one is all first half, and mixes
      nothing. One branch's ``"rgb-tir"`` and the other's ``"tir-rgb"`` so show each sample once in either modality. Not
      only images are mixed so, but whatever belongs to one modality's samples, such as boxes in crops of its own.
    - ``"side-by-side"``: the two images joined along the width, the last axis. The joined image is twice as wide, and
      shows the target twice: boxes in the left half stay, those in the right half are to be moved by the width of one.

    Args:
        pair: the two modalities' ``(S, ...)``, of one shape, S samples along ``dim``.
        seen: what the branch is to see.
        layout: how both are mixed.
        dim: the batch axis, for ``"halves"``.

    Raises:
        ShapeError: the members differ in shape, or are empty.
        ValueError: an unknown ``seen`` or ``layout``.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.tir_cmd import mix
        >>> pair = Pair(torch.tensor([1, 2, 3]), torch.tensor([-1, -2, -3]))
        >>> mix(pair, "rgb-tir"), mix(pair, "tir-rgb"), mix(pair, "tir-rgb", layout="side-by-side")
        (tensor([ 1,  2, -3]), tensor([-1, -2,  3]), tensor([-1, -2, -3,  1,  2,  3]))
    """
    check_pair("mix", "pair", pair)
    rgb, tir = pair
    check_min_axes("mix", "rgb", rgb, 1, "(S, ...)")
    check_same_shape("mix", "tir", tir, rgb, "rgb")
    check_choice("mix", "layout", layout, ("halves", "side-by-side"))
    orders = {"rgb": (rgb,), "tir": (tir,), "rgb-tir": (rgb, tir), "tir-rgb": (tir, rgb)}
    check_choice("mix", "seen", seen, orders)
    dim = check_int("mix", "dim", dim, low=-rgb.ndim, high=rgb.ndim - 1)
    members = orders[seen]
    if len(members) == 1:
        return members[0]
    if layout == "side-by-side":
        return torch.cat(members, dim=-1)
    samples = rgb.shape[dim]
    half = (samples + 1) // 2
    return torch.cat([members[0].narrow(dim, 0, half), members[1].narrow(dim, half, samples - half)], dim=dim)


Module = Literal["bbe", "tcl"]
Branch = Literal["reference", "test"]

BRANCHES: tuple[Branch, ...] = get_args(Branch)


@dataclass(frozen=True)
class InitialWeights:
    """From which setting's result each part is taken, by module and branch; ``"A1"`` is the tracker that was given.

    Attributes:
        bbe_reference: of BBE, what makes the modulation.
        bbe_test: of BBE, what makes the test branch's map, and the predictor.
        tcl_reference: of TCL, what makes the filter.
        tcl_test: of TCL, what makes the features that are scored, where a tracker has such a part.
    """

    bbe_reference: str = "A1"
    bbe_test: str = "A1"
    tcl_reference: str = "A1"
    tcl_test: str = "A1"

    def __post_init__(self) -> None:
        """Refuse what is no name."""
        for name in ("bbe_reference", "bbe_test", "tcl_reference", "tcl_test"):
            check_text("InitialWeights", name, getattr(self, name))


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of the two modules; None where one is not updated."""

    bbe: float | None = None
    tcl: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no learning rate."""
        for name, value in (("bbe", self.bbe), ("tcl", self.tcl)):
            if value is not None:
                check_number("LearningRates", name, value, low=0)


@dataclass(frozen=True)
class BranchSetting:
    """One row of Table 1: what is trained, what each branch sees, and where it begins.

    It names modules and branches; the tracker's owner says which parameters belong to each. Give ``teacher`` to a
    distiller's ``detach``. Hashable, and plain JSON by ``dataclasses.asdict``.

    Example:
        >>> from mmdistill.tir_cmd import SETTINGS
        >>> row = SETTINGS["D1"]
        >>> row.updated, row.reference, row.test, row.fine_tuned, row.teacher, row.learning_rates.tcl
        (('bbe', 'tcl'), 'rgb', 'tir', ('test',), 'reference', 2e-08)
        >>> SETTINGS["B3"].trained, SETTINGS["B3"].origin.bbe_reference, SETTINGS["B3"].origin.bbe_test
        (False, 'B1', 'B2')

    Attributes:
        name: such as ``"D3"``.
        title: the paper's.
        updated: the modules that differ from the tracker that was given.
        reference: what the reference branch sees.
        test: what the test branch sees.
        fine_tuned: the branches whose parameters and statistics are trained; none where a setting needs no training,
            being the given tracker, or assembled from others' parts.
        patches: which regions stand for a target; None where none is needed.
        learning_rates: the paper's, by module.
        origin: where each part begins, or what it is assembled of; None for the tracker that was given.
    """

    name: str
    title: str
    updated: tuple[Module, ...]
    reference: ModalityMix
    test: ModalityMix
    fine_tuned: tuple[Branch, ...] = ()
    patches: Literal["center", "random", "detection"] | None = "center"
    learning_rates: LearningRates = LearningRates()
    origin: InitialWeights | None = InitialWeights()

    def __post_init__(self) -> None:
        """Refuse what no branch sees, no module and no branch."""
        for name, choices in (("updated", get_args(Module)), ("fine_tuned", BRANCHES)):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(
                isinstance(value, str) and value in choices for value in values
            ):
                raise argument_error("BranchSetting", name, f"a tuple of {' and '.join(choices)}", values)
        check_choice("BranchSetting", "reference", self.reference, get_args(ModalityMix))
        check_choice("BranchSetting", "test", self.test, get_args(ModalityMix))
        check_choice("BranchSetting", "patches", self.patches, (None, "center", "random", "detection"))
        for name, kind in (
            ("learning_rates", LearningRates),
            ("origin", InitialWeights | None),
            ("name", str),
            ("title", str),
        ):
            if not isinstance(getattr(self, name), kind):
                expected = kind.__name__ if isinstance(kind, type) else "InitialWeights, or None"
                raise argument_error("BranchSetting", name, expected, getattr(self, name))

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.fine_tuned)

    @property
    def teacher(self) -> Branch | None:
        """The branch that teaches the other, for a distiller's ``detach``; None where both learn, or neither."""
        if len(self.fine_tuned) != 1:
            return None
        return "test" if self.fine_tuned == ("reference",) else "reference"


_BBE, _TCL, _BOTH = LearningRates(bbe=1e-6), LearningRates(tcl=1e-6), LearningRates(bbe=1e-7, tcl=2e-8)
_BEFORE_JOINT = InitialWeights(bbe_reference="B3", bbe_test="B3", tcl_reference="C1", tcl_test="C1")
_MODULES: tuple[Module, ...] = ("bbe", "tcl")


def _joint(
    name: str,
    title: str,
    reference: ModalityMix,
    test: ModalityMix,
    fine_tuned: tuple[Branch, ...] = BRANCHES,
    patches: Literal["center", "random", "detection"] = "center",
) -> BranchSetting:
    title = f"Joint learning{title}"
    return BranchSetting(name, title, _MODULES, reference, test, fine_tuned, patches, _BOTH, _BEFORE_JOINT)


_ROWS = (
    BranchSetting("A1", "Same as DiMP", (), "rgb", "rgb", patches=None, origin=None),
    BranchSetting("B1", "Learning on reference branch", ("bbe",), "tir", "rgb", ("reference",), learning_rates=_BBE),
    BranchSetting("B2", "Learning on test branch", ("bbe",), "rgb", "tir", ("test",), learning_rates=_BBE),
    BranchSetting(
        "B3",
        "Combination of B1 and B2",
        ("bbe",),
        "tir",
        "tir",
        origin=InitialWeights(bbe_reference="B1", bbe_test="B2"),
    ),
    BranchSetting("C1", "Learning on reference branch", ("tcl",), "tir", "rgb", ("reference",), learning_rates=_TCL),
    _joint("D1", " on test branch", "rgb", "tir", ("test",)),
    _joint("D2", " on reference branch", "tir", "rgb", ("reference",)),
    _joint("D3", "", "rgb-tir", "tir-rgb"),
    _joint("D4", " with random sampling", "rgb-tir", "tir-rgb", patches="random"),
    _joint("D5", " with a detector", "rgb-tir", "tir-rgb", patches="detection"),
)

SETTINGS: Mapping[str, BranchSetting] = MappingProxyType({row.name: row for row in _ROWS})
"""TIR-CMD's Table 1 by name, A1 to D5."""
