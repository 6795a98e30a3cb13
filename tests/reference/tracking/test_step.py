"""The functions of a tracked frame: exported, compiled, slots apart, and a slot without a frame."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from harness.recorded_graphs import RecordedGraphs
from step_cases import FRAMES, VIDEOS, Learn, StepCase, assert_close, select_slots, step_case
from torch import Tensor, nn

from mmdistill.reference.crops import CropGeometry, cut, to_tensor
from mmdistill.reference.tracking.cuda_graph import CapturedFunction
from mmdistill.reference.tracking.frame_inputs import FrameNumbers
from mmdistill.reference.tracking.step import TrackStep

Function = Callable[[StepCase], tuple[nn.Module, tuple[Any, ...]]]

slow = pytest.mark.slow
# Quick for the student's four slots; the other cases take as long again, each.
CASES = [
    pytest.param("student", 4),
    pytest.param("student", 1, marks=slow),
    pytest.param("atom", 4, marks=slow),
    pytest.param("atom", 1, marks=slow),
    pytest.param("tir", 4, marks=slow),
]


def tracking(case: StepCase) -> tuple[nn.Module, tuple[Any, ...]]:
    return case.step, case.frame


def learning(case: StepCase) -> tuple[nn.Module, tuple[Any, ...]]:
    return Learn(case.step), case.samples


functions = pytest.mark.parametrize("function", [tracking, learning])
networks = pytest.mark.parametrize("name", ["student", "tir", "atom"])


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.filterwarnings("ignore")  # PyTorch's own deprecations while it traces
@pytest.mark.parametrize("function", [pytest.param(tracking, marks=slow), learning])
@pytest.mark.parametrize(("name", "slots"), CASES)
def test_the_exported_program_gives_the_same(name: str, slots: int, function: Function) -> None:
    module, arguments = function(step_case(name, slots))
    exported = torch.export.export(module, arguments, strict=True)
    assert_close(exported.module()(*arguments), module(*arguments))
    # The same program for other values.
    others = tuple(
        values + 1 if isinstance(values, Tensor) and values.dtype == torch.uint8 else values for values in arguments
    )
    assert_close(exported.module()(*others), module(*others))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("function", [pytest.param(tracking, marks=slow), learning])
@pytest.mark.parametrize(("name", "slots"), CASES)
def test_the_compiled_function_is_one_graph(name: str, slots: int, function: Function) -> None:
    module, arguments = function(step_case(name, slots))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_close(compiled(*arguments), module(*arguments))


@slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("fresh_compiler")
@functions
@pytest.mark.parametrize(
    ("name", "slots"), [pytest.param("student", 1, marks=pytest.mark.nightly), ("student", 4), ("atom", 4)]
)
def test_the_default_compiler_gives_the_same(name: str, slots: int, function: Function) -> None:
    module, arguments = function(step_case(name, slots))
    assert_close(torch.compile(module, fullgraph=True)(*arguments), module(*arguments))


@networks
def test_the_functions_are_pure_and_read_nothing(name: str) -> None:
    case = step_case(name, 4)
    for module, arguments in (tracking(case), learning(case)):
        before = [values.clone() for values in torch.utils._pytree.tree_leaves(arguments)]
        expected = module(*arguments)
        captured = CapturedFunction(module, graphs=RecordedGraphs())  # refuses reads
        assert_close(captured(*arguments), expected)
        for values, kept in zip(torch.utils._pytree.tree_leaves(arguments), before, strict=True):
            assert torch.equal(values, kept)


@networks
def test_slots_do_not_see_each_other(name: str) -> None:
    case = step_case(name, 4)
    tracked, learned = case.step(*case.frame), Learn(case.step)(*case.samples)
    for slot in range(4):
        alone = select_slots(case, slot)
        one = alone.step(*alone.frame)
        for field in ("rows", "score_maps", "sample", "box"):
            assert_close(getattr(one, field)[0], getattr(tracked, field)[slot])
        assert_close(one.placement.weights[:, 0], tracked.placement.weights[:, slot])
        for values, together in zip(one.placement, tracked.placement, strict=True):
            if values.dim() == 1:
                assert torch.equal(values[0], together[slot])
        *samples, _ = alone.samples
        iterations = case.samples[-1][slot : slot + 1]
        for values, together in zip(Learn(case.step)(*samples, iterations), learned, strict=True):
            assert_close(values[0], together[slot])


@networks
def test_a_case_is_worth_comparing(name: str) -> None:
    case = step_case(name, 4)
    tracked = case.step(*case.frame)
    assert tracked.rows[:, 5].max() < 3  # found
    assert (tracked.placement.row < len(case.target.weights)).any()
    first, (learned, *_) = case.target.model[-1], Learn(case.step)(*case.samples)[-1:]
    changed = [bool((one != other).any()) for one, other in zip(first, learned, strict=True)]
    assert changed == [True, False, True, True]


@networks
def test_a_slot_without_a_frame_keeps_its_state(name: str) -> None:
    case = step_case(name, 4)
    numbers, pixels = case.numbers.clone(), case.pixels.clone()
    expected = case.step(*case.frame)
    FrameNumbers.unpack(numbers).active[1:3] = 0
    numbers[2, 1:], pixels[2] = 1, 0  # a slot that never had a video
    target = case.target
    tracked = case.step(target, pixels, numbers)
    assert tracked.rows.isfinite().all()
    assert tracked.iterations[1:3].tolist() == [0, 0]
    placement = tracked.placement
    assert placement.row[1:3].tolist() == [len(target.weights)] * 2
    assert torch.equal(placement.weights[:, 1:3], target.weights[:, 1:3])
    assert torch.equal(placement.num_samples[1:3], target.num_samples[1:3])
    assert torch.equal(placement.newest[1:3], target.newest[1:3])
    for field in ("rows", "score_maps", "sample", "box"):
        torch.testing.assert_close(getattr(tracked, field)[[0, 3]], getattr(expected, field)[[0, 3]])


@networks
@pytest.mark.parametrize("iterations", [[0, 0, 0, 0], [1, 1, 1, 1], [2, 1, 0, 2]])
def test_each_slot_learns_its_own_iterations(name: str, iterations: list[int]) -> None:
    case = step_case(name, 4)
    *arguments, _ = case.samples
    learned = Learn(case.step, most=2)(*arguments, torch.tensor(iterations))
    for slot, number in enumerate(iterations):
        *alone, _ = select_slots(case, slot).samples
        expected = Learn(case.step, most=number)(*alone, torch.tensor([number]))
        for values, one, before in zip(learned, expected, case.target.model, strict=True):
            assert_close(values[slot], one[0])
            if number == 0:
                assert torch.equal(values[slot], before[slot])


@networks
def test_windows_of_iou_features_do_not_change_the_boxes(name: str) -> None:
    case = step_case(name, 4)
    windowed = TrackStep(case.step.network, case.step.settings, windowed=True)
    assert_close(windowed(*case.frame), case.step(*case.frame))


def test_images_are_normalized_as_on_the_host() -> None:
    case = step_case("student", 4)
    images = case.step.images(case.pixels)
    for index, got in enumerate(images):
        assert torch.equal(got, to_tensor(case.pixels[:, index].numpy()))
        assert got.stride()[1:] == (1, 3 * got.shape[-1], 3)  # channels last
    assert torch.equal(case.step.images(case.pixels.int()).rgb, images.rgb)


def test_one_modality_is_one_image() -> None:
    images = step_case("tir", 1).step.images(step_case("tir", 1).pixels)
    assert images.rgb is images.tir or torch.equal(images.rgb, images.tir)
    assert step_case("tir", 1).pixels.shape[1] == 1


def test_numbers_tell_the_search_area_the_image_and_the_last_box() -> None:
    case = step_case("student", 4)
    frame = FrameNumbers.unpack(case.numbers)
    for slot, video in enumerate(VIDEOS):
        left, top, *zeros = frame.origin[slot].tolist()
        size = case.pixels.shape[2]
        area = CropGeometry(int(left), int(top), round(float(frame.scale[slot]) * size), size)
        assert zeros == [0, 0]
        for pixels, image in zip(case.pixels[slot], video.frame(FRAMES), strict=True):
            np.testing.assert_array_equal(pixels, cut(image, area))
        image, corner, last = frame.boxes[slot].view(3, 4).tolist()
        assert (image, corner) == ([0, 0, *video.size], [*video.size, 0, 0])
        np.testing.assert_array_equal(last, case.boxes[slot])
    jitter = frame.jitter.unflatten(1, (-1, 4))
    assert jitter.shape == (4, 10, 4)
    assert not jitter[:, 0].any()
    assert (jitter[:, 1:, :2].abs() <= 0.05).all()
    assert (jitter[:, 1:, 2:].abs() <= 0.25).all()
    assert jitter[:, 1:, 2:].abs().max() > 0.2
    assert torch.equal(jitter[0], jitter[1])  # a video's draws depend on the seed alone
