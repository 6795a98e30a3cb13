"""Terms: a loss's parts by name, their weights and their total."""

from __future__ import annotations

import _codecs
import copy
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mmdistill._checks.arguments import MAX_WEIGHT, argument_error, check_number
from mmdistill._numerics import scaled, sum_scalars

if TYPE_CHECKING or tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7):
    # DataParallel rebuilds dictionaries. FSDP1 rebuilds an OrderedDict, but turns other dictionaries into plain ones.
    from collections import OrderedDict

    _Base = OrderedDict[str, Tensor]
else:
    # Before, torch.compile(fullgraph=True) built neither subclasses of dict nor a MutableMapping.
    @dataclass(init=False, repr=False, eq=False)  # DistributedDataParallel finds tensors in dataclasses
    class _Base(Mapping[str, Any]):
        """The methods of ``OrderedDict`` that ``Terms`` uses, with the values in an attribute."""

        _values: dict[str, Any]

        def __init__(self) -> None:
            self._values = {}

        def __getitem__(self, name: str) -> Any:
            return self._values[name]

        def __setitem__(self, name: str, value: Any) -> None:
            self._values[name] = value

        def __iter__(self) -> Iterator[str]:
            return iter(self._values)

        def __len__(self) -> int:
            return len(self._values)

        def __deepcopy__(self, memo: dict[int, Any]) -> _Base:
            # Lightning copies a dataclass with its values in the memo, then replaces them.
            copied = copy.copy(self)
            copied._values = copy.deepcopy(self._values, memo)
            return copied


class TermName(str):
    """A term's name, with the term's weight in the total and its loss's name.

    Wrappers call ``type(outputs)`` with names and mapped values only, so the names carry what ``Terms`` needs. A name
    equals the plain string, and is pickled as a plain string.
    """

    weight: float
    loss: str

    def __new__(cls, name: str, weight: float = 1.0, loss: str = "") -> TermName:
        """Return the string with a weight and a loss's name."""
        self = super().__new__(cls, name)
        self.weight, self.loss = weight, loss
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # The only call for a string that torch.load(weights_only=True) allows. rot13 twice is the identity.
        return _codecs.encode, (_codecs.encode(str(self), "rot13"), "rot13")


def _term_name(name: str, weight: float, loss: str) -> TermName:
    return TermName(name, weight, loss)


# A graph cannot build a TermName, so the compiler treats it as a constant. torch.compiler.assume_constant_result sets
# the same attribute, but imports the compiler, which takes a second.
_term_name._dynamo_marked_constant = True  # type: ignore[attr-defined]


