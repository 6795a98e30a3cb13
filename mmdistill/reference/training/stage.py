"""What every stage of training is to the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mmdistill import FusedPaths, Terms, path_entropy
from mmdistill.reference.data.batches import Batch
from mmdistill.reference.networks.tracker_network import FUSED_LEVELS, TrackerNetwork
from mmdistill.reference.training.optimiser import prepare_network
from mmdistill.reference.training.settings import TrainingSettings


class Stage(nn.Module):
    """A network that is trained, and its loss.

    Attributes:
        network: what is trained, and saved at the end.
        logged: of the last forward pass, scalars by name that the log has beside the terms.
    """

    network: TrackerNetwork
    logged: Mapping[str, Tensor] = {}

    def prepare(self, settings: TrainingSettings) -> None:
        """Put into training mode what learns, and freeze the rest; called once, before the optimiser is made."""
        prepare_network(self.network, settings)

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run goes on only with the same."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Terms:
        """Return the loss's terms on a batch."""
        raise NotImplementedError

    def log_selection(self, levels: Sequence[FusedPaths]) -> None:
        """Have the entropy of the path weights logged, mean over samples, for each level with several paths."""
        self.logged = {
            f"entropy level {number + 1}": path_entropy(level.weights.detach()).mean()
            for number, level in zip(FUSED_LEVELS, levels, strict=True)
            if level.paths.shape[0] > 1
        }
