"""How fast a GPU tracks and trains, how far that is from what it could do, and what takes the rest.

    PYTHONPATH=. python benchmarks/gpu_speed.py --out benchmarks/results/gpu_speed.json

Needs torch, einops, numpy, OpenCV and tqdm, no network, no weights, no data. It measures row by row and keeps each row
in ``--runs``; after ``--minutes`` it begins no other, and the same command goes on from there, or from ``--out`` alone.
With ``--device cpu`` it does the same on a processor, with sizes that suit one; ``--out`` keeps both devices' figures
side by side.

Tracking: ``track_batch`` over frames that are decoded and in memory, from the end of the warm-up to the end of the
videos. In it is all that a frame takes: crops on the host, upload, network, localization, refinement, learning. The
network is random, so the tracker believes every frame, and does a trained one's work. The student is the one that is
shipped, without the paper's unused layer4 and fc, and with batch norm folded; bfloat16 is autocast.

Network: what of a frame is convolutions and matrix products, on crops that are on the device; beside it the roofline,
and ways to make it faster that are not in the tracker.

Training: a whole training step on a batch that is on the device: forward, backward, checks, clipping, Adam. With the
losses the teacher's features are given, but where it says that the teacher is asked.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path

try:
    import torch
    from parts.gpu.experiment import Experiment
    from parts.gpu.kept_rows import Kept, measure
    from parts.gpu.rows import rows
    from parts.gpu.tables import costs, tables
    from parts.gpu.targets import targets_table
    from parts.machine import machine

    from mmdistill.reference.device import choose_device
    from mmdistill.toolkit.io import write_text
except ModuleNotFoundError as error:
    raise SystemExit(
        f"gpu_speed: {error.name} is not here; it needs torch, einops, numpy, OpenCV (cv2), tqdm, and the checkout on "
        "PYTHONPATH"
    ) from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for each in fields(Experiment):
        many = isinstance(each.default, tuple)
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=int if many else type(each.default),
            nargs="+" if many else None,
            default=each.default,
        )
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu_speed"), help="where rows are kept")
    parser.add_argument("--minutes", type=float, default=8.0, help="after these no other row is begun")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names begin with any of these")
    parser.add_argument("--out", type=Path, help="file for the report of all devices")
    arguments = vars(parser.parse_args())
    given = {each.name: arguments[each.name] for each in fields(Experiment)}
    device = choose_device(given["device"])
    experiment = Experiment(**{**given, "device": device.type, "videos": tuple(given["videos"])})
    if experiment.threads:
        torch.set_num_threads(experiment.threads)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "none"
    where = machine() | {"GPU": name, "threads": torch.get_num_threads()}
    about = {"experiment": asdict(experiment), "machine": {key: value for key, value in where.items() if key != "date"}}
    kept = Kept(arguments["runs"], about)
    out = arguments["out"]
    report = json.loads(out.read_text()) if out is not None and out.exists() else {}
    kept.take(report.get(device.type, {}))
    possible = rows(experiment, lambda: kept.read("ceilings") or {})
    asked = {key: row for key, row in possible.items() if key == "ceilings" or key.startswith(tuple(arguments["only"]))}
    found, left = measure(asked, kept, arguments["minutes"])
    found = {key: row for key in possible if (row := found.get(key) or kept.read(key))}
    report[device.type] = {
        "machine": where,
        "experiment": asdict(experiment),
        "rows": found,
        "what losses add, in the student's own steps": costs(found),
    }
    for title, lines in ({"targets": targets_table(report)} | tables(report)).items():
        print(f"\n{title}\n\n" + "\n".join(lines))
    print(f"\nwhat losses add, in the student's own steps: {costs(found)}")
    if out is not None:
        write_text(out, json.dumps(report, indent=2) + "\n")
    if left:
        print(f"\n{len(left)} rows are left, {left[0]} first; the same command goes on from here")


if __name__ == "__main__":
    main()
