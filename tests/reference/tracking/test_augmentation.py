import numpy as np
import pytest

from mmdistill import Pair
from mmdistill.reference.tracking.augmentation import TRANSFORMS, Augmented, Transform, augment
from mmdistill.toolkit.boxes import centers
from mmdistill.toolkit.sequence import Image

SIZE = 96
# Off the patch's center, as a half-cell shift and whole-pixel bounds put it.
BOX = np.array([74.0, 85.0, 24.0, 16.0])


def scene() -> Pair[Image]:
    """A bright rectangle with a brighter dot right of it; TIR is half as bright as RGB."""
    rgb = np.zeros((2 * SIZE, 2 * SIZE, 3), dtype=np.uint8)
    rgb[85:101, 74:98] = 200
    rgb[92:94, 105:107] = 250
    return Pair(rgb, rgb // 2)


def crop(transform: Transform, seed: int = 0) -> Augmented:
    return augment(scene(), BOX, SIZE, [transform], np.random.default_rng(seed))


def weighted_center(image: Image, ignored: float = 220) -> np.ndarray:
    """The rectangle's center, x and y, continuous; the dot is left out."""
    gray = np.where(image[..., 0] > ignored, 0, image[..., 0]).astype(float)
    rows, columns = np.indices(gray.shape) + 0.5
    return np.array([(gray * columns).sum(), (gray * rows).sum()]) / gray.sum()


def dot_side(augmented: Augmented) -> np.ndarray:
    """From the rectangle's center to the brightest place, x and y."""
    image = augmented.crops[0].rgb[..., 0]
    row, column = np.unravel_index(int(image.argmax()), image.shape)
    return np.array([column + 0.5, row + 0.5]) - centers(augmented.boxes[0])


def test_the_plain_crop_is_cut_from_the_middle() -> None:
    augmented = crop(Transform())
    np.testing.assert_array_equal(augmented.crops[0].rgb, scene().rgb[48:144, 48:144])
    np.testing.assert_array_equal(augmented.boxes, [[26, 37, 24, 16]])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "transform", [t for t in TRANSFORMS if abs(t.angle) < 45 and not any(t.shift)], ids=lambda t: repr(t)[10:-1]
)
def test_the_box_follows_the_image(transform: Transform, seed: int) -> None:
    augmented = crop(transform, seed)
    image = augmented.crops[0].rgb.copy()
    if any(transform.blur):
        # The dot runs into the rectangle: its share is taken off by what it does alone.
        without = scene()
        without.rgb[92:94, 105:107] = 0
        image = augment(without, BOX, SIZE, [transform], np.random.default_rng(seed)).crops[0].rgb
    # Rotated edges of the dot are darker than it is.
    np.testing.assert_allclose(weighted_center(image, 201), centers(augmented.boxes[0]), atol=0.35)
    np.testing.assert_array_equal(augmented.boxes[0, 2:], BOX[2:])


@pytest.mark.parametrize("transform", [t for t in TRANSFORMS if any(t.shift)], ids=lambda t: str(t.shift))
def test_shifts_are_three_tenths_of_the_crop_and_exact(transform: Transform) -> None:
    (crops,), (box,) = crop(transform)
    # 0.3 * 96 = 28.8, in whole pixels.
    moved = box[:2] - [26, 37]
    np.testing.assert_array_equal(np.abs(moved), 29)
    np.testing.assert_array_equal(np.sign(moved), np.sign(transform.shift))
    top, left = (48 - moved[::-1]).astype(int)
    np.testing.assert_array_equal(crops.rgb, scene().rgb[top : top + SIZE, left : left + SIZE])


def test_both_modalities_are_changed_alike() -> None:
    for transform in TRANSFORMS:
        rgb, tir = crop(transform).crops[0]
        np.testing.assert_allclose(rgb / 2.0, tir, atol=1.5)


def test_directions() -> None:
    assert dot_side(crop(Transform()))[0] == pytest.approx(20, abs=1)
    np.testing.assert_allclose(dot_side(crop(Transform(flip=True))), [-20, 0], atol=1.1)
    np.testing.assert_allclose(dot_side(crop(Transform(angle=90))), [0, -20], atol=1.1)
    np.testing.assert_allclose(dot_side(crop(Transform(angle=-45))), [14.1, 14.1], atol=1.6)


def test_blur_is_stronger_along_its_axis() -> None:
    columns, rows = (
        np.abs(np.diff(crop(Transform(blur=blur)).crops[0].rgb[..., 0].astype(float), axis=axis)).max()
        for blur, axis in (((0.03, 0.01), 1), ((0.03, 0.01), 0))
    )
    assert columns < 0.5 * rows


def test_random_shifts_stay_in_their_range_and_differ() -> None:
    moved = np.stack([crop(Transform(random_shift=1 / 6), seed).boxes[0, :2] for seed in range(200)]) - [26, 37]
    np.testing.assert_array_equal([moved.min(), moved.max()], [-16, 16])
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.2


def test_the_published_table() -> None:
    assert len(TRANSFORMS) == 12
    assert sorted(t.shift for t in TRANSFORMS[:4]) == [(-0.3, -0.3), (-0.3, 0.3), (0.3, -0.3), (0.3, 0.3)]
    assert [t.flip for t in TRANSFORMS].count(True) == 1
    blurs = [tuple(np.multiply(t.blur, 288)) for t in TRANSFORMS if any(t.blur)]
    np.testing.assert_allclose(blurs, [(3, 1), (1, 3), (2, 2)])
    assert sorted(t.angle for t in TRANSFORMS if t.angle) == [-45, -10, 10, 45]
    assert [t.random_shift for t in TRANSFORMS] == [0] * 4 + [pytest.approx(1 / 6)] * 8
