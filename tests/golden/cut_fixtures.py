"""Cut the golden values of the published modules down to the files of this folder.

    python tests/golden/cut_fixtures.py FOLDER

FOLDER holds the files at full size, which are not part of the project. Each function below states which values of one
file are kept, and why they prove the same. README.md says what every file holds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).parent
MAX_BYTES = 300_000
Arrays = dict[str, Any]

ABF_CHANNELS = (8, 16, 24, 32)
"""Aligned channels kept of each level, of 8, 32, 64 and 128."""
FILTER_TEST_FRAMES = 2
IOU_IN_CHANNELS, IOU_HIDDEN, IOU_POOLED = (4, 8), 32, 8
"""Widths kept of the IoU-Net, of (8, 16), 256 and 16."""


def cut_abf_chain(values: Mapping[str, Any]) -> Arrays:
    """Keep the first aligned channels of each level.

    An aligned channel depends on its own row of the 3x3 convolution and of the batch norm alone, so the values that
    stay are the published ones.
    """
    kept = dict(values)
    kept["teacher_channels"] = np.array(ABF_CHANNELS)
    for level, count in enumerate(ABF_CHANNELS, start=1):
        for mode in ("eval", "train"):
            name = f"{mode}_output/level{level}"
            kept[name] = values[name][:, :count]
        for name in values:
            if name.startswith(f"params/level{level}.conv2") and values[name].ndim:
                kept[name] = values[name][:count]
    return kept


def cut_filter_learning(values: Mapping[str, Any]) -> Arrays:
    """Keep the features before the norm of one training frame, and two test frames.

    The norm is of one image, and the scores are of one frame. The filter is learned from all training frames, which
    stay in full after the norm.
    """
    kept = {name: value for name, value in values.items() if name != "raw_test"}
    kept["raw_train"] = values["raw_train"][:1]
    kept["normalised_test"] = values["normalised_test"][:FILTER_TEST_FRAMES]
    kept["scores"] = values["scores"][:, :FILTER_TEST_FRAMES]
    return kept


def cut_iou_net(values: Mapping[str, Any]) -> Arrays:
    """Keep the first channels of every layer, and compute the outputs anew.

    Layers follow each other, so no part of the published outputs belongs to part of the channels. ``iou_net`` below is
    first shown to give the published outputs at full width; then it gives those of the narrow network.
    """
    for name, value in iou_net(values).items():
        np.testing.assert_allclose(value, values[name], rtol=1e-4, atol=1e-6, err_msg=name)
    kept = {name: values[name] for name in ("box_xywh", "proposals_xywh")}
    for level, channels in enumerate(IOU_IN_CHANNELS):
        for frame in ("reference", "test"):
            kept[f"{frame}/{level}"] = values[f"{frame}/{level}"][:, :channels]
    for name, value in values.items():
        if name.startswith("params/"):
            kept[name] = _narrowed(name.removeprefix("params/"), value)
    return kept | iou_net(kept)


def _narrowed(name: str, value: Any) -> Any:
    """Return the part of one of the IoU-Net's parameters that the narrow network has.

    A sum over fewer inputs is smaller, so weights grow by the root of how many fewer: their values are random anyway.
    """
    shallow, deep = IOU_IN_CHANNELS
    half = IOU_HIDDEN // 2
    widths = {
        "conv3_1r": (half, shallow),
        "conv4_1r": (IOU_HIDDEN, deep),
        "fc3_1r": (IOU_HIDDEN, half),
        "fc34_3r": (IOU_POOLED, 2 * IOU_HIDDEN),
        "fc34_4r": (IOU_POOLED, 2 * IOU_HIDDEN),
        "conv3_1t": (IOU_HIDDEN, shallow),
        "conv3_2t": (IOU_POOLED, IOU_HIDDEN),
        "conv4_1t": (IOU_HIDDEN, deep),
        "conv4_2t": (IOU_POOLED, IOU_HIDDEN),
        "fc3_rt": (IOU_POOLED, IOU_POOLED),
        "fc4_rt": (IOU_POOLED, IOU_POOLED),
        "iou_predictor": (1, 2 * IOU_POOLED),
    }
    layer = name.split(".")[0]
    out_channels, in_channels = widths[layer]
    if value.ndim < 2:
        return value[:out_channels] if value.ndim else value
    if layer in ("fc34_3r", "fc34_4r", "iou_predictor"):  # their input is level 3's channels, then level 4's
        levels = np.split(value, 2, axis=1)
        kept = np.concatenate([level[:out_channels, : in_channels // 2] for level in levels], axis=1)
    elif layer.endswith("_rt"):  # their input is channels by bins
        bins = {"fc3_rt": 25, "fc4_rt": 9}[layer]
        kept = value.reshape(len(value), -1, bins)[:out_channels, :in_channels].reshape(out_channels, -1)
    else:
        kept = value[:out_channels, :in_channels]
    return kept * np.float32((value[0].size / kept[0].size) ** 0.5)


def iou_net(values: Mapping[str, Any]) -> Arrays:
    """Return the outputs of ATOM's IoU-Net and the gradient of the boxes, in float64 and as plainly as it goes."""
    given = {name: torch.as_tensor(value) for name, value in values.items()}
    given = {name: value.double() if value.is_floating_point() else value for name, value in given.items()}

    def normalized(name: str, x: Tensor) -> Tensor:
        statistics = (given[f"params/{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.relu(F.batch_norm(x, *statistics))

    def convolved(name: str, x: Tensor, padding: int) -> Tensor:
        weight, bias = given[f"params/{name}.0.weight"], given[f"params/{name}.0.bias"]
        return normalized(f"{name}.1", F.conv2d(x, weight, bias, padding=padding))

    def pooled_linear(name: str, x: Tensor) -> Tensor:
        weight, bias = given[f"params/{name}.linear.weight"], given[f"params/{name}.linear.bias"]
        return normalized(f"{name}.bn", F.linear(x.flatten(1), weight, bias))

    box, proposals = given["box_xywh"], given["proposals_xywh"].clone().requires_grad_()
    shallow = pooled_box(convolved("conv3_1r", given["reference/0"], 1), box, 3, 8)
    deep = pooled_box(convolved("conv4_1r", given["reference/1"], 1), box, 1, 16)
    joined = torch.cat([convolved("fc3_1r", shallow, 0), deep], dim=1)
    outputs = {f"modulation{level}": convolved(f"fc34_{level}r", joined, 0) for level in (3, 4)}
    for level in (3, 4):
        inner = convolved(f"conv{level}_1t", given[f"test/{level - 3}"], 1)
        outputs[f"test_feat{level}"] = convolved(f"conv{level}_2t", inner, 1)
    predicted = []
    for k in range(proposals.shape[1]):
        vectors = []
        for level, bins, stride in ((3, 5, 8), (4, 3, 16)):
            modulated = outputs[f"test_feat{level}"] * outputs[f"modulation{level}"]
            vectors.append(pooled_linear(f"fc{level}_rt", pooled_box(modulated, proposals[:, k], bins, stride)))
        weight, bias = given["params/iou_predictor.weight"], given["params/iou_predictor.bias"]
        predicted.append(F.linear(torch.cat(vectors, dim=1), weight, bias))
    outputs["iou"] = torch.cat(predicted, dim=1)
    (outputs["d_iou_d_proposals"],) = torch.autograd.grad(outputs["iou"].sum(), proposals)
    return {name: value.detach().float().numpy() for name, value in outputs.items()}


def pooled_box(x: Tensor, boxes: Tensor, bins: int, stride: int) -> Tensor:
    """Return the mean of a map over each bin of a box, the map being bilinear between its positions and 0 outside.

    Args:
        x: ``(B, C, H, W)``.
        boxes: ``(B, 4)``, ``x y w h`` in pixels.
        bins: per axis.
        stride: pixels per position.
    """

    def weights(start: Tensor, length: Tensor, cells: int) -> Tensor:
        """The integral of each position's hat function over each bin, ``(B, bins, cells)``."""
        edges = (start[:, None] + length[:, None] * torch.arange(bins + 1) / bins) / stride
        t = (edges[:, :, None] - torch.arange(cells)).clamp(-1, 1)
        integral = torch.where(t < 0, (1 + t).square() / 2, 1 - (1 - t).square() / 2)
        return integral.diff(dim=1)

    left, top, width, height = boxes.unbind(-1)
    rows, columns = weights(top, height, x.shape[2]), weights(left, width, x.shape[3])
    area = width * height / (bins * stride) ** 2
    return torch.einsum("bchw,bkh,blw->bckl", x, rows, columns) / area[:, None, None, None]


CUTS: dict[str, Callable[[Mapping[str, Any]], Arrays]] = {
    "abf_chain.npz": cut_abf_chain,
    "filter_learning.npz": cut_filter_learning,
    "iou_net.npz": cut_iou_net,
    "labels_and_hinge.npz": dict,
}
LAYOUTS = ("dimp18_checkpoint_layout.json", "dimp50_checkpoint_layout.json")


def main(folder: Path) -> None:
    """Write every file of this folder anew."""
    for name, cut in CUTS.items():
        with np.load(folder / name) as values:
            np.savez_compressed(HERE / name, **cut({key: values[key] for key in values.files}))
    for name in LAYOUTS:
        entries = json.loads((folder / name).read_text())
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(shape)}" for key, shape in entries.items())
        (HERE / name).write_text(f"{{\n{lines}\n}}\n")
    too_large = [name for name in (*CUTS, *LAYOUTS) if (HERE / name).stat().st_size > MAX_BYTES]
    if too_large:
        sys.exit(f"more than {MAX_BYTES} bytes: {', '.join(too_large)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
