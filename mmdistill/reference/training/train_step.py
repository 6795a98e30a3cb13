"""One step of learning: a batch in passes, its gradient, and nothing moved where either isn't finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from mmdistill import NotFiniteError
from mmdistill.reference.training.data_loader import Batch, Share
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.optimizer import build_optimizer, keep_statistics, learning_rate_factor
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import Stage
from mmdistill.toolkit.data_issues import DataError


class Outcome(NamedTuple):
    """What became of a step.

    Attributes:
        values: each term's value and the total, of the whole batch; none where the step was skipped.
        skipped: why the step was skipped; empty where it was not.
        logged: the stage's ``logged`` of this process's last pass.
    """

    values: dict[str, float]
    skipped: str = ""
    logged: Mapping[str, float] = {}


class TrainStep:
    """A stage, its optimizer, and the processes that compute its batches together.

    Args:
        stage: what is trained.
        settings: how.
        device: where.
        ranks: the processes; each holds the same network, and gradients are averaged.

    Raises:
        DataError: statistics are to be shared on a CPU, or a pass has too few sequences for batch norm.
    """

    def __init__(
        self, stage: Stage, settings: TrainingSettings, device: torch.device, ranks: DistributedContext
    ) -> None:
        stage.prepare(settings)
        if settings.sync_batch_norm:
            _share_statistics(stage, device)
        # Convolutions on a CPU, and in half precision on a GPU, are faster with channels last; values are the same.
        stage.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stage, self.settings, self.device, self.ranks = stage, settings, device, ranks
        _check_batch_norm(stage, settings, ranks)
        self.optimizer = build_optimizer(stage, settings)
        self._factor = learning_rate_factor(settings)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._parallel = DistributedDataParallel(stage) if ranks.count > 1 else None

    def step(self, number: int, batches: Sequence[Batch]) -> Outcome:
        """Learn from this process's batches of a step, one for each pass.

        Where the loss of any process or the gradient isn't finite, parameters, optimizer and statistics stay as they
        were.
        """
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._factor(number)
        if self.settings.freeze_bn_after is not None and number >= self.settings.freeze_bn_after:
            keep_statistics(self.stage.network)
        self._seed(number)
        before = [buffer.clone() for buffer in self.stage.buffers()]
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        logged: list[dict[str, Tensor]] = []
        for turn, batch in enumerate(batches, start=1):
            with self._exchange(turn == len(batches)):
                values, skipped = self._pass(batch, len(batches))
            if skipped:
                return self._skip(before, skipped)
            sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
            logged.append(dict(self.stage.logged))
        # The limit of infinity clips nothing: the norm is asked for.
        limit = self.settings.clip_grad_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.stage.parameters(), limit)
        if not bool(norm.isfinite()):
            return self._skip(before, "the gradient isn't finite")
        self.optimizer.step()
        means = {name: value / len(batches) for name, value in sums.items()}
        means = self.ranks.mean(means | _mean(logged))
        return Outcome({name: means[name] for name in sums}, logged={name: means[name] for name in logged[0]})

    def _pass(self, batch: Batch, passes: int) -> tuple[dict[str, float], str]:
        """Add a pass's part to the gradient; return its values, and what was not finite in any process."""
        skipped = ""
        values: dict[str, float] = {}
        total: Tensor | None = None
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
                terms = (self._parallel or self.stage)(batch.to(self.device))
            total = terms.total
            values = {name: value.item() for name, value in terms.items()} | {"total": terms.total.item()}
            broken = [name for name, value in values.items() if not math.isfinite(value)]
            if broken:
                skipped = f"the loss isn't finite in {', '.join(broken)}"
        except NotFiniteError as error:
            skipped = f"the loss isn't finite in {error}"
        if self.ranks.any(bool(skipped)):
            return {}, skipped or "the loss isn't finite in another process"
        assert total is not None
        (total / passes if passes > 1 else total).backward()  # type: ignore[no-untyped-call]
        return values, ""

    def _skip(self, before: Sequence[Tensor], why: str) -> Outcome:
        with torch.no_grad():
            for buffer, value in zip(self.stage.buffers(), before, strict=True):
                buffer.copy_(value)
        self.optimizer.zero_grad(set_to_none=True)
        return Outcome({}, why)

    def _seed(self, number: int) -> None:
        """Let chance in a step depend on its number and the process alone, as its samples do."""
        sequence = np.random.SeedSequence((self.settings.seed, number, self.ranks.rank))
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    @contextmanager
    def _exchange(self, last: bool) -> Iterator[None]:
        """Average gradients over the processes after the last pass alone."""
        if self._parallel is None or last:
            yield
            return
        with self._parallel.no_sync():
            yield


def _mean(logged: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """Return the mean over the passes of what the stage wants logged; one read for all."""
    if not logged[0]:
        return {}
    passes = torch.stack([torch.stack(list(values.values())) for values in logged])
    return dict(zip(logged[0], passes.mean(dim=0).tolist(), strict=True))


def _check_batch_norm(stage: Stage, settings: TrainingSettings, ranks: DistributedContext) -> None:
    """Refuse passes of one sequence where the box estimation's batch norm learns: it gets one value a channel each."""
    together = Share.of(settings, ranks).size * (ranks.count if settings.sync_batch_norm else 1)
    learning = any(isinstance(module, _BatchNorm) and module.training for module in stage.network.iou_net.modules())
    if together == 1 and learning and settings.freeze_bn_after != 0:
        raise DataError(
            f"training.batch_size: expected at least 2 in a pass, got 1 ({settings.batch_size} in all, processes: "
            f"{ranks.count}, passes of each: {settings.grad_accumulation}): batch norm has no statistics of one; "
            "give more, or --training.freeze-bn-after 0, which keeps the start's statistics"
        )


def _share_statistics(stage: Stage, device: torch.device) -> None:
    if device.type != "cuda":
        raise DataError(f"training.sync_batch_norm: expected GPUs, for PyTorch has it for no other; got {device.type}")
    nn.SyncBatchNorm.convert_sync_batchnorm(stage)  # type: ignore[no-untyped-call]
