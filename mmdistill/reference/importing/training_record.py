"""The training record of a public checkpoint: the tracker's identity and its sizes.

Training code stores its settings and the network's constructor beside the weights, as objects of its own classes. Only
their numbers, texts, lists and dictionaries are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mmdistill.reference.crops import IMAGENET_MEAN, IMAGENET_STD
from mmdistill.reference.importing.pickles import OpaqueObject
from mmdistill.toolkit.data_issues import MAX_NAME, one_line

MAX_ENTRIES = 10_000
"""Limit of a checkpoint's settings; public ones have about 50 entries."""

MAX_NUMBER = 1e9
"""Limit of a size."""

_MAX_DEPTH = 5
"""Limit of nested settings."""

_SUBTREES = ("settings", "constructor", "net_info", "params", "config", "args")
_IDENTIFIERS = (
    *("actor_type", "net_type", "constructor.fun_name", "constructor.fun_module"),
    *("settings.module_name", "settings.script_name"),
)
"""Entries that name the training code, the network's class and the experiment."""

_SUPPORTED = {"actor_type": {"DiMPActor", "AtomActor"}, "net_type": {"DiMPnet", "ATOMnet"}}

SIZE_NAMES: Mapping[str, str] = {
    "output_sz": "crop_size",
    "feature_sz": "crop_size",
    "image_sample_size": "crop_size",
    "search_area_factor": "search_area",
    "search_area_scale": "search_area",
    "target_filter_sz": "filter_size",
    "filter_size": "filter_size",
    "output_sigma_factor": "label_sigma",
    "optim_iter": "optimiser_iterations",
    "box_refinement_iter": "refinement_steps",
}
"""Published names of sizes, with their names in ``NetworkSettings``."""

FIXED_VALUES: Mapping[str, object] = {
    "box_refinement_space": "default",
    "box_refinement_step_length": 1,
    "box_refinement_step_decay": 1,
    "use_iou_net": True,
    "feature_stride": 16,
    "num_dist_bins": 100,
    "bin_displacement": 0.1,
    "score_act": "relu",
    "target_mask_act": "sigmoid",
    "clf_feat_norm": True,
    "init_filter_norm": False,
    "border_mode": "replicate",
    "normalize_mean": IMAGENET_MEAN,
    "normalize_std": IMAGENET_STD,
}
"""Published names of settings that are constant in our networks, with their values."""

_KL_BOXES = "its box head was trained by KL divergence, and mmdistill refines boxes by a predicted IoU"
_SECOND_NETWORK = "its scores come from a second network that tracks the scene"
_TRANSFORMER = "a transformer predicts its filter and boxes"
_SEGMENTATION = "it segments the target"
_NO_LEARNED_MAPS = "its filter optimizer has no learned label, mask and weights"

_FAMILIES: tuple[tuple[str, str, str], ...] = (
    (r"super_?dimp", "SuperDiMP", _KL_BOXES),
    (r"prdimp|klcedimp", "PrDiMP", _KL_BOXES),
    (r"^kl(?=dimp|atom)|KL(?=[A-Z])|prob_?ml", "a tracker with KL-trained boxes", _KL_BOXES),
    (r"(^|[._/])kys", "KYS", _SECOND_NETWORK),
    (r"(^|[._/])(tomp|tamos)", "ToMP or TaMOs", _TRANSFORMER),
    (r"(^|[._/])(lwt?l|rts)(?![a-z])|(^|[._/])(lwt?l|rts)(net|actor|_)", "LWL or RTS", _SEGMENTATION),
    (r"keep_?track|target_?candid?i?ate?_?matching", "KeepTrack", "it matches candidates by a second network"),
    (r"dimp_?simple_?actor|dimpnet\d+_simple", "the simple DiMP", _NO_LEARNED_MAPS),
)
"""Patterns of identifiers, the tracker, and why it is not supported."""

