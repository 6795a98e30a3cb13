"""The automatic alignment: known homographies are found, and images without a relation are refused."""

from __future__ import annotations

import numpy as np
import pytest
from camera_views import homography, largest_distance, scene, seen_by

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment import align_automatically
from mmdistill.toolkit.alignment.estimation import MIN_SCORE, NUM_STEPS, Estimate, estimate
from mmdistill.toolkit.alignment.orientation import find_content, orientation_field
from mmdistill.toolkit.alignment.refinement import Matches, Refinement, fit_homography
from mmdistill.toolkit.data_issues import DataError

SIZE = (320, 240)


@pytest.mark.parametrize(
    ("scale", "degrees", "shift", "tir_size"),
    [
        (0.8, 4, (20, -15), SIZE),
        pytest.param(1.35, -5, (-50, 40), SIZE, marks=pytest.mark.slow),
        pytest.param(0.72, 0, (60, 0), SIZE, marks=pytest.mark.slow),
        pytest.param(2.2, 2, (10, 10), (160, 120), marks=pytest.mark.slow),
    ],
)
def test_a_known_homography_is_found(
    scale: float, degrees: float, shift: tuple[float, float], tir_size: tuple[int, int]
) -> None:
    center = (np.array(SIZE) - np.array(tir_size)) / 2
    matrix = homography(scale, degrees, (shift[0] + center[0], shift[1] + center[1]), tir_size)
    alignment = align_automatically([seen_by(scene(3), matrix, tir_size)])
    assert largest_distance(alignment.matrix, matrix, tir_size) < 1.5
    assert alignment.score is not None
    assert alignment.score > 0.9
    assert (alignment.rgb_size, alignment.tir_size) == (SIZE, tir_size)


def test_unrelated_images_are_refused() -> None:
    unrelated = Pair(scene(1).rgb, scene(2).tir)
    steps: list[None] = []
    with pytest.raises(DataError, match=r"not reliable: .*--frames.*--points"):
        align_automatically([unrelated], lambda: steps.append(None))
    assert 0 < len(steps) <= NUM_STEPS


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_several_unrelated_frames_are_refused(seed: int) -> None:
    pairs = [Pair(scene(100 + seed + each).rgb, scene(200 + seed + each).tir) for each in range(3)]
    with pytest.raises(DataError, match="not reliable"):
        align_automatically(pairs)


@pytest.mark.parametrize(
    ("correlation", "blocks", "runner_up", "reliable"),
    [(0.5, 100, 0.5, True), (0.15, 40, 0.5, False), (0.6, 5, 0.5, False), (0.5, 100, 0.95, False)],
)
def test_the_score_needs_correlation_blocks_and_no_rival(
    correlation: float, blocks: int, runner_up: float, reliable: bool
) -> None:
    found = Estimate(np.eye(3), correlation, runner_up, Refinement(np.eye(3), 0.9, blocks, 1.0))
    assert (found.score >= MIN_SCORE) is reliable
    assert 0 <= found.score <= 1


@pytest.mark.slow
def test_a_fence_is_refused_because_it_fits_at_every_post() -> None:
    columns = np.where(np.arange(320) % 20 < 8, 60, 180).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 3, (240, 320, 2))
    fence = [np.clip(columns + noise[..., side], 0, 255).astype(np.uint8) for side in (0, 1)]
    pair = Pair(*(np.repeat(each[..., None], 3, axis=2) for each in fence))
    with pytest.raises(DataError, match="not reliable"):
        align_automatically([pair])


def test_images_without_structure_are_refused() -> None:
    flat = Pair(*(np.full((120, 160, 3), value, np.uint8) for value in (90, 140)))
    with pytest.raises(DataError, match="not reliable"):
        align_automatically([flat])


@pytest.mark.slow
def test_more_frames_help() -> None:
    matrix = homography(0.9, 2, (15, 10), SIZE)
    sparse = [seen_by(scene(seed, shapes=3), matrix, SIZE) for seed in range(6)]
    several = estimate(sparse)
    assert several is not None
    assert largest_distance(several.matrix, matrix, SIZE) < 2
    one = estimate(sparse[:1])
    assert one is None or one.score < several.score


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([], "at least one frame"),
        ([scene(0), scene(0, (160, 120))], "RGB frames of one size"),
        ([scene(0, (40, 30))], "images of at least 48 x 48"),
    ],
)
def test_unusable_pairs(pairs: list[Pair[np.ndarray]], says: str) -> None:
    with pytest.raises(DataError, match=says):
        align_automatically(pairs)


def test_an_edge_and_its_negative_have_one_orientation() -> None:
    gray = scene(0, (80, 60)).tir[..., 0].copy()
    everything = np.ones_like(gray)
    fields = [orientation_field(each, everything, 1.0).values for each in (gray, 255 - gray)]
    np.testing.assert_allclose(fields[0], fields[1], atol=1e-4)
    turned = orientation_field(np.ascontiguousarray(np.rot90(gray)), everything.T.copy(), 1.0).values
    np.testing.assert_allclose(np.rot90(fields[0]), -turned, atol=1e-3)  # a quarter turn doubled is half a turn


def test_a_blank_border_is_found_and_a_sky_is_not() -> None:
    textured = np.random.default_rng(0).integers(80, 250, (100, 140), dtype=np.uint8)
    bars = textured.copy()
    bars[:12], bars[-12:] = 0, 0
    content = find_content(bars)
    assert content[12:-12].all()
    assert not content[:12].any()
    assert find_content(textured).all()
    sky = textured.copy()
    for column in range(140):
        sky[: 20 + int(25 * np.sin(column / 9) ** 2), column] = 0
    assert find_content(sky).all()


def test_the_fit_finds_a_homography_despite_wrong_blocks() -> None:
    generator = np.random.default_rng(0)
    matrix = homography(1.01, 0.5, (1.5, -1), SIZE)
    matrix += np.array([[0.004, 0, 0], [0, 0, 0], [2e-5, -1e-5, 0]])
    tir = generator.uniform((0, 0), SIZE, (150, 2))
    mapped = np.column_stack([tir, np.ones(150)]) @ matrix.T
    rgb = mapped[:, :2] / mapped[:, 2:] + generator.normal(0, 0.2, (150, 2))
    rgb[:30] += generator.uniform(-8, 8, (30, 2))
    found, residuals, deviation = fit_homography(Matches(rgb, tir, np.ones(150)), SIZE)
    assert largest_distance(found, matrix, SIZE) < 0.5
    assert np.median(residuals[30:]) < 0.5 < np.median(residuals[:30])
    assert 0 < deviation < 2
