"""What a report has measured already, laid into a folder of runs, so that another machine goes on from there.

Networks and logs stay where they were trained; figures and the choice are taken over. What is measured next is
comparable only where the same teacher taught it, so the teacher is trained anew, and must be the same to the bit.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from parts.ablation.choice import CHOICE, chosen_of
from parts.ablation.rows import TEACHER
from parts.ablation.runs import NETWORK, TEACHER_RUN, Experiment, finished, row_run, teacher_tracks, write_scores

from mmdistill.reference.models.weights import load_network
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text

EXPECTED = "teacher.json"


def import_report(file: Path, root: Path, experiment: Experiment) -> None:
    """Lay what a report says into a folder of runs; what is there already stays.

    Raises:
        DataError: the report is of another experiment.
    """
    report = json.loads(file.read_text())
    if report["experiment"] != experiment.described():
        raise DataError(f"{file}: was measured with other settings; give those, or leave --measured out")
    choice, digest = report["choice"], report["teacher"]
    if digest is not None:
        write_text(root / EXPECTED, json.dumps({"weights": digest, "from": file.name}) + "\n")
    if choice is not None and choice["tried"] and not (root / CHOICE).exists():
        write_text(root / CHOICE, json.dumps(choice, indent=2) + "\n")
    chosen = chosen_of(choice, experiment.size)
    for seed, rows in report["by seed"].items():
        for name, found in rows.items():
            run = teacher_tracks(int(seed)) if name == TEACHER else row_run(experiment.size, name, int(seed), chosen)
            if not finished(run, root):
                write_scores(run, root, found)


def teacher_digest(root: Path) -> str | None:
    """Return a digest of the teacher's weights, as the kept reports have it; None where it is not trained yet."""
    network = root / TEACHER_RUN / NETWORK
    if not network.exists():
        return None
    digest = hashlib.sha256()
    for name, value in load_network(network).state_dict().items():
        digest.update(name.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_teacher(root: Path) -> None:
    """Refuse to go on from figures that another teacher taught.

    Raises:
        DataError: the teacher trained here is not the report's.
    """
    expected = root / EXPECTED
    if not expected.exists():
        return
    told = json.loads(expected.read_text())
    if (here := teacher_digest(root)) != told["weights"]:
        raise DataError(
            f"{root / TEACHER_RUN}: expected the weights of {told['from']}, {told['weights'][:12]}, "
            f"got {str(here)[:12]}, as on another processor or version; "
            "measure all anew, in another --runs and without --measured"
        )
