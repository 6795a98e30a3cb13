"""The tracker's network, and the parts of its branches."""

import copy

import pytest
import torch

from mmdistill import FusedPaths, Pair, ShapeError
from mmdistill.reference.models.config import (
    Classifier,
    NetworkSettings,
    single_settings,
    student_settings,
    teacher_settings,
)
from mmdistill.reference.models.tracker_network import (
    BRANCHES,
    PARTS,
    Role,
    TrackerNetwork,
    combine_networks,
    get_parts,
    to_tir_network,
)
from mmdistill.tir_cmd.settings import Module
from mmdistill.toolkit.data_issues import DataError

SMALL = {
    "student": student_settings(width=4, crop_size=96),
    "teacher": teacher_settings(depth=18, width=4, crop_size=96),
    "deep teacher": teacher_settings(depth=50, width=4, crop_size=96),
    "student, layer norm": NetworkSettings(fusion="mpsd-layer-norm", width=4, crop_size=96),
    "student, paths' rms": NetworkSettings(fusion="mpsd-paths", width=4, crop_size=96),
    "plain": NetworkSettings(fusion="concat", width=4, crop_size=96),
    "spatial": NetworkSettings(fusion="spatial", width=4, crop_size=96),
    "channel": NetworkSettings(fusion="channel", width=4, crop_size=96),
    "student, teacher's fusion": NetworkSettings(fusion="mdc-frs", width=4, crop_size=96),
    "student, two trunks": NetworkSettings(streams=2, width=4, crop_size=96),
    "tir": single_settings("tir", width=4, crop_size=96),
    "rgb, ResNet-50": single_settings("rgb", depth=50, width=4, crop_size=96),
}


def count(settings: NetworkSettings) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in TrackerNetwork(settings).parameters())


def test_parameter_counts() -> None:
    assert count(student_settings()) == 10_988_025
    assert count(NetworkSettings(fusion="mpsd-paths")) == 10_988_025
    assert count(NetworkSettings(fusion="mpsd-layer-norm")) == 10_988_025 + 6 * (128 + 256)
    assert count(NetworkSettings(fusion="concat")) == 10_903_407
    assert count(single_settings("tir")) == 10_739_183  # DiMP-18
    assert count(single_settings("rgb", classifier="atom")) == 10_739_183 - 590_080 - 302 - 1_770_496
    unused = {18: 8_393_728 + 513_000, 50: 14_964_736 + 2_049_000}  # layer4 and fc, which are never built
    assert count(single_settings("rgb", depth=50)) + unused[50] == 43_097_303
    assert count(NetworkSettings(streams=2)) + 2 * unused[18] == 31_584_265
    assert count(NetworkSettings(fusion="mdc-frs")) + unused[18] == pytest.approx(25.9e6, rel=0.005)
    assert count(teacher_settings()) == pytest.approx(47e6, rel=0.005)


def initial(name: str, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return TrackerNetwork(SMALL[name]).state_dict()


@pytest.mark.parametrize("other", ["student, layer norm", "spatial", "channel", "student, two trunks"])
def test_networks_of_one_seed_share_all_parts_but_those_that_differ(other: str) -> None:
    plain, changed = initial("plain", 5), initial(other, 5)
    heads = [name for name in plain if name.startswith(("classifier.", "iou_net."))]
    trunk = [name for name in plain if name.startswith("trunks.one.")]
    assert heads
    assert trunk
    for name in heads + trunk:
        twin = name if other != "student, two trunks" else name.replace("trunks.one.", "trunks.rgb.")
        torch.testing.assert_close(changed[twin], plain[name], rtol=0, atol=0)


def test_weights_differ_between_seeds_parts_and_networks_of_one_process() -> None:
    torch.manual_seed(5)
    first, second = TrackerNetwork(SMALL["plain"]).state_dict(), TrackerNetwork(SMALL["plain"]).state_dict()
    name = "trunks.one.conv1.weight"
    torch.testing.assert_close(first[name], initial("plain", 5)[name], rtol=0, atol=0)
    assert not torch.equal(first[name], second[name])
    assert not torch.equal(first[name], initial("plain", 6)[name])
    two = initial("student, two trunks", 5)
    assert not torch.equal(two["trunks.rgb.conv1.weight"], two["trunks.tir.conv1.weight"])


def batch(frames: int, sequences: int) -> tuple[Pair[torch.Tensor], torch.Tensor]:
    images = Pair(*torch.randn(2, frames, sequences, 3, 96, 96))
    boxes = torch.tensor([40.0, 38.0, 20.0, 18.0]) + torch.randn(frames, sequences, 4)
    return images, boxes


@pytest.mark.parametrize("name", SMALL)
def test_shapes_of_a_training_pass(name: str) -> None:
    network = TrackerNetwork(SMALL[name])
    train, boxes = batch(3, 2)
    test, targets = batch(2, 2)
    proposals = targets[:, :, None].expand(2, 2, 5, 4)
    predictions = network(train, boxes, test, proposals)
    assert predictions.scores is not None
    assert predictions.scores.shape == (6, 2, 2, 7, 7)
    assert predictions.iou.shape == (2, 2, 5)
    assert [level.shape[0] for level in predictions.test.levels.rgb] == [4] * 4
    assert len(predictions.test.fused) == 2
    paths = 3 if SMALL[name].fusion.startswith("mpsd") else 1
    assert [len(level.paths) for level in predictions.test.paths] == [paths] * 2
    for level, fused in zip(predictions.test.paths, predictions.test.fused, strict=False):
        assert isinstance(level, FusedPaths)
        assert level.fused is fused


def test_parameter_names_of_the_concat_fusion() -> None:
    state = TrackerNetwork(SMALL["plain"]).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if name.startswith("fusions.")}
    assert shapes == {
        "fusions.0.convolution.weight": (8, 16, 1, 1),
        "fusions.0.convolution.bias": (8,),
        "fusions.1.convolution.weight": (16, 32, 1, 1),
        "fusions.1.convolution.bias": (16,),
    }


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_sequences_are_independent(name: str) -> None:
    network = TrackerNetwork(SMALL[name]).double().eval()
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
    network = TrackerNetwork(SMALL["student"]).eval()
    images = Pair(*torch.randn(2, 2, 3, 96, 96))
    levels = network.extract(images).levels
    for member, got in zip(images, levels, strict=True):
        for expected, level in zip(network.trunks["one"](member), got, strict=True):
            torch.testing.assert_close(level, expected)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_trained(name: str) -> None:
    network = TrackerNetwork(SMALL[name])
    train, boxes = batch(3, 2)
    test, targets = batch(2, 2)
    predictions = network(train, boxes, test, targets[:, :, None].expand(2, 2, 5, 4))
    (predictions.scores.square().sum() + predictions.iou.square().sum()).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"modality": "tir"}, "fusion: expected 'none' for modality 'tir', got 'mpsd'"),
        ({"fusion": "none"}, "fusion: expected a fusion of the two for modality 'rgbt', got 'none'"),
        ({"modality": "rgb", "fusion": "none", "streams": 2}, "streams: expected 1 for modality 'rgb', got 2"),
        ({"search_area": 0.0}, "search_area: expected a number from 1 to 100, got 0.0"),
        ({"label_sigma": float("nan")}, "label_sigma: expected a number from 0.001 to 10, got nan"),
        ({"optimiser_iterations": -1}, "optimiser_iterations: expected a whole number from 0 to 1,000, got -1"),
        ({"crop_size": 100}, "crop_size: expected a multiple of 16 from 64 to 1,024, got 100"),
        ({"crop_size": 1_000_000}, "crop_size: expected .* 1,024, got 1000000"),
        ({"filter_size": 3}, "filter_size: expected a multiple of 2 from 2 to 32, got 3"),
        ({"crop_size": 96, "filter_size": 8}, "filter_size: expected at most 6, .* crop_size 96, got 8"),
        ({"width": 3}, "width: expected a multiple of 2 from 2 to 256, got 3"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NetworkSettings(**change)  # type: ignore[arg-type]


def test_unequal_modalities_are_refused() -> None:
    network = TrackerNetwork(SMALL["student"])
    with pytest.raises(ShapeError, match="TrackerNetwork: tir: width: expected 96 as rgb, got 80"):
        network.extract(Pair(torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 96, 80)))
    with pytest.raises(ShapeError, match="TrackerNetwork: rgb: channels: expected 3, got 1"):
        network.extract(Pair(torch.zeros(1, 1, 96, 96), torch.zeros(1, 1, 96, 96)))


