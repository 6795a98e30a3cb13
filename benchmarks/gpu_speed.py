"""Measures frames per second and training steps per second on a GPU, shares of the roofline, and a profile.

Needs torch, einops, numpy, OpenCV and tqdm; no network, weights or data. Rows are measured in order of importance, and
each is stored in --work-dir and --out. After --time-limit minutes it stops; the same command resumes, also from --out
alone. With --device cpu it measures a CPU. --out keeps the figures of both devices.

Tracking: ``track_batch`` over decoded frames in memory, after the warm-up. Includes crops on the host, upload, network,
localization, refinement and filter updates. The network is random and the tracker rejects no frame. The student is
pruned, without layer4 and fc, with folded batch norm; bfloat16 is autocast.

Network: the convolutions and matrix products of a frame, with crops on the device, and each of their optimizations.

CMD step: forward and backward of CMD with given features, against plain PyTorch in the same run.

Training: a whole step on a batch on the device: forward, backward, checks, clipping, Adam. The teacher's features are
precomputed, except in "all, with the teacher".

Example:
    PYTHONPATH=. python benchmarks/gpu_speed.py --out benchmarks/results/gpu_speed.json
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, fields
from pathlib import Path

START = time.monotonic()
"""The time limit counts from here, because importing PyTorch takes long on a fresh machine."""

try:
    import torch
    from parts.gpu.experiment import Experiment
    from parts.gpu.rows import DEFAULT_ROW_LIMIT, RowStore, by_importance, measure, rows
    from parts.gpu.tables import costs, tables, targets_table
    from parts.report_fields import machine

    from mmdistill.reference.device import choose_device
    from mmdistill.toolkit.io import write_text
except ModuleNotFoundError as error:
    raise SystemExit(
        f"gpu_speed: {error.name} is not installed; needs torch, einops, numpy, OpenCV (cv2), tqdm, and the checkout "
        "on PYTHONPATH"
    ) from error


HELP = {
    "device": "auto, cpu or cuda",
    "threads": "CPU threads, 0 for PyTorch's default",
    "width": "width of the trunks",
    "crop": "crop size, pixels",
    "teacher_depth": "ResNet depth of the teacher",
    "videos": "numbers of videos per batch",
    "frames": "timed frames per video",
    "warmup": "frames before the timed ones",
    "rounds": "measurements per row",
    "seconds": "seconds per round",
    "frame_width": "pixels",
    "frame_height": "pixels",
    "batch_size": "samples per training batch",
    "frames_per_sample": "train frames, and test frames, per sample",
    "sampling": "share of positions of sampled SCFD",
    "matmul_size": "matrix size of the arithmetic ceiling",
    "copy_mib": "MiB of the bandwidth ceiling's copy",
}
"""Help text of each setting."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for each in fields(Experiment):
        many = isinstance(each.default, tuple)
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=int if many else type(each.default),
            nargs="+" if many else None,
            default=each.default,
            help=f"{HELP[each.name]}; default %(default)s",
        )
    parser.add_argument("--work-dir", type=Path, default=Path("runs/gpu_speed"), help="folder of the stored rows")
    parser.add_argument("--time-limit", type=float, default=8.0, help="stop after this many minutes; default 8")
    parser.add_argument(
        "--row-limit", type=float, default=DEFAULT_ROW_LIMIT, help="most seconds of a row; default %(default)s"
    )
    parser.add_argument("--only", nargs="+", default=[""], help="only rows whose names start with these")
    parser.add_argument("--out", type=Path, help="JSON report of all devices")
    arguments = vars(parser.parse_args())
    values = {each.name: arguments[each.name] for each in fields(Experiment)}
    device = choose_device(values["device"])
    experiment = Experiment(**{**values, "device": device.type, "videos": tuple(values["videos"])})
    if experiment.threads:
        torch.set_num_threads(experiment.threads)
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else "none"
    machine_fields = machine() | {"GPU": gpu, "threads": torch.get_num_threads()}
    undated = {key: value for key, value in machine_fields.items() if key != "date"}
    store = RowStore(arguments["work_dir"], {"experiment": asdict(experiment), "machine": undated})
    out = arguments["out"]
    report = json.loads(out.read_text()) if out is not None and out.exists() else {}
    store.import_report(report.get(device.type, {}))
    possible = rows(experiment, lambda: store.read("ceilings") or {})
    prefixes = tuple(arguments["only"])
    order = [key for key in by_importance(possible) if key == "ceilings" or key.startswith(prefixes)]

    def write_report() -> None:
        stored = {key: row for key in possible if (row := store.read(key))}
        report[device.type] = {
            "machine": machine_fields,
            "experiment": asdict(experiment),
            "rows": stored,
            "relative cost of the losses": costs(stored),
        }
        if out is not None:
            write_text(out, json.dumps(report, indent=2) + "\n")

    _, unfinished = measure(
        {key: possible[key] for key in order},
        store,
        START + 60 * arguments["time_limit"],
        row_limit=arguments["row_limit"],
        after_row=write_report,
    )
    write_report()
    for title, lines in ({"targets": targets_table(report)} | tables(report)).items():
        print(f"\n{title}\n\n" + "\n".join(lines))
    print(f"\nrelative cost of the losses: {report[device.type]['relative cost of the losses']}")
    print(f"\nunfinished rows: {len(unfinished)}" + (f", next {unfinished[0]}" if unfinished else ""))


if __name__ == "__main__":
    main()
