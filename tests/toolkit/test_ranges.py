"""Every setting and every option refuses what it can't be, in one line that names it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

import mmdistill.reference
from mmdistill.cli.main import COMMANDS, load_command, main
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.settings_json import from_json, to_json
from mmdistill.reference.training.settings import DistillationSettings, Jitter, SampleSettings, TrainingSettings
from mmdistill.toolkit.ranges import Range, RangeError, check_options, unchecked

NASTY: tuple[Any, ...] = (
    *(0, -1, 10**23, 10**5000, 0.5, 1e-40, 1e300, float("nan"), float("inf"), float("-inf")),
    *(True, None, "", "a\0b", "abc", Path("a\0b"), (), (1,), (float("nan"),) * 2, (5, 1), {}, object()),
)
COMMAND_FUNCTIONS: dict[str, Callable[..., object]] = {name: load_command(name) for name in COMMANDS}


def settings_classes() -> list[type[Any]]:
    """All settings dataclasses of the reference tracker, and those inside them."""
    found: dict[type[Any], None] = {}

    def add(kind: Any) -> None:
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found[kind] = None
            for hint in typing.get_type_hints(kind).values():
                add(hint)
        for inner in typing.get_args(kind):
            add(inner)

    for module in pkgutil.walk_packages(mmdistill.reference.__path__, "mmdistill.reference."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.endswith(("Settings", "Schedule")):
                add(value)
    return list(found)


CLASSES = settings_classes()


def example(kind: type[Any]) -> Any:
    return kind(center=1.0, scale=0.1) if kind is Jitter else kind(steps=1) if kind.__name__ == "Schedule" else kind()


def numbers_without_range(hint: Any) -> Iterator[Any]:
    """What of an annotation is a plain number; dataclasses are looked at by themselves."""
    if typing.get_origin(hint) is Annotated:
        base, *metadata = typing.get_args(hint)
        if base in (int, float) and any(isinstance(each, Range) for each in metadata):
            return
        hint = base
    if hint in (int, float):
        yield hint
    for inner in typing.get_args(hint) if typing.get_origin(hint) is not typing.Literal else ():
        yield from numbers_without_range(inner)


def refusal(action: Callable[[], object]) -> RangeError | None:
    try:
        action()
    except RangeError as error:
        return error
    return None


def test_all_settings_are_found() -> None:
    names = {kind.__name__ for kind in CLASSES}
    assert names >= {
        "TrainingSettings",
        "PartLearningRates",
        "SampleSettings",
        "Jitter",
        "ProposalSettings",
        "Schedule",
    }
    assert names >= {
        "SyntheticSettings",
        "SceneSettings",
        "DistillationSettings",
        "BaselineWeights",
        "TrackingLossSettings",
    }
    assert names >= {"CrossModalSettings", "NetworkSettings", "TrackingSettings", "FirstFrameSettings", "Transform"}
    assert names >= {"OnlineSettings", "DemoSettings", "LocalizationSettings", "RefinementSettings", "LearningSettings"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_number_among_the_settings_has_a_range(kind: type[Any]) -> None:
    hints = typing.get_type_hints(kind, include_extras=True)
    assert [name for name, hint in hints.items() if list(numbers_without_range(hint))] == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_settings_are_made_or_refused_by_name(kind: type[Any]) -> None:
    good = example(kind)
    for field in dataclasses.fields(kind):
        errors = [refusal(lambda: dataclasses.replace(good, **{field.name: value})) for value in NASTY]  # noqa: B023
        refused = [error for error in errors if error is not None]
        assert len(refused) >= len(NASTY) - 6, field.name
        # What does not fit another setting may be said of that one.
        assert all(error.name.startswith(f"{kind.__name__}.") for error in refused)
        assert not [error for error in refused if "\n" in str(error) or len(str(error)) > 400]


@pytest.mark.parametrize("command", COMMAND_FUNCTIONS)
def test_every_number_among_the_options_has_a_range(command: str) -> None:
    hints = typing.get_type_hints(COMMAND_FUNCTIONS[command], include_extras=True)
    assert [name for name, hint in hints.items() if list(numbers_without_range(hint))] == []


def options(command: Callable[..., object]) -> Iterator[tuple[str, str, Callable[[Any], object]]]:
    """For each option its name, its parameter, and how to make the parameter's value with the option's."""
    for parameter in inspect.signature(command).parameters.values():
        name = f"--{parameter.name.replace('_', '-')}"
        yield from leaves(name, parameter.name, parameter.default, lambda value: value)


def leaves(
    name: str, parameter: str, default: Any, make: Callable[[Any], object]
) -> Iterator[tuple[str, str, Callable[[Any], object]]]:
    if not dataclasses.is_dataclass(default):
        yield name, parameter, make
        return
    for field in dataclasses.fields(default):

        def within(value: Any, field: str = field.name) -> object:
            return make(dataclasses.replace(default, **{field: value}))  # type: ignore[type-var]

        inner = f"{name}.{field.name.replace('_', '-')}"
        yield from leaves(inner, parameter, getattr(default, field.name), within)


@pytest.mark.parametrize("command", COMMAND_FUNCTIONS)
def test_options_are_taken_or_refused_by_name(command: str) -> None:
    function = COMMAND_FUNCTIONS[command]
    for name, parameter, make in options(function):
        for value in NASTY:
            with unchecked():
                made = make(value)
            error = refusal(lambda: check_options(function, {parameter: made}))  # noqa: B023
            assert error is None or (error.name == name and "\n" not in str(error))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("train teacher --training.checkpoint-every 0", "--training.checkpoint-every: expected a whole number from 1 "),
        ("train teacher --training.warmup-steps -1", "--training.warmup-steps: expected a whole number from 0 "),
        ("train teacher --training.workers=-1", "--training.workers: expected a whole number from 0 to 1,024, got -1"),
        ("train teacher --training.seed -1", "--training.seed: expected a whole number from 0 "),
        ("train teacher --training.samples.train-frames 0", "--training.samples.train-frames: "),
        ("train teacher --training.samples.gap -1", "--training.samples.gap: "),
        ("train teacher --training.samples.test_jitter.scale nan", "--training.samples.test-jitter.scale: expected a "),
        ("train teacher --training.samples.proposals.deviations 0.1 inf", "--training.samples.proposals.deviations: "),
        ("train teacher --training.samples.proposals.minimum-iou 1", "--training.samples.proposals.minimum-iou: "),
        ("train teacher --training.learning-rates.trunk 1e300", "--training.learning-rates.trunk: expected a number "),
        ("train teacher --training.freeze-bn-after -1", "--training.freeze-bn-after: "),
        ("train teacher --tracking.box nan", "--tracking.box: expected a number from 0 to 1,000,000,000, got nan"),
        ("train student --distillation.parts", "--distillation.parts: expected at least one value"),
        (f"train teacher --width 1{'0' * 23}", "--width: expected a multiple of 2 from 2 to 256, got 1000000000"),
        (f"train teacher --videos 1{'0' * 23}", "--videos: "),
        ("train teacher --crop-size 100", "--crop-size: expected a multiple of 16 from 64 to 1,024, got 100"),
        ("adapt-tir --setting D3 --pairs x --weights y --num-test-pairs -1", "--num-test-pairs: "),
        ("adapt-tir --setting D3 --pairs x --weights y --steps 0", "--steps: "),
        ("adapt-tir --setting D3 --pairs x --weights y\0z", "--weights: expected a path or a name without null bytes"),
        ("compose --seed -1", "--seed: "),
        (f"compose --length 1{'0' * 23}", "--length: expected a whole number from 1 to 1,000,000, got 1000000000"),
        ("compose --last -3", "--last: "),
        ("evaluate --benchmark vot --weights w --seed -1", "--seed: "),
        (
            "evaluate --benchmark vot --weights w --batch-size 0",
            "--batch-size: expected a whole number from 1 to 10,000, got 0",
        ),
        (
            "evaluate --benchmark vot --weights w --workers 0",
            "--workers: expected a whole number from 1 to 1,024, got 0",
        ),
        ("report a b --examples -1", "--examples: "),
        ("track --weights a --fps nan", "--fps: expected a number from 0.01 to 1,000, got nan"),
        ("export --weights a --crops 0", "--crops: "),
        ("demo --seed -1", "--seed: "),
        ("demo --out a\0b", "--out: expected a path or a name without null bytes, got 'a\\x00b'"),
    ],
)
def test_the_command_line_names_the_option(
    arguments: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments.split(" ")
    if given[0] == "train":
        given += ["--data", "synthetic"]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    assert main(given) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"mmdistill: {says}")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_settings_from_json_are_checked() -> None:
    text = to_json(TrainingSettings()).replace('"gap": 30', '"gap": -30')
    with pytest.raises(RangeError, match=r"SampleSettings.gap: expected a whole number from 0 to 1,000,000, got -30"):
        from_json(TrainingSettings, text)
    with pytest.raises(RangeError, match=r"NetworkSettings.crop_size: expected .* got 1000000"):
        from_json(NetworkSettings, '{"crop_size": 1000000}')


def test_the_message_names_the_range() -> None:
    assert str(RangeError("fps", Range(0, 5, above=True).describe(float), -1)) == (
        "fps: expected a number above 0, at most 5, got -1"
    )
    with pytest.raises(RangeError, match=r"^DistillationSettings.residual: expected one of 'mse', 'hinge', got 'l1'$"):
        DistillationSettings(residual="l1")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match=r"^SampleSettings.train_jitter: expected a Jitter, got 3$"):
        SampleSettings(train_jitter=3)  # type: ignore[arg-type]
