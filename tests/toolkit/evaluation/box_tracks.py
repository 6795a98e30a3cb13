"""Ground truths and predictions for tests of scoring."""

import math

import numpy as np
import pytest

from mmdistill.toolkit.evaluation.protocols import PROTOCOLS, ScoringProtocol

NAN = [math.nan] * 4
EVERY_PROTOCOL = pytest.mark.parametrize("protocol", list(PROTOCOLS.values()), ids=list(PROTOCOLS))


def truths_for(protocol: ScoringProtocol, *truths: object) -> tuple[np.ndarray, ...]:
    """Repeat a single ground truth for protocols that need RGB's and TIR's."""
    arrays_ = [np.asarray(truth, dtype=float) for truth in truths]
    return tuple(arrays_ * 2 if protocol.truth == "best" and len(arrays_) == 1 else arrays_)


def moving(frames: int = 12) -> np.ndarray:
    """A box of 40 x 20 that moves; all numbers exact in binary."""
    steps = np.arange(frames, dtype=float)
    return np.stack([50 + 4 * steps, 60 - 2 * steps, 40 + steps, 20 + 0 * steps], axis=1)
