from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdistill import NotFiniteError, Pair, ShapeError
from mmdistill.tir_cmd import Detection, SaliencyDetector, TorchvisionDetector
from mmdistill.tir_cmd.boxes import intersection_over_union

numbers = st.floats(-300, 300, width=32)
detections = st.lists(st.tuples(numbers, numbers, numbers, numbers, st.floats(0, 1, width=32)), max_size=12)
Found = list[tuple[float, float, float, float, float]]


def finds(rgb: Found, tir: Found) -> Any:
    """A detector that knows the modality by its channels."""

    def detector(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = torch.tensor(rgb if image.shape[0] == 3 else tir, dtype=torch.float32).reshape(-1, 5)
        return found[:, :4], found[:, 4], torch.zeros(len(found), dtype=torch.int64)

    return detector


def images(height: int = 100, width: int = 140) -> Pair[Tensor]:
    return Pair(torch.zeros(3, height, width), torch.zeros(1, height, width))


@given(detections, detections, st.integers(8, 200), st.integers(8, 200), st.floats(0, 1))
def test_boxes_are_inside_and_no_two_are_the_same(
    rgb: Found, tir: Found, height: int, width: int, duplicate: float
) -> None:
    detect = Detection(finds(rgb, tir), min_score=0.25, min_side=4.0, max_boxes=6, max_overlap=duplicate)
    boxes = detect(images(height, width))
    assert boxes.shape[1:] == (4,)
    assert len(boxes) <= 6
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 4).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor([width, height])).all()
    overlaps = intersection_over_union(boxes[:, None], boxes).fill_diagonal_(0)
    assert (overlaps <= duplicate).all()


def test_a_box_of_both_modalities_is_kept_once_and_the_better_one() -> None:
    rgb = [(10.0, 10.0, 40.0, 30.0, 0.9), (80.0, 20.0, 30.0, 30.0, 0.6)]
    tir = [(11.0, 10.0, 40.0, 30.0, 0.8), (81.0, 20.0, 30.0, 30.0, 0.7), (10.0, 60.0, 40.0, 30.0, 0.95)]
    boxes = Detection(finds(rgb, tir))(images())
    assert boxes.tolist() == [[10.0, 60.0, 40.0, 30.0], [10.0, 10.0, 40.0, 30.0], [81.0, 20.0, 30.0, 30.0]]


def test_below_the_limit_both_are_kept() -> None:
    rgb, tir = [(10.0, 10.0, 40.0, 40.0, 0.9)], [(10.0, 10.0, 40.0, 31.0, 0.8)]
    overlap = 31 / 40
    assert len(Detection(finds(rgb, tir))(images())) == 2
    assert len(Detection(finds(rgb, tir), max_overlap=overlap - 0.01)(images())) == 1


def test_at_equal_scores_rgbs_box_is_kept() -> None:
    boxes = Detection(finds([(10.0, 10.0, 40.0, 40.0, 0.9)], [(11.0, 10.0, 40.0, 40.0, 0.9)]))(images())
    assert boxes.tolist() == [[10.0, 10.0, 40.0, 40.0]]


def test_boxes_are_clipped_and_what_is_too_small_or_too_doubtful_is_dropped() -> None:
    found = [
        (-20.0, -10.0, 60.0, 40.0, 0.9),
        (135.0, 10.0, 60.0, 40.0, 0.9),  # five pixels are left of it
        (60.0, 60.0, 30.0, 30.0, 0.49),
        (200.0, 60.0, 30.0, 30.0, 0.9),
        (20.0, 60.0, -30.0, 30.0, 0.9),
    ]
    assert Detection(finds(found, []))(images()).tolist() == [[0.0, 0.0, 40.0, 30.0]]
    boxes = Detection(finds(found, []), min_side=5.0)(images())
    assert boxes.tolist() == [[0.0, 0.0, 40.0, 30.0], [135.0, 10.0, 5.0, 40.0]]


def test_the_best_are_kept() -> None:
    found = [(20.0 * n, 20.0, 15.0, 15.0, 0.5 + n / 20) for n in range(6)]
    boxes = Detection(finds(found, []), max_boxes=3)(images())
    assert boxes[:, 0].tolist() == [100.0, 80.0, 60.0]


def test_nothing_found_is_no_box() -> None:
    assert Detection(finds([], []))(images()).shape == (0, 4)
    assert Detection()(images()).shape == (0, 4)


def test_only_the_modalities_asked_for_are_looked_at() -> None:
    rgb, tir = [(10.0, 10.0, 20.0, 20.0, 0.9)], [(60.0, 10.0, 20.0, 20.0, 0.9)]
    assert Detection(finds(rgb, tir), modalities=("rgb",))(images())[:, 0].tolist() == [10.0]
    assert Detection(finds(rgb, tir), modalities=("tir",))(images())[:, 0].tolist() == [60.0]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (torch.ones(2, 4), r"rgb detections: type: expected \(boxes, scores, labels\), got Tensor"),
        ((torch.ones(4), torch.ones(1), torch.ones(1)), r"rgb boxes: axes: expected \(K, 4\), got \(4,\)"),
        ((torch.ones(2, 4), torch.ones(1), torch.ones(2)), r"rgb scores: axes: expected \(2,\) as boxes, got \(1,\)"),
        ((torch.ones(2, 4), torch.ones(2), torch.ones(3)), r"rgb labels: axes: expected \(2,\) as boxes, got \(3,\)"),
    ],
)
def test_detections_that_do_not_fit_are_named(found: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=f"Detection: {message}"):
        Detection(lambda _: found)(images())


