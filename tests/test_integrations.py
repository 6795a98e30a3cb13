"""A loss inside the wrappers of Lightning, Accelerate and the Hugging Face Trainer: the packages themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmdistill import HFRDLoss, Terms
from mmdistill.losses import FitNetsLoss, KDLoss

WEIGHTS = {"hint": 0.5, "distillation": 100.0, "response": 3.0}


class Distilled(nn.Module):
    """A student with its losses, which returns their terms, as a model that goes through a wrapper may do."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Conv2d(3, 4, 1)
        self.hint, self.kd, self.hfrd = FitNetsLoss((4,), (6,)), KDLoss(over="response"), HFRDLoss()

    def forward(self, images: Tensor) -> Terms:
        features = self.student(images)
        teacher = images.repeat(1, 2, 1, 1)
        response, label = features.mean(dim=1), images.mean(dim=1)
        return Terms.weighted(
            (WEIGHTS["hint"], self.hint([features], [teacher])),
            (WEIGHTS["distillation"], self.kd(response, label)),
            (WEIGHTS["response"], self.hfrd(response, label, label)),
        )


def images() -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def assert_right(terms: object, model: nn.Module, backward: Callable[[Tensor], None] = Tensor.backward) -> None:
    """Check names, weights, the total of the parts, and that it teaches the student."""
    assert type(terms) is Terms
    assert terms.weights == WEIGHTS
    expected = sum(weight * terms[name].double() for name, weight in WEIGHTS.items())
    torch.testing.assert_close(terms.total.double(), expected, rtol=1e-5, atol=1e-6)
    model.zero_grad()
    backward(terms.total)
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.slow  # to import
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fabric_returns_the_terms(precision: str) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=precision)
    plain = Distilled()
    expected = plain(images()).as_dict()
    model = fabric.setup_module(plain)
    terms = model(images())
    torch.testing.assert_close(terms.as_dict(), expected, rtol=0.05, atol=0.05)
    assert_right(terms, model, fabric.backward)


@pytest.mark.slow  # to import
def test_a_lightning_module_logs_the_terms(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Distilled()

        def training_step(self, batch: Tensor, _: int) -> Tensor:
            terms = self.model(batch)
            self.log_dict(terms.as_dict())
            for name, value in terms.items():
                self.log(f"loss/{name}", value)
            return terms.total

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    module = Module()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", devices=1, default_root_dir=tmp_path, enable_model_summary=False, **options
    )
    with warnings.catch_warnings():  # Lightning's own, of PyTorch and of so small a data set
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", ".*does not have many workers")
        warnings.filterwarnings("ignore", ".*number of training batches")
        trainer.fit(module, torch.utils.data.DataLoader(images(), batch_size=2))
    expected = module.model(images()).as_dict()
    for name, value in expected.items():
        torch.testing.assert_close(trainer.logged_metrics[name], value.detach())
        assert name == "total" or trainer.logged_metrics[f"loss/{name}"] == trainer.logged_metrics[name]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate_returns_the_terms(precision: str) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    from accelerate.state import AcceleratorState
    from accelerate.utils import send_to_device

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        accelerator = accelerate.Accelerator(mixed_precision=precision, cpu=True)
        model = accelerator.prepare(Distilled())
        assert_right(model(images()), model)
        assert_right(send_to_device(model(images()), torch.device("cpu")), model)
        gathered = accelerator.gather(model(images()))
        assert type(gathered) is Terms
        assert gathered.weights == WEIGHTS
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


class ForTrainer(nn.Module):
    """What the Trainer takes: a dictionary with the loss. The terms go with it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Distilled()

    def forward(self, images: Tensor) -> dict[str, Tensor | Terms]:
        terms = self.model(images)
        return {"loss": terms.total, "terms": terms}


@pytest.mark.slow  # to import
@pytest.mark.parametrize("bf16", [False, True])
def test_the_hugging_face_trainer_trains_and_predicts(bf16: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed, which the Trainer needs")
    from accelerate.state import AcceleratorState

    class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            return {"images": images()[index % 2]}

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        arguments = transformers.TrainingArguments(
            tmp_path, use_cpu=True, bf16=bf16, max_steps=1, per_device_train_batch_size=2,
            per_device_eval_batch_size=2, report_to=[], save_strategy="no", disable_tqdm=True, learning_rate=0.0,
            dataloader_pin_memory=False, remove_unused_columns=False,
        )  # fmt: skip
        trainer = transformers.Trainer(ForTrainer(), arguments, train_dataset=Images(), eval_dataset=Images())
        trainer.train()
        *_, found = trainer.predict(Images()).predictions
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert type(found) is Terms
    assert found.weights == WEIGHTS
    model = Distilled()
    model.load_state_dict(trainer.model.model.state_dict())
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        expected = model(images()).as_dict()
    for name, value in found.as_dict().items():
        assert value.shape == (2,)  # one of each batch
        torch.testing.assert_close(torch.from_numpy(value), expected[name].detach().expand(2), rtol=1e-4, atol=1e-5)
