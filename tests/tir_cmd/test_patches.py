import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmdistill import NotFiniteError, Pair, ShapeError
from mmdistill.tir_cmd import CenterArea, Detection, Patches, RandomSampling, cut_patches

lengths = st.integers(8, 400)
shares = st.floats(0.001, 1)
seeds = st.integers(0, 2**16)


def pair_of(height: int, width: int) -> Pair[Tensor]:
    return Pair(torch.zeros(3, height, width), torch.zeros(1, height, width, dtype=torch.uint8))


def assert_inside(boxes: Tensor, height: int, width: int) -> None:
    assert boxes.ndim == 2
    assert boxes.shape[1] == 4
    assert boxes.isfinite().all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor([width, height])).all()


@given(lengths, lengths, shares)
def test_the_center_area_is_one_square_in_the_middle(height: int, width: int, fraction: float) -> None:
    boxes = CenterArea(fraction)(pair_of(height, width))
    assert_inside(boxes, height, width)
    x, y, w, h = boxes[0].double().numpy()
    assert len(boxes) == 1
    assert w == h == pytest.approx(fraction * min(height, width), rel=1e-6)
    np.testing.assert_allclose([x + w / 2, y + h / 2], [width / 2, height / 2], rtol=1e-6)


@given(lengths, lengths, shares, st.integers(1, 20), st.floats(1, 5), seeds)
def test_random_regions_are_inside_and_of_their_share(
    height: int, width: int, share: float, count: int, aspect: float, seed: int
) -> None:
    boxes = RandomSampling(count, share, aspect)(pair_of(height, width), torch.Generator().manual_seed(seed))
    assert_inside(boxes, height, width)
    assert boxes.shape == (count, 4)
    areas = boxes[:, 2:].double().prod(dim=1).numpy()
    np.testing.assert_allclose(areas, share * height * width, rtol=1e-5)


