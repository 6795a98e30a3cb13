"""When a tracker's filter learns while it tracks, and from what."""

from typing import Any

import numpy as np
import pytest
import torch
from drawn_target import SETTINGS, classifier_of, frame, network, truth

from mmdistill.reference.models.config import student_settings
from mmdistill.reference.tracking import step
from mmdistill.reference.tracking.augmentation import Transform
from mmdistill.reference.tracking.settings import (
    FirstFrameSettings,
    LearningSettings,
    LocalizationSettings,
    RefinementSettings,
    TrackingSettings,
)
from mmdistill.reference.tracking.state import Placement, TargetState, place_samples
from mmdistill.reference.tracking.tracker import Tracker
from mmdistill.toolkit.data_issues import DataError

SCORES = {
    "normal": {(3, 2): 0.9},
    "hard_negative": {(3, 2): 0.9, (0, 5): 0.6},
    "uncertain": {(3, 2): 0.9, (2, 2): 0.8},
    "not_found": {(3, 2): 0.2},
}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        # Every third frame after the first is due: frames 4, 7 and 10.
        (["normal"] * 9, {4: 2, 7: 2, 10: 2}),
        (["hard_negative", "normal", "hard_negative", "normal"], {2: 1, 4: 1}),
        (["not_found"] * 9, {}),
        (["uncertain"] * 9, {}),
        (["normal", "normal", "uncertain", "normal", "normal", "normal"], {7: 2}),
    ],
)
def test_when_the_filter_learns(flags: list[str], expected: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    learned: dict[int, int] = {}
    samples: dict[int, int] = {}
    settings = TrackingSettings(
        localization=LocalizationSettings(neighborhood=0),
        learning=LearningSettings(interval=3),
        first_frame=FirstFrameSettings(transforms=(Transform(flip=True),)),
    )
    tracker = Tracker(network(), settings)
    tracked = classifier_of(tracker)
    tracker.init(frame(0), truth(0))
    optimize = tracked.optimiser.forward

    def noted(
        filters: torch.Tensor, features: torch.Tensor, boxes: torch.Tensor, iterations: int, weights: torch.Tensor
    ) -> torch.Tensor:
        learned[number] = iterations
        samples[number] = len(features)
        torch.testing.assert_close(weights.sum(dim=0), torch.ones(1))
        return optimize(filters, features, boxes, iterations, weights)

    monkeypatch.setattr(tracked.optimiser, "forward", noted)
    for number, flag in enumerate(flags, start=2):  # noqa: B007 (`noted` reads it)
        scores = torch.zeros(1, 1, 1, 6, 6)
        for (x, y), score in SCORES[flag].items():
            scores[..., y, x] = score
        monkeypatch.setattr(tracked, "score", lambda *_, scores=scores: scores)
        assert tracker.update(frame(0)).flag == flag
    assert learned == expected
    # The first frame's four, and one for each frame that was reliable.
    reliable = [flag in ("normal", "hard_negative") for flag in flags]
    assert samples == {number: 4 + sum(reliable[: number - 1]) for number in expected}


def test_what_the_first_frame_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(network(), SETTINGS)
    tracked = classifier_of(tracker)
    learn, given = tracked.learn, {}

    def noted(features: torch.Tensor, boxes: torch.Tensor, iterations: int) -> torch.Tensor:
        given.update(features=features, boxes=boxes[:, 0], iterations=iterations)
        return learn(features, boxes, iterations)

    monkeypatch.setattr(tracked, "learn", noted)
    tracker.init(frame(0), truth(0))
    assert given["iterations"] == 10
    assert given["boxes"].shape == (15, 4)
    # 5 * sqrt(20 * 16) image pixels on 80; the crop is half a cell off, and at whole pixels.
    scale = 5 * np.sqrt(20 * 16) / 80
    plain = np.array([32 - 10 / scale, 32 - 8 / scale, 20 / scale, 16 / scale])
    np.testing.assert_allclose(given["boxes"][0], plain, atol=0.6)
    for number, shift in enumerate([(-24, -24), (-24, 24), (24, -24), (24, 24)], start=1):
        np.testing.assert_allclose(given["boxes"][number] - given["boxes"][0], [*shift, 0, 0], atol=1e-4)

    features, dropped = given["features"][0, 0], given["features"][-2:, 0]
    kept = dropped.flatten(2).abs().sum(dim=-1) > 0
    torch.testing.assert_close(dropped, kept[..., None, None] * features / 0.8)
    assert 0 < int((~kept).sum()) < kept.numel() / 2
    assert (kept[0] != kept[1]).any()
    np.testing.assert_array_equal(given["boxes"][-2:], given["boxes"][[0, 0]])


@pytest.mark.parametrize(("flag", "rate"), [("normal", 0.01), ("hard_negative", 0.02)])
def test_what_a_frame_teaches(flag: str, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []

    def noted(target: TargetState, kept: torch.Tensor, rates: torch.Tensor, *arguments: Any) -> Placement:
        placed.append((kept.tolist(), rates.tolist()))
        return place_samples(target, kept, rates, *arguments)

    monkeypatch.setattr(step, "place_samples", noted)
    still = RefinementSettings(steps=0, random_boxes=0)
    tracker = Tracker(network(student_settings(width=4, crop_size=96)), TrackingSettings(refinement=still))
    tracked = classifier_of(tracker)
    tracker.init(frame(0), [50, 40, 24, 24])  # 1.25 image pixels a crop pixel: 19.2 crop pixels
    scores = torch.zeros(1, 1, 1, 7, 7)
    scores[..., 2, 4] = 1
    scores[..., 6, 0] = 0.6 if flag == "hard_negative" else 0
    monkeypatch.setattr(tracked, "score", lambda *_: scores)
    tracker.update(frame(0))
    assert placed == [([True], [pytest.approx(rate)])]
    state = tracker._batch._runner._started()
    assert (state.target.num_samples.tolist(), state.target.newest.tolist()) == (
        [16],
        [15],
    )  # after the first frame's 15
    features, boxes = (values[15, 0] for values in state.memory)
    assert features.shape == (16, 6, 6)
    assert features.any()
    np.testing.assert_allclose(boxes, [48 + 16 - 9.6, 48 - 16 - 9.6, 19.2, 19.2], atol=1e-4)
    assert not state.memory.boxes[16:].any()


def test_a_memory_without_room_is_refused() -> None:
    with pytest.raises(DataError, match=r"memory: expected more than the first frame's 15 samples, got 15$"):
        TrackingSettings(learning=LearningSettings(memory=15))
    assert TrackingSettings().first_frame.samples == 15
