"""What every stage of training is to the loop."""

from __future__ import annotations

from torch import nn

from mmdistill import Terms
from mmdistill.reference.data.batches import Batch
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.training.optimiser import prepare_network
from mmdistill.reference.training.settings import TrainingSettings


class Stage(nn.Module):
    """A network that is trained, and its loss.

    Attributes:
        network: what is trained, and saved at the end.
    """

    network: TrackerNetwork

    def prepare(self, settings: TrainingSettings) -> None:
        """Put into training mode what learns, and freeze the rest; called once, before the optimiser is made."""
        prepare_network(self.network, settings)

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run goes on only with the same."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Terms:
        """Return the loss's terms on a batch."""
        raise NotImplementedError
