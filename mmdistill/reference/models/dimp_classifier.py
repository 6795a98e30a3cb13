"""DiMP's classifier: classification features, filter initializer, unrolled filter optimizer, and score maps.

Bhat et al., Learning Discriminative Model Prediction for Tracking, ICCV 2019, sections 3.1 to 3.4,
https://arxiv.org/abs/1904.07220.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from mmdistill._numerics import to_float32, without_autocast
from mmdistill.correlation import correlate, correlate_transposed, score_size
from mmdistill.reference.models.config import Depth
from mmdistill.reference.models.prroi_pool import precise_roi_pool
from mmdistill.reference.models.resnet import BasicBlock


def distance_to_center(boxes: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """Return each score cell's distance ``(..., H', W')`` to the boxes' centers, in cells.

    Cell i of a score map lies at ``i * stride`` crop pixels.

    Args:
        boxes: ``(..., 4)``, ``x y w h`` in crop pixels.
        size: H', W' of the score map.
        stride: crop pixels per cell.
    """
    center = (boxes[..., :2] + boxes[..., 2:] / 2) / stride
    rows, columns = (torch.arange(length, device=boxes.device, dtype=boxes.dtype) for length in size)
    down = rows[:, None] - center[..., 1, None, None]
    right = columns[None, :] - center[..., 0, None, None]
    return (down.square() + right.square()).sqrt()


def gaussian_label(boxes: Tensor, size: tuple[int, int], stride: float, sigma: float) -> Tensor:
    """Return Gaussians ``(..., H', W')`` at the boxes' centers, of height 1 and standard deviation ``sigma`` cells."""
    return torch.exp(-0.5 * (distance_to_center(boxes, size, stride) / sigma).square())


