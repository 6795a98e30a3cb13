"""``mmdistill export``: exports a tracker as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mmdistill.cli.arguments import ArgumentError
from mmdistill.toolkit.data_issues import printable
from mmdistill.toolkit.ranges import Range, Seed

if TYPE_CHECKING:
    from mmdistill.reference.export.files import ExportedFile


def export(
    weights: Path,
    out: Path,
    precision: Literal["float32", "float16", "int8"] = "float32",
    slots: Annotated[int, Range(1, 1024)] = 1,
    calibration: Path | None = None,
    crops: Annotated[int, Range(1, 10_000)] = 64,
    seed: Seed = 0,
    quiet: bool = False,
) -> None:
    """Export a tracker as ONNX files.

    Writes start.onnx (a video's first frame), track.onnx (a tracked frame) and learn.onnx (the target model's
    updates). The metadata of each file states its inputs and outputs. Each file is compared with PyTorch before it is
    written. examples/onnx_tracker.py tracks with the files. Needs the extra mmdistill[export].

    Export in float32:

      mmdistill export --weights runs/student/network.safetensors --out deployed

    Export in int8, calibrated on frames of your own cameras:

      mmdistill export --weights runs/student/network.safetensors --out deployed --precision int8 --calibration clip

    On x86 processors without VNNI, int8 sums of onnxruntime saturate. Set the session option
    session.x64quantprecision=1 there. The command prints the error with and without saturation.

    Args:
        weights: Network file, such as network.safetensors of `train`.
        out: Folder of the files.
        precision: Number format of the features. float16 is for GPUs. int8 quantizes the convolutions of trunk and
            extractor.
        slots: Videos per call of track.onnx and learn.onnx.
        calibration: Folder of images, or of pairs in rgb/ and tir/, for int8. By default synthetic video.
        crops: Number of crops for calibration and for measuring the error, for int8.
        seed: Seed of the crops.
        quiet: Show no progress.
    """
    if precision != "int8" and calibration is not None:
        raise ArgumentError(f"--calibration: is for --precision int8; {precision} needs none")
    if out.suffix == ".onnx" or out.is_file():
        raise ArgumentError(f"--out: expected a folder, got the file {out}")

    from mmdistill.reference.export.files import write_files
    from mmdistill.reference.export.quantization import calibration_crops
    from mmdistill.reference.models.weights import load_network

    network = load_network(weights)
    images = calibration_crops(calibration, network.settings, crops, seed=seed) if precision == "int8" else []
    for written in write_files(network, out, precision, images, slots=slots, progress=not quiet):
        print(describe(written))


def describe(written: ExportedFile) -> str:
    """Return a line about a file: its name, size, contents, and largest difference from PyTorch."""
    from mmdistill.reference.export.runtime import SATURATION_OPTION, cpu_instructions

    size = written.path.stat().st_size / 1e6
    line = f"{printable(written.path)}  {size:.1f} MB  {written.summary}; differs by "
    if not written.saturated:
        return line + f"{max(written.errors.values()):.0e} at most"
    exact, saturated = (max(errors.values()) for errors in (written.errors, written.saturated))
    return line + (
        f"{exact:.1e} at most; on x86 processors without VNNI by {saturated:.1e} unless onnxruntime's session option "
        f"{SATURATION_OPTION} is set (this machine: {cpu_instructions()})"
    )
