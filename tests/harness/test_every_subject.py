"""No public loss or block goes without a case."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

import torch
from harness.case import Case, Sizes, named
from harness.cases import CASES, every_block, every_case, every_loss
from torch import nn

import mmdistill
import mmdistill.losses
from mmdistill import Terms

PUBLIC = ("mmdistill", "mmdistill.fusion", "mmdistill.resize", "mmdistill.tokens", "mmdistill.tir_cmd")
# What takes or gives tensors but is neither a loss nor a block, and why no case covers it.
NO_SUBJECTS = {
    "gated_sum": "part of a fusion block",
    "modality_gate": "part of a fusion block",
    "fusion_paths": "part of a fusion block",
    "weighted_paths": "part of a fusion block",
    "one_path": "part of a fusion block",
    "path_entropy": "looks at a fusion's weights",
    "path_selection": "looks at a fusion's weights",
    "stacked": "gives twice the batch",
    "cut_patches": "cuts images, before any network sees them",
    "mix": "arranges images, before any network sees them",
    "gradient_norms": "looks at a loss's terms",
    "gradient_shares": "looks at a loss's terms",
    "dead_terms": "looks at a loss's terms",
}


def test_every_public_loss_and_block_has_a_case() -> None:
    modules = [importlib.import_module(name) for name in PUBLIC]
    parts = pkgutil.walk_packages(mmdistill.losses.__path__, "mmdistill.losses.")
    losses = [mmdistill.losses, *(importlib.import_module(part.name) for part in parts)]
    subjects = {value for module in [*modules, *losses] for value in _public(module) if _is_module(value)}
    subjects |= {value for module in modules for value in _public(module) if inspect.isfunction(value)}
    wanted = {subject for subject in subjects if subject.__name__ not in NO_SUBJECTS}
    forgotten = wanted - {case.subject for case in CASES}
    assert not forgotten, f"add a case to one of harness/*_cases.py for {sorted(value.__name__ for value in forgotten)}"
    assert len(wanted) >= 9


def _public(module: ModuleType) -> list[Any]:
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    values = [getattr(module, name) for name in names]
    return [value for value in values if getattr(value, "__module__", "").startswith(module.__name__)]


def _is_module(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@every_case
def test_its_inputs_are_told_apart(case: Case) -> None:
    assert case.students
    assert not case.is_loss or case.teachers or "a teacher" in case.exempt
    tensors = case.tensors()
    assert {name for name, values in tensors.items() if values.requires_grad} == set(case.students)


@every_loss
def test_a_loss_gives_terms(case: Case) -> None:
    terms = case.call(case.module(), case.tensors())
    assert isinstance(terms, Terms)
    assert set(terms) == set(case.reaches)
    assert len(terms) == len(list(terms)) == len(dict(terms))
    assert all(value.shape == () and value.requires_grad for value in [*terms.values(), terms.total])


@every_block
def test_a_block_gives_the_shapes_it_states(case: Case) -> None:
    sizes = Sizes(batch=3, height=5, width=7)
    outputs = named(case.call(case.module(sizes), case.tensors(sizes)))
    assert [tuple(value.shape) for value in outputs.values()] == [sizes.shape(axes) for axes in case.outputs]


@every_case
def test_float32_is_close_to_float64(case: Case) -> None:
    wide = case.call(case.module(), case.tensors())
    narrow = case.call(case.module(dtype=torch.float32), case.tensors(dtype=torch.float32))
    for value, expected in zip(named(narrow).values(), named(wide).values(), strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