class InstanceNorm(nn.Module):
    """Scales each map to the L2 norm ``scale * sqrt(C * H * W)``, taken over channels and space.

    Args:
        scale: the root mean square of the output.
        epsilon: added to the squared norm.
    """

    def __init__(self, scale: float, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.scale, self.epsilon = scale, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return normalized maps ``(..., C, H, W)``."""
        square = x.float().square() if x.dtype in (torch.float16, torch.bfloat16) else x.square()
        total = square.sum(dim=(-3, -2, -1), keepdim=True)
        count = x.shape[-3] * x.shape[-2] * x.shape[-1]
        return x * (self.scale * math.sqrt(count) * (total + self.epsilon).rsqrt()).to(x.dtype)


class FilterInitializer(nn.Module):
    """Computes the initial filter: a 3x3 convolution, pooling of the target boxes, and the mean over frames.

    Args:
        channels: channels C of features and filter.
        filter_size: cells along the filter.
        stride: crop pixels per cell.
    """

    def __init__(self, channels: int, filter_size: int = 4, stride: int = 16) -> None:
        super().__init__()
        self.filter_size, self.stride = filter_size, stride
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return the filters ``(S, C, h, w)``.

        Args:
            features: classification features ``(N, S, C, H, W)``.
            boxes: target boxes ``(N, S, 4)``, ``x y w h`` in crop pixels.
        """
        frames = features.shape[0]
        convolved = self.convolution(features.flatten(0, 1))
        pooled = precise_roi_pool(convolved, boxes.flatten(0, 1)[:, None], self.filter_size, self.stride)[:, 0]
        return rearrange(pooled, "(n s) c h w -> n s c h w", n=frames).mean(dim=0)


class DistanceFunction(nn.Module):
    """A learned function of the distance to the target: linear between bins, constant after the last one.

    Args:
        values: initial values at the bins, ``(bins,)``.
        bin_width: distance between bins, cells.
    """

    def __init__(self, values: Tensor, bin_width: float) -> None:
        super().__init__()
        self.values = nn.Parameter(values)
        self.bin_width = bin_width

    def forward(self, distance: Tensor) -> Tensor:
        """Return the values at distances of any shape, cells."""
        return interpolate(self.values, distance / self.bin_width)


def interpolate(values: Tensor, position: Tensor) -> Tensor:
    """Return values ``(..., n)`` at fractional positions of any shape, ``(..., *positions)``; constant after n - 1."""
    last = values.shape[-1] - 1
    position = position.clamp(max=last)
    lower = position.floor().clamp(max=last - 1)
    index = lower.long()
    return torch.lerp(values[..., index], values[..., index + 1], position - lower)


class FilterOptimizer(nn.Module):
    """Unrolled steepest descent on DiMP's discriminative loss, with the Gauss-Newton step length.

        L(f) = sum over frames and cells of (w v (h(s) - y))^2 + reg |f|^2,   s = features * f

    The label y, the spatial weight v and the target mask m are learned functions of the distance to the target's
    center. h is a leaky ReLU with slope m, so negative scores of the background cost little. The frames' weights w^2
    sum to 1.

    Args:
        bins: number of values of the distance functions.
        bin_width: distance between bins, cells.
        label_sigma: initial standard deviation of the label, cells.
        stride: crop pixels per cell.
    """

    MIN_REGULARIZATION = 1e-3

    def __init__(self, bins: int = 100, bin_width: float = 0.1, label_sigma: float = 0.9, stride: int = 16) -> None:
        super().__init__()
        self.stride = stride
        self.log_step_length = nn.Parameter(torch.full((1,), math.log(0.9)))
        self.regularisation = nn.Parameter(torch.full((1,), 0.1))
        distance = torch.arange(bins) * bin_width
        gaussian = torch.exp(-0.5 * (distance / label_sigma).square())
        self.label = DistanceFunction(gaussian - gaussian.min(), bin_width)
        self.mask = DistanceFunction(3 * torch.tanh(2 - distance), bin_width)  # before the sigmoid
        self.spatial_weight = DistanceFunction(torch.ones(bins), bin_width)

    def forward(
        self, filters: Tensor, features: Tensor, boxes: Tensor, iterations: int, weights: Tensor | None = None
    ) -> Tensor:
        """Return the filter iterates ``(iterations + 1, S, C, h, w)``, starting with the given filters.

        Args:
            filters: initial filters, ``(S, C, h, w)``.
            features: classification features ``(N, S, C, H, W)``.
            boxes: target boxes ``(N, S, 4)``, ``x y w h`` in crop pixels.
            iterations: number of steps.
            weights: the frames' weights ``(N, S)``, summing to 1 over N; equal if None.
        """
        filter_size = (filters.shape[-2], filters.shape[-1])
        size = score_size((features.shape[-2], features.shape[-1]), filter_size)
        distance = distance_to_center(boxes, size, self.stride)
        functions = self.label, self.mask, self.spatial_weight
        # All three at once: the time of small operations depends on their number.
        values = torch.stack([each.values for each in functions])
        label, mask, spatial_weight = interpolate(values, distance / self.label.bin_width)
        slope = torch.sigmoid(mask)
        weights = torch.full_like(boxes[..., 0], 1 / len(boxes)) if weights is None else weights
        weight = weights.sqrt()[..., None, None] * spatial_weight
        regularization = self._regularization()
        step_length = self.log_step_length.exp()
        # h(s) = s where s > 0, slope * s elsewhere; its derivative at 0 is the mean of both. Products with the weight
        # are computed once for all iterations.
        half_difference, mean = weight * ((1 - slope) / 2), weight * ((1 + slope) / 2)
        negative_label = -weight * label

        # A view if the first two axes are contiguous, else one copy for all products.
        features = features.flatten(0, 1).view(features.shape)
        iterates = [filters]
        scores = correlate(features, filters)
        for _ in range(iterations):
            derivative = torch.addcmul(mean, half_difference, scores.detach().sign())  # weighted
            residual = torch.addcmul(negative_label, derivative, scores)
            gradient = correlate_transposed(features, derivative * residual, filter_size)
            gradient = torch.addcmul(gradient, regularization, filters)
            response = correlate(features, gradient)
            change = derivative * response
            square = gradient.square().sum(dim=(1, 2, 3))
            # In two steps: OpenCV sums wrongly over axes that are not neighbors.
            energy = change.square().sum(dim=0).sum(dim=(1, 2))
            curvature = torch.addcmul(energy, regularization, square)
            length = (step_length * square / curvature.clamp(min=1e-8))[:, None, None]
            scores = torch.addcmul(scores, length, response, value=-1)  # linear in the filter
            filters = torch.addcmul(filters, length[..., None], gradient, value=-1)
            iterates.append(filters)
        return torch.stack(iterates)

    def _regularization(self) -> Tensor:
        return self.regularisation.square().clamp(min=self.MIN_REGULARIZATION**2)


class TargetClassifier(nn.Module):
    """Classification features, filter initializer and filter optimizer.

    Under autocast, features are extracted in half precision; learning and scoring run in float32.

    Args:
        in_channels: channels of the fused level 4.
        channels: channels of the classification features; 256 for ResNet-18, 512 for ResNet-50.
        depth: the trunk's depth. Only ResNet-18 has a residual block before the last convolution.
        filter_size: cells along the filter.
        label_sigma: initial standard deviation of the optimizer's label, cells.
    """

    STRIDE = 16
    """Crop pixels per cell of the fused level 4."""

    def __init__(self, in_channels: int, channels: int, depth: Depth, filter_size: int, label_sigma: float) -> None:
        super().__init__()
        block: list[nn.Module] = [BasicBlock(in_channels, in_channels)] if depth == 18 else []
        self.extractor = nn.Sequential(
            *block,
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            InstanceNorm(math.sqrt(1 / (channels * filter_size * filter_size))),
        )
        # Names in weights files: initialiser, optimiser, optimiser.regularisation.
        self.initialiser = FilterInitializer(channels, filter_size, self.STRIDE)
        self.optimiser = FilterOptimizer(label_sigma=label_sigma, stride=self.STRIDE)

    def features(self, fused: Tensor) -> Tensor:
        """Return classification features ``(N, S, C', H, W)`` of fused level-4 maps ``(N, S, C, H, W)``."""
        frames = fused.shape[0]
        extracted = to_float32(self.extractor(fused.flatten(0, 1)))
        return rearrange(extracted, "(n s) c h w -> n s c h w", n=frames)

    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> Tensor:
        """Return the filter iterates ``(iterations + 1, S, C', h, w)``.

        Args:
            features: of the training frames, ``(N, S, C', H, W)``.
            boxes: the targets ``(N, S, 4)``, ``x y w h`` in crop pixels.
            iterations: optimizer steps.
        """
        with without_autocast(features.device.type):
            filters = self.initialiser(features, boxes)
            iterates: Tensor = self.optimiser(filters, features, boxes, iterations)
        return iterates

    def score(self, iterates: Tensor, features: Tensor) -> Tensor:
        """Return scores ``(I, M, S, H', W')`` of frames ``(M, S, C', H, W)`` by filters ``(I, S, C', h, w)``."""
        with without_autocast(features.device.type):
            return correlate(features, iterates)
