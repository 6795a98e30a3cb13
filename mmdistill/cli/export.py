"""``mmdistill export``: a network as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from mmdistill.reference.export import ExportedFile, calibration_crops, write_files
from mmdistill.reference.export.runtime import SATURATION_OPTION, cpu_instructions
from mmdistill.reference.models.weights import load_network
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.ranges import Range, Seed


def export(
    weights: Path,
    out: Path,
    precision: Literal["float32", "int8"] = "float32",
    calibration: Path | None = None,
    crops: Annotated[int, Range(1, 10_000)] = 64,
    seed: Seed = 0,
) -> None:
    """Write a network as ONNX files, for onnxruntime and whatever else runs them.

      mmdistill export --weights runs/student/network.safetensors --out deployed/model.onnx

    Smaller and faster on CPUs that multiply 8-bit numbers, its ranges learned from frames of your own cameras:

      mmdistill export --weights runs/student/network.safetensors --out deployed/model.onnx
      --precision int8 --calibration clip

    On x86 processors without VNNI (AVX2, AVX-512), onnxruntime's int8 sums saturate. The command prints the error with
    and without saturation, and the file's metadata holds both. Remedy: session option session.x64quantprecision=1.

    Writes model.onnx (images to features), and beside it model.scores.onnx, model.initialiser.onnx,
    model.optimiser.onnx (the target filter) and model.modulation.onnx, model.box_maps.onnx, model.boxes.onnx (the
    IoU-Net); each says in its metadata what to feed it. Each is run by onnxruntime and compared with PyTorch before any
    of them is put in place. Needs: pip install 'mmdistill[export]'.

    Args:
        weights: a network.safetensors.
        out: the features' file, a name that ends in .onnx.
        precision: of the features; int8 quantizes the convolutions of trunk and classifier.
        calibration: for int8, a folder of images, or of pairs in rgb/ and tir/; synthetic video without it.
        crops: for int8, how many crops to learn the ranges from and to measure the error on.
        seed: of where they are cut.
    """
    if precision == "float32" and calibration is not None:
        raise DataError("--calibration: is for --precision int8; float32 needs none")
    network = load_network(weights)
    seen = calibration_crops(calibration, network.settings, crops, seed=seed) if precision == "int8" else []
    for written in write_files(network, out, precision, seen):
        print(describe(written))


def describe(written: ExportedFile) -> str:
    """Return a line on a file: its name, size, contents, and how far it is from PyTorch."""
    size = written.path.stat().st_size / 1e6
    line = f"{printable(written.path)}  {size:.1f} MB  {written.summary}; differs by "
    if not written.saturated:
        return line + f"{max(written.errors.values()):.0e} at most"
    exact, saturated = (max(errors.values()) for errors in (written.errors, written.saturated))
    return line + (
        f"{exact:.1e} at most; on x86 processors without VNNI by {saturated:.1e} unless onnxruntime's session option "
        f"{SATURATION_OPTION} is set (this machine: {cpu_instructions()})"
    )
