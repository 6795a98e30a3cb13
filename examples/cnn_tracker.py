"""Distill a DiMP-like tracker. The teacher has one trunk per modality, the student one trunk for both.

Shows all of CMD in plain PyTorch: features (SCFD), fusion (MPSD) and response (HFRD). The training loop calls an actor.
Lines for distillation end in ``# distill``. The other lines are an ordinary tracker and its training.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mmdistill import CMDLoss, FeatureTaps, HFRDLoss, MPSDFusion, MPSDLoss, Pair, SCFDLoss, dead_terms  # distill

FIRST, SECOND = ([f"trunks.{trunk}.layer{level}" for level in (1, 2, 3)] for trunk in (0, 1))  # distill


def layer(inputs, outputs, stride):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Trunk(nn.ModuleDict):  # returns levels by name
    def __init__(self, width):
        super().__init__({"layer1": layer(3, width, 2), "layer2": layer(width, 2 * width, 2)})
        self["layer3"] = layer(2 * width, 4 * width, 1)

    def forward(self, images):
        levels = {}
        for name, stage in self.items():
            images = levels[name] = stage(images)
        return levels


class Tracker(nn.Module):  # computes a filter from the train images and scores the test images
    def __init__(self, width, streams, fusion):
        super().__init__()
        self.trunks = nn.ModuleList(Trunk(width) for _ in range(streams))
        self.fusion = fusion
        self.head = nn.Sequential(nn.BatchNorm2d(4 * width), nn.Conv2d(4 * width, 1, 1))

    def features(self, images):
        return self.fuse(self.trunks[0](images[0])["layer3"], self.trunks[-1](images[1])["layer3"])

    def fuse(self, rgb, tir):
        return self.fusion(torch.cat([rgb, tir], dim=1))

    def forward(self, train_images, test_images):
        filters, maps = self.features(train_images)[..., 4:7, 4:7], self.features(test_images)
        groups = len(maps) * maps.shape[1]
        matched = F.conv2d(maps.flatten(0, 1)[None], filters.flatten(0, 1)[:, None], padding=1, groups=groups)
        return self.head(matched.reshape(maps.shape)).squeeze(1)


class Student(Tracker):
    def fuse(self, rgb, tir):
        return self.fusion(Pair(rgb, tir)).fused  # distill


class Actor:  # computes the loss of a batch
    def __init__(self, net, teacher, cmd):
        self.net = net
        self.teacher, self.cmd = teacher, cmd  # distill
        self.taps = FeatureTaps(net, [*FIRST, "fusion"])  # distill
        self.teacher_taps = FeatureTaps(teacher, [*FIRST, *SECOND, "fusion"])  # distill

    def __call__(self, data):
        with self.taps:  # distill
            scores = self.net(train_images=data["train_images"], test_images=data["test_images"])
        loss = F.mse_loss(scores, data["label"])
        with torch.no_grad(), self.teacher_taps:  # distill
            teacher_scores = self.teacher(data["train_images"], data["test_images"])  # distill
        terms = self.cmd(  # distill
            student_fused=[self.taps["fusion"]],  # distill
            teacher_fused=[self.teacher_taps["fusion"]],  # distill
            student_features=self.taps.pair(FIRST, calls=(2, 3)),  # after the train images' two calls  # distill
            teacher_features=self.teacher_taps.pair(rgb=FIRST, tir=SECOND, calls=1),  # distill
            student_response=scores,  # distill
            teacher_response=teacher_scores,  # distill
            gaussian=data["label"],  # distill
        )  # distill
        return loss, terms  # distill


def batch(step, size=4):
    """Images of 48x48 with a target in both modalities and a decoy in RGB, and labels of 12x12."""
    generator, grid = torch.Generator().manual_seed(step), torch.arange(12.0)
    samples = []
    for center in (torch.full((2, size, 1, 1), 5.0), 1 + 10 * torch.rand(2, size, 1, 1, generator=generator)):
        label = torch.exp(-((grid[:, None] - center[0]) ** 2 + (grid - center[1]) ** 2) / 2)
        target = F.interpolate(label[:, None], scale_factor=4)
        noise = 0.2 * torch.randn(2, size, 3, 48, 48, generator=generator)
        samples.append((noise[0] + target + target.flip(2), noise[1] + target))
    return {"train_images": samples[0], "test_images": samples[1], "label": label}


def main(steps=24):
    torch.manual_seed(0)
    net = Student(width=8, streams=1, fusion=MPSDFusion(32))  # distill
    teacher = Tracker(16, 2, nn.Conv2d(128, 64, 1)).eval().requires_grad_(False)  # yours comes trained  # distill
    scfd = SCFDLoss((8, 16, 32), (16, 32, 64), interaction=("sem", "sem", "cem"))  # distill
    cmd = CMDLoss(scfd, MPSDLoss((32,), (64,)), HFRDLoss(), alpha=1e-5, beta=1.0)  # distill
    groups = [{"params": net.parameters(), "lr": 3e-3, "weight_decay": 1e-4}]
    groups += cmd.param_groups(lr=3e-3)  # before the scheduler is made  # distill
    optimizer = torch.optim.AdamW(groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    actor, history = Actor(net, teacher, cmd), []
    for step in range(steps):
        loss, terms = actor(batch(step))
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
