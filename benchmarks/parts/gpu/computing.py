"""A part of gpu_speed.py: what of a frame is the network's, and ways to make it faster that are not in the tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from parts.gpu.experiment import Experiment
from parts.gpu.roofline import counted, of_ceilings
from torch import Tensor

from mmdistill import Pair
from mmdistill.reference.models.folding import fold_batch_norms


class Computing:
    """Computes what the network does for a frame, on crops that are on the device."""

    def __init__(self, experiment: Experiment, ceiling: Callable[[], Mapping[str, float]]) -> None:
        self.experiment, self.ceiling = experiment, ceiling

    def rate(self, who: str, precision: str, count: int, way: str = "") -> dict[str, Any]:
        """Return the milliseconds of the network's part of a frame, and which shares of the ceilings it reaches."""
        network = fold_batch_norms(self.experiment.network(who))
        crop, place, settings = self.experiment.crop, self.experiment.place, network.settings
        dtype = torch.float32
        if way in ("weights in bfloat16", "all three"):
            network, dtype, precision = network.to(torch.bfloat16), torch.bfloat16, "float32"
        if way in ("channels last", "all three"):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Channels last, as the tracker's crops are.
        images = [torch.rand(count, crop, crop, 3, device=place).permute(0, 3, 1, 2).to(dtype) for _ in range(2)]
        assert network.classifier is not None
        channels = network.classifier.features(network.extract(Pair(*images)).fused[1][None]).shape[2]
        filters = torch.rand(1, count, channels, settings.filter_size, settings.filter_size).to(place)

        def frame(rgb: Tensor, tir: Tensor) -> tuple[Tensor, ...]:
            assert network.classifier is not None
            fused = network.extract(Pair(rgb, tir)).fused
            features = network.classifier.features(fused[1][None])
            return network.classifier.score(filters.to(features), features), *network.iou_net.features(
                fused[0], fused[1]
            )

        with torch.no_grad(), self.experiment.autocast(precision):
            operations = counted(lambda: frame(*images))
            call: Callable[[], object] = lambda: frame(*images)  # noqa: E731
            if way == "CUDA graph":
                call = recorded(call)
            elif way in ("compiled", "all three"):
                compiled = torch.compile(frame, mode="reduce-overhead")
                call = lambda: compiled(*images)  # noqa: E731
            seconds = self.experiment.timed(call)
        shares = of_ceilings(operations, seconds, self.ceiling())
        return {"milliseconds": 1000 * seconds, "frames a second": count / seconds, **shares}


def recorded(call: Callable[[], object]) -> Callable[[], object]:
    """Return what replays a call's kernels on the GPU, without the host."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> object:
        graph.replay()
        return kept

    return replay
