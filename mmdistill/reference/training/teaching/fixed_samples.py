"""Training on a fixed number of samples, which come again and again."""

from __future__ import annotations

from mmdistill.reference.data.sampling import Sample, Samples
from mmdistill.reference.errors import DataError
from mmdistill.reference.training.loading import BEYOND
from mmdistill.reference.training.settings import TrainingSettings


class FixedSamples:
    """The first so many samples of a source, from the last on to the first again.

    Args:
        samples: the source.
        count: how many.
        settings: of the training.

    Raises:
        DataError: the count is no multiple of a batch: then the same samples would not always meet.
    """

    def __init__(self, samples: Samples, count: int, settings: TrainingSettings) -> None:
        if count < 1 or count % settings.sequences:
            raise DataError(
                f"--fixed-samples: expected a multiple of training.sequences, {settings.sequences}, so that the same "
                f"samples always meet in a batch; got {count}"
            )
        self.samples, self.count = samples, count

    def sample(self, number: int) -> Sample:
        """Return sample ``number``; stand-ins for what can't be read are those of the sample that comes again."""
        attempt, place = divmod(number, BEYOND)
        return self.samples.sample(attempt * BEYOND + place % self.count)
