"""What a network scores on sequences."""

from __future__ import annotations

from collections.abc import Sequence

from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.evaluation.rules import Rule
from mmdistill.reference.evaluation.scores import BenchmarkScores
from mmdistill.reference.evaluation.scoring import score_sequences
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.progress import progress_bar
from mmdistill.reference.tracking.track_batch import track_batch


def score_network(
    network: TrackerNetwork,
    sequences: Sequence[TrackingSequence],
    rule: Rule,
    *,
    seed: int = 0,
    together: int = 8,
    title: str = "tracking",
    progress: bool = True,
) -> BenchmarkScores:
    """Return what a network scores on sequences; nothing is written.

    Args:
        network: any tracker's.
        sequences: what it tracks.
        rule: how it is scored.
        seed: of all that is random in tracking.
        together: how many sequences are tracked at once; the boxes are the same.
        title: what the progress bar calls it.
        progress: whether to show a progress bar.

    Raises:
        DataError: a sequence that can't be tracked.
    """
    with progress_bar(sum(map(len, sequences)), title, "frame", quiet=not progress) as bar:
        tracked = track_batch(network, sequences, together=together, seed=seed, after_frame=bar.update)
    boxes = {sequence.name: track.boxes for sequence, track in zip(sequences, tracked, strict=True)}
    return score_sequences(boxes, sequences, rule)