def network(seed: int, classifier: Classifier = "dimp") -> TrackerNetwork:
    torch.manual_seed(seed)
    made = TrackerNetwork(single_settings("rgb", width=4, crop_size=96, classifier=classifier))
    for buffer in made.buffers():
        buffer.add_(seed + 1)  # batch-norm statistics that tell the networks apart
    return made


def owners(name: str, made: TrackerNetwork, *sources: TrackerNetwork) -> list[int]:
    """Indices of the networks whose entry of this name is equal."""
    value = made.state_dict()[name]
    return [number for number, source in enumerate(sources) if torch.equal(source.state_dict()[name], value)]


def test_the_two_branches_cover_a_tracker_except_its_trunk() -> None:
    made = network(0)
    modules: tuple[Module, ...] = ("bbe", "tcl")
    roles: list[Role] = [(module, branch) for module in modules for branch in BRANCHES]
    found = [id(parameter) for part in get_parts(made, roles) for parameter in part.parameters()]
    expected = [id(p) for name, p in made.named_parameters() if not name.startswith("trunks.")]
    assert sorted(found) == sorted(expected)  # each once, though the extractor has two roles
    box = [id(p) for part in get_parts(made, [("bbe", "reference"), ("bbe", "test")]) for p in part.parameters()]
    assert sorted(box) == sorted(id(p) for p in made.iou_net.parameters())


def test_combined_networks_are_bit_exact() -> None:
    sources = base, first, second = network(0), network(1), network(2)
    before = copy.deepcopy(base.state_dict())
    made = combine_networks(base, {("bbe", "reference"): first, ("tcl", "reference"): second})
    for name in made.state_dict():
        wanted = 1 if name.startswith(PARTS["bbe", "reference"]) else 2 if name.startswith("classifier.") else 0
        assert wanted in owners(name, made, *sources), name
    assert owners("iou_net.modulation3.0.weight", made, *sources) == [1]
    assert owners("iou_net.modulation3.1.running_mean", made, *sources) == [1]
    assert owners("iou_net.predictor.weight", made, *sources) == [0]
    assert not made.training
    torch.testing.assert_close(base.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(DataError, match="expected donors with the network's settings"):
        combine_networks(base, {("bbe", "test"): network(1, "atom")})


def test_an_rgb_tracker_becomes_a_tir_tracker_with_equal_weights() -> None:
    start = network(0)
    made = to_tir_network(start)
    assert (made.settings.modality, start.settings.modality) == ("tir", "rgb")
    torch.testing.assert_close(made.state_dict(), start.state_dict(), rtol=0, atol=0)
    assert made.trunks["one"].conv1.weight is not start.trunks["one"].conv1.weight
    with pytest.raises(DataError, match="expected a tracker of one modality, RGB or TIR, got one of both"):
        to_tir_network(TrackerNetwork(student_settings(width=4, crop_size=96)))
