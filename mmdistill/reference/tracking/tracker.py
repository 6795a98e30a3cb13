"""Tracks targets with a network: one video frame by frame, or sequences in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.reference.device import choose_device
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.settings import TrackingSettings
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.drawing import ResponseMap
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import ScoringProtocol
from mmdistill.toolkit.evaluation.runner import TrackedSequence, track_sequences
from mmdistill.toolkit.evaluation.scores import BenchmarkScores
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence
from mmdistill.toolkit.tracking_loop import Result, as_reading, track_video
from mmdistill.toolkit.video import OnBroken


class Tracker:
    """Tracks one target through one video at a time: DiMP's online tracking, arXiv 1904.07220, or ATOM's.

    Args:
        network: teacher, student, DiMP or ATOM; the tracker uses a copy.
        settings: the constants of tracking; by default the published ones of the network's classifier.
        seed: the random seed, 0 or more; the same seed gives the same boxes.
        compiled: see ``BatchTracker``.

    Attributes:
        network: the copy, with batch norm folded.
        settings: the constants.

    Example:
        >>> import numpy as np
        >>> from mmdistill import Pair
        >>> from mmdistill.reference import Tracker
        >>> from mmdistill.reference.models.config import student_settings
        >>> from mmdistill.reference.models.tracker_network import TrackerNetwork
        >>> tracker = Tracker(TrackerNetwork(student_settings(width=4, crop_size=96)))  # or Tracker.load(FILE)
        >>> frames = [Pair(*np.full((2, 120, 160, 3), value, dtype=np.uint8)) for value in (60, 90, 120)]
        >>> tracker.init(frames[0], [60, 40, 30, 24])
        >>> box, score, flag = tracker.update(frames[1])
        >>> boxes, seconds = tracker.track(frames, [60, 40, 30, 24])
        >>> boxes.shape, seconds.shape
        ((3, 4), (3,))
    """

    def __init__(
        self,
        network: TrackerNetwork,
        settings: TrackingSettings | None = None,
        *,
        seed: int = 0,
        compiled: bool = False,
    ) -> None:
        self._batch = BatchTracker(network, settings, seed=seed, compiled=compiled)
        self._started = False
        self.network, self.settings = self._batch.network, self._batch.settings

    @classmethod
    def load(
        cls,
        name_or_file: str | Path,
        device: str = "auto",
        *,
        settings: TrackingSettings | None = None,
        seed: int = 0,
        compiled: bool = False,
    ) -> Tracker:
        """Return a tracker with a trained network.

        Args:
            name_or_file: a weights file, or the name of a network inside the package, see ``bundled_networks``.
            device: ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.
            settings: as in ``Tracker``.
            seed: as in ``Tracker``.
            compiled: see ``BatchTracker``.

        Raises:
            DataError: no such file, a malformed file, or no such device.
        """
        return cls(load_network(name_or_file).to(choose_device(device)), settings, seed=seed, compiled=compiled)

    def init(self, frame: FramePair, box: ArrayLike) -> None:
        """Start a video, in place of any earlier one.

        Args:
            frame: the first frame, images ``(H, W, 3)``, uint8; None where a modality is missing.
            box: the target ``(4,)``, ``x y w h`` in pixels.

        Raises:
            DataError: no image, images of different sizes, or an invalid box.
        """
        self._started = False
        self._batch.start(0, frame, box, where="init")
        self._started = True

    def update(self, frame: FramePair) -> Result:
        """Return box, score and flag in the next frame.

        The box is the part inside the image. Flags are ``normal``, ``hard_negative`` (a distractor is near),
        ``uncertain`` and ``not_found``. A target that is not found keeps its last box, with the frame's highest score.

        Args:
            frame: as in ``init``.

        Raises:
            DataError: no image, or images of different sizes.
            RuntimeError: ``init`` was not called.
        """
        if not self._started:
            raise RuntimeError("Tracker.update: expected init with the first frame before")
        (result,) = self._batch.step([0], [frame], where=["update"])
        return result

    def track(self, frames: Iterable[FramePair], box: ArrayLike) -> tuple[Boxes, Array]:
        """Track a whole video; the interface of the got10k toolkit.

        Args:
            frames: the frames, as in ``init``. A frame without images keeps the last box.
            box: the target in the first frame, ``(4,)``, ``x y w h`` in pixels.

        Returns:
            The boxes ``(T, 4)``, the first of them the given one, and the tracker's seconds per frame ``(T,)``.

        Raises:
            DataError: no frames, images of different sizes, or an invalid box.
        """
        tracked = [(frame.box, frame.seconds) for frame in track_video(self, map(as_reading, frames), box)]
        boxes, seconds = zip(*tracked, strict=True)
        return np.stack(boxes), np.array(seconds)

    @property
    def response(self) -> ResponseMap | None:
        """The score map of the last frame and its search area; None after ``init``."""
        return self._batch.response(0)


def track_as_completed(
    network: TrackerNetwork,
    sequences: Sequence[TrackingSequence],
    after_frame: Callable[[], object] = lambda: None,
    *,
    settings: TrackingSettings | None = None,
    start_frames: Sequence[int] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    on_broken: OnBroken = "stop",
) -> Iterator[tuple[int, TrackedSequence]]:
    """Yield each sequence's index and results as soon as it ends; arguments as in ``track_batch``."""
    tracker = BatchTracker(network, settings, slots=max(1, min(batch_size, len(sequences))), seed=seed)
    return track_sequences(tracker, sequences, after_frame, start_frames=start_frames, on_broken=on_broken)


