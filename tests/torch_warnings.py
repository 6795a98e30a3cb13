"""PyTorch's own warnings that a test expects, by message: every other warning stays an error.

They come once per process: the first test that uses the feature gets them, later ones do not. So ``pytest.warns`` would
fail in later tests, and a filter on exactly the message is right for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., object])

SYNC_DEBUG_MODE = pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature:UserWarning")
"""Mark of tests that call ``torch.cuda.set_sync_debug_mode``."""

COMPILER_WARNINGS = (
    "ignore:`torch.jit.script_method` is (deprecated|not supported):DeprecationWarning",  # imports of TorchInductor
    "ignore:TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled:UserWarning",
    r"ignore:\s*Online softmax is disabled on the fly:UserWarning",
)
"""Filters of the warnings of PyTorch's default compiler."""


def default_compiler(test: Test) -> Test:
    """Mark a test that calls ``torch.compile`` with its default compiler."""
    for each in COMPILER_WARNINGS:
        test = pytest.mark.filterwarnings(each)(test)
    return test
