from __future__ import annotations

import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing import ResponseMap, choose_panels, draw_frame_pair
from mmdistill.toolkit.sequence import FramePair, Image

SKY, ORANGE, WHITE = (86, 180, 233), (230, 159, 0), (255, 255, 255)


def gray(height: int, width: int, value: int = 90) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def frame(height: int = 400, width: int = 500) -> FramePair:
    return Pair(gray(height, width), gray(height, width, 140))


def extent(image: Image, color: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of all pixels of exactly this color."""
    rows, columns = np.nonzero((image == color).all(axis=-1))
    return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else None


def test_panels_stand_side_by_side_above_the_legend() -> None:
    pair = frame()
    pair.rgb[..., 0] = 200  # type: ignore[index]
    image = draw_frame_pair(pair, {})
    assert image.dtype == np.uint8
    assert image.shape[1:] == (1000, 3)
    assert 400 < image.shape[0] < 450
    assert tuple(image[200, 250]) == (200, 90, 90)
    assert tuple(image[200, 750]) == (140, 140, 140)


def test_the_input_is_not_drawn_on() -> None:
    pair = frame()
    draw_frame_pair(pair, {"student": [10, 10, 50, 50]})
    assert (pair.rgb == 90).all()
    assert (pair.tir == 140).all()


def test_a_box_is_where_it_belongs_in_both_panels() -> None:
    image = draw_frame_pair(frame(), {"student": [100, 120, 60, 40]})
    for left in (0, 500):
        found = extent(image[:400, left : left + 500], SKY)
        assert found is not None
        np.testing.assert_allclose(found, (100, 120, 160, 160), atol=1.5)
        assert (image[130:150, left + 110 : left + 150] == image[130, left + 110]).all(), "the target stays visible"


def test_small_images_are_enlarged_with_their_boxes() -> None:
    image = draw_frame_pair(frame(180, 240), {"student": [100, 50, 60, 40]})
    assert image.shape[1] == 720
    found = extent(image[:270, :360], SKY)
    assert found is not None
    np.testing.assert_allclose(found, (150, 75, 240, 135), atol=1.5)


def test_every_tracker_has_its_color_and_a_place_in_the_legend() -> None:
    image = draw_frame_pair(
        frame(), {"student": [20, 60, 60, 40], "teacher": [300, 60, 60, 40]}, truth=[150, 250, 90, 70]
    )
    for color, left in ((SKY, 20), (ORANGE, 300), (WHITE, 150)):
        found = extent(image[:400, :500], color)
        assert found is not None
        assert found[0] == pytest.approx(left, abs=1.5)
        assert extent(image[400:], color) is not None


def test_a_missing_modality_is_a_dark_panel_with_words() -> None:
    for pair, side in ((Pair(None, gray(400, 500)), 0), (Pair(gray(400, 500), None), 500)):
        image = draw_frame_pair(pair, {"student": [100, 120, 60, 40]})
        assert image.shape[1] == 1000
        panel = image[:400, side : side + 500]
        assert extent(panel, SKY) is None
        assert np.median(panel) < 40
        left, top, right, bottom = extent(panel.max(axis=-1, keepdims=True) > 150, (True,) * 3)  # type: ignore[arg-type, misc]
        np.testing.assert_allclose([(left + right) / 2, (top + bottom) / 2], [250, 200], atol=6)


def test_both_modalities_missing() -> None:
    with pytest.raises(DataError, match="got neither"):
        draw_frame_pair(Pair(None, None), {})


@pytest.mark.parametrize("box", [[np.nan] * 4, [np.inf, 0, 1, 1], [-1e12, -1e12, 1, 1], [900, 900, 20, 20]])
def test_boxes_that_cannot_be_seen_are_not_drawn(box: list[float]) -> None:
    np.testing.assert_array_equal(
        draw_frame_pair(frame(), {"student": box}, truth=box)[:400],
        draw_frame_pair(frame(), {}, truth=[np.nan] * 4)[:400],
    )


def test_a_box_partly_outside_is_cut_at_the_border() -> None:
    found = extent(draw_frame_pair(frame(), {"student": [-50, 120, 100, 1e9]})[:400, :500], SKY)
    assert found is not None
    assert found[3] == 399
    assert found[2] == pytest.approx(50, abs=1.5)


def test_the_size_depends_on_image_and_names_only() -> None:
    names = [f"tracker {k}" for k in range(9)]
    first = draw_frame_pair(
        frame(), {name: [1, 2, 3, 4] for name in names}, truth=[1, 2, 3, 4], score=0.5, caption="frame 1"
    )
    later = draw_frame_pair(
        frame(), {name: [np.nan] * 4 for name in names}, truth=[np.nan] * 4, caption="frame 1 " * 30
    )
    assert first.shape == later.shape
    assert first.shape[0] > draw_frame_pair(frame(), {"student": [1, 2, 3, 4]}).shape[0], "nine names need more lines"


def test_score_and_caption_stand_on_the_right_and_never_touch_the_legend() -> None:
    plain = draw_frame_pair(frame(), {"student": [1, 2, 3, 4]})
    for options in ({"score": 0.25}, {"caption": "frame 7"}, {"score": 0.25, "caption": "frame 7 " * 40}):
        changed = (draw_frame_pair(frame(), {"student": [1, 2, 3, 4]}, **options) != plain).any(axis=-1)  # type: ignore[arg-type]
        rows, columns = np.nonzero(changed)
        assert rows.min() >= 400
        assert columns.min() >= 600
    one, other = (draw_frame_pair(frame(), {}, score=score) for score in (0.25, 0.75))
    assert (one != other).any()


def response(height: float = 1.0) -> ResponseMap:
    rows, columns = np.mgrid[:19, :19]
    scores = height * np.exp(-((rows - 9) ** 2 + (columns - 9) ** 2) / 2)
    return ResponseMap(scores.astype(np.float32), np.array([150.0, 100.0, 200.0, 200.0]))


def colorful(image: Image) -> int:
    """Count pixels that are no gray."""
    return int((np.ptp(image.astype(int), axis=-1) > 20).sum())


def test_the_response_is_drawn_on_tir_and_rgb_stays_as_it_is() -> None:
    image = draw_frame_pair(frame(), {}, response=response(), panels=choose_panels(True, True, True))
    assert colorful(image[:400, :500]) == 0
    assert colorful(image[:400, 500:]) > 500
    rows, columns = np.nonzero(np.ptp(image[:400, 500:].astype(int), axis=-1) > 20)
    np.testing.assert_allclose([columns.mean(), rows.mean()], [250, 200], atol=1)
    assert colorful(image[400:]) > 0, "the legend shows its colors"


def test_without_tir_the_response_is_drawn_on_rgb() -> None:
    panels = choose_panels(True, True, True)
    image = draw_frame_pair(
        Pair(gray(400, 500), None), {}, response=response(), panels=panels, states=Pair("seen", "black")
    )
    assert colorful(image[:400, :500]) > 500
    assert colorful(image[:400, 500:]) == 0


def test_why_a_modality_is_missing_is_said() -> None:
    pair = Pair(gray(400, 500), None)
    plain = draw_frame_pair(pair, {})
    for state in ("missing", "black", "broken"):
        said = draw_frame_pair(pair, {}, states=Pair("seen", state))
        assert (said[:400, 500:] != plain[:400, 500:]).any()


@pytest.mark.parametrize(("rgb", "tir"), [(True, False), (False, True)])
def test_one_modality_stands_beside_itself_with_the_response(rgb: bool, tir: bool) -> None:
    pair = Pair(gray(400, 500) if rgb else None, gray(400, 500) if tir else None)
    image = draw_frame_pair(
        pair, {"student": [20, 60, 60, 40]}, response=response(), panels=choose_panels(rgb, tir, True)
    )
    assert image.shape[1] == 1000
    assert extent(image[:400, :500], SKY) is not None
    assert extent(image[:400, 500:], SKY) is not None
    assert colorful(image[300:350, :500]) == 0
    alone = draw_frame_pair(pair, {"student": [20, 60, 60, 40]}, panels=choose_panels(rgb, tir, False))
    assert alone.shape[1] == 500


def test_a_frame_without_any_image_has_the_size_of_the_others() -> None:
    panels = choose_panels(True, True, True)
    whole = draw_frame_pair(
        frame(), {"student": [1, 2, 3, 4]}, response=response(), panels=panels, flag="normal", score=0.5
    )
    none = draw_frame_pair(Pair(None, None), {"student": [1, 2, 3, 4]}, panels=panels, flag="skipped", size=(500, 400))
    assert none.shape == whole.shape


def test_a_flags_dot_says_how_sure_the_tracker_is() -> None:
    colors = {}
    for flag in ("normal", "uncertain", "not_found", "skipped"):
        strip = draw_frame_pair(frame(), {}, flag=flag, caption="frame 1")[400:, 600:]
        colors[flag] = {tuple(color) for color in strip.reshape(-1, 3) if np.ptp(color.astype(int)) > 60}
    assert (0, 158, 115) in colors["normal"]
    assert (230, 159, 0) in colors["uncertain"]
    assert (213, 94, 0) in colors["not_found"]
    assert not colors["skipped"]


def test_large_images_are_reduced_with_their_boxes() -> None:
    image = draw_frame_pair(frame(1080, 1920), {"student": [200, 100, 120, 80]})
    assert image.shape[1] == 1920
    found = extent(image[:540, :960], SKY)
    assert found is not None
    np.testing.assert_allclose(found, (100, 50, 160, 90), atol=2.5)


@pytest.mark.parametrize("flag", ["not_found", "skipped"])
def test_the_box_of_a_lost_target_is_gray_and_dashed(flag: str) -> None:
    image = draw_frame_pair(frame(), {"student": [100, 120, 60, 40]}, flag=flag)[:400, :500]
    assert extent(image, SKY) is None
    image[:60] = 0  # the title's letters have gray edges
    left, top, right, bottom = extent(image, (190, 190, 190)) or (0, 0, 0, 0)
    np.testing.assert_allclose((left, top, right, bottom), (100, 120, 160, 160), atol=8)
    side = (image[120, 98:163] == 190).all(axis=-1)
    assert np.count_nonzero(np.diff(side.astype(int)) == 1) > 1, "there are gaps"
    found = draw_frame_pair(frame(), {"student": [100, 120, 60, 40]}, flag="normal")[60:400, :500]
    assert extent(found, (190, 190, 190)) is None
