"""Whether MPSD blocks select among their paths, with and without normalized maxima, and what it does to tracking.

    python benchmarks/mpsd_selection.py --pairs PAIRS --trunk resnet18.npz --jobs 12 --stage-minutes 8 \
        --runs runs/selection --out benchmarks/results/mpsd_selection.json

Trains students with each ``MPSDFusion(normalize=...)``: from a random trunk (the ablation's size "cpu") and from an
ImageNet trunk ("pretrained"), by the tracker's own loss alone and with distillation. Records the path weights every 50
steps. Afterwards each student tracks the validation video, on whose samples its path weights are measured. The test
video is not used. The same command again goes on where it stopped; the report is written after each run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from parts.ablation.runs import Experiment, Place, teacher_run
from parts.ablation.sizes import SIZES, Chosen, Size, lasting
from parts.machine import machine
from parts.selection.pool import carry_out_all, measured
from parts.selection.report import rms_table, scores_table, selection_table, summary
from parts.selection.rows import BLOCKS, SIZE_OF, VARIANTS, Block, in_order, run_of

from mmdistill.reference.device import choose_device
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text

TEACHER = "teacher"


def changed(size: Size, arguments: argparse.Namespace) -> Size:
    """Return a preset with what the command line has in place of its own."""
    student = size.student if arguments.steps is None else lasting(size.student, arguments.steps)
    teacher = size.teacher if arguments.teacher_steps is None else lasting(size.teacher, arguments.teacher_steps)
    student, teacher = (replace(training, workers=arguments.workers) for training in (student, teacher))
    if arguments.precision is not None:
        student, teacher = (replace(training, precision=arguments.precision) for training in (student, teacher))
    videos = size.validation if arguments.videos is None else (arguments.videos, arguments.videos // 3)
    return replace(size, student=student, teacher=teacher, validation=videos, together=arguments.batch_size)


def claim(root: Path, about: dict[str, Any]) -> None:
    """Mark a folder as this comparison's.

    Raises:
        DataError: it is another's.
    """
    mark = root / "experiment.json"
    if not mark.exists():
        write_text(mark, json.dumps(about, indent=2) + "\n")
    elif json.loads(mark.read_text()) != about:
        raise DataError(f"{root}: holds a comparison with other settings; give another --runs, or remove it")


def parse() -> argparse.Namespace:
    names = [f"{block.start}-{block.taught_by}" for block in BLOCKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="", help="folder of aligned pairs; without it all video is procedural")
    parser.add_argument("--trunk", default="", help="ImageNet weights of the trunk, of the teacher too")
    parser.add_argument("--runs", type=Path, default=Path("runs/selection"), help="folder of the runs")
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--only", nargs="+", choices=names, default=names[:4], help="these students, in this order")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training and tracking, 2 to 10")
    parser.add_argument("--alpha", type=float, default=1000.0, help="weight of SCFD and MPSD, as the ablation chose it")
    parser.add_argument("--beta", type=float, default=100.0, help="weight of HFRD, as the ablation chose it")
    parser.add_argument("--steps", type=int, help="training steps of a student, in place of the size's")
    parser.add_argument("--teacher-steps", type=int, help="training steps of the teacher, in place of the size's")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="of training, in place of the size's")
    parser.add_argument("--videos", type=int, help="composed validation videos; a third as many procedural ones")
    parser.add_argument("--batch-size", type=int, default=16, help="videos tracked at once; does not change results")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare batches, of each run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run")
    parser.add_argument("--stage-minutes", type=float, default=float("inf"), help="stop in good order after so long")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto")
    return parser.parse_args()


def collected(blocks: Sequence[Block], arguments: argparse.Namespace, places: dict[str, Place]) -> dict[str, Any]:
    """Return what finished runs measured, by block, variant and seed."""
    found: dict[str, Any] = {block.title: {variant: {} for variant in VARIANTS} for block in blocks}
    for block, variant, seed in in_order(blocks, arguments.seeds):
        place = places[block.start]
        run = run_of(block, variant, seed, place.experiment.size, chosen_of(arguments, SIZE_OF[block.start]))
        if (each := measured(run, place)) is not None:
            found[block.title][variant][str(seed)] = each
    return {"rows": summary(found), "runs": found}


def chosen_of(arguments: argparse.Namespace, size: str) -> Chosen:
    """Return learning rates' factors of a size and the weights of the distillation."""
    return Chosen(SIZES[size].factors[0], arguments.alpha, arguments.beta)


def main() -> None:
    arguments = parse()
    start = time.time()
    blocks = [block for name in arguments.only for block in BLOCKS if f"{block.start}-{block.taught_by}" == name]
    device = choose_device(arguments.device).type
    end = start + 60 * arguments.stage_minutes
    places: dict[str, Place] = {}
    for name, preset in SIZE_OF.items():
        experiment = Experiment(changed(SIZES[preset], arguments), arguments.pairs, arguments.trunk)
        places[name] = Place(experiment, arguments.runs, device, arguments.threads, end, progress=arguments.jobs == 1)
    places[TEACHER] = places["random"]
    about: dict[str, Any] = {name: places[name].experiment.described() for name in SIZE_OF}
    claim(arguments.runs, about)
    runs = [
        run_of(block, variant, seed, places[block.start].experiment.size, chosen_of(arguments, SIZE_OF[block.start]))
        for block, variant, seed in in_order(blocks, arguments.seeds)
    ]
    if any(run.distillation is not None for run in runs):
        runs.insert(0, teacher_run(places[TEACHER].experiment.size))

    def write(left: Sequence[str] = ("the runs that are not listed",)) -> dict[str, Any]:
        report = {
            "machine": machine() | {"device": device, "jobs": arguments.jobs, "threads": arguments.threads},
            "experiments": about,
            "weights": {"alpha": arguments.alpha, "beta": arguments.beta},
            **collected(blocks, arguments, places),
            "minutes": round((time.time() - start) / 60, 1),
            "left": list(left),
        }
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")
        return report

    left = carry_out_all(runs, places, arguments.jobs, write)
    report = write(left)
    print("\n".join(["", *selection_table(report), "", *scores_table(report), "", *rms_table(report), ""]))
    print("\n".join([f"{report['minutes']} minutes; " + ("left:" if left else "nothing is left"), *left]))


if __name__ == "__main__":
    main()
