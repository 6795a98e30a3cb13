import pytest
import torch
from torch import Tensor, nn

from mmdistill import ABF, MPSDFusion, Pair
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.iou_net import IoUNet
from mmdistill.reference.models.resnet import ResNetTrunk
from mmdistill.reference.models.teacher_fusion import TeacherFusion


def with_statistics(network: nn.Module) -> nn.Module:
    """The network with random statistics in its batch norms."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def iou(network: IoUNet) -> list[Tensor]:
    level3, level4 = torch.rand(2, 6, 16, 16), torch.rand(2, 8, 8, 8)
    boxes = torch.tensor([20.0, 30.0, 40.0, 25.0]).repeat(2, 3, 1)
    modulation = network.modulate(level3, level4, boxes[:, 0])
    features = network.features(level3, level4)
    return [*modulation, *features, network.predict(modulation, features, boxes)]


NETWORKS = {
    "trunk18": (lambda: ResNetTrunk(18, 8), lambda network: network(torch.rand(2, 3, 64, 64))),
    "trunk50": (lambda: ResNetTrunk(50, 8), lambda network: network(torch.rand(2, 3, 64, 64))),
    "iou_net": (lambda: IoUNet((6, 8), hidden=8), iou),
    "classifier": (
        lambda: TargetClassifier(8, 8, 18, 4, 0.9),
        lambda network: [network.features(torch.rand(2, 1, 8, 6, 6))],
    ),
    "teacher_fusion": (
        lambda: TeacherFusion(6, 8),
        lambda network: [network(Pair(torch.rand(2, 6, 5, 7), torch.rand(2, 6, 5, 7)))],
    ),
    "mpsd": (lambda: MPSDFusion(6), lambda network: network(Pair(torch.rand(2, 6, 5, 7), torch.rand(2, 6, 5, 7)))),
    "abf": (lambda: ABF(6, 8, 4, fuse=False), lambda network: network(torch.rand(2, 6, 5, 7))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_equal_eval_mode(name: str) -> None:
    build, ask = NETWORKS[name]
    network = with_statistics(build())
    fast = fold_batch_norms(network)
    assert norms(fast) == 0
    assert not fast.training
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    with torch.no_grad():
        torch.manual_seed(1)
        expected = ask(network.eval())
        torch.manual_seed(1)
        got = ask(fast)
    for after, before in zip(got, expected, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


def test_the_original_is_untouched() -> None:
    network = with_statistics(ResNetTrunk(18, 8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count = norms(network)
    fast = fold_batch_norms(network)
    assert network.training
    assert norms(network) == count == 15
    assert all(parameter.requires_grad for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not {value.data_ptr() for value in fast.parameters()} & {value.data_ptr() for value in network.parameters()}


def test_folding_is_idempotent() -> None:
    torch.manual_seed(1)
    network = fold_batch_norms(with_statistics(IoUNet((6, 8), hidden=8)))
    torch.manual_seed(1)
    again = fold_batch_norms(network)
    for name, value in again.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)), "0"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)), "2"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), "1"),
        (nn.Sequential(nn.Sequential(nn.Linear(3, 4)), nn.BatchNorm1d(4)), "1"),
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 1), nn.BatchNorm2d(4)), "1"),
        (nn.BatchNorm2d(3), "BatchNorm2d"),
    ],
)
def test_a_batch_norm_that_cannot_be_folded_is_named(network: nn.Module, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^fold_batch_norms: no convolution .* batch norms {name}$"):
        fold_batch_norms(network)
