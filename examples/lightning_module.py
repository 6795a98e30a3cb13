"""Distill in a Lightning module. The loss is a submodule: Lightning saves, moves and wraps it.

Lines for distillation end in ``# distill``. The other lines are an ordinary Lightning module.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mmdistill import FeatureTaps, HFRDLoss, SCFDLoss, Terms, dead_terms  # distill

try:
    import lightning
except ImportError:
    print("Skipped: this example needs Lightning: pip install lightning")
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


class TrackingModule(lightning.LightningModule):
    def __init__(self, net, teacher):
        super().__init__()
        self.net = net
        self.teacher = (teacher,)  # a tuple: in no checkpoint, never in training mode  # distill
        layers = ["stages.0", "stages.1"]  # distill
        self.taps, self.teacher_taps = FeatureTaps(net, layers), FeatureTaps(teacher, layers)  # distill
        self.scfd, self.hfrd = SCFDLoss((8, 16), (16, 32), interaction=("sem", "cem")), HFRDLoss()  # distill
        self.history = []

    def training_step(self, batch, _):
        rgb, tir, label = batch
        with self.taps:  # distill
            scores = self.net(rgb, tir)["scores"]
        loss = F.mse_loss(scores, label)
        with torch.no_grad(), self.teacher_taps:  # distill
            teacher_scores = self.teacher[0].to(self.device)(rgb, tir)["scores"]  # distill
        features = self.scfd(self.taps.pair(), self.teacher_taps.pair())  # distill
        terms = Terms.weighted((1e-5, features), (1.0, self.hfrd(scores, teacher_scores, label)))  # distill
        assert self.global_step or not dead_terms(terms, self.net)  # distill
        stats = {"loss": loss, **terms.as_dict()}  # distill
        self.log_dict(stats)
        self.history.append(stats)
        return loss + terms.total  # distill

    def configure_optimizers(self):
        groups = [{"params": self.net.parameters(), "lr": 3e-3}]
        groups += self.scfd.param_groups(lr=3e-3)  # before the scheduler is made  # distill
        optimizer = torch.optim.AdamW(groups)
        rates, steps = [group["lr"] for group in groups], self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


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
        return noise[0] + target + target.flip(1), noise[1] + target, label


def main(epochs=3):
    torch.manual_seed(0)
    teacher = Tracker(16).eval().requires_grad_(False)  # yours comes from a checkpoint  # distill
    module = TrackingModule(Tracker(8), teacher)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(Frames(), batch_size=4))
    history = [{name: value.item() for name, value in stats.items()} for stats in module.history]
    print(history[0], history[-1], sep="\n")
    return history


if __name__ == "__main__":
    history = main()
