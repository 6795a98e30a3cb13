"""Terms: the parts of a loss by name, their weights and their total."""

from __future__ import annotations

import _codecs
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mmdistill._checks.arguments import MAX_WEIGHT, argument_error, check_number

if TYPE_CHECKING or tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7):
    # DataParallel builds anew what is a dict; FSDP1 what is an OrderedDict, of other dicts it makes plain ones.
    from collections import OrderedDict

    _Base = OrderedDict[str, Tensor]
else:
    # Before, torch.compile(fullgraph=True) makes no kind of dictionary but the plain one.
    from mmdistill._mapping import PlainMapping as _Base


class TermName(str):
    """A term's name, which knows the term's weight in the total and the loss it is of.

    Wrappers give ``type(outputs)`` the names and the mapped values only. So the names carry what ``Terms`` needs to be
    built anew. A name equals the plain string, and is pickled as it.
    """

    weight: float
    loss: str

    def __new__(cls, name: str, weight: float = 1.0, loss: str = "") -> TermName:
        """Return this string with a weight and a loss's name."""
        self = super().__new__(cls, name)
        self.weight, self.loss = weight, loss
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Of all calls that torch.load(weights_only=True) allows, this alone returns a string. rot13 undoes itself.
        return _codecs.encode, (_codecs.encode(str(self), "rot13"), "rot13")


def _term_name(name: str, weight: float, loss: str) -> TermName:
    return TermName(name, weight, loss)


# No graph can make a string of a kind of its own, so the compiler takes it as a constant. This is what
# torch.compiler.assume_constant_result sets; calling that would import the compiler, a second for everyone.
_term_name._dynamo_marked_constant = True  # type: ignore[attr-defined]