_LAYERS: tuple[tuple[str, str, str], ...] = (
    (r"(backbone_feature_extractor|dimp_classifier|motion_feat_extractor)\.", "KYS", _SECOND_NETWORK),
    (r"head\.", "ToMP or TaMOs", _TRANSFORMER),
    (r"(target_model|decoder|label_encoder)\.", "LWL or RTS", _SEGMENTATION),
)
"""The same for names of layers, for files without a training record."""


@dataclass(frozen=True)
class TrainingRecord:
    """A checkpoint's training record.

    Attributes:
        identifiers: names of the training code, the network's class and the experiment, by their path in the file.
        values: entries named in ``SIZE_NAMES`` and ``FIXED_VALUES``: path, name and value.
    """

    identifiers: Mapping[str, str] = field(default_factory=dict)
    values: tuple[tuple[str, str, object], ...] = ()

    def unsupported(self, layers: Iterable[str]) -> list[str]:
        """Return why the checkpoint is not supported; empty if nothing speaks against it.

        Args:
            layers: names of the checkpoint's tensors.
        """
        return [*self._unsupported_identifiers(), *_unsupported_layers(layers), *self._unsupported_values()]

    def sizes(self) -> dict[str, tuple[float, str]]:
        """Return the recorded sizes by their name in ``NetworkSettings``: the value, and its path in the file.

        Raises:
            ValueError: a size is no number, or two entries contradict each other.
        """
        sizes: dict[str, tuple[float, str]] = {}
        for where, name, value in self.values:
            if name not in SIZE_NAMES:
                continue
            number, ours = _single_number(where, value), SIZE_NAMES[name]
            if name == "feature_sz":
                number, where = 16 * number, f"16 x {where}"
            if ours in sizes and sizes[ours][0] != number:
                raise ValueError(f"{sizes[ours][1]} is {sizes[ours][0]:g}, but {where} is {number:g}")
            sizes.setdefault(ours, (number, where))
        return sizes

    def note(self) -> str | None:
        """Return a warning for users of the converted checkpoint, or None."""
        unknown = [
            f"{where} {one_line(name, MAX_NAME)!r}"
            for where, name in self.identifiers.items()
            if where in _SUPPORTED and name not in _SUPPORTED[where]
        ]
        if self.identifiers and not unknown:
            return None
        cause = f"{' and '.join(unknown)} unknown" if unknown else "the file does not name its training code"
        return f"{cause}; boxes are right only if its box head was trained to predict an IoU"

    def _unsupported_identifiers(self) -> Iterator[str]:
        for pattern, tracker, reason in _FAMILIES:
            for where, name in self.identifiers.items():
                # Case distinguishes "KL" in class names; all other patterns ignore case.
                if re.search(pattern, name) or re.search(pattern, name.lower()):
                    yield f"{tracker} by its {where} {one_line(name, MAX_NAME)!r}: {reason}"
                    return

    def _unsupported_values(self) -> Iterator[str]:
        for where, name, value in self.values:
            if name == "loss_weight" and isinstance(value, dict) and "bb_ce" in value:
                yield f"{where}.bb_ce: {_KL_BOXES}"
            if name in FIXED_VALUES and not _equal(value, FIXED_VALUES[name]):
                yield f"{where}: expected {FIXED_VALUES[name]!r}, got {_quoted(value)}"


def read_record(content: object) -> TrainingRecord:
    """Return a checkpoint's training record.

    Args:
        content: the saved object, as ``read_torch_file`` returns it.

    Raises:
        ValueError: its settings have more than ``MAX_ENTRIES`` entries.
    """
    identifiers: dict[str, str] = {}
    values: list[tuple[str, str, object]] = []
    top = content if isinstance(content, dict) else {}
    entries = [(name, name, value) for name, value in top.items() if isinstance(name, str)]
    entries += [entry for name in _SUBTREES if name in top for entry in _entries(top[name], name)]
    for where, name, value in entries:
        if where in _IDENTIFIERS and isinstance(value, str):
            identifiers[where] = value
        elif (name in SIZE_NAMES or name in FIXED_VALUES or name == "loss_weight") and value is not None:
            values.append((where, name, value))
    return TrainingRecord(identifiers, tuple(values))


