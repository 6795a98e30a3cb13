"""The ten settings of TIR-CMD's Table 1, as data, and the mixing of modalities in a batch."""

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
"""One modality, or a mix of both, the first one in the first half."""


def mix(
    pair: Pair[Tensor], modalities: ModalityMix, *, layout: Literal["halves", "side-by-side"] = "halves", dim: int = 0
) -> Tensor:
    """Return the part of a batch of pairs that a branch of TIR-CMD sees.

    ``"rgb"`` and ``"tir"`` return that member. ``"rgb-tir"`` and ``"tir-rgb"`` mix the two, in one of the paper's two
    readings:

    - ``"halves"``: ``"rgb-tir"`` is RGB in the first half of the batch and TIR in the second, ``"tir-rgb"`` the
      reverse. If one branch sees ``"rgb-tir"`` and the other ``"tir-rgb"``, each sample is seen in both modalities.
      The middle sample of an odd batch belongs to the first half, so a batch of one is not mixed. Mix all data of the
      samples in this way, such as boxes in each modality's crop.
    - ``"side-by-side"``: both images are joined along the width, the last axis. The joined image shows the target
      twice. Boxes in the right half must be moved by the width of one image.

    Sun et al., ACM Multimedia 2021, Table 1, https://arxiv.org/abs/2108.00187.

    Args:
        pair: two tensors ``(S, ...)`` of one shape, with S samples along ``dim``.
        modalities: one modality or a mix.
        layout: the kind of mix.
        dim: the batch axis, for ``"halves"``.

    Raises:
        ShapeError: members that differ in shape or are empty.
        ValueError: an unknown ``modalities`` or ``layout``.

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
    check_choice("mix", "modalities", modalities, orders)
    dim = check_int("mix", "dim", dim, low=-rgb.ndim, high=rgb.ndim - 1)
    members = orders[modalities]
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
    """The setting whose result initializes each part; ``"A1"`` is the pretrained tracker.

    Attributes:
        bbe_reference: for the layers that compute BBE's modulation.
        bbe_test: for the layers that compute BBE's test features, and for the predictor.
        tcl_reference: for the layers that compute TCL's filter.
        tcl_test: for the layers that compute TCL's test features, if the tracker has such layers.
    """

    bbe_reference: str = "A1"
    bbe_test: str = "A1"
    tcl_reference: str = "A1"
    tcl_test: str = "A1"

    def __post_init__(self) -> None:
        """Refuse values that are no names."""
        for name in ("bbe_reference", "bbe_test", "tcl_reference", "tcl_test"):
            check_text("InitialWeights", name, getattr(self, name))


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of the two modules; None if a module is not updated."""

    bbe: float | None = None
    tcl: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that are no learning rates."""
        for name, value in (("bbe", self.bbe), ("tcl", self.tcl)):
            if value is not None:
                check_number("LearningRates", name, value, low=0)


@dataclass(frozen=True)
class BranchSetting:
    """One row of TIR-CMD's Table 1: trained modules and branches, each branch's modality, and initial weights.

    The tracker decides which parameters belong to a module and a branch. Pass ``teacher`` to a distiller's ``detach``.
    A setting is hashable, and ``dataclasses.asdict`` makes it JSON.

    Sun et al., ACM Multimedia 2021, Table 1, https://arxiv.org/abs/2108.00187.

    Example:
        >>> from mmdistill.tir_cmd import SETTINGS
        >>> row = SETTINGS["D1"]
        >>> row.updated, row.reference, row.test, row.fine_tuned, row.teacher, row.learning_rates.tcl
        (('bbe', 'tcl'), 'rgb', 'tir', ('test',), 'reference', 2e-08)
        >>> row = SETTINGS["B3"]
        >>> row.trained, row.initial_weights.bbe_reference, row.initial_weights.bbe_test
        (False, 'B1', 'B2')

    Attributes:
        name: the row's name, such as ``"D3"``.
        title: the paper's title.
        updated: the modules that differ from the pretrained tracker's.
        reference: the reference branch's modality or mix.
        test: the test branch's modality or mix.
        fine_tuned: the branches whose parameters and statistics are trained; empty for A1 and B3, which are not
            trained.
        patches: the patch sampler; None for no patches.
        learning_rates: the paper's learning rates by module.
        initial_weights: the settings that initialize each part; None for the pretrained tracker itself.
    """

    name: str
    title: str
    updated: tuple[Module, ...]
    reference: ModalityMix
    test: ModalityMix
    fine_tuned: tuple[Branch, ...] = ()
    patches: Literal["center", "random", "detection"] | None = "center"
    learning_rates: LearningRates = LearningRates()
    initial_weights: InitialWeights | None = InitialWeights()

    def __post_init__(self) -> None:
        """Refuse unknown modules, branches, modalities and patch samplers."""
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
            ("initial_weights", InitialWeights | None),
            ("name", str),
            ("title", str),
        ):
            if not isinstance(getattr(self, name), kind):
                expected = kind.__name__ if isinstance(kind, type) else "InitialWeights, or None"
                raise argument_error("BranchSetting", name, expected, getattr(self, name))

    @property
    def trained(self) -> bool:
        """Whether the setting trains anything."""
        return bool(self.fine_tuned)

    @property
    def teacher(self) -> Branch | None:
        """The branch that teaches, for a distiller's ``detach``; None if both branches learn, or neither."""
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
    BranchSetting("A1", "Same as DiMP", (), "rgb", "rgb", patches=None, initial_weights=None),
    BranchSetting("B1", "Learning on reference branch", ("bbe",), "tir", "rgb", ("reference",), learning_rates=_BBE),
    BranchSetting("B2", "Learning on test branch", ("bbe",), "rgb", "tir", ("test",), learning_rates=_BBE),
    BranchSetting(
        "B3",
        "Combination of B1 and B2",
        ("bbe",),
        "tir",
        "tir",
        initial_weights=InitialWeights(bbe_reference="B1", bbe_test="B2"),
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
