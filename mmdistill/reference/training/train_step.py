"""One training step: learning rates, gradient and parameter update; skipped if loss or gradient is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from mmdistill import NotFiniteError, Terms, gradient_shares
from mmdistill.reference.device import check_compiler
from mmdistill.reference.training.data_loader import Batch, BatchShard
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import Stage, warmup_factor
from mmdistill.toolkit.data_issues import DataError

FUSED_DEVICES = ("cpu", "cuda")
"""Device types where Adam is fused: it updates all parameters of a group in one operation."""

COMPILE_BACKEND = "inductor"
"""PyTorch's compiler for training."""

OTHER_PROCESS = "the loss isn't finite in another process"


def parameter_group(name: str) -> str:
    """Return the field of ``PartLearningRates`` for a stage's parameter."""
    if name.startswith(("distillation.", "baselines.")):
        return "distillation"
    module = name.removeprefix("network.").split(".")
    if module[0] == "classifier":
        return "optimizer" if module[1] == "optimiser" else "classifier"  # spelled as in weights files
    return {"trunks": "trunk", "fusions": "fusion", "iou_net": "iou_net"}[module[0]]


def build_optimizer(stage: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return Adam or AdamW over a stage's trained parameters, one group for each learning rate."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(parameter_group(name), []).append(parameter)
    parameters = [{"params": group, "lr": getattr(settings.learning_rates, name)} for name, group in groups.items()]
    fused = all(each.device.type in FUSED_DEVICES for group in groups.values() for each in group)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, weight_decay=settings.weight_decay, fused=fused)
    return torch.optim.Adam(parameters, fused=fused)