def _entries(root: object, where: str) -> Iterator[tuple[str, str, object]]:
    """Yield path, name and value of all entries in an object or dictionary, nested ones included, each object once."""
    count, pending = 0, [(where, root, 0)]
    visited: dict[int, object] = {}  # keeps the objects alive, so that ids stay unique
    while pending:
        path, owner, depth = pending.pop()
        if id(owner) in visited:  # an object may contain itself
            continue
        entries: Iterable[tuple[object, object]] = ()
        if isinstance(owner, OpaqueObject):
            entries = owner.attributes()
        elif isinstance(owner, dict):
            entries = owner.items()
        if isinstance(owner, OpaqueObject | dict):
            visited[id(owner)] = owner
        for name, value in entries:
            count += 1
            if count > MAX_ENTRIES:
                raise ValueError(f"its settings have more than {MAX_ENTRIES:,} entries")
            if isinstance(name, str):
                yield f"{path}.{name}", name, value
                if depth < _MAX_DEPTH:
                    pending.append((f"{path}.{name}", value, depth + 1))


def _unsupported_layers(names: Iterable[str]) -> Iterator[str]:
    names = list(names)
    for pattern, tracker, reason in _LAYERS:
        matches = [name for name in names if re.match(pattern, name)]
        if matches:
            yield f"{tracker} by its layer {one_line(min(matches), MAX_NAME)}: {reason}"
            return
    learned = tuple(f"classifier.filter_optimizer.{name}" for name in ("label_map", "target_mask", "spatial_weight"))
    if any(name.startswith("classifier.") for name in names) and not any(name.startswith(learned) for name in names):
        yield f"PrDiMP or another variant of DiMP: {_NO_LEARNED_MAPS}"


def _single_number(where: str, value: object) -> float:
    """Return the number in a value. It may repeat: a size per axis, or per kind of frame."""
    leaves = list(_leaves(value))
    numbers = [leaf for leaf in leaves if isinstance(leaf, int | float) and not isinstance(leaf, bool)]
    if not numbers or len(numbers) < len(leaves) or not all(abs(number) < MAX_NUMBER for number in numbers):
        raise ValueError(f"{where}: expected a plain number, got {_quoted(value)}")
    if any(number != numbers[0] for number in numbers):
        raise ValueError(f"{where}: expected one number for all, got {_quoted(value)}")
    return int(numbers[0]) if numbers[0] == int(numbers[0]) else numbers[0]


def _leaves(value: object, depth: int = 0) -> Iterator[object]:
    if isinstance(value, dict | list | tuple) and depth < 2 and len(value) <= 8:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item, depth + 1)
    else:
        yield value


def _equal(value: object, expected: object) -> bool:
    if isinstance(expected, tuple):
        if not isinstance(value, list | tuple) or len(value) != len(expected):
            return False
        return all(_equal(each, wanted) for each, wanted in zip(value, expected, strict=True))
    if isinstance(expected, bool | str):
        return type(value) is type(expected) and value == expected
    return type(value) in (int, float) and value == expected


def _quoted(value: object) -> str:
    """Return a value's text for an error: plain values are printed, others named by their type."""
    if isinstance(value, OpaqueObject):
        return one_line(value.name, MAX_NAME)
    leaves = list(_leaves(value))
    if len(leaves) <= 8 and all(isinstance(leaf, str | float | None) or _is_short(leaf) for leaf in leaves):
        return one_line(repr(value), MAX_NAME)
    return f"a {type(value).__name__}"


def _is_short(value: object) -> bool:
    # Python does not print integers of thousands of digits.
    return isinstance(value, int) and abs(value) < MAX_NUMBER
