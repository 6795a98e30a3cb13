"""Distill in a Hugging Face Accelerate loop, in bfloat16.

Lines for distillation end in ``# distill``. The other lines are an ordinary loop.
"""

import tempfile

import torch
import torch.nn.functional as F
from torch import nn

from mmdistill import FeatureTaps, HFRDLoss, SCFDLoss, Terms, dead_terms  # distill

try:
    from accelerate import Accelerator
except ImportError:
    print("Skipped: this example needs Accelerate: pip install accelerate")
    raise SystemExit(0) from None


class Tracker(nn.Module):
    """One trunk for both modalities; returns a dictionary."""

    def __init__(self, width):
        super().__init__()
        stages = [nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, 2 * width, 3, 2, 1)]
        self.stages = nn.ModuleList(
            nn.Sequential(stage, nn.BatchNorm2d(stage.out_channels), nn.ReLU()) for stage in stages
        )
        self.head = nn.Conv2d(4 * width, 1, 3, padding=1)

    def trunk(self, images):
        for stage in self.stages:
            images = stage(images)
        return images

    def forward(self, rgb, tir):
        return {"scores": self.head(torch.cat([self.trunk(rgb), self.trunk(tir)], dim=1)).squeeze(1)}


class Frames(torch.utils.data.Dataset):
    """Images of 48x48 with a target in both modalities and a decoy in RGB, and the label."""

    def __len__(self):
        return 32

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        x, y = (1 + 10 * torch.rand(2, 1, 1, generator=generator)).unbind()
        label = torch.exp(-((torch.arange(12.0)[:, None] - y) ** 2 + (torch.arange(12.0) - x) ** 2) / 2)
        target = F.interpolate(label[None, None], scale_factor=4)[0]
        noise = 0.2 * torch.randn(2, 3, 48, 48, generator=generator)
        return {"rgb": noise[0] + target + target.flip(1), "tir": noise[1] + target, "label": label}


def main(epochs=2):
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    net = Tracker(8)
    teacher = Tracker(16).eval().requires_grad_(False).to(accelerator.device)  # yours comes trained  # distill
    scfd, hfrd = SCFDLoss((8, 16), (16, 32), interaction=("sem", "cem")), HFRDLoss()  # distill
    groups = [{"params": net.parameters(), "lr": 3e-3}]
    groups += scfd.param_groups(lr=3e-3)  # before the scheduler is made  # distill
    optimizer = torch.optim.AdamW(groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.95**step)
    loader = torch.utils.data.DataLoader(Frames(), batch_size=4)
    net, optimizer, scheduler, loader = accelerator.prepare(net, optimizer, scheduler, loader)
    scfd = accelerator.prepare(scfd)  # autocast, DDP, and saved by save_state  # distill
    layers, history = ["stages.0", "stages.1"], []  # distill
    taps, teacher_taps = FeatureTaps(net, layers), FeatureTaps(teacher, layers)  # distill
    for _ in range(epochs):
        for batch in loader:
            with taps:  # distill
                scores = net(batch["rgb"], batch["tir"])["scores"]
            loss = F.mse_loss(scores, batch["label"])
            with torch.no_grad(), accelerator.autocast(), teacher_taps:  # distill
                teacher_scores = teacher(batch["rgb"], batch["tir"])["scores"]  # distill
            features = scfd(taps.pair(), teacher_taps.pair())  # distill
            terms = Terms.weighted((1e-5, features), (1.0, hfrd(scores, teacher_scores, batch["label"])))  # distill
            assert history or not dead_terms(terms, net)  # distill
            optimizer.zero_grad()
            accelerator.backward(loss + terms.total)  # distill
            optimizer.step()
            scheduler.step()
            stats = {"loss": loss, **terms.as_dict()}  # distill
            history.append({name: value.item() for name, value in stats.items()})
    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)
        accelerator.load_state(folder)
    print(history[0], history[-1], sep="\n")
    return history


if __name__ == "__main__":
    history = main()
