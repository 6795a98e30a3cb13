"""Diagnostics of a loss's gradients: which parameters each term reaches, and with which share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmdistill._numerics import to_float32
from mmdistill.terms import Terms


def gradient_norms(
    terms: Terms, parameters: nn.Module | Iterable[tuple[str, nn.Parameter]]
) -> dict[str, dict[str, float]]:
    """Return the norm of each unweighted term's gradient at each parameter, by term and by parameter.

    The norm is 0 if no gradient arrives. Parameters that require no gradient are left out. ``.grad`` and the graph
    stay as they are, so ``terms.total.backward()`` may follow. Run the model eagerly: ``torch.compile`` may free
    tensors that a second backward pass needs.

    Args:
        terms: a loss's terms, before ``backward``.
        parameters: the student, or pairs of name and parameter as from ``student.named_parameters()``.

    Raises:
        TypeError: ``terms`` are no ``Terms``, or ``parameters`` no pairs of a name and a parameter.
        ValueError: no parameter requires gradient, or two have one name.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmdistill import Terms
        >>> from mmdistill.diagnostics import gradient_norms
        >>> student = nn.Linear(2, 1)
        >>> output = student(torch.tensor([[3.0, 4.0]])).sum()
        >>> gradient_norms(Terms.summed(response=output, box=0 * output), student.named_parameters())
        {'response': {'weight': 5.0, 'bias': 1.0}, 'box': {'weight': 0.0, 'bias': 0.0}}
    """
    return _norms_by_term("gradient_norms", terms, parameters)


def dead_terms(terms: Terms, parameters: nn.Module | Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """Return the names of the terms whose gradient is 0 at all of these parameters.

    Pass the student's parameters only: a term that reaches only the loss's adaptors does not teach the student. A term
    is a sum over levels and modalities, so it is not dead if one level has no gradient; that gives a
    ``DeadTermWarning`` when the loss is called.

    Args:
        terms: a loss's terms, before ``backward``.
        parameters: the student, or pairs of name and parameter as from ``student.named_parameters()``.

    Raises:
        TypeError: ``terms`` are no ``Terms``, or ``parameters`` no pairs of a name and a parameter.
        ValueError: no parameter requires gradient, or two have one name.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmdistill import Terms
        >>> from mmdistill.diagnostics import dead_terms
        >>> student = nn.Linear(2, 1)
        >>> output = student(torch.ones(1, 2)).sum()
        >>> dead_terms(Terms.summed(response=output, box=output.detach()), student)
        ['box']
    """
    norms_by_term = _norms_by_term("dead_terms", terms, parameters)
    return [term for term, norms in norms_by_term.items() if not any(norms.values())]


class GradientShare(NamedTuple):
    """The gradient of one weighted term at a set of tensors.

    Attributes:
        norm: the norm of the gradient at all tensors as one vector, at least 0.
        share: the norm divided by the sum of all terms' norms, from 0 to 1.
    """

    norm: float
    share: float


def gradient_shares(
    terms: Terms, features_or_parameters: nn.Module | Iterable[tuple[str, Tensor]]
) -> dict[str, GradientShare]:
    """Return each weighted term's share of the gradient at these features or parameters, by term.

    For a term t of weight w, the norm is that of ``d(w * t) / d(tensors)``, with all tensors as one vector. The share
    is this norm divided by the sum of all terms' norms. If all norms are 0, all shares are 0. If a norm is infinite or
    NaN, all shares are NaN.

    Norms ignore direction: opposite gradients have shares, although their sum is small. Tensors that require no
    gradient are left out. ``.grad`` and the graph stay as they are, so ``terms.total.backward()`` may follow. Run the
    model eagerly. The cost is one backward pass per term.

    Args:
        terms: a loss's terms, before ``backward``. To compare them with the tracker's own loss, pass
            ``Terms.weighted((1.0, Terms.summed(tracking=loss)), (1.0, terms))``.
        features_or_parameters: a module such as the student's trunk; or pairs of a name and a parameter or feature.

    Raises:
        TypeError: ``terms`` are no ``Terms``, or ``features_or_parameters`` no pairs of a name and a tensor.
        ValueError: no tensor requires gradient, or two have one name.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmdistill import Terms
        >>> from mmdistill.diagnostics import gradient_shares
        >>> trunk = nn.Linear(2, 1, bias=False)
        >>> output = trunk(torch.tensor([[3.0, 4.0]])).sum()
        >>> distillation = Terms.weighted((0.5, Terms.summed(response=6 * output)))
        >>> terms = Terms.weighted((1.0, Terms.summed(tracking=output)), (1.0, distillation))
        >>> for term, (norm, share) in gradient_shares(terms, trunk).items():
        ...     print(term, norm, share)
        tracking 5.0 0.25
        response 15.0 0.75
    """
    norms_by_term = _norms_by_term("gradient_shares", terms, features_or_parameters, "features_or_parameters")
    # Python's floats are float64, so a large weight does not overflow.
    norms = {term: abs(terms.weights[term]) * math.hypot(*each.values()) for term, each in norms_by_term.items()}
    total = sum(norms.values())
    if not math.isfinite(total):
        return {term: GradientShare(norm, math.nan) for term, norm in norms.items()}
    return {term: GradientShare(norm, norm / total if total else 0.0) for term, norm in norms.items()}


def _norms_by_term(
    function: str, terms: Terms, tensors: nn.Module | Iterable[tuple[str, Tensor]], argument: str = "parameters"
) -> dict[str, dict[str, float]]:
    """Return the norm of each unweighted term's gradient at each tensor; ``function`` is named in errors."""
    if not isinstance(terms, Terms):
        raise TypeError(f"{function}: terms: expected Terms, got {type(terms).__name__}")
    named = _trainable(f"{function}: {argument}", tensors)
    trainable = list(named.values())
    return {term: dict(zip(named, _norms(value, trainable), strict=True)) for term, value in terms.parts.items()}


def _trainable(where: str, tensors: nn.Module | Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors that require gradient, by name."""
    named: dict[str, Tensor] = {}
    if isinstance(tensors, nn.Module):
        tensors = tensors.named_parameters()
    if not isinstance(tensors, Iterable):
        raise _pairs_error(where, tensors)
    for pair in tensors:
        # Checked here, because a parameter of two channels would unpack into two values.
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], Tensor):
            raise _pairs_error(where, pair)
        name, tensor = pair
        if name in named:
            raise ValueError(f"{where}: expected each name once, got {name!r} twice; use prefixes")
        if tensor.requires_grad:
            named[name] = tensor
    if not named:
        raise ValueError(f"{where}: expected at least one that requires gradient, got none")
    return named


def _pairs_error(where: str, value: object) -> TypeError:
    expected = "a module, or pairs of a name and a parameter as module.named_parameters()"
    return TypeError(f"{where}: expected {expected}, got {type(value).__name__}")


def _norms(value: torch.Tensor, parameters: list[Tensor]) -> list[float]:
    if not value.requires_grad:
        return [0.0] * len(parameters)
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else to_float32(gradient).norm().item() for gradient in gradients]
