"""The page on FeatureTaps: its blocks run in order, and each message that it quotes is the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_guides import fenced, normalized, run

PAGE = Path(__file__).resolve().parents[2] / "docs/feature_taps.md"


@pytest.mark.usefixtures("fresh_compiler")
def test_the_page_runs_and_quotes_what_is_said() -> None:
    namespace: dict[str, Any] = {"__name__": "feature_taps"}
    said, quoted = "", 0
    for block in fenced(PAGE):
        if block.kind == "text":
            assert normalized(block.text) == normalized(said)
            quoted += 1
        else:
            said = run(block, namespace, PAGE.name)
    assert quoted == 6
    networks = [namespace[name] for name in ("student", "teacher", "branches", "fusing", "attention")]
    assert not any(module._forward_hooks for network in networks for module in network.modules())
    assert all(parameter.grad is not None for parameter in namespace["student"].parameters())
    assert torch.is_grad_enabled()
