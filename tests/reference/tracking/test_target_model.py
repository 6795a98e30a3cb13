import torch

from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.target_model import ATOMModel, DiMPModel, target_model


def test_each_network_has_its_model() -> None:
    assert isinstance(target_model(TrackerNetwork(single_settings("tir", width=4))), DiMPModel)
    atom = target_model(TrackerNetwork(single_settings("tir", width=4, classifier="atom")))
    assert isinstance(atom, ATOMModel)


def test_atom_finds_a_pattern_where_it_went() -> None:
    torch.manual_seed(0)
    model = target_model(TrackerNetwork(single_settings("tir", width=4, crop_size=160, classifier="atom")))
    pattern = torch.randn(16, 2, 2)

    def scene(column: int, row: int) -> torch.Tensor:
        features = 0.3 * torch.randn(1, 1, 16, 10, 10)
        features[0, 0, :, row : row + 2, column : column + 2] += pattern
        return features

    box = torch.tensor([[[4 * 16 + 0.0, 5 * 16, 32, 32]]])
    state = model.learn(scene(4, 5), box, 6)
    scores = model.score(state, model.samples(state, scene(7, 2)))[0, 0]
    other = model.score(state, model.samples(state, scene(4, 5)))[0, 0]
    moved = torch.tensor(divmod(int(scores.argmax()), 11)) - torch.tensor(divmod(int(other.argmax()), 11))
    assert moved.tolist() == [-3, 3]
