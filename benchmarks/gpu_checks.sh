#!/usr/bin/env bash
# Runs the tests that need a GPU, then gpu_speed.py. Repeat it until it prints "unfinished rows: 0". Needs python3 with torch, einops, numpy, OpenCV, safetensors, tqdm, pytest and
# hypothesis; no network.
#     benchmarks/gpu_checks.sh OUTPUT_FOLDER [MINUTES]
# Takes MINUTES (default 8) and the rest of the current row. The tests run once, at most 5 minutes. The measurement
# resumes, also if only gpu_speed.json and tests.txt are left in OUTPUT_FOLDER.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
minutes=${2:-8}
start=$SECONDS
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
tests=(tests/test_losses_gpu.py tests/reference/training/test_training_gpu.py tests/reference/tracking/test_tracking_gpu.py)

if [ ! -e "$out/tests.txt" ]; then
    timeout 300 python3 -m pytest -rs "${tests[@]}" > "$out/tests.part" 2>&1 || echo "some tests failed: $out/tests.txt" >&2
    mv "$out/tests.part" "$out/tests.txt"
    tail -n 30 "$out/tests.txt"
fi
remaining=$(python3 -c "print(max(0, $minutes - ($SECONDS - $start) / 60))")
python3 benchmarks/gpu_speed.py --device cuda --time-limit "$remaining" --work-dir "$out/rows" --out "$out/gpu_speed.json"