class Terms(_Base):
    """A loss's unweighted parts by name, scalar tensors, and their weighted total, which carries the gradient.

    It is a dictionary from name to part: log it with ``for name, value in terms.items()``. ``total`` is an attribute
    and not among the names. Terms pass through ``torch.compile(fullgraph=True)``, ``DistributedDataParallel`` and
    wrappers that rebuild a loss's output by its type: ``DataParallel``, Lightning Fabric, Accelerate, the Hugging Face
    Trainer. The names are ``str`` objects that carry the weights; ``as_dict`` has plain strings.

    Args:
        parts: each part by name, or pairs of name and part.
        weights: each part's weight in the total, a finite number. By default the weight that the name carries, or 1.
        name: the loss's name, a prefix if another loss has a part of the same name; see ``weighted``.

    Raises:
        ValueError: a part is called ``total``; two parts have one name; the weights are for other parts, or not
            numbers; ``total`` is read and there are no parts.

    Example:
        >>> import torch
        >>> from mmdistill import Terms
        >>> kd = Terms.summed("kd", distillation=torch.tensor(2.0))
        >>> md = Terms.summed("md", distillation=torch.tensor(3.0), box=torch.tensor(1.0))
        >>> terms = Terms.weighted((0.5, kd), (10.0, md))
        >>> list(terms), terms.total
        (['kd.distillation', 'md.distillation', 'box'], tensor(41.))
        >>> Terms({name: 2 * value for name, value in terms.items()}).total
        tensor(82.)
    """

    name: str
    """The loss's name; empty if it has none."""

    def __init__(
        self,
        parts: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = (),
        *,
        weights: Mapping[str, float] | None = None,
        name: str = "",
    ) -> None:
        super().__init__()
        self.name = name
        self._weights: dict[str, float] = {}
        self._total: Tensor | None = None
        for part, value in parts.items() if isinstance(parts, Mapping) else parts:
            if part in self._weights:
                raise ValueError(f"Terms: two parts are called {str(part)!r}")
            self[part] = value
        if name:
            self.name = name
        if weights is None:
            return
        if weights.keys() != self._weights.keys():
            names = ", ".join(self._weights)
            got = ", ".join(weights) or "none"
            raise ValueError(f"Terms: weights: expected one for each part ({names}), got {got}")
        self._weights = {part: _weight(f"Terms: {part}", weights[part]) for part in self._weights}

    @classmethod
    def summed(cls, name: str = "", /, **parts: Tensor) -> Terms:
        """Return these parts with their plain sum as the total.

        Args:
            name: a short name for the loss, such as ``"kd"``; see ``weighted``.
            parts: each part by name, at least one.
        """
        if not parts:
            raise ValueError("Terms.summed: expected at least one part, got none")
        return cls(parts, name=name)._with_total(sum_scalars(list(parts.values())))

    @classmethod
    def weighted(cls, /, *weighted_terms: tuple[float, Terms], **named: tuple[float, Terms]) -> Terms:
        """Return the parts of several terms with the weighted sum of their totals.

        A part's name that several losses have gets the loss's name as prefix: ``"kd.distillation"``. A keyword names
        the loss, for two losses of one class: ``Terms.weighted(rgb=(1.0, first), tir=(1.0, second))``.

        Args:
            *weighted_terms: pairs of a weight, a finite number, and terms. For a learned weight, multiply instead:
                ``weight * terms.total``.
            **named: the same, with names.

        Raises:
            TypeError: an argument is no pair of a weight and ``Terms``.
            ValueError: two parts have one name in spite of prefixes, a weight is no finite number, or there is no
                argument.
        """
        pairs = [_check_pair(f"argument {number}", pair) for number, pair in enumerate(weighted_terms, start=1)]
        for name, pair in named.items():
            weight, terms = _check_pair(name, pair)
            pairs.append((weight, terms.named(name)))
        if not pairs:
            raise ValueError("Terms.weighted: expected at least one pair of a weight and Terms, got none")
        counts: dict[str, int] = {}
        for _, terms in pairs:
            for name in terms._weights:
                counts[name] = counts.get(name, 0) + 1
        parts: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        for weight, terms in pairs:
            for name, part_weight in terms._weights.items():
                full = f"{terms.name}.{name}" if counts[name] > 1 and terms.name else name
                if full in parts:
                    raise ValueError(
                        f"Terms.weighted: two parts are called {full!r}; name their losses by keyword, "
                        f"such as Terms.weighted(rgb=(1.0, first), tir=(1.0, second))"
                    )
                parts[full], weights[full] = terms[name], weight * part_weight
        combined = cls._with_weights(parts, weights, pairs[0][1].name if len(pairs) == 1 else "")
        return combined._with_total(sum_scalars([scaled(terms.total, weight) for weight, terms in pairs]))

    @property
    def total(self) -> Tensor:
        """The weighted sum of the parts, to call ``backward`` on."""
        if self._total is None:
            if not self._weights:
                raise ValueError("Terms: total: expected at least one part, got none")
            self._total = sum_scalars([scaled(self[name], weight) for name, weight in self._weights.items()])
        return self._total

    @property
    def weights(self) -> dict[str, float]:
        """Each part's weight in the total, by name."""
        return dict(self._weights)

    @property
    def parts(self) -> dict[str, Tensor]:
        """The parts by name, as plain strings."""
        return {name: self[name] for name in self._weights}

    def as_dict(self) -> dict[str, Tensor]:
        """Return a plain dictionary of the parts and ``"total"``."""
        return {**self.parts, "total": self.total}

    def named(self, name: str) -> Terms:
        """Return the same parts and total with this loss name; see ``weighted``."""
        return self._with_weights(self.parts, self._weights, name)._with_total(self.total)

    def copy(self) -> Terms:
        """Return the same parts, total and name."""
        return self.named(self.name)

    def update(self, *parts: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], **named: Tensor) -> None:  # type: ignore[override]
        """Set these parts; parts of other ``Terms`` keep their weights.

        Raises:
            ValueError: other ``Terms`` have a part of the same name, which would be lost.
        """
        for other in parts:
            shared = [name for name in other._weights if name in self._weights] if isinstance(other, Terms) else []
            if shared:
                raise ValueError(f"Terms: both have {', '.join(shared)}; combine them by Terms.weighted")
        for name, value in dict(*parts, **named).items():
            self[name] = value

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, Mapping):
            return NotImplemented
        combined = self.copy()
        combined.update(other)
        return combined

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __setitem__(self, name: str, value: Tensor) -> None:
        if name == "total":
            raise ValueError("Terms: expected another name for a part than 'total', which is their sum")
        part = str(name)
        if isinstance(name, TermName):
            self.name = name.loss if not self._weights or self.name == name.loss else ""
            self._weights[part] = name.weight
        elif part not in self._weights:
            self._weights[part] = 1.0
        self._total = None
        super().__setitem__(part, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # dict's own does not use __iter__
        """Return the parts' names."""
        return KeysView(self)

    def items(self) -> ItemsView[str, Tensor]:  # type: ignore[override]
        """Return the parts with their names."""
        if torch.compiler.is_compiling():  # not every version finds a part by a TermName
            return list(zip(self._names(), self.parts.values(), strict=True))  # type: ignore[return-value]
        return ItemsView(self)

    def _names(self) -> list[TermName]:
        return [_term_name(name, weight, self.name) for name, weight in self._weights.items()]

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._names())

    def _refuse_removal(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("Terms: parts cannot be removed or moved; build new Terms instead")

    __delitem__ = pop = popitem = clear = move_to_end = _refuse_removal

    def __repr__(self) -> str:
        return f"Terms({self.parts}, weights={self._weights})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.parts, self._weights, self.name)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _register(cls)

    @classmethod
    def _with_weights(cls, parts: Mapping[str, Tensor], weights: Mapping[str, float], name: str) -> Terms:
        """Return terms with checked weights."""
        terms = cls(parts, name=name)
        terms._weights = dict(weights)
        return terms

    def _with_total(self, total: Tensor) -> Terms:
        """Set the total, so that it is not summed again in another order."""
        self._total = total
        return self


def _check_pair(which: str, pair: object) -> tuple[float, Terms]:
    # One check at a time: torch.compile of PyTorch 2.6 cannot trace a union of types.
    if not isinstance(pair, tuple):
        raise TypeError(f"Terms.weighted: {which}: expected (weight, Terms), got {type(pair).__name__}")
    if len(pair) != 2 or not isinstance(pair[1], Terms):
        got = ", ".join(type(each).__name__ for each in pair)
        raise TypeError(f"Terms.weighted: {which}: expected (weight, Terms), got ({got})")
    return _weight(f"Terms.weighted: {which}", pair[0]), pair[1]


def _weight(where: str, value: float) -> float:
    if type(value) is float and abs(value) <= MAX_WEIGHT:
        return value
    if torch.compiler.is_compiling() and not isinstance(value, Tensor):
        return value  # may be symbolic
    if isinstance(value, Tensor) and value.requires_grad:
        expected = "a number; multiply the total by a learned weight"
        raise argument_error(where, "weight", expected, value)
    return check_number(where, "weight", value, low=-MAX_WEIGHT, high=MAX_WEIGHT)


def _restore(kind: type[Terms], parts: dict[str, Tensor], weights: dict[str, float], name: str) -> Terms:
    return kind._with_weights(parts, weights, name)


def _flatten(terms: Terms) -> tuple[list[Tensor], tuple[dict[str, float], str]]:
    # Without the total, which is computed from the mapped parts.
    return list(terms.parts.values()), (terms.weights, terms.name)


def _unflatten(kind: type[Terms], values: Iterable[Tensor], context: tuple[dict[str, float], str]) -> Terms:
    weights, name = context
    return kind._with_weights(dict(zip(weights, values, strict=False)), weights, name)


def _register(kind: type[Terms]) -> None:
    """Register a class of ``Terms`` as a pytree; else DDP with a static graph would not find its tensors."""
    name = "mmdistill.Terms" if kind.__module__ == __name__ else f"{kind.__module__}.{kind.__qualname__}"
    pytree.register_pytree_node(kind, _flatten, partial(_unflatten, kind), serialized_type_name=name)


_register(Terms)
torch.serialization.add_safe_globals([Terms, _restore])  # so that torch.load(weights_only=True) may call them
