"""Import of another machine's report, so that only the missing rows are measured.

Networks and logs are not imported; figures and the chosen weights are. All students need the same teacher, so
the teacher is trained again, and its weights must be identical.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from parts.ablation.choice import read_choices, read_weights, write_choice
from parts.ablation.report import read_sequences
from parts.ablation.rows import TEACHER
from parts.ablation.runs import NETWORK, TEACHER_RUN, Experiment, finished, row_run, teacher_tracking_run, write_scores

from mmdistill.reference.models.weights import load_network
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text

EXPECTED_TEACHER = "teacher.json"


def import_report(file: Path, root: Path, experiment: Experiment) -> None:
    """Write a report's figures into a folder of runs; finished runs are not overwritten.

    Raises:
        DataError: the report has other settings.
    """
    report = json.loads(file.read_text())
    if report["experiment"] != experiment.describe():
        raise DataError(f"{file}: measured with other settings; use the same, or omit --import-report")
    choices, digest = report["choice"], report["teacher"]
    if digest is not None:
        write_text(root / EXPECTED_TEACHER, json.dumps({"weights": digest, "from": file.name}) + "\n")
    for name, choice in choices.items():
        if choice["trials"] and name not in read_choices(root):
            write_choice(root, name, choice)
    for seed, rows in report["by seed"].items():
        for name, scores in rows.items():
            run = teacher_tracking_run(int(seed))
            if name != TEACHER:
                weights = read_weights(choices, name)
                assert weights is not None, "a finished row's weights are chosen"
                run = row_run(experiment.size, name, int(seed), weights)
            if not finished(run, root):
                write_scores(run, root, scores | {"sequences": read_sequences(report, scores)})


def teacher_digest(root: Path) -> str | None:
    """Return the SHA-256 of the teacher's weights; None before it is trained."""
    network = root / TEACHER_RUN / NETWORK
    return network_digest(network) if network.exists() else None


def network_digest(file: Path) -> str:
    """Return the SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for name, value in load_network(file).state_dict().items():
        digest.update(name.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_teacher(root: Path) -> None:
    """Check that the teacher has the imported report's weights.

    Raises:
        DataError: it has other weights.
    """
    file = root / EXPECTED_TEACHER
    if not file.exists():
        return
    expected = json.loads(file.read_text())
    if (digest := teacher_digest(root)) != expected["weights"]:
        raise DataError(
            f"{root / TEACHER_RUN}: expected the weights of {expected['from']}, {expected['weights'][:12]}, "
            f"got {str(digest)[:12]}, as with another processor or version; "
            "measure everything in a new --work-dir, without --import-report"
        )
