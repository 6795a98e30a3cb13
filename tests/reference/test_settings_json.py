import dataclasses
import json

import pytest

from mmdistill.reference.models.config import NetworkSettings, teacher_settings
from mmdistill.reference.settings_json import from_json, to_json
from mmdistill.reference.training.settings import DistillationSettings, PartLearningRates, TrainingSettings


@pytest.mark.parametrize(
    "settings",
    [
        teacher_settings(),
        TrainingSettings(steps=3, learning_rates=PartLearningRates(trunk=1e-5)),
        DistillationSettings(parts=("mpsd",)),
    ],
)
def test_a_round_trip_changes_nothing(settings: object) -> None:
    assert from_json(type(settings), to_json(settings)) == settings


def test_whole_numbers_are_accepted_as_floats() -> None:
    assert from_json(NetworkSettings, '{"search_area": 5}').search_area == 5.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"color": 3}, "NetworkSettings: unknown settings 'color'"),
        ({"fusion": "glue"}, r"NetworkSettings.fusion: expected one of .*, got 'glue'"),
        ({"width": "wide"}, "NetworkSettings.width: expected int, got 'wide'"),
    ],
)
def test_invalid_settings_are_named(change: dict[str, object], says: str) -> None:
    text = json.dumps(dataclasses.asdict(NetworkSettings()) | change)
    with pytest.raises(ValueError, match=says):
        from_json(NetworkSettings, text)
