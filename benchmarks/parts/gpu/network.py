"""Speed of the network without the rest of the tracker, as it is and with each optimization."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from parts.gpu.experiment import Experiment
from parts.gpu.roofline import count_operations, shares_of_ceilings
from torch import Tensor

from mmdistill import Pair
from mmdistill.reference.models.folding import fold_batch_norms


class NetworkSpeed:
    """Measures the network's part of a frame, with crops on the device."""

    def __init__(self, experiment: Experiment, ceiling: Callable[[], Mapping[str, float]]) -> None:
        self.experiment, self.ceiling = experiment, ceiling

    def rate(self, name: str, precision: str, count: int, change: str = "") -> dict[str, Any]:
        """Return milliseconds per batch, frames per second, and shares of the ceilings."""
        network = fold_batch_norms(self.experiment.network(name))
        crop, device, settings = self.experiment.crop, self.experiment.torch_device, network.settings
        dtype = torch.float32
        if change in ("weights in bfloat16", "all three"):
            network, dtype, precision = network.to(torch.bfloat16), torch.bfloat16, "float32"
        if change in ("channels last", "all three"):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The tracker's crops are channels last.
        images = [torch.rand(count, crop, crop, 3, device=device).permute(0, 3, 1, 2).to(dtype) for _ in range(2)]
        assert network.classifier is not None
        channels = network.classifier.features(network.extract(Pair(*images)).fused[1][None]).shape[2]
        filters = torch.rand(1, count, channels, settings.filter_size, settings.filter_size).to(device)

        def frame(rgb: Tensor, tir: Tensor) -> tuple[Tensor, ...]:
            assert network.classifier is not None
            fused = network.extract(Pair(rgb, tir)).fused
            features = network.classifier.features(fused[1][None])
            return network.classifier.score(filters.to(features), features), *network.iou_net.features(
                fused[0], fused[1]
            )

        with torch.no_grad(), self.experiment.autocast(precision):
            operations = count_operations(lambda: frame(*images))
            call: Callable[[], object] = lambda: frame(*images)  # noqa: E731
            if change == "CUDA graph":
                call = capture_cuda_graph(call)
            elif change in ("compiled", "all three"):
                compiled = torch.compile(frame, mode="reduce-overhead")
                call = lambda: compiled(*images)  # noqa: E731
            seconds = self.experiment.timed(call)
        shares = shares_of_ceilings(operations, seconds, self.ceiling())
        return {"milliseconds": 1000 * seconds, "frames per second": count / seconds, **shares}


def capture_cuda_graph(call: Callable[[], object]) -> Callable[[], object]:
    """Return a function that replays the call's CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call()

    def replay() -> object:
        graph.replay()
        return output

    return replay
