"""Terms: the parts of a loss by name, their weights and their total."""

from __future__ import annotations

import _codecs
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

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
        weights: each part's weight in the total. If not given: that which the name carries, 1 for a plain string.
        name: what the loss is called where it shares a part's name with another.

    Raises:
        ValueError: a part is called ``total``.

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
            self[part] = value
            if weights is not None:
                self._weights[part] = weights[part]

    @classmethod
    def summed(cls, name: str = "", /, **parts: Tensor) -> Terms:
        """Return these parts with their plain sum as the total.

        Args:
            name: a short name of the loss, such as ``"kd"``; see ``weighted``.
            parts: each part by name.
        """
        return cls(parts, name=name)._with_total(add(list(parts.values())))

    @classmethod
    def weighted(cls, *weighted_terms: tuple[float, Terms], **named: tuple[float, Terms]) -> Terms:
        """Return the parts of all given terms, and the weighted sum of their totals.

        A name that several of them have is prefixed with the loss's name: ``"kd.distillation"``. Two losses of one
        kind are given by keyword, which names them: ``Terms.weighted(rgb=(1.0, first), tir=(1.0, second))``.

        Raises:
            TypeError: what is given is no pair of a weight and ``Terms``.
            ValueError: two parts have one name and no prefix tells them apart, or nothing is given.
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
        together = cls(parts, weights=weights, name=given[0][1].name if len(given) == 1 else "")
        return together._with_total(add([weight * terms.total for weight, terms in given]))

    @property
    def total(self) -> Tensor:
        """What to call ``backward`` on: the weighted sum of the parts."""
        if self._total is None:
            self._total = add([weight * self[name] for name, weight in self._weights.items()])
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
        return type(self)(self.parts, weights=self._weights, name=name)._with_total(self.total)

    def __setitem__(self, name: str, value: Tensor) -> None:
        if name == "total":
            raise ValueError("Terms: no part may be called 'total', which is their sum")
        part = str(name)
        if isinstance(name, TermName):
            self._weights[part], self.name = name.weight, name.loss
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

    def _refuse_removal(self, *_: object) -> NoReturn:
        raise TypeError("Terms: parts cannot be removed; build Terms of the parts that you want")

    __delitem__ = pop = popitem = clear = _refuse_removal  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Terms({self.parts}, weights={self._weights})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.parts, self._weights, self.name)

    def _with_total(self, total: Tensor) -> Terms:
        """Take the total that is there already, in the order in which its parts were summed."""
        self._total = total
        return self


def add(scalars: list[Tensor]) -> Tensor:
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
    return pair[0], pair[1]


def _restored(parts: dict[str, Tensor], weights: dict[str, float], name: str) -> Terms:
    return Terms(parts, weights=weights, name=name)


def _flatten(terms: Terms) -> tuple[list[Tensor], tuple[dict[str, float], str]]:
    # The parts alone: whatever maps them, the total is made of what they became.
    return list(terms.parts.values()), (terms.weights, terms.name)


def _unflatten(values: Iterable[Tensor], context: tuple[dict[str, float], str]) -> Terms:
    weights, name = context
    return Terms(zip(weights, values, strict=False), weights=weights, name=name)


pytree.register_pytree_node(Terms, _flatten, _unflatten, serialized_type_name="mmdistill.Terms")
