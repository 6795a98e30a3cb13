"""Distill with the Hugging Face Trainer. One module holds student and loss, so one checkpoint and optimizer hold both.

Lines for distillation end in ``# distill``. The other lines are an ordinary model and its training.
"""

import tempfile

import torch
import torch.nn.functional as F
from torch import nn

from mmdistill import FeatureTaps, HFRDLoss, SCFDLoss, Terms  # distill

try:
    import accelerate  # noqa: F401, the Trainer needs it
    from transformers import Trainer, TrainingArguments
except ImportError:
    print("Skipped: this example needs the Hugging Face Trainer: pip install accelerate transformers")
    raise SystemExit(0) from None


class Tracker(nn.Module):
    """One trunk for both modalities; returns a dictionary, with the loss if there are labels."""

    def __init__(self, width):
        super().__init__()
        stages = [nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, 2 * width, 3, 2, 1)]
        self.stages = nn.ModuleList(
            nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()) for conv in stages
        )
        self.head = nn.Conv2d(4 * width, 1, 3, padding=1)

    def trunk(self, images):
        for stage in self.stages:
            images = stage(images)
        return images

    def forward(self, rgb, tir, labels=None):
        scores = self.head(torch.cat([self.trunk(rgb), self.trunk(tir)], dim=1)).squeeze(1)
        return {"loss": F.mse_loss(scores, labels), "scores": scores} if labels is not None else {"scores": scores}


class Distilled(nn.Module):  # distill
    """Student, teacher and loss; returns what the student returns."""  # distill

    def __init__(self, student, teacher):  # distill
        super().__init__()  # distill
        self.student, self.teacher = student, (teacher,)  # a tuple: in no checkpoint, never in training mode  # distill
        layers = ["stages.0", "stages.1"]  # distill
        self.taps, self.teacher_taps = FeatureTaps(student, layers), FeatureTaps(teacher, layers)  # distill
        self.scfd, self.hfrd = SCFDLoss((8, 16), (16, 32), interaction=("sem", "cem")), HFRDLoss()  # distill

    def forward(self, rgb, tir, labels=None):  # distill
        if not self.training:  # distill
            return self.student(rgb, tir, labels)  # distill
        with self.taps:  # distill
            output = self.student(rgb, tir, labels)  # distill
        with torch.no_grad(), self.teacher_taps:  # distill
            teacher_scores = self.teacher[0].to(rgb.device)(rgb, tir)["scores"]  # distill
        features = self.scfd(self.taps.pair(), self.teacher_taps.pair())  # distill
        terms = Terms.weighted((1e-5, features), (1.0, self.hfrd(output["scores"], teacher_scores, labels)))  # distill
        return {**output, **terms, "loss": output["loss"] + terms.total}  # distill


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
        return {"rgb": noise[0] + target + target.flip(1), "tir": noise[1] + target, "labels": label}


def main(epochs=3):
    torch.manual_seed(0)
    teacher = Tracker(16).eval().requires_grad_(False)  # yours comes from a checkpoint  # distill
    model = Distilled(Tracker(8), teacher)  # distill
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=4, learning_rate=3e-3, logging_steps=1,
            save_strategy="no", report_to=[], use_cpu=True, bf16=True, disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=Frames())
        trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    print(history[0], history[-1], sep="\n")
    return history


if __name__ == "__main__":
    history = main()
