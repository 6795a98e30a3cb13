"""Which parameters each term of a loss reaches: to be asked once, when a new tracker is wired up."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mmdistill._numerics import to_float32
from mmdistill.terms import Terms


def gradient_norms(
    terms: Terms, parameters: nn.Module | Iterable[tuple[str, nn.Parameter]]
) -> dict[str, dict[str, float]]:
    """Return, by term and by parameter, the norm of the gradient that the unweighted term sends there.

    0 where nothing arrives. Parameters that require no gradient are left out. Neither ``.grad`` nor the graph is
    touched, so ``terms.total.backward()`` may follow. Ask a model in eager mode:
    ``torch.compile`` may free what a second backward pass needs.

    Args:
        terms: a loss's terms, not yet backpropagated.
        parameters: the student, or as ``student.named_parameters()``; each name once.

    Raises:
        TypeError: what is given are no terms, or no pairs of a name and a parameter.
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
    if not isinstance(terms, Terms):
        raise TypeError(f"reach: terms: expected Terms, got {type(terms).__name__}")
    named = _learning(parameters)
    learning = list(named.values())
    return {term: dict(zip(named, _norms(value, learning), strict=True)) for term, value in terms.parts.items()}


def dead_terms(terms: Terms, parameters: nn.Module | Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """Return the names of the terms that reach none of the parameters, or only with a gradient of 0.

    Give the student's parameters alone: a term that reaches only the loss's own adaptors teaches the student nothing.
    A term is a sum over levels and modalities: one level without gradient among others leaves it alive. Of that a
    ``DeadTermWarning`` tells where the loss is called.

    Args:
        terms: a loss's terms, not yet backpropagated.
        parameters: the student, or as ``student.named_parameters()``; each name once.

    Raises:
        TypeError: what is given are no terms, or no pairs of a name and a parameter.
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
    return [term for term, norms in gradient_norms(terms, parameters).items() if not any(norms.values())]


def _learning(parameters: nn.Module | Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """Return by name the parameters that require gradient."""
    named: dict[str, nn.Parameter] = {}
    if isinstance(parameters, nn.Module):
        parameters = parameters.named_parameters()
    if not isinstance(parameters, Iterable):
        raise _no_pairs(parameters)
    for pair in parameters:
        # A parameter of two channels would be taken apart into two.
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], torch.Tensor):
            raise _no_pairs(pair)
        name, parameter = pair
        if name in named:
            raise ValueError(f"reach: parameters: expected each name once, got {name!r} twice; use prefixes")
        if parameter.requires_grad:
            named[name] = parameter
    if not named:
        raise ValueError("reach: parameters: expected at least one that requires gradient, got none")
    return named


def _no_pairs(given: object) -> TypeError:
    expected = "the student, or pairs of a name and a parameter as student.named_parameters()"
    return TypeError(f"reach: parameters: expected {expected}, got {type(given).__name__}")


def _norms(value: torch.Tensor, parameters: list[nn.Parameter]) -> list[float]:
    if not value.requires_grad:
        return [0.0] * len(parameters)
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else to_float32(gradient).norm().item() for gradient in gradients]
