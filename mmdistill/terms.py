"""Terms: the parts of a loss by name, and their total."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True, eq=False)
class Terms(Mapping[str, Tensor]):
    """A loss's parts by name, each a scalar tensor, and their total, which carries the gradient.

    A mapping from name to part, so ``for name, value in terms.items()`` logs it. It is a dataclass and a
    pytree node, so it passes through ``torch.compile(fullgraph=True)`` and ``DistributedDataParallel``.

    Attributes:
        parts: each part unweighted, by name.
        total: what to call ``backward`` on; a weighted sum where the loss has weights.
    """

    parts: dict[str, Tensor]
    total: Tensor

    @classmethod
    def summed(cls, **parts: Tensor) -> Terms:
        """Return these parts with their plain sum as the total."""
        return cls(parts, add(list(parts.values())))

    @classmethod
    def weighted(cls, *weighted_terms: tuple[float, Terms]) -> Terms:
        """Return the parts of all given terms, and the weighted sum of their totals."""
        parts = {name: value for _, terms in weighted_terms for name, value in terms.parts.items()}
        return cls(parts, add([weight * terms.total for weight, terms in weighted_terms]))

    def __getitem__(self, name: str) -> Tensor:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def add(scalars: list[Tensor]) -> Tensor:
    """Return the sum of at least one scalar, without the integer 0 that ``sum`` starts from."""
    total = scalars[0]
    for scalar in scalars[1:]:
        total = total + scalar
    return total


pytree.register_pytree_node(
    Terms,
    lambda terms: ([*terms.parts.values(), terms.total], tuple(terms.parts)),
    lambda values, names: Terms(dict(zip(names, values, strict=False)), list(values)[-1]),
    serialized_type_name="mmdistill.Terms",
)
