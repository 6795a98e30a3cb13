"""One video through the tracker: where its boxes go, and what it refuses."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_target import HEIGHT, LENGTH, NETWORK, SETTINGS, WIDTH, classifier_of, frame, network, truth
from numpy.typing import NDArray

import mmdistill.reference
from mmdistill import Pair
from mmdistill.reference.crops import CropGeometry
from mmdistill.reference.models.config import NetworkSettings, single_settings, student_settings, teacher_settings
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.tracking import batch_tracker as module
from mmdistill.reference.tracking import step
from mmdistill.reference.tracking.search_area import Target, search_areas, search_geometry
from mmdistill.reference.tracking.settings import (
    FirstFrameSettings,
    LocalizationSettings,
    RefinementSettings,
    TrackingSettings,
)
from mmdistill.reference.tracking.tracker import Tracker
from mmdistill.toolkit.boxes import centers
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair
from mmdistill.toolkit.tracking_loop import TrackerProtocol


def track(tracker: Tracker, frames: Iterator[FramePair] | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Boxes, scores and flags of all frames but the first."""
    tracker.init(frame(0), truth(0))
    rest = frames if frames is not None else (frame(index) for index in range(1, LENGTH))
    results = [tracker.update(each) for each in rest]
    boxes, scores, flags = zip(*results, strict=True)
    return np.stack(boxes), np.array(scores), list(flags)


@pytest.mark.parametrize(
    "settings",
    [
        NETWORK,
        student_settings(width=4, crop_size=96),
        teacher_settings(depth=18, width=4, crop_size=96),
        NetworkSettings(fusion="concat", width=4, crop_size=96),
        NetworkSettings(fusion="channel", streams=2, width=4, crop_size=96),
        single_settings("rgb", depth=50, width=4, crop_size=96),
        single_settings("tir", width=4, crop_size=96, classifier="atom"),
    ],
    ids=["student, odd map", "student, even map", "teacher", "plain", "two trunks", "rgb", "atom"],
)
def test_an_untrained_tracker_runs(settings: NetworkSettings) -> None:
    tracker = Tracker(network(settings), SETTINGS)
    assert isinstance(tracker, TrackerProtocol)
    boxes, scores, flags = track(tracker)
    assert boxes.shape == (LENGTH - 1, 4)
    assert boxes.dtype == np.float64
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()
    assert (boxes[:, 2:] > 0).all()
    visible = np.minimum(boxes[:, :2] + boxes[:, 2:], (WIDTH, HEIGHT)) - np.maximum(boxes[:, :2], 0)
    assert (visible >= 0.2 * boxes[:, 2:] - 1e-9).all()
    response = tracker.response
    assert response is not None
    assert response.scores.shape == (settings.score_size, settings.score_size)
    # Beside a distractor the target may be the lower of the two maxima.
    assert scores[-1] == response.scores.max() or (flags[-1] == "hard_negative" and scores[-1] in response.scores)
    assert flags[-1] in ("normal", "hard_negative", "uncertain")


def test_the_filter_follows_a_distinct_target_even_on_untrained_features() -> None:
    # Box refinement is as good as its training; the filter learns from the first frame alone.
    settings = replace(
        SETTINGS,
        first_frame=FirstFrameSettings(iterations=100),
        refinement=RefinementSettings(steps=0, random_boxes=0),
    )
    tracker = Tracker(network(student_settings(width=8, crop_size=144)), settings)
    boxes, _, _ = track(tracker)
    distance = np.linalg.norm(centers(boxes) - [centers(truth(index)) for index in range(1, LENGTH)], axis=1)
    moved = np.linalg.norm(centers(truth(LENGTH - 1)) - centers(truth(0)))
    assert distance[-1] < 0.3 * moved
    # A score cell is 10 pixels here, and up to half a cell off along either axis is as good as it gets.
    assert distance.max() < 11


