"""Checks of which parameters the terms of a loss reach, for new trackers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

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
    if not isinstance(terms, Terms):
        raise TypeError(f"gradient_norms: terms: expected Terms, got {type(terms).__name__}")
    named = _trainable(parameters)
    trainable = list(named.values())
    return {term: dict(zip(named, _norms(value, trainable), strict=True)) for term, value in terms.parts.items()}


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
    return [term for term, norms in gradient_norms(terms, parameters).items() if not any(norms.values())]


def _trainable(parameters: nn.Module | Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """Return the parameters that require gradient, by name."""
    named: dict[str, nn.Parameter] = {}
    if isinstance(parameters, nn.Module):
        parameters = parameters.named_parameters()
    if not isinstance(parameters, Iterable):
        raise _pairs_error(parameters)
    for pair in parameters:
        # Checked here, because a parameter of two channels would unpack into two values.
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], torch.Tensor):
            raise _pairs_error(pair)
        name, parameter = pair
        if name in named:
            raise ValueError(f"gradient_norms: parameters: expected each name once, got {name!r} twice; use prefixes")
        if parameter.requires_grad:
            named[name] = parameter
    if not named:
        raise ValueError("gradient_norms: parameters: expected at least one that requires gradient, got none")
    return named


def _pairs_error(value: object) -> TypeError:
    expected = "the student, or pairs of a name and a parameter as student.named_parameters()"
    return TypeError(f"gradient_norms: parameters: expected {expected}, got {type(value).__name__}")


def _norms(value: torch.Tensor, parameters: list[nn.Parameter]) -> list[float]:
    if not value.requires_grad:
        return [0.0] * len(parameters)
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else to_float32(gradient).norm().item() for gradient in gradients]