@given(seeds)
def test_the_same_generator_gives_the_same_regions(seed: int) -> None:
    sampling, pair = RandomSampling(), pair_of(30, 50)
    first, second, other = (sampling(pair, torch.Generator().manual_seed(number)) for number in (seed, seed, seed + 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_random_regions_are_anywhere_and_of_varying_shape() -> None:
    boxes = RandomSampling(count=2000)(pair_of(90, 120), torch.Generator().manual_seed(0))
    assert boxes[:, 0].min() < 1
    assert boxes[:, 1].min() < 1
    assert (boxes[:, 0] + boxes[:, 2]).max() > 119
    assert (boxes[:, 1] + boxes[:, 3]).max() > 89
    ratios = boxes[:, 2] / boxes[:, 3]
    assert 0.75 <= ratios.min() < 0.76
    assert 1.32 < ratios.max() <= 4 / 3 + 1e-5


def test_every_kind_is_of_the_protocol() -> None:
    kinds: list[Patches] = [CenterArea(), RandomSampling(), Detection()]
    for patches in kinds:
        boxes = patches(pair_of(20, 30), torch.Generator().manual_seed(0))
        assert boxes.shape[1] == 4
        assert hash(patches) == hash(type(patches)())  # settings, which are data


@pytest.mark.parametrize("patches", [CenterArea(), RandomSampling(), Detection()], ids=lambda kind: type(kind).__name__)
def test_images_that_do_not_fit_are_named(patches: Patches) -> None:
    image = torch.zeros(3, 20, 30)
    name = type(patches).__name__
    for message, pair in {
        "tir: height: expected 20 as rgb, got 21": Pair(image, torch.zeros(1, 21, 30)),
        "tir: width: expected 30 as rgb, got 31": Pair(image, torch.zeros(1, 20, 31)),
        "rgb: channels: expected 1 or 3, got 30": Pair(image.permute(2, 0, 1), image),
        r"rgb: axes: expected 3 \(channels, height, width\)": Pair(image[None], image),
        "tir: width: expected at least 1, got 0": Pair(image, image[..., :0]),
        "tir: type: expected a tensor": Pair(image, image.numpy()),
        r"pair: type: expected Pair\(rgb, tir\), got Tensor": image,
    }.items():
        with pytest.raises(ShapeError, match=f"{name}: {message}"):
            patches(pair)  # type: ignore[arg-type]


def test_wrong_settings_are_named() -> None:
    for make, message in (
        (lambda: CenterArea(0.0), "CenterArea: fraction: expected a number from 1e-06 to 1, got 0.0"),
        (lambda: CenterArea(1.5), "CenterArea: fraction"),
        (lambda: RandomSampling(count=0), "RandomSampling: count: expected a whole number from 1 to .*, got 0"),
        (lambda: RandomSampling(fraction=2.0), "RandomSampling: fraction"),
        (lambda: RandomSampling(aspect=0.5), "RandomSampling: aspect: expected a number from 1 to .*, got 0.5"),
        (lambda: Detection(max_boxes=0), "Detection: max_boxes"),
        (lambda: Detection(max_overlap=1.5), "Detection: max_overlap: expected a number from 0 to 1, got 1.5"),
        (lambda: Detection(min_side=0.0), "Detection: min_side"),
        (lambda: Detection(modalities=()), "Detection: modalities"),
        (
            lambda: Detection(modalities=("depth",)),
            r"Detection: modalities\[0\]: expected one of rgb, tir, got 'depth'",
        ),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=message):
            make()


def by_hand(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """A patch's pixel: the mean of the image's, weighted by triangles as wide as a patch's pixel, or one of theirs."""
    height, width = image.shape
    x, y, w, h = box
    patch = np.zeros((size, size))
    for row, column in np.ndindex(size, size):
        center = y + (row + 0.5) * h / size, x + (column + 0.5) * w / size
        total = weight = 0.0
        for i, j in np.ndindex(height, width):
            far = abs(i + 0.5 - center[0]) / max(h / size, 1), abs(j + 0.5 - center[1]) / max(w / size, 1)
            share = max(0, 1 - far[0]) * max(0, 1 - far[1])
            total, weight = total + share * image[i, j], weight + share
        patch[row, column] = total / weight
    return patch


@settings(max_examples=15)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 7), seeds)
def test_a_patch_agrees_with_its_definition(height: int, width: int, size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, height, width, generator=generator, dtype=torch.float64)
    pair = Pair(image[:1], image[1:])
    boxes = RandomSampling(count=2, fraction=0.3)(pair, generator).double()
    for member, patches in zip(pair, cut_patches(pair, boxes, size), strict=True):
        assert patches.shape == (2, 1, size, size)
        for box, patch in zip(boxes.numpy(), patches[:, 0].numpy(), strict=True):
            np.testing.assert_allclose(patch, by_hand(member[0].numpy(), box, size), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [7, 40, 100])
def test_the_whole_image_is_resized_as_pytorch_does(size: int) -> None:
    image = torch.rand(3, 50, 64)
    patches = cut_patches(Pair(image, image), torch.tensor([[0.0, 0.0, 64.0, 50.0]]), size)
    expected = torch.nn.functional.interpolate(image[None], size=(size, size), mode="bilinear", antialias=True)
    torch.testing.assert_close(patches.rgb, expected, atol=1e-5, rtol=1e-5)


def test_patches_show_the_same_region_and_keep_the_images_types() -> None:
    rgb, tir = torch.zeros(3, 60, 80, dtype=torch.uint8), torch.zeros(1, 60, 80)
    rgb[:, 20:30, 30:40], tir[:, 20:30, 30:40] = 201, 7.0
    boxes = torch.tensor([[30, 20, 10, 10], [0, 0, 10, 10]])
    patches = cut_patches(Pair(rgb, tir), boxes)
    assert [tuple(member.shape) for member in patches] == [(2, 3, 100, 100), (2, 1, 100, 100)]
    assert (patches.rgb.dtype, patches.tir.dtype) == (torch.uint8, torch.float32)
    assert (patches.rgb[0, :, 10:90, 10:90] == 201).all()
    torch.testing.assert_close(patches.tir[0, :, 10:90, 10:90], torch.full((1, 80, 80), 7.0))
    assert not patches.rgb[1].any()
    assert cut_patches(Pair(rgb, tir), boxes[:0]).tir.shape == (0, 1, 100, 100)


@settings(max_examples=20)
@given(st.integers(1, 9), st.floats(-9, 9), st.floats(-9, 9), st.floats(0.5, 14), st.floats(0.5, 14))
def test_beyond_the_image_its_border_goes_on(size: int, x: float, y: float, width: float, height: float) -> None:
    image = torch.rand(1, 6, 8, dtype=torch.float64)
    box = torch.tensor([[x, y, width, height]], dtype=torch.float64)
    if not (x < 8 and y < 6 and x + width > 0 and y + height > 0):
        with pytest.raises(
            ShapeError, match=r"cut_patches: box 0: x y w h: expected .* a part inside the image of 6x8"
        ):
            cut_patches(Pair(image, image), box, size)
        return
    if not (x < -0.01 or x + width > 8.01):
        box[:, 0], box[:, 2] = -1.0, 10.0  # leaves the image on all sides, so that the border is nowhere left out
    if not (y < -0.01 or y + height > 6.01):
        box[:, 1], box[:, 3] = -1.0, 8.0
    padded = torch.nn.functional.pad(image[None], (40, 40, 40, 40), mode="replicate")[0]
    inside = box + torch.tensor([40, 40, 0, 0])
    expected = cut_patches(Pair(padded, padded), inside, size).rgb
    torch.testing.assert_close(cut_patches(Pair(image, image), box, size).rgb, expected, rtol=1e-9, atol=1e-12)


def test_a_patch_partly_outside_is_neither_black_nor_nan() -> None:
    bright = torch.full((1, 20, 30), 200, dtype=torch.uint8)
    boxes = torch.tensor([[-5.0, -5.0, 10.0, 10.0], [25.0, 15.0, 1e4, 1e4], [-1e4, -1e4, 3e4, 3e4]])
    patches = cut_patches(Pair(bright, bright.float()), boxes, size=16)
    assert (patches.rgb == 200).all()
    torch.testing.assert_close(patches.tir, torch.full_like(patches.tir, 200), rtol=1e-4, atol=0)


def test_what_cannot_be_cut_is_named() -> None:
    pair = pair_of(20, 30)
    for box in ([5.0, 5.0, 0.0, 3.0], [5.0, 5.0, 3.0, -1.0], [31.0, 5.0, 3.0, 3.0], [-4.0, 5.0, 3.0, 3.0]):
        with pytest.raises(ShapeError, match="cut_patches: box 1: x y w h: expected w and h above 0"):
            cut_patches(pair, torch.tensor([[1.0, 1.0, 2.0, 2.0], box]))
    with pytest.raises(NotFiniteError, match="cut_patches: boxes: values: expected finite, got 1 NaN"):
        cut_patches(pair, torch.tensor([[1.0, torch.nan, 2.0, 2.0]]))
    with pytest.raises(ShapeError, match="cut_patches: boxes: type: expected a tensor"):
        cut_patches(pair, [[1.0, 1.0, 2.0, 2.0]])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"cut_patches: boxes: axes: expected \(P, 4\), got \(4,\)"):
        cut_patches(pair, torch.ones(4))
    with pytest.raises(ValueError, match=r"cut_patches: size: expected a whole number from 1 to .*, got 0"):
        cut_patches(pair, torch.ones(1, 4), 0)
