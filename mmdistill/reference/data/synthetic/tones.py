"""Tones: making a thing stand out from what it will be seen against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Tones = NDArray[np.float64]
"""Tones ``(..., 4)``: red, green, blue and temperature, 0 to 255."""

RGB, TIR = slice(0, 3), slice(3, 4)
CANDIDATES = 60


def standing_out(generator: np.random.Generator, tone: Tones, surroundings: Tones, wanted: float) -> Tones:
    """Return a tone ``(4,)`` that differs from all surroundings in each modality by itself.

    Each modality takes, of ``tone`` and random tones, the one closest to ``tone`` that is ``wanted`` away from
    all surroundings, or the one farthest from them where none is.

    Args:
        generator: the source of the random tones.
        tone: the tone to begin with, ``(4,)``.
        surroundings: the tones it will be seen against, ``(N, 4)``.
        wanted: the Euclidean distance of colours, or of temperatures, that is enough.
    """
    candidates = np.concatenate([tone[None], generator.uniform(10, 245, (CANDIDATES, 4))])
    chosen = np.array(tone, dtype=np.float64)
    for channels in (RGB, TIR):
        away = candidates[:, None, channels] - surroundings[None, :, channels]
        nearest = np.linalg.norm(away, axis=-1).min(axis=1)
        change = np.linalg.norm(candidates[:, channels] - tone[channels], axis=-1)
        enough = nearest >= wanted
        best = np.argmin(np.where(enough, change, np.inf)) if enough.any() else np.argmax(nearest)
        chosen[channels] = candidates[best, channels]
    return chosen


def mean_tone(colours: NDArray[np.float32], alpha: NDArray[np.float32]) -> Tones:
    """Return the mean tone ``(4,)`` of colours ``(H, W, 4)`` where they are covered, ``(H, W)``."""
    return np.asarray(np.average(colours.reshape(-1, 4), axis=0, weights=alpha.ravel()), dtype=np.float64)


def retoned(colours: NDArray[np.float32], old: Tones, new: Tones, spread: float) -> NDArray[np.float32]:
    """Return colours ``(H, W, 4)`` moved from the mean tone ``old`` to ``new``, 0 to 255.

    Args:
        colours: what to change.
        old: the mean tone now, ``(4,)``.
        new: the mean tone to get, ``(4,)``.
        spread: the deviation from the mean that is kept at most, lest parts blend into the surroundings.
    """
    pattern = colours - old.astype(np.float32)
    pattern *= np.minimum(1, spread / (pattern.std(axis=(0, 1)) + 1e-6))
    return np.asarray(np.clip(pattern + new.astype(np.float32), 0, 255), dtype=np.float32)
