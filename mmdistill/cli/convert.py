"""``mmdistill convert``: converts public checkpoints of trackers and ImageNet trunks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from mmdistill.cli.arguments import ArgumentError
from mmdistill.toolkit.data_issues import DataError, printable, some

if TYPE_CHECKING:
    from mmdistill.reference.importing.state import State
    from mmdistill.reference.models.config import NetworkSettings

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
    """Convert a public checkpoint without running code from it.

    A checkpoint is a pickle, which can run any code when it is loaded in the usual way. This command only reads it.
    The checkpoint's own crop size, search area, filter size and refinement steps are applied. Trackers that are not
    supported are refused, such as SuperDiMP, PrDiMP, ToMP and KYS.

    Convert a DiMP or ATOM tracker to a network that `track` and `evaluate` use:

      mmdistill convert dimp50.pth --out dimp50.safetensors
      mmdistill track --weights dimp50.safetensors --rgb clip.mp4 --init 120,80,40,32 --out tracked

    Convert a ResNet to a trunk that training starts from:

      mmdistill convert resnet18.pth --out resnet18.safetensors
      mmdistill train teacher --data PAIRS --trunk resnet18.safetensors --depth 18 --out runs/teacher

    Args:
        checkpoint: File of a tracker, or of a ResNet of depth 18 or 50: of torch.save, safetensors or NumPy's .npz.
        out: File to write, .safetensors.
        modality: Modality of a tracker, by default rgb. A tracker trained on RGB runs on TIR too.
    """
    from mmdistill.reference.importing.published import is_published
    from mmdistill.reference.importing.state import read_state
    from mmdistill.reference.models.weights import FORMAT

    if out.suffix != ".safetensors":
        raise ArgumentError(f"--out: expected a name that ends in .safetensors, got {out}")
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise ArgumentError(f"--out: {out} is the checkpoint itself")
    state = read_state(checkpoint)
    if state.format == FORMAT:
        raise DataError(f"{checkpoint}: expected a checkpoint to convert, got a network of mmdistill")
    summary = _convert_tracker(state, out, modality) if is_published(state) else _convert_trunk(state, out, modality)
    print(f"{printable(checkpoint)}: {summary}")
    if state.foreign:
        packages = {name.partition(".")[0] for name in state.foreign}
        print(f"not run: {len(state.foreign)} classes and functions of {some(packages, limit=8)}")
    print(printable(out))


def _convert_tracker(state: State, out: Path, modality: Literal["rgb", "tir"] | None) -> str:
    from mmdistill.reference.importing.published import published_network
    from mmdistill.reference.models.weights import save_network

    network, left_out = published_network(state, modality or "rgb")
    save_network(out, network)
    if note := state.record.note():
        logger.warning("%s: %s", state.path, note)
    settings = network.settings
    kind = f"{_TRACKERS[settings.classifier]} with ResNet-{settings.depth}"
    count = sum(parameter.numel() for parameter in network.parameters())
    sizes = ", ".join(_sizes(settings, {name: where for name, (_, where) in state.record.sizes().items()}))
    return f"{kind} for {settings.modality.upper()}, {count:,} parameters{_left_out_text(left_out)}\n{sizes}"


def _sizes(settings: NetworkSettings, stated: Mapping[str, str]) -> Iterator[str]:
    """Yield the sizes that a network tracks with, each with its source."""
    for name, title, unit in _SIZES:
        yield f"{title} {getattr(settings, name):g}{unit} ({stated.get(name, 'default')})"


def _convert_trunk(state: State, out: Path, modality: str | None) -> str:
    from mmdistill.reference.importing.trunks import save_trunk, trunk_of

    trunk = trunk_of(state)
    if modality is not None:
        raise DataError(f"--modality: is for a tracker, but {state.path} holds a ResNet alone; leave it out")
    save_trunk(out, trunk)
    folded = ", batch norm folded" if trunk.folded else ""
    return f"a trunk for training, ResNet-{trunk.depth}{folded}{_left_out_text(trunk.left_out)}"


def _left_out_text(left_out: Sequence[str]) -> str:
    return f"; left out layer4 and fc, which trackers do not use ({len(left_out)} entries)" if left_out else ""
