"""``mmdistill convert``: public checkpoints and ImageNet trunks into our files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mmdistill.reference.importing.published import find_trunk, is_published, published_network, save_trunk
from mmdistill.reference.importing.weights_file import WeightsFile, read_weights_file
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.weights import FORMAT, save_network
from mmdistill.toolkit.data_issues import DataError, printable, some

logger = logging.getLogger(__name__)

_TRACKERS = {"dimp": "DiMP", "atom": "ATOM"}

_SIZES = (
    ("crop_size", "crop", " px"),
    ("search_area", "search area", ""),
    ("filter_size", "filter", " cells"),
    ("refinement_steps", "refinement steps", ""),
)


def convert(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    /,
    out: Path,
    modality: Literal["rgb", "tir"] | None = None,
) -> None:
    """Import a public checkpoint without running anything from it.

    A DiMP or ATOM tracker becomes a network that `track` and `evaluate` use:

      mmdistill convert dimp50.pth --out dimp50.safetensors
      mmdistill track --weights dimp50.safetensors --rgb clip.mp4 --init 120,80,40,32 --out tracked

    A ResNet becomes a trunk that training starts from. `train --trunk` takes the tracker's file too, for its trunk:

      mmdistill convert resnet18.pth --out resnet18.safetensors
      mmdistill train teacher --data PAIRS --trunk resnet18.safetensors --depth 18 --out runs/teacher

    A checkpoint's own settings are applied: crop size, search area, filter size and refinement steps. What our trackers
    can't do is refused: SuperDiMP and PrDiMP, whose boxes were trained by KL divergence, ToMP, KYS and others.

    A checkpoint is a pickle, which can run anything when it is loaded the usual way. Here it is only read: classes in
    it are named, never imported. Entries that are missing, unknown or misshapen are listed by name.

    Args:
        checkpoint: a tracker or a ResNet of depth 18 or 50, from torch.save (either of its containers), safetensors or
            NumPy's .npz.
        out: the file to write, .safetensors.
        modality: the camera a tracker is for; rgb by default. One that was trained on RGB runs on thermal images too.
    """
    if out.suffix != ".safetensors":
        raise DataError(f"--out: expected a name that ends in .safetensors, got {out}")
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise DataError(f"--out: {out} is the checkpoint itself")
    state = read_weights_file(checkpoint)
    if state.format == FORMAT:
        raise DataError(f"{checkpoint}: is a network of mmdistill already; there is nothing to convert")
    summary = _convert_tracker(state, out, modality) if is_published(state) else _convert_trunk(state, out, modality)
    print(f"{printable(checkpoint)}: {summary}")
    if state.ignored_classes:
        packages = {name.partition(".")[0] for name in state.ignored_classes}
        print(f"read past, never run: {len(state.ignored_classes)} classes and functions of {some(packages, limit=8)}")
    print(printable(out))


def _convert_tracker(state: WeightsFile, out: Path, modality: Literal["rgb", "tir"] | None) -> str:
    network, left_out = published_network(state, modality or "rgb")
    save_network(out, network)
    if note := state.record.note():
        logger.warning("%s: %s", state.path, note)
    settings = network.settings
    kind = f"{_TRACKERS[settings.classifier]} with ResNet-{settings.depth}"
    count = sum(parameter.numel() for parameter in network.parameters())
    sizes = ", ".join(_sizes(settings, {name: where for name, (_, where) in state.record.sizes().items()}))
    return f"{kind} for {settings.modality.upper()}, {count:,} parameters{_unused(left_out)}\n{sizes}"


def _sizes(settings: NetworkSettings, stated: Mapping[str, str]) -> Iterator[str]:
    """Yield the sizes that a network tracks with, and where each is from."""
    for name, title, unit in _SIZES:
        yield f"{title} {getattr(settings, name):g}{unit} ({stated.get(name, 'default')})"


def _convert_trunk(state: WeightsFile, out: Path, modality: str | None) -> str:
    trunk = find_trunk(state)
    if modality is not None:
        raise DataError(f"--modality: is for a tracker, but {state.path} holds a ResNet alone; leave it out")
    save_trunk(out, trunk)
    folded = ", batch norm folded" if trunk.folded else ""
    return f"a trunk for training, ResNet-{trunk.depth}{folded}{_unused(trunk.unused)}"


def _unused(left_out: Sequence[str]) -> str:
    return f"; left out layer4 and fc, which trackers have no use for ({len(left_out)} entries)" if left_out else ""
