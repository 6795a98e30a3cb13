"""Measures how many search positions student and teacher both keep when both drop tokens (candidate elimination).

Trains two one-stream ViTs to find a target in synthetic RGB-T crops with 64 template and 256 search tokens. Each keeps
three times the 70 % of search tokens with the highest attention of the template, like OSTrack and ViPT: 320 tokens
become 244, 190 and 153. Counts the positions that both keep on unseen crops. Takes 2 minutes on one core.

Example:
    python benchmarks/token_overlap.py --out benchmarks/results/token_overlap.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from parts.report_fields import machine
from torch import Tensor, nn

from mmdistill import TokenLayout


@dataclass(frozen=True)
class Experiment:
    """Settings; a network is its width and depth, with one elimination after each third of its blocks."""

    teacher: tuple[int, int] = (48, 6)
    student: tuple[int, int] = (24, 3)
    keep: float = 0.7
    template: int = 8
    search: int = 16
    patch: int = 4
    steps: int = 100
    batch: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    crops: int = 256


class Block(nn.Module):
    """A transformer block that also returns its attention, averaged over heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens and the attention ``(B, N, N)``."""
        x = self.norm1(tokens)
        mixed, attention = self.attention(x, x, x)
        tokens = tokens + mixed
        return tokens + self.mlp(self.norm2(tokens)), attention


class Tracker(nn.Module):
    """A one-stream ViT: RGB and TIR stacked at the input, template and search region in one token sequence."""

    def __init__(self, size: tuple[int, int], experiment: Experiment) -> None:
        super().__init__()
        width, depth = size
        sides = experiment.template, experiment.search
        self.layout = TokenLayout(template=(sides[0],) * 2, search=(sides[1],) * 2, may_drop=("search",))
        self.patches = nn.Conv2d(6, width, experiment.patch, stride=experiment.patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, self.layout.count, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.keep, self.elimination_blocks = experiment.keep, {(n + 1) * depth // 3 for n in range(3)}

    def forward(self, template: Tensor, search: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the score map and, after each elimination, the indices of the kept search tokens."""
        tokens = torch.cat([self.patches(image).flatten(2).transpose(1, 2) for image in (template, search)], dim=1)
        tokens = tokens + self.position
        start = tokens.shape[1] - self.layout.split(tokens, kept=None)["search"].shape[1]
        kept = torch.arange(tokens.shape[1] - start, device=tokens.device).expand(len(tokens), -1)
        eliminations = []
        for number, block in enumerate(self.blocks, start=1):
            tokens, attention = block(tokens)
            if number in self.elimination_blocks:
                attended = attention[:, :start, start:].mean(dim=1)
                chosen = attended.topk(math.ceil(self.keep * kept.shape[1]), dim=1).indices
                kept = kept.gather(1, chosen)
                kept_tokens = tokens[:, start:].gather(1, chosen[:, :, None].expand(-1, -1, tokens.shape[2]))
                tokens = torch.cat([tokens[:, :start], kept_tokens], dim=1)
                eliminations.append(kept)
        features, _ = self.layout.map(tokens, "search", kept=kept)
        return self.score(features.movedim(1, 3)).squeeze(3), eliminations


def crops(count: int, experiment: Experiment, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return template, search region and label, with a warm target and a cold distractor of the same RGB appearance."""
    patch = experiment.patch
    sides = experiment.template * patch, experiment.search * patch
    center, distractor = (sides[1] * (0.2 + 0.6 * torch.rand(count, 2, generator=generator)) for _ in range(2))
    radius = 3 + 3 * torch.rand(count, generator=generator)
    middle, nowhere = torch.full((count, 2), sides[0] / 2), torch.full((count, 2), -100.0)
    images = []
    for side, positions in ((sides[0], (middle, nowhere)), (sides[1], (center, distractor))):
        warm, cold = (blob(position, radius, side)[:, None] for position in positions)
        noise = 0.1 * torch.randn(count, 6, side, side, generator=generator)
        images.append(noise + torch.cat([(warm + cold).expand(-1, 3, -1, -1), warm.expand(-1, 3, -1, -1)], dim=1))
    label = blob((center - (patch - 1) / 2) / patch, torch.ones(count), experiment.search)
    return images[0], images[1], label


def blob(center: Tensor, radius: Tensor, side: int) -> Tensor:
    rows, columns = ((torch.arange(side) - center[:, axis : axis + 1]) ** 2 for axis in (0, 1))
    return torch.exp(-(rows[:, :, None] + columns[:, None, :]) / (2 * radius[:, None, None] ** 2))


def train(size: tuple[int, int], experiment: Experiment, seed: int) -> Tracker:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    tracker = Tracker(size, experiment)
    optimizer = torch.optim.AdamW(tracker.parameters(), lr=2e-3)
    for _ in range(experiment.steps):
        template, search, label = crops(experiment.batch, experiment, generator)
        loss = F.mse_loss(tracker(template, search)[0], label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return tracker.eval()


@torch.no_grad()
def overlaps(student: Tracker, teacher: Tracker, experiment: Experiment) -> list[float]:
    """Return the share of search positions that both keep, after each elimination."""
    template, search, _ = crops(experiment.crops, experiment, torch.Generator().manual_seed(10**6))
    tokens = torch.zeros(experiment.crops, experiment.search**2, 1)
    layout = TokenLayout(search=(experiment.search,) * 2)
    shares = []
    for ours, theirs in zip(student(template, search)[1], teacher(template, search)[1], strict=True):
        masks = [layout.map(tokens[:, : kept.shape[1]], "search", kept=kept)[1] for kept in (ours, theirs)]
        shares.append(float((masks[0] & masks[1]).double().mean()))
    return shares


def measure(experiment: Experiment) -> list[dict[str, Any]]:
    """Return a row for each elimination."""
    by_seed = []
    for seed in experiment.seeds:
        networks = (
            train(experiment.student, experiment, 2 * seed),
            train(experiment.teacher, experiment, 2 * seed + 1),
        )
        by_seed.append(overlaps(*networks, experiment))
    total = count = experiment.search**2
    rows = []
    for shares in zip(*by_seed, strict=True):
        count = math.ceil(experiment.keep * count)
        rows.append(
            {
                "tokens in the sequence": experiment.template**2 + count,
                "kept by each": round(count / total, 3),
                "kept by both": round(statistics.mean(shares), 3),
                "by seed": [round(share, 3) for share in shares],
                "if chosen independently": round((count / total) ** 2, 3),
            }
        )
    return rows


def table(report: Any) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| After elimination | Tokens left of 320 | Search positions kept by each | By both "
        "| By both, if chosen independently |",
        "|---|---|---|---|---|",
    ]
    for number, row in enumerate(report["eliminations"], start=1):
        low, high = min(row["by seed"]), max(row["by seed"])
        shares = [f"{100 * row[name]:.0f} %" for name in ("kept by each", "kept by both", "if chosen independently")]
        shares[1] += f" ({100 * low:.0f} to {100 * high:.0f})"
        lines.append(f"| {number} | {row['tokens in the sequence']} | {' | '.join(shares)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON report")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    experiment = Experiment()
    report = {"machine": machine(), "experiment": asdict(experiment), "eliminations": measure(experiment)}
    text = json.dumps(report, indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
