"""Builders of public checkpoints, with objects of their training code's classes beside the weights."""

from __future__ import annotations

import contextlib
import enum
import pathlib
import sys
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdistill.reference.importing.published import published_name, published_shape
from mmdistill.reference.models.tracker_network import TrackerNetwork

FOREIGN = "training_code_of_others"


def random_state(layout: Mapping[str, Sequence[int]]) -> OrderedDict[str, Tensor]:
    """Random tensors of a layout, valid as weights: positive variances, integer counts."""
    state = OrderedDict()
    for name, shape in layout.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = torch.rand(*shape) + 0.5
        else:
            state[name] = torch.randn(*shape) * 0.05
    return state


def published_layout(network: TrackerNetwork) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors in a public checkpoint."""
    return {published_name(name): published_shape(name, value.shape) for name, value in network.state_dict().items()}


def save_tracker(
    path: pathlib.Path,
    net: Mapping[str, Tensor],
    *,
    stream: bool = False,
    top: Mapping[str, object] | None = None,
    settings: Mapping[str, object] | None = None,
    constructor: Mapping[str, object] | None = None,
) -> None:
    """Write a tracker's training checkpoint. Its classes can't be imported afterwards.

    Args:
        path: the file.
        net: the weights.
        stream: use the container from before PyTorch 1.6.
        top: entries of the checkpoint; they replace the default ones.
        settings: additional attributes of the settings.
        constructor: additional attributes of the constructor.
    """
    with foreign_module() as module:
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2, 3))])
        optimizer.param_groups[0]["params"][0].grad = torch.ones(2, 3)
        optimizer.step()
        own = {"device": torch.device("cpu"), "folder": pathlib.PurePosixPath("/runs"), "sizes": (18, 18)}
        stored = module.Thing(**own, **(settings or {}))
        stored.itself = stored
        built = {"function": module.build, "arguments": ["resnet"], "fun_name": "dimpnet18", "kwds": {"filter_size": 4}}
        content = {
            "epoch": 50,
            "actor_type": "DiMPActor",
            "net_type": "DiMPnet",
            "net": net,
            "net_info": None,
            "constructor": module.Thing(**(built | dict(constructor or {}))),
            "optimizer": optimizer.state_dict(),
            "stats": OrderedDict(train=OrderedDict(loss=module.Meter([0.5, float("nan")])), val=None),
            "settings": stored,
            "extra": [np.float64(0.25), np.arange(3), {1, 2}, slice(1, 2), module.Kind.ONE, defaultdict(list, a=[1])],
            "odd keys": {(1, 2): 3, module.Kind.ONE: 4},
            **(top or {}),
        }
        save(path, content, stream=stream)


def save(path: pathlib.Path, content: Any, *, stream: bool = False) -> None:
    """Call ``torch.save`` with the zip container, or with the stream container from before PyTorch 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=not stream)


@contextlib.contextmanager
def foreign_module() -> Iterator[Any]:
    """A module of classes of all kinds that can be imported only inside the block."""
    module: Any = types.ModuleType(FOREIGN)

    class Thing:
        def __init__(self, **attributes: object) -> None:
            self.__dict__.update(attributes)

    class Meter(list):  # type: ignore[type-arg]
        def __init__(self, values: Sequence[float] = ()) -> None:
            super().__init__(values)
            self.last = values[-1] if values else None

    class Kind(enum.Enum):
        ONE = 1

    def build() -> None:
        raise AssertionError("was run")

    for member in (Thing, Meter, Kind, build):
        member.__module__, member.__qualname__ = FOREIGN, member.__name__
        setattr(module, member.__name__, member)
    sys.modules[FOREIGN] = module
    try:
        yield module
    finally:
        del sys.modules[FOREIGN]
