"""Distill an image classifier: features by ReviewKD, logits by KD. The student is compiled.

No tracking: one modality, a residual network, class labels. Lines for distillation end in ``# distill``.
The other lines are an ordinary classifier and its training.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mmdistill import FeatureTaps, Terms, dead_terms  # distill
from mmdistill.losses import KDLoss, ReviewKDLoss  # distill


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, width, blocks, classes=5):
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, width, 3, 1, 1), nn.ReLU(inplace=True)
        for n in range(1, 4):
            inputs, outputs = width * 2 ** max(n - 2, 0), width * 2 ** (n - 1)
            chain = [Residual(inputs if b == 0 else outputs, outputs, 2 if b == 0 else 1) for b in range(blocks)]
            self.add_module(f"layer{n}", nn.Sequential(*chain))
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean(dim=(2, 3)))


def batch(step, size=16):
    """Stripes of five directions in noise, 32x32."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(5, (size,), generator=generator)
    angle = (labels * torch.pi / 5)[:, None, None]
    grid = torch.arange(32.0)
    stripes = torch.sin(0.8 * (grid * angle.cos() + grid[:, None] * angle.sin()))
    return stripes[:, None] + 0.5 * torch.randn(size, 3, 32, 32, generator=generator), labels


def main(steps=16):
    torch.manual_seed(0)
    net = ResNet(width=8, blocks=1)
    groups = [{"params": net.parameters(), "lr": 0.1, "weight_decay": 1e-4}]
    teacher = ResNet(width=16, blocks=2).eval().requires_grad_(False)  # yours comes from a checkpoint  # distill
    layers = ["layer1", "layer2", "layer3"]  # distill
    review, kd = ReviewKDLoss((8, 16, 32), (16, 32, 64)), KDLoss()  # distill
    groups += review.param_groups(lr=0.1, weight_decay=1e-4)  # before the scheduler is made  # distill
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, 3 * steps // 4])
    compiled = torch.compile(net, backend="eager")  # omit backend= if a C++ compiler is installed
    taps, teacher_taps = FeatureTaps(compiled, layers), FeatureTaps(teacher, layers)  # distill
    history = []
    for step in range(steps):
        images, labels = batch(step)
        with taps:  # distill
            logits = compiled(images)
        loss = F.cross_entropy(logits, labels)
        with torch.no_grad(), teacher_taps:  # distill
            teacher_logits = teacher(images)  # distill
        features = review(list(taps.values()), list(teacher_taps.values()))  # distill
        terms = Terms.weighted((1.0, features), (1.0, kd(logits, teacher_logits)))  # distill
        assert step or not dead_terms(terms, net)  # distill
        optimizer.zero_grad()
        (loss + terms.total).backward()  # distill
        optimizer.step()
        scheduler.step()
        stats = {"loss": loss, **terms.as_dict()}  # distill
        history.append({name: value.item() for name, value in stats.items()})
    print(history[0], history[-1], sep="\n")
    return history


if __name__ == "__main__":
    history = main()