def test_the_same_seed_gives_the_same_boxes() -> None:
    first, second, other = (track(Tracker(network(), SETTINGS, seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[0] != other[0]).any()


def test_init_forgets_the_video_before() -> None:
    used = Tracker(network(), SETTINGS)
    used.init(frame(3), truth(3))
    for _ in range(3):
        used.update(frame(0))
    used.init(frame(0), truth(0))
    assert used.response is None
    np.testing.assert_array_equal(track(used)[0], track(Tracker(network(), SETTINGS))[0])


def test_nobody_elses_randomness_or_network_is_touched() -> None:
    tracked = network().train()
    tracker = Tracker(tracked, SETTINGS)
    assert tracked.training
    before, parameters = torch.get_rng_state(), {k: v.clone() for k, v in tracked.state_dict().items()}
    track(tracker)
    assert torch.equal(before, torch.get_rng_state())
    for name, value in tracked.state_dict().items():
        assert torch.equal(value, parameters[name]), name
    assert all(parameter.grad is None and parameter.requires_grad for parameter in tracked.parameters())


def test_a_missing_modality_is_stood_in_for() -> None:
    for missing in ("rgb", "tir"):
        there = frame(1).tir if missing == "rgb" else frame(1).rgb
        one, two = (
            track(Tracker(network(), SETTINGS), iter([given]))[0]
            for given in (frame(1)._replace(**{missing: None}), Pair(there, there))
        )
        np.testing.assert_array_equal(one, two)


def test_a_target_that_is_not_found_stays_where_it_was() -> None:
    settings = replace(SETTINGS, localization=LocalizationSettings(not_found=9.0))
    tracker = Tracker(network(), settings)
    boxes, scores, flags = track(tracker)
    np.testing.assert_array_equal(boxes, [truth(0)] * (LENGTH - 1))
    assert flags[-1] == "not_found"
    assert tracker.response is not None
    assert scores[-1] == tracker.response.scores.max()


def test_the_boxes_returned_and_given_are_the_callers() -> None:
    tracker, given = (
        Tracker(network(), replace(SETTINGS, localization=LocalizationSettings(not_found=9.0))),
        truth(0),
    )
    tracker.init(frame(0), given)
    given[:] = 0
    box, _, _ = tracker.update(frame(1))
    np.testing.assert_array_equal(box, truth(0))
    box[:] = 0
    np.testing.assert_array_equal(tracker.update(frame(2)).box, truth(0))


def test_a_displaced_maximum_moves_the_box_by_whole_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrackingSettings(refinement=RefinementSettings(steps=0, random_boxes=0))
    tracker = Tracker(network(student_settings(width=4, crop_size=96)), settings)
    tracked = classifier_of(tracker)
    box = np.array([50.0, 40.0, 24.0, 24.0])  # 5 * 24 = 120 pixels of search area: 1.25 a crop pixel, 20 a cell
    tracker.init(frame(0), box)
    scores = torch.zeros(1, 1, 1, 7, 7)
    scores[..., 2, 4] = 1  # one right of the center, one up
    monkeypatch.setattr(tracked, "score", lambda *_: scores)
    moved, score, _ = tracker.update(frame(0))
    np.testing.assert_allclose(moved, [70, 20, 24, 24], atol=1e-4)
    assert score == 1


def test_the_search_area_follows_the_refined_size(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def noted(target: Target, *arguments: object) -> CropGeometry:
        looked_at.append(target)
        return search_geometry(target, *arguments)  # type: ignore[arg-type]

    def noted_all(targets: Target, network: NetworkSettings) -> NDArray[np.int64]:
        looked_at.append(Target(targets.box[0], targets.scale[0]))
        return search_areas(targets, network)

    def grown(*arguments: object, windowed: bool) -> torch.Tensor:
        assert windowed
        boxes = arguments[5]
        assert isinstance(boxes, torch.Tensor)
        return boxes * torch.tensor([1, 1, 2, 0.72])

    monkeypatch.setattr(module, "search_geometry", noted)
    monkeypatch.setattr(module, "search_areas", noted_all)
    monkeypatch.setattr(step, "refine", grown)
    tracker = Tracker(network(), SETTINGS)
    track(tracker)
    scales = [target.scale for target in looked_at]
    assert scales[1] == scales[0]
    assert scales[2] == pytest.approx(1.2 * scales[0])  # the root of 2 * 0.72
    assert looked_at[2].box[2] == pytest.approx(2 * 20, rel=1e-5)
    assert max(scales) <= HEIGHT / 16 * scales[0]


def test_boxes_are_inside_the_image() -> None:
    box = np.array([-8.0, 70, 30, 30])  # beyond the left and the lower border
    still = replace(SETTINGS, localization=LocalizationSettings(not_found=9.0))
    tracker = Tracker(network(), still)
    tracker.init(frame(0), box)
    np.testing.assert_array_equal(tracker.update(frame(0))[0], [0, 70, 22, 20])
    np.testing.assert_array_equal(tracker._batch._host.targets.box[0], box)


def test_a_network_in_half_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a network in float32 or float64, got torch.bfloat16; use autocast"):
        Tracker(network().bfloat16())
    with pytest.raises(DataError, match=r"^seed: expected 0 or more, got -1$"):
        Tracker(network(), seed=-1)


def test_images_that_are_none_are_named() -> None:
    tracker = Tracker(network(), SETTINGS)
    image = frame(0).rgb
    for bad, message in (
        (image[..., 0], r"^init: expected the rgb image as \(H, W, 3\), got \(90, 120\)$"),
        (image.astype(np.float32), r"^init: expected the rgb image as a uint8 array, got float32$"),
        ("car.png", r"^init: expected the rgb image as a uint8 array, got str$"),
    ):
        with pytest.raises(DataError, match=message):
            tracker.init(Pair(bad, None), truth(0))


def test_bad_input_is_named() -> None:
    tracker = Tracker(network(), SETTINGS)
    with pytest.raises(RuntimeError, match=r"^Tracker.update: expected init with the first frame before$"):
        tracker.update(frame(0))
    with pytest.raises(DataError, match=r"^init: the initial box 0,0,0,5 has no area"):
        tracker.init(frame(0), [0, 0, 0, 5])
    with pytest.raises(DataError, match=r"^init: the initial box 500,0,5,5 lies outside the image of 120 x 90 pixels$"):
        tracker.init(frame(0), [500, 0, 5, 5])
    with pytest.raises(DataError, match=r"^init: expected an RGB or a TIR image, got neither$"):
        tracker.init(Pair(None, None), truth(0))
    tracker.init(frame(0), truth(0))
    with pytest.raises(DataError, match=r"^update: expected aligned RGB and TIR images of one size"):
        tracker.update(Pair(frame(0).rgb, frame(0).tir[:-1]))


def test_a_whole_video_is_tracked_as_frame_by_frame() -> None:
    tracker = Tracker(network(), SETTINGS, seed=3)
    boxes, seconds = tracker.track((frame(index) for index in range(LENGTH)), truth(0))
    np.testing.assert_array_equal(boxes[0], truth(0))
    np.testing.assert_array_equal(boxes[1:], track(Tracker(network(), SETTINGS, seed=3))[0])
    assert seconds.shape == (LENGTH,)
    assert (seconds > 0).all()
    with pytest.raises(DataError, match=r"^video: expected frames, got none$"):
        tracker.track([], truth(0))


def test_a_tracker_is_loaded_from_a_weights_file(tmp_path: Path) -> None:
    save_network(tmp_path / "network.safetensors", network())
    loaded = mmdistill.reference.Tracker.load(tmp_path / "network.safetensors", device="cpu", settings=SETTINGS, seed=3)
    np.testing.assert_array_equal(track(loaded)[0], track(Tracker(network(), SETTINGS, seed=3))[0])
    with pytest.raises(DataError, match=r"^dimp18: there is no such file"):
        Tracker.load("dimp18")


def test_the_reference_package_exports_the_tracker_without_importing_pytorch() -> None:
    code = (
        "import mmdistill.reference, sys; assert 'torch' not in sys.modules; print(mmdistill.reference.Result.__name__)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "Result\n"
    assert mmdistill.reference.Tracker is Tracker
    assert {"Tracker", "Result"} <= set(dir(mmdistill.reference))
    with pytest.raises(AttributeError, match=r"^module 'mmdistill.reference' has no attribute 'tracker_of'$"):
        mmdistill.reference.tracker_of  # noqa: B018
