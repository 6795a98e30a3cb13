import pytest
import torch

from mmdistill import FusedPaths, Pair, ShapeError
from mmdistill.reference.networks.rgbt import NetworkSettings, RGBTNetwork, student_settings, teacher_settings

SMALL = {
    "student": student_settings(width=4, crop_size=96),
    "teacher": teacher_settings(depth=18, width=4, crop_size=96),
    "deep teacher": teacher_settings(depth=50, width=4, crop_size=96),
    "plain": NetworkSettings(fusion="concat", width=4, crop_size=96),
}


def count(settings: NetworkSettings) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in RGBTNetwork(settings).parameters())


def test_parameters_are_counted_as_stated() -> None:
    assert count(student_settings()) == 10_988_025
    assert count(NetworkSettings(fusion="concat")) == 10_903_407
    assert count(student_settings()) - 248_842 == 10_739_183  # DiMP-18
    assert count(teacher_settings()) == pytest.approx(47e6, rel=0.005)


def batch(frames: int, sequences: int) -> tuple[Pair[torch.Tensor], torch.Tensor]:
    images = Pair(*torch.randn(2, frames, sequences, 3, 96, 96))
    boxes = torch.tensor([40.0, 38.0, 20.0, 18.0]) + torch.randn(frames, sequences, 4)
    return images, boxes


@pytest.mark.parametrize("name", SMALL)
def test_shapes_of_a_training_pass(name: str) -> None:
    network = RGBTNetwork(SMALL[name])
    train, boxes = batch(3, 2)
    test, targets = batch(2, 2)
    proposals = targets[:, :, None].expand(2, 2, 5, 4)
    predictions = network(train, boxes, test, proposals)
    assert predictions.scores.shape == (6, 2, 2, 7, 7)
    assert predictions.iou.shape == (2, 2, 5)
    assert [level.shape[0] for level in predictions.test.levels.rgb] == [4] * 4
    assert len(predictions.test.fused) == 2
    paths = {"student": 3, "plain": 1}.get(name)
    assert [len(level.paths) for level in predictions.test.paths] == ([paths] * 2 if paths else [])
    for level, fused in zip(predictions.test.paths, predictions.test.fused, strict=False):
        assert isinstance(level, FusedPaths)
        assert level.fused is fused


def test_a_plain_students_checkpoints_name_its_fusion_as_ever() -> None:
    state = RGBTNetwork(SMALL["plain"]).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if name.startswith("fusions.")}
    assert shapes == {
        "fusions.0.convolution.weight": (8, 16, 1, 1),
        "fusions.0.convolution.bias": (8,),
        "fusions.1.convolution.weight": (16, 32, 1, 1),
        "fusions.1.convolution.bias": (16,),
    }


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_sequences_do_not_see_each_other(name: str) -> None:
    network = RGBTNetwork(SMALL[name]).double().eval()
    train, boxes = batch(3, 2)
    test, targets = batch(2, 2)
    train, test = (Pair(*(x.double() for x in pair)) for pair in (train, test))
    boxes, proposals = boxes.double(), targets[:, :, None].expand(2, 2, 5, 4).double()
    together = network(train, boxes, test, proposals)
    for s in range(2):
        one = slice(s, s + 1)
        alone = network(
            Pair(*(x[:, one] for x in train)), boxes[:, one], Pair(*(x[:, one] for x in test)), proposals[:, one]
        )
        torch.testing.assert_close(together.scores[:, :, one], alone.scores)
        torch.testing.assert_close(together.iou[:, one], alone.iou)


def test_one_stream_passes_both_modalities_through_one_trunk() -> None:
    network = RGBTNetwork(SMALL["student"]).eval()
    images = Pair(*torch.randn(2, 2, 3, 96, 96))
    levels = network.extract(images).levels
    for member, got in zip(images, levels, strict=True):
        for expected, level in zip(network.trunks["both"](member), got, strict=True):
            torch.testing.assert_close(level, expected)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_trained(name: str) -> None:
    network = RGBTNetwork(SMALL[name])
    train, boxes = batch(3, 2)
    test, targets = batch(2, 2)
    predictions = network(train, boxes, test, targets[:, :, None].expand(2, 2, 5, 4))
    (predictions.scores.square().sum() + predictions.iou.square().sum()).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"crop_size": 100}, "crop_size: expected a multiple of 16, at least 64, got 100"),
        ({"filter_size": 3}, "filter_size: expected an even number of cells, got 3"),
        ({"width": 3}, "width: expected an even number of channels, at least 2, got 3"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(change: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NetworkSettings(**change)  # type: ignore[arg-type]


def test_unequal_modalities_are_refused() -> None:
    network = RGBTNetwork(SMALL["student"])
    with pytest.raises(ShapeError, match="RGBTNetwork: tir: width: expected 96 as rgb, got 80"):
        network.extract(Pair(torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 96, 80)))
    with pytest.raises(ShapeError, match="RGBTNetwork: rgb: channels: expected 3, got 1"):
        network.extract(Pair(torch.zeros(1, 1, 96, 96), torch.zeros(1, 1, 96, 96)))