def track_batch(
    network: TrackerNetwork,
    sequences: Sequence[TrackingSequence],
    settings: TrackingSettings | None = None,
    *,
    start_frames: Sequence[int] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    on_broken: OnBroken = "stop",
    after_frame: Callable[[], object] = lambda: None,
) -> list[TrackedSequence]:
    """Track sequences of any sizes and lengths in batches, frame by frame. The batch size does not change the boxes.

    Args:
        network: teacher, student, DiMP or ATOM.
        sequences: each with a label in its start frame.
        settings: the constants of tracking; by default the published ones of the network's classifier.
        start_frames: the index of each sequence's first tracked frame; 0 by default.
        batch_size: sequences tracked at once.
        seed: the random seed of each sequence.
        on_broken: stop: an unreadable frame raises its error. skip: it is logged and keeps the last box, score 0.
        after_frame: called after each frame of each sequence, to show progress.

    Raises:
        DataError: a sequence without frames, without an initial box, or with an unreadable frame.
    """
    tracked = dict(
        track_as_completed(
            network,
            sequences,
            after_frame,
            settings=settings,
            start_frames=start_frames,
            batch_size=batch_size,
            seed=seed,
            on_broken=on_broken,
        )
    )
    return [tracked[index] for index in range(len(sequences))]


def score_network(
    network: TrackerNetwork,
    sequences: Sequence[TrackingSequence],
    rule: ScoringProtocol,
    *,
    seed: int = 0,
    batch_size: int = 8,
    title: str = "tracking",
    progress: bool = True,
) -> BenchmarkScores:
    """Track sequences and return the scores; no files are written.

    Args:
        network: teacher, student, DiMP or ATOM.
        sequences: labeled sequences.
        rule: the scoring rule.
        seed: the random seed of tracking.
        batch_size: sequences tracked at once; does not change the boxes.
        title: title of the progress bar.
        progress: whether to show a progress bar.

    Raises:
        DataError: a sequence that cannot be tracked.
    """
    with progress_bar(sum(map(len, sequences)), title, "frame", quiet=not progress) as bar:
        tracked = track_batch(network, sequences, batch_size=batch_size, seed=seed, after_frame=bar.update)
    boxes = {sequence.name: track.boxes for sequence, track in zip(sequences, tracked, strict=True)}
    return score_sequences(boxes, sequences, rule)
