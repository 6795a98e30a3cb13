"""Damaged files of mmdistill: refused by name, or read exactly as written."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mmdistill.feature_cache import CacheError, FeatureCache
from mmdistill.reference.importing.published import TrunkWeights, read_trunk, save_trunk
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.resnet import ResNetTrunk
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from mmdistill.toolkit.data_issues import DataError

Content = tuple[object, dict[str, torch.Tensor]]
"""The plain values and the tensors of a file."""

Read = Callable[[], Content]

PROGRESS = Progress(3, {"box": 0.5}, [{"box": 0.25}], {"steps skipped": 1})


def network_file(path: Path) -> Read:
    save_network(path, TrackerNetwork(single_settings("rgb", width=2, crop_size=96)))

    def read() -> Content:
        network = load_network(path)
        return network.settings, network.state_dict()

    return read


def trunk_file(path: Path) -> Read:
    save_trunk(path, TrunkWeights(str(path), 18, ResNetTrunk(18, 2).state_dict(), []))
    return lambda: (18, read_trunk(path).tensors)


def small_run() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(stage.parameters())
    stage(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return stage, optimizer


def checkpoint_file(path: Path) -> Read:
    save_checkpoint(path, *small_run(), PROGRESS, '{"seed": 0}')

    def read() -> Content:
        stage, optimizer = small_run()
        progress = load_checkpoint(path, stage, optimizer, '{"seed": 0}', steps=10)
        moments = enumerate(optimizer.state.values())
        state = {f"{index}.{key}": value for index, each in moments for key, value in each.items()}
        return progress, stage.state_dict() | state

    return read


def cache_file(path: Path) -> Read:
    FeatureCache(path.parent / "cache", teacher="t").put("7", {"layer3": torch.randn(4, 3), "score": torch.randn(())})
    (stored,) = (path.parent / "cache").iterdir()
    path.symlink_to(stored)

    def read() -> Content:
        try:
            return "7", FeatureCache(path.parent / "cache", teacher="t").get(["7"])
        except CacheError as error:
            raise DataError(str(error).replace(str(stored), str(path))) from error

    return read


def damaged(whole: bytes, chance: random.Random) -> Iterator[bytes]:
    """Single bits flipped in every region, the file truncated or extended."""
    body = 8 + int.from_bytes(whole[:8], "little")
    flips = [(place, bit) for place in range(8) for bit in range(8)]
    size = len(whole)
    for start, end, count in ((8, body, 120), (body, body + 1, 2), (body, size, 24), (size - 1, size, 2)):
        flips += [(chance.randrange(start, end), chance.randrange(8)) for _ in range(count)]
    for place, bit in flips:
        content = bytearray(whole)
        content[place] ^= 1 << bit
        yield bytes(content)
    cuts = {0, 1, 8, 9, body - 1, body, body + 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(12))}
    yield from (whole[:length] for length in sorted(cuts))
    yield whole + b"\0"
    yield whole + whole


def assert_same(found: Content, expected: Content) -> None:
    assert found[0] == expected[0]
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=0)


@pytest.mark.parametrize("make", [network_file, trunk_file, checkpoint_file, cache_file])
def test_damage_is_refused_by_name_or_has_no_effect(make: Callable[[Path], Read], tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    read = make(path)
    expected, whole = read(), path.read_bytes()
    refused = []
    for content in damaged(whole, random.Random(0)):
        path.write_bytes(content)
        try:
            assert_same(read(), expected)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 230
    for line in refused:
        assert line.startswith(str(path))
        assert "\n" not in line
        assert len(line) < len(str(path)) + 400
    path.write_bytes(whole)
    assert_same(read(), expected)
