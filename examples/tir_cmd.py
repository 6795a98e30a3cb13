"""Distill RGB to thermal infrared without labels, in a two-branch tracker like DiMP: TIR-CMD's setting D1.

The reference branch sees RGB and teaches. The test branch sees TIR and learns. Lines for distillation end in
``# distill``. The other lines are the tracker and its training.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mmdistill import BBEDistiller, Pair, TCLDistiller, Terms, dead_terms  # distill
from mmdistill.tir_cmd import SETTINGS, CenterArea, mix  # distill

STRIDE, SIZE = 4, 64


class Classifier(nn.Module):
    """Computes a filter from the train features and refines it; returns all iterates."""

    def __init__(self, width):
        super().__init__()
        self.initializer, self.test = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.step = nn.Parameter(torch.tensor(0.1))

    def get_filter(self, features):
        weights = self.initializer(features)[..., 6:10, 6:10]
        return [0.1 * weights * (1 - self.step) ** n for n in range(3)]


class BoxRegressor(nn.Module):
    """Predicts the IoU of boxes with the target, on DiMP's scale 2 IoU - 1."""

    def __init__(self, width):
        super().__init__()
        self.reference, self.test = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.layers = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 1))

    def get_modulation(self, features):
        return self.reference(features)[..., 6:10, 6:10].mean(dim=(2, 3), keepdim=True)

    def predict_iou(self, modulation, features, boxes):
        low, high = boxes[..., :2, None] / STRIDE, (boxes[..., :2] + boxes[..., 2:])[..., None] / STRIDE
        cells = torch.arange(features.shape[-1])
        covered = (torch.minimum(high, cells + 1) - torch.maximum(low, cells)).clamp(min=0)
        columns, rows = (covered / covered.sum(dim=-1, keepdim=True).clamp(min=1e-3)).unbind(-2)
        return self.layers(torch.einsum("bchw,bph,bpw->bpc", modulation * features, rows, columns)).squeeze(-1)


class Tracker(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        convolutions = nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()
        self.trunk, self.classifier, self.regressor = (
            nn.Sequential(*convolutions),
            Classifier(width),
            BoxRegressor(width),
        )


def pairs(number, count=8):
    """RGB and TIR ``(count, 3, 64, 64)``: an object in the center of both, texture in RGB."""
    generator = torch.Generator().manual_seed(number)
    rows = torch.arange(SIZE) - (SIZE - 1) / 2
    target = torch.exp(-(rows[:, None] ** 2 + rows**2) / 60)
    texture = F.interpolate(torch.randn(count, 3, 8, 8, generator=generator), size=SIZE, mode="bilinear")
    noise = 0.2 * torch.randn(2, count, 3, SIZE, SIZE, generator=generator)
    color = torch.tensor([2.0, -1.0, 0.5])[:, None, None]
    return noise[0] + texture + color * target, noise[1] + 0.5 * texture.mean(dim=1, keepdim=True) + target


def main(steps=24, name="D1"):
    torch.manual_seed(0)
    tracker = Tracker().eval().requires_grad_(False)  # yours was trained on RGB
    setting, patches = SETTINGS[name], CenterArea(fraction=0.25)  # distill
    trained = nn.ModuleList([tracker.classifier.test, tracker.regressor.test, tracker.regressor.layers])  # distill
    trained.train().requires_grad_()  # distill
    tcl = TCLDistiller(detach=setting.teacher)  # distill
    bbe = BBEDistiller(tracker.regressor.predict_iou, scale="signed", detach=setting.teacher)  # distill
    optimizer = torch.optim.Adam(trained.parameters(), lr=3e-3)
    history = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        pair = Pair(*pairs(step))  # distill
        count = len(pair.rgb)
        reference, test = tracker.trunk(mix(pair, setting.reference)), tracker.trunk(mix(pair, setting.test))  # distill
        box = patches(Pair(pair.rgb[0], pair.tir[0]), generator)  # distill
        filters = tracker.classifier.get_filter(reference)
        center, cells = (box[0, :2] + box[0, 2:] / 2) / STRIDE, torch.arange(17)
        label = torch.exp(-((cells[:, None] - center[1]) ** 2 + (cells - center[0]) ** 2) / 2).expand(1, count, 17, 17)
        scored = tracker.classifier.test(test)
        location = tcl(filters, scored[None], label)  # distill
        proposals = box + 4 * torch.randn(count, 9, 4, generator=generator)
        modulation, features = tracker.regressor.get_modulation(reference), tracker.regressor.test(test)
        boxes = bbe(modulation, features, proposals, box.expand(count, 4))  # distill
        terms = Terms.weighted((1.0, location), (1.0, boxes))  # distill
        assert step or not dead_terms(terms, trained)  # distill
        optimizer.zero_grad()
        terms.total.backward()  # distill
        optimizer.step()
        history.append({name: value.item() for name, value in terms.as_dict().items()})  # distill
    print(history[0], history[-1], sep="\n")
    return history


if __name__ == "__main__":
    history = main()
