"""What only distillation trains, treated otherwise than the library does."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from mmdistill import Terms
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.stages import DistilledStage
from mmdistill.reference.training.train_step import freeze_batch_norm


class KeptAdaptors(DistilledStage):
    """Where the network's batch norm keeps its statistics, that of the ABF chains and adaptors does too."""

    def forward(self, batch: Batch) -> Terms:
        """Return the terms on a batch."""
        if not any(module.training for module in self.network.modules() if isinstance(module, _BatchNorm)):
            freeze_batch_norm(self)
        return super().forward(batch)