def test_broken_numbers_are_named() -> None:
    scores = torch.tensor([0.5, torch.nan])
    with pytest.raises(NotFiniteError, match="Detection: rgb scores: values: expected finite, got 1 NaN or infinite"):
        Detection(lambda _: (torch.ones(2, 4), scores, torch.ones(2)))(images())


class Model(nn.Module):
    """Of torchvision's kind: it finds the bright part of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[Tensor] = []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.seen = images
        found = []
        for image in images:
            rows, columns = torch.where(image[0] > 0.5)
            corners = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])[None]
            found.append({"boxes": corners * self.weight, "scores": 1 * self.weight, "labels": torch.ones(1)})
        return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_torchvision_model_is_called_as_it_wants(dtype: torch.dtype, channels: int) -> None:
    image = torch.zeros(channels, 60, 80, dtype=dtype)
    image[:, 10:30, 20:50] = 255 if dtype == torch.uint8 else 1
    model = Model().eval()
    boxes, scores, labels = TorchvisionDetector(model)(image)
    assert boxes.tolist() == [[20.0, 10.0, 30.0, 20.0]]
    assert not scores.requires_grad
    assert labels.shape == (1,)
    (seen,) = model.seen
    assert seen.shape == (3, 60, 80)
    assert seen.dtype == torch.float32
    assert seen.max() == 1
    found = Detection(TorchvisionDetector(model))(Pair(image, image))
    assert found.tolist() == [[20.0, 10.0, 30.0, 20.0]]


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"TorchvisionDetector: the model is in training mode; call its eval\(\) first"
    ):
        TorchvisionDetector(Model())(torch.zeros(3, 8, 8))


def scene(height: int, width: int, box: Tensor, bright: float, channels: int, noise: float) -> Tensor:
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    x, y, w, h = box
    inside = ((rows > y) & (rows < y + h))[:, None] & ((columns > x) & (columns < x + w))
    return noise * torch.randn(channels, height, width) + bright * inside


@settings(max_examples=25, derandomize=True)
@given(
    st.integers(60, 300),
    st.integers(60, 300),
    st.floats(0.12, 0.4),
    st.floats(0.5, 2),
    st.sampled_from([-1.0, 1.0]),
    st.sampled_from([1, 3]),
    st.integers(0, 1000),
)
@pytest.mark.slow
def test_a_blob_on_a_noisy_ground_is_found(
    height: int, width: int, size: float, aspect: float, bright: float, channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    side = size * min(height, width)
    w, h = side * aspect**0.5, side / aspect**0.5
    free = torch.tensor([width - w, height - h])
    box = torch.cat([free * (0.1 + 0.8 * torch.rand(2)), torch.tensor([w, h])])
    image = scene(height, width, box, bright, channels, noise=0.3)
    boxes, scores, labels = SaliencyDetector()(image)
    assert intersection_over_union(boxes[0], box) > 0.5
    assert scores[0] == 1
    assert (scores[:-1] >= scores[1:]).all()
    assert len(boxes) == len(labels) <= 16


def test_several_blobs_are_found_in_either_modality_and_once_each() -> None:
    blobs = torch.tensor([[30.0, 30.0, 40.0, 30.0], [150.0, 40.0, 25.0, 50.0], [60.0, 120.0, 36.0, 36.0]])
    rgb = sum(scene(180, 240, box, 1.0, 3, 0.1) for box in blobs[:2])
    tir = sum(scene(180, 240, box, 1.0, 1, 0.1) for box in blobs[1:])
    assert isinstance(rgb, Tensor)
    assert isinstance(tir, Tensor)
    boxes = Detection(min_score=0.3)(Pair(rgb, tir))
    best = intersection_over_union(blobs[:, None], boxes)
    assert (best.amax(dim=1) > 0.5).all()
    assert (intersection_over_union(boxes[:, None], boxes).fill_diagonal_(0) <= 0.8).all()


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3]), st.integers(0, 1000), st.booleans())
def test_salient_boxes_are_inside_any_image(height: int, width: int, channels: int, seed: int, whole: bool) -> None:
    torch.manual_seed(seed)
    image = torch.rand(channels, height, width)
    image = (255 * image).byte() if whole else image
    boxes, scores, labels = SaliencyDetector(side=24)(image)
    assert boxes.isfinite().all()
    assert ((scores > 0) & (scores <= 1)).all()
    assert (boxes[:, 2:] > 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor([width, height]) * (1 + 1e-6)).all()
    assert len(boxes) == len(scores) == len(labels)
    inside = Detection(SaliencyDetector(side=24), min_side=1.0)(Pair(image, image))
    assert (inside[:, :2] + inside[:, 2:] <= torch.tensor([width, height])).all()


def test_a_plain_image_has_nothing_salient() -> None:
    for value in (0, 7):
        boxes, scores, labels = SaliencyDetector()(torch.full((3, 40, 50), value, dtype=torch.uint8))
        assert (len(boxes), len(scores), len(labels)) == (0, 0, 0)


def test_the_sky_is_not_an_object() -> None:
    image = torch.rand(1, 90, 120) * 0.1
    image[:, :40] += 1  # bright from edge to edge
    image[:, 60:75, 50:70] += 0.6
    boxes, _, _ = SaliencyDetector()(image)
    assert intersection_over_union(boxes[0], torch.tensor([50.0, 60.0, 20.0, 15.0])) > 0.5