class Terms(_Base):
    """A loss's parts by name, each an unweighted scalar tensor, and their total, which carries the gradient.

    A dictionary from name to part, so ``for name, value in terms.items()`` logs it. ``total`` is no part: it is not
    among the names. It passes through ``torch.compile(fullgraph=True)``, ``DistributedDataParallel`` and wrappers that
    build a loss's outputs anew by their type: ``DataParallel``, Lightning Fabric, Accelerate, the Hugging Face Trainer.
    The names are strings that carry the weights there; ``as_dict`` has plain ones.

    Args:
        parts: each part by name, or pairs of name and part.
        weights: each part's weight in the total, a finite number. If not given: that which the name carries, 1 for a
            plain string.
        name: what the loss is called where it shares a part's name with another.

    Raises:
        ValueError: a part is called ``total``, two have one name, or the weights are of other parts or no numbers. Of
            ``total``: there are no parts.

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
    """What the loss is called where it shares a part's name with another; empty if it has no name."""

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
            raise ValueError(
                f"Terms: weights: expected one for each part ({names}), got {', '.join(weights) or 'none'}"
            )
        self._weights = {part: _weight(f"Terms: {part}", weights[part]) for part in self._weights}

    @classmethod
    def summed(cls, name: str = "", /, **parts: Tensor) -> Terms:
        """Return these parts with their plain sum as the total.

        Args:
            name: a short name of the loss, such as ``"kd"``; see ``weighted``.
            parts: each part by name, at least one.
        """
        if not parts:
            raise ValueError("Terms.summed: expected at least one part, got none")
        return cls(parts, name=name)._with_total(sum_scalars(list(parts.values())))

    @classmethod
    def weighted(cls, /, *weighted_terms: tuple[float, Terms], **named: tuple[float, Terms]) -> Terms:
        """Return the parts of all given terms, and the weighted sum of their totals.

        A name that several of them have is prefixed with the loss's name: ``"kd.distillation"``. Two losses of one
        kind are given by keyword, which names them: ``Terms.weighted(rgb=(1.0, first), tir=(1.0, second))``.

        A weight is a finite number. A learned weight is a tensor, so multiply by it: ``weight * terms.total``.

        Raises:
            TypeError: what is given is no pair of a weight and ``Terms``.
            ValueError: two parts have one name and no prefix tells them apart, a weight is no finite number, or nothing
                is given.
        """
        given = [_pair(f"argument {number}", pair) for number, pair in enumerate(weighted_terms, start=1)]
        for name, pair in named.items():
            weight, terms = _pair(name, pair)
            given.append((weight, terms.named(name)))
        if not given:
            raise ValueError("Terms.weighted: expected at least one pair of a weight and Terms, got none")
        counts: dict[str, int] = {}
        for _, terms in given:
            for name in terms._weights:
                counts[name] = counts.get(name, 0) + 1
        parts: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        for weight, terms in given:
            for name, its_weight in terms._weights.items():
                full = f"{terms.name}.{name}" if counts[name] > 1 and terms.name else name
                if full in parts:
                    raise ValueError(
                        f"Terms.weighted: two parts are called {full!r}; name their losses by keyword, "
                        f"such as Terms.weighted(rgb=(1.0, first), tir=(1.0, second))"
                    )
                parts[full], weights[full] = terms[name], weight * its_weight
        together = cls._weighing(parts, weights, given[0][1].name if len(given) == 1 else "")
        return together._with_total(sum_scalars([weight * terms.total for weight, terms in given]))

    @property
    def total(self) -> Tensor:
        """What to call ``backward`` on: the weighted sum of the parts."""
        if self._total is None:
            if not self._weights:
                raise ValueError("Terms: there are no parts, so there is no total")
            self._total = sum_scalars([weight * self[name] for name, weight in self._weights.items()])
        return self._total

    @property
    def weights(self) -> dict[str, float]:
        """Each part's weight in the total, by name."""
        return dict(self._weights)

    @property
    def parts(self) -> dict[str, Tensor]:
        """Each part by its name as a plain string."""
        return {name: self[name] for name in self._weights}

    def as_dict(self) -> dict[str, Tensor]:
        """Return a plain dictionary of the parts and of ``"total"``."""
        return {**self.parts, "total": self.total}

    def named(self, name: str) -> Terms:
        """Return the same parts and total as those of a loss of this name; see ``weighted``."""
        return self._weighing(self.parts, self._weights, name)._with_total(self.total)

    def copy(self) -> Terms:
        """Return the same parts, total and name."""
        return self.named(self.name)

    def update(self, *parts: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], **named: Tensor) -> None:  # type: ignore[override]
        """Set these parts; those of other ``Terms`` come with their weights.

        Raises:
            ValueError: other ``Terms`` have a part that is here already, which would be lost.
        """
        for given in parts:
            shared = [name for name in given._weights if name in self._weights] if isinstance(given, Terms) else []
            if shared:
                raise ValueError(f"Terms: both have {', '.join(shared)}; combine them by Terms.weighted")
        for name, value in dict(*parts, **named).items():
            self[name] = value

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, Mapping):
            return NotImplemented
        together = self.copy()
        together.update(other)
        return together

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __setitem__(self, name: str, value: Tensor) -> None:
        if name == "total":
            raise ValueError("Terms: no part may be called 'total', which is their sum")
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

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # a dictionary's own reads past __iter__
        """Return the parts' names."""
        return KeysView(self)

    def items(self) -> ItemsView[str, Tensor]:  # type: ignore[override]
        """Return the parts with their names."""
        if torch.compiler.is_compiling():  # where not every version finds a part by a name of our kind
            return list(zip(self._names(), self.parts.values(), strict=True))  # type: ignore[return-value]
        return ItemsView(self)

    def _names(self) -> list[TermName]:
        return [_term_name(name, weight, self.name) for name, weight in self._weights.items()]

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._names())

    def _refuse_removal(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("Terms: parts cannot be removed or moved; build Terms of the parts that you want")

    __delitem__ = pop = popitem = clear = move_to_end = _refuse_removal

    def __repr__(self) -> str:
        return f"Terms({self.parts}, weights={self._weights})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.parts, self._weights, self.name)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _register(cls)

    @classmethod
    def _weighing(cls, parts: Mapping[str, Tensor], weights: Mapping[str, float], name: str) -> Terms:
        """Return parts with weights that have been checked."""
        terms = cls(parts, name=name)
        terms._weights = dict(weights)
        return terms

    def _with_total(self, total: Tensor) -> Terms:
        """Take the total that is there already, in the order in which its parts were summed."""
        self._total = total
        return self


def sum_scalars(scalars: list[Tensor]) -> Tensor:
    """Return the sum of at least one scalar, without the integer 0 that ``sum`` starts from."""
    total = scalars[0]
    for scalar in scalars[1:]:
        total = total + scalar
    return total


def _pair(which: str, pair: object) -> tuple[float, Terms]:
    # One type at a time: torch.compile of PyTorch 2.6 stops at a union of types.
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
        return value  # may be a symbol
    if isinstance(value, Tensor) and value.requires_grad:
        expected = "a number; multiply the total by a learned weight"
        raise argument_error(where, "its weight", expected, value)
    return check_number(where, "its weight", value, low=-MAX_WEIGHT, high=MAX_WEIGHT)


def _restored(kind: type[Terms], parts: dict[str, Tensor], weights: dict[str, float], name: str) -> Terms:
    return kind._weighing(parts, weights, name)


def _flatten(terms: Terms) -> tuple[list[Tensor], tuple[dict[str, float], str]]:
    # The parts alone: whatever maps them, the total is made of what they became.
    return list(terms.parts.values()), (terms.weights, terms.name)


def _unflatten(kind: type[Terms], values: Iterable[Tensor], context: tuple[dict[str, float], str]) -> Terms:
    weights, name = context
    return kind._weighing(dict(zip(weights, values, strict=False)), weights, name)


def _register(kind: type[Terms]) -> None:
    """Have PyTorch look into a kind of ``Terms``: as a leaf, DDP with a static graph would miss its tensors."""
    pytree.register_pytree_node(kind, _flatten, partial(_unflatten, kind), serialized_type_name=_full_name(kind))


def _full_name(kind: type[Terms]) -> str:
    return "mmdistill.Terms" if kind.__module__ == __name__ else f"{kind.__module__}.{kind.__qualname__}"


_register(Terms)
torch.serialization.add_safe_globals([Terms, _restored])  # which torch.load(weights_only=True) may call
