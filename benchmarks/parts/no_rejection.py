"""A tracker that believes every frame: what a network with random weights needs to do a trained one's work."""

from __future__ import annotations

from dataclasses import replace

from mmdistill.reference.tracking.settings import PUBLISHED, TrackingSettings


def no_rejection() -> TrackingSettings:
    """Return the published settings, but for a tracker that believes every frame."""
    return replace(
        PUBLISHED, localization=replace(PUBLISHED.localization, not_found=-100.0, rival=100.0, distractor=100.0)
    )
