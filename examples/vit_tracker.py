"""Distill a one-stream ViT tracker with candidate elimination. The student drops search tokens.

The teacher keeps all tokens. The student's tokens are put back to their positions. The loss ignores positions that
either modality dropped. Lines for distillation end in ``# distill``. The other lines are an ordinary tracker and its
training.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from mmdistill import FeatureTaps, Pair, SCFDLoss, Terms, TokenLayout, dead_terms  # distill
from mmdistill.losses import KDLoss  # distill

ELIMINATION_FROM = 8  # the first step in which the student drops tokens; trackers use an epoch


class Block(nn.Module):
    def __init__(self, width, keep):
        super().__init__()
        self.norm1, self.norm2, self.keep = nn.LayerNorm(width), nn.LayerNorm(width), keep
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens, kept, eliminate):
        x = self.norm1(tokens)
        out, attention = self.attention(x, x, x)
        tokens = tokens + out
        if eliminate and self.keep < 1:
            count = round(self.keep * kept.shape[1])
            chosen = attention[:, :4, 4:].mean(dim=1).topk(count, dim=1).indices  # the template's attention
            search = tokens[:, 4:].gather(1, chosen[..., None].expand(-1, -1, tokens.shape[2]))
            tokens, kept = torch.cat([tokens[:, :4], search], dim=1), kept.gather(1, chosen)
        return tokens + self.mlp(self.norm2(tokens)), kept


class Backbone(nn.Module):  # a template of 2x2 and a search region of 6x8 tokens in one sequence
    def __init__(self, width, depth, keep):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.position = nn.Parameter(0.02 * torch.randn(1, 52, width))
        self.blocks = nn.ModuleList(Block(width, keep if n in (1, 2) else 1) for n in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, template, search, eliminate=False):
        tokens = torch.cat([self.patches(image).flatten(2).mT for image in (template, search)], dim=1) + self.position
        kept = torch.arange(48).expand(len(tokens), -1)
        for block in self.blocks:
            tokens, kept = block(tokens, kept, eliminate)
        tokens = self.norm(tokens)
        index = kept[..., None].expand(-1, -1, tokens.shape[2])
        return {"search": torch.zeros(len(tokens), 48, tokens.shape[2]).scatter(1, index, tokens[:, 4:]), "kept": kept}


class Tracker(nn.Module):
    def __init__(self, width, depth, keep=1.0):
        super().__init__()
        self.backbone, self.score = Backbone(width, depth, keep), nn.Linear(2 * width, 1)

    def forward(self, template, search, eliminate=False):
        outputs = [self.backbone(z, x, eliminate) for z, x in zip(template, search)]  # RGB, then TIR
        scores = self.score(torch.cat([each["search"] for each in outputs], dim=2))
        return {"scores": scores.reshape(-1, 6, 8), "kept": [each["kept"] for each in outputs]}


def batch(step, size=8):  # a target in both modalities, a decoy in RGB
    generator = torch.Generator().manual_seed(step)
    y, x = torch.rand(2, size, 1, 1, generator=generator) * torch.tensor([5.0, 7.0]).reshape(2, 1, 1, 1)
    label = torch.exp(-((torch.arange(6.0)[:, None] - y) ** 2 + (torch.arange(8.0) - x) ** 2) / 2)
    target = F.interpolate(label[:, None], scale_factor=8)
    noise = 0.1 * torch.randn(2, size, 3, 48, 64, generator=generator)
    return [torch.ones(size, 3, 16, 16)] * 2, [noise[0] + target + target.flip(3), noise[1] + target], label


def main(steps=16):
    torch.manual_seed(0)
    tracker = Tracker(width=16, depth=4, keep=0.7)
    teacher = Tracker(width=32, depth=4).eval().requires_grad_(False)  # yours comes trained  # distill
    layers = ["backbone.blocks.1.norm1", "backbone.blocks.3.norm1", "backbone.norm"]  # distill
    taps, teacher_taps = FeatureTaps(tracker, layers), FeatureTaps(teacher, layers)  # distill
    layout = TokenLayout(template=(2, 2), search=(6, 8))  # distill
    scfd, kd = SCFDLoss((16,) * 3, (32,) * 3, interaction=("sem", "sem", "cem")), KDLoss(over="response")  # distill
    groups = [{"params": tracker.parameters(), "lr": 3e-3}]
    groups += scfd.param_groups(lr=3e-3)  # before the scheduler is made  # distill
    optimizer = torch.optim.AdamW(groups)
    parts = [lr_scheduler.LinearLR(optimizer, 0.3, total_iters=3), lr_scheduler.CosineAnnealingLR(optimizer, steps)]
    scheduler = lr_scheduler.SequentialLR(optimizer, parts, [3])

    history = []
    for step in range(steps):
        template, search, label = batch(step)
        with taps:  # distill
            outputs = tracker(template, search, eliminate=step >= ELIMINATION_FROM)
        loss = F.mse_loss(outputs["scores"], label)
        with torch.no_grad(), teacher_taps:  # distill
            teacher_outputs = teacher(template, search)  # distill
        kept = Pair(*([None, index, index] for index in outputs["kept"]))  # None: no token is dropped yet  # distill
        student, mask = layout.maps(taps.pair(), "search", kept=kept)  # distill
        features = scfd(student, layout.maps(teacher_taps.pair(), "search"), mask=mask)  # distill
        terms = Terms.weighted((1e-5, features), (1.0, kd(outputs["scores"], teacher_outputs["scores"])))  # distill
        assert step or not dead_terms(terms, tracker)  # distill
        optimizer.zero_grad()
        (loss + terms.total).backward()  # distill
        optimizer.step()
        scheduler.step()
        stats = {"loss": loss, **terms.as_dict()}  # distill
        history.append({name: value.item() for name, value in stats.items()})
        history[-1]["tokens"] = outputs["kept"][0].shape[1]
    print(history[0], history[ELIMINATION_FROM], history[-1], sep="\n")
    return history


if __name__ == "__main__":
    history = main()