def learning_rate_factor(settings: TrainingSettings) -> Callable[[int], float]:
    """Return the schedule: a function from a step's number to the factor on all learning rates."""

    def factor(step: int) -> float:
        rise = warmup_factor(step, settings.warmup_steps)
        if settings.decay_every:
            return float(rise * settings.decay_factor ** (step // settings.decay_every))
        return rise * 0.5 * (1 + math.cos(math.pi * min(step / settings.steps, 1)))

    return factor


def clip_gradients(parts: Sequence[Sequence[nn.Parameter]], limit: float) -> list[Tensor]:
    """Scale each part's gradients down to a norm of at most ``limit``; return the norms before, one for each part.

    The host waits for nothing. If a norm is not finite, the part's gradients are useless: skip the step.

    Args:
        parts: each part's parameters with a gradient, at least one parameter in each.
        limit: the norm's limit; 0 for no limit.
    """
    if limit:
        return [nn.utils.clip_grad_norm_(part, limit) for part in parts]
    gradients = [[each.grad for each in part if each.grad is not None] for part in parts]
    return [torch.linalg.vector_norm(torch.stack(torch._foreach_norm(part))) for part in gradients]


def freeze_batch_norm(network: nn.Module) -> None:
    """Let batch norm use its running statistics and no longer update them.

    Batch statistics of a small batch normalize the proposals of a few targets together. Box estimation then learns to
    compare these proposals, and a tracker, which has running statistics only, gets other overlaps than in training.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


class StepResult(NamedTuple):
    """The result of a training step.

    Attributes:
        values: each term's value and the total, over the whole batch; empty if the step was skipped.
        skipped: the reason for skipping the step; empty if it was not skipped.
        logged: the stage's ``logged`` and the gradients at the trunk, mean over passes and processes.
    """

    values: dict[str, float]
    skipped: str = ""
    logged: Mapping[str, float] = {}


class TrainStep:
    """A stage and its optimizer, in one or several processes.

    Args:
        stage: the network to train, and its loss.
        settings: of the run.
        device: the device to train on.
        distributed: this process among all; each holds the same network, and gradients are averaged.

    Raises:
        DataError: batch-norm statistics can't be shared on a CPU, a pass has too few samples for batch norm, a frozen
            trunk's gradient is to be logged, or PyTorch can't compile on this machine.
    """

    def __init__(
        self, stage: Stage, settings: TrainingSettings, device: torch.device, distributed: DistributedContext
    ) -> None:
        stage.prepare(settings)
        if settings.sync_batch_norm:
            _share_statistics(stage, device)
        # Channels last is faster on a CPU, and in half precision on a GPU; values are the same.
        stage.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stage, self.settings, self.device, self.distributed = stage, settings, device, distributed
        _check_batch_norm(stage, settings, distributed)
        _check_trunk(stage, settings)
        self.optimizer = build_optimizer(stage, settings)
        self._factor = learning_rate_factor(settings)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._buffers = _BufferCopy(stage)
        self._check_inputs = not settings.compile  # compiled losses don't read their inputs
        if settings.compile:
            check_compiler("training.compile", device, COMPILE_BACKEND)
            stage.compile(backend=COMPILE_BACKEND, dynamic=False)
        self._parallel = DistributedDataParallel(stage) if distributed.count > 1 else None

    def run(self, number: int, batches: Sequence[Batch]) -> StepResult:
        """Take step ``number`` on this process's batches, one for each pass.

        If the loss of any process or the gradient is not finite, parameters, optimizer and statistics stay unchanged.
        """
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._factor(number)
        if self.settings.freeze_bn_after is not None and number >= self.settings.freeze_bn_after:
            freeze_batch_norm(self.stage.network)
        self._seed(number)
        self._buffers.store()
        # They name the input that is not finite; a later one is seen in the terms' values.
        self.stage.check_loss_inputs(self._check_inputs)
        self.optimizer.zero_grad(set_to_none=True)
        terms: list[dict[str, Tensor]] = []
        logged: list[dict[str, Tensor]] = []
        log_shares = self.settings.log_gradient_shares > 0 and number % self.settings.log_gradient_shares == 0
        for turn, batch in enumerate(batches, start=1):
            with self._exchange_gradients(turn == len(batches)):
                values, shares, reason = self._pass(number, batch, len(batches), log_shares)
            if reason:
                return self._skip(reason)
            terms.append(values)
            logged.append({**self.stage.logged, **shares})
        (loss_flag, gradient_flag, *numbers) = self._update(terms, logged, self._clip_gradients())
        rest = iter(numbers)
        by_term, by_log = ([{name: next(rest) for name in each} for each in passes] for passes in (terms, logged))
        if loss_flag or gradient_flag:
            return self._skip(_reason(by_term, bool(loss_flag)))
        self._check_inputs = False
        means = self.distributed.mean(_mean(by_term) | _mean(by_log))
        return StepResult({name: means[name] for name in by_term[0]}, logged={name: means[name] for name in by_log[0]})

    def _pass(
        self, number: int, batch: Batch, passes: int, log_shares: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], str]:
        """Add a pass's gradient.

        Returns:
            The terms' values with the total, their gradients at the trunk if these are logged, and the reason to skip
            the step, if a loss of any process refused its inputs.
        """
        reason = ""
        terms: Terms | None = None
        try:
            with (
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"),
                # The gradient of each term needs a graph that is kept; a compiled one is not.
                torch.compiler.set_stance("force_eager") if log_shares else nullcontext(),
            ):
                terms = (self._parallel or self.stage)(batch.to(self.device))
        except NotFiniteError as error:
            reason = f"the loss isn't finite in {error}"
        if self.distributed.any(bool(reason)):
            return {}, {}, reason or OTHER_PROCESS
        assert terms is not None
        terms = self.stage.weigh(terms, number)
        shares = self._gradient_shares(terms) if log_shares else {}
        total = terms.total
        (total / passes if passes > 1 else total).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in terms.as_dict().items()}, shares, ""

    def _clip_gradients(self) -> Tensor:
        """Clip the gradients if the settings say so; return the norm of all gradients before."""
        limit = self.settings.clip_grad_norm
        parts: list[Iterable[nn.Parameter]] = [self.stage.parameters()]
        if limit and self.settings.clip_scope == "part":
            parts = [group["params"] for group in self.optimizer.param_groups]
        trained = [[each for each in part if each.grad is not None] for part in parts]
        norms = clip_gradients([part for part in trained if part], limit)
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))

    def _update(
        self, terms: Sequence[Mapping[str, Tensor]], logged: Sequence[Mapping[str, Tensor]], norm: Tensor
    ) -> list[float]:
        """Update the parameters, unless a term's value in any process or the gradients' norm is not finite.

        A fused optimizer gets the decision on the device, so that the host waits for the device only once, at the end.

        Returns:
            1 if a term is not finite, else 0; the same for the norm; all values of the terms and of the log.
        """
        values = _stacked([value for each in terms for value in each.values()])
        # Infinity and NaN times 0 are NaN. A finite sum could overflow.
        flags = (_stacked([values.mul(0).sum(), norm * 0])).isnan().to(torch.float32)
        flags = self.distributed.maximum(flags)
        others = [value.detach() for each in logged for value in each.values()]
        numbers = _stacked([*flags.unbind(), *values.unbind(), *others])
        if self.optimizer.defaults["fused"]:
            self.optimizer.found_inf = flags.amax()  # type: ignore[attr-defined]
            self.optimizer.step()
            return numbers.tolist()
        read = numbers.tolist()
        if not any(read[:2]):
            self.optimizer.step()
        return read

    def _gradient_shares(self, terms: Terms) -> dict[str, Tensor]:
        """Return the norm and the share of each weighted term's gradient at the trunk, by the names in the log."""
        shares = gradient_shares(terms, self.stage.network.trunks)
        return {
            f"gradient {field} {term}": terms.total.new_tensor(value)
            for term, gradient in shares.items()
            for field, value in gradient._asdict().items()
        }

    def _skip(self, reason: str) -> StepResult:
        """Restore the buffers of before the step; the next step checks the losses' inputs."""
        self._buffers.restore()
        self._check_inputs = not self.settings.compile
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult({}, reason)

    def _seed(self, number: int) -> None:
        """Seed PyTorch by the step's number and the process, so that a resumed run draws the same numbers."""
        sequence = np.random.SeedSequence((self.settings.seed, number, self.distributed.rank))
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    @contextmanager
    def _exchange_gradients(self, last: bool) -> Iterator[None]:
        """Average gradients over the processes after the last pass only."""
        if self._parallel is None or last:
            yield
            return
        with self._parallel.no_sync():
            yield


class _BufferCopy:
    """A copy of a module's buffers, such as batch-norm statistics.

    Args:
        module: the module on its device.
    """

    def __init__(self, module: nn.Module) -> None:
        self._groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for buffer in module.buffers():
            buffers, copies = self._groups.setdefault(buffer.dtype, ([], []))
            buffers.append(buffer)
            copies.append(torch.empty_like(buffer))

    @torch.no_grad()
    def store(self) -> None:
        """Copy the buffers, one operation for each dtype."""
        for buffers, copies in self._groups.values():
            torch._foreach_copy_(copies, buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """Give the buffers the values of the copy."""
        for buffers, copies in self._groups.values():
            torch._foreach_copy_(buffers, copies)


def _stacked(scalars: Sequence[Tensor]) -> Tensor:
    """Return scalars of any floating dtypes as one vector."""
    dtype = torch.float64 if any(each.dtype == torch.float64 for each in scalars) else torch.float32
    return torch.stack([each.to(dtype) for each in scalars])


def _mean(passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(values[name] for values in passes) / len(passes) for name in passes[0]}


def _reason(passes: Sequence[Mapping[str, float]], loss: bool) -> str:
    """Return why a step is skipped, from the terms' values and whether a loss of any process is not finite."""
    names = dict.fromkeys(name for values in passes for name, value in values.items() if not math.isfinite(value))
    if names:
        return f"the loss isn't finite in {', '.join(names)}"
    return OTHER_PROCESS if loss else "the gradient isn't finite"


def _check_batch_norm(stage: Stage, settings: TrainingSettings, distributed: DistributedContext) -> None:
    """Refuse passes of one sample if box estimation's batch norm is trained: it gets one value per channel."""
    samples = BatchShard.of(settings, distributed).size * (distributed.count if settings.sync_batch_norm else 1)
    trained = any(isinstance(module, _BatchNorm) and module.training for module in stage.network.iou_net.modules())
    if samples == 1 and trained and settings.freeze_bn_after != 0:
        raise DataError(
            f"training.batch_size: expected at least 2 samples per pass for batch norm, got 1 ({settings.batch_size} "
            f"in all, processes: {distributed.count}, passes of each: {settings.grad_accumulation}); "
            "increase it, or set --training.freeze-bn-after 0 to keep the initial statistics"
        )


def _check_trunk(stage: Stage, settings: TrainingSettings) -> None:
    trained = any(parameter.requires_grad for parameter in stage.network.trunks.parameters())
    if settings.log_gradient_shares and not trained:
        raise DataError("training.log_gradient_shares: expected a trunk that is trained, got a frozen one; set it to 0")


def _share_statistics(stage: Stage, device: torch.device) -> None:
    if device.type != "cuda":
        raise DataError(f"training.sync_batch_norm: expected a GPU, as PyTorch requires; got {device.type}")
    nn.SyncBatchNorm.convert_sync_batchnorm(stage)  # type: ignore[no-untyped-call]
