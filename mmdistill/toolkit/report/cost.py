"""What a tracker's network costs: parameters, and multiply-adds of one frame."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mmdistill.toolkit.data_issues import MAX_MESSAGE, DataError
from mmdistill.toolkit.io import read_json, write_text

COST = "cost.json"
"""What the file is called in the folder of a scored tracker."""

_MAX_COUNT = 10**18


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: of all that is trained.
        multiply_adds: of convolutions and matrix products, one frame through the network: trunks, fusion,
            classification features, score map and IoU features. Box refinement and online learning, which depend on
            the frame, are not in it.
        what: the network in a few words.
    """

    parameters: int
    multiply_adds: int
    what: str


def save_cost(path: str | Path, cost: Cost) -> None:
    """Write a cost beside the results of the network, so that a report needs no weights."""
    write_text(path, json.dumps(asdict(cost), indent=2) + "\n")


def read_saved_cost(folder: str | Path) -> Cost | None:
    """Return the cost that ``evaluate`` saved in its folder; None where there is none.

    Raises:
        DataError: the file lies elsewhere, is no regular file, or a field is missing or not what it must be.
    """
    path = Path(folder) / COST
    if not path.exists():
        return None
    content = read_json(path, below=folder)
    for name in ("parameters", "multiply_adds"):
        if type(content.get(name)) is not int or not 0 <= content[name] <= _MAX_COUNT:
            raise DataError(f"{path}: {name!r}: expected a count, got {str(content.get(name, 'nothing'))[:40]!r}")
    if not isinstance(content.get("what"), str) or len(content["what"]) > MAX_MESSAGE:
        raise DataError(f"{path}: 'what': expected the network in at most {MAX_MESSAGE} characters")
    return Cost(content["parameters"], content["multiply_adds"], content["what"])
