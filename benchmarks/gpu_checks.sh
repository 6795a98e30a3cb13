#!/usr/bin/env bash
# All that only a GPU can show, in one command to be started again until it says that nothing is left: the tests that
# skip without one, then gpu_speed.py. Needs python3 with torch, einops, numpy, OpenCV, safetensors, tqdm, pytest and
# hypothesis; no network.
#     benchmarks/gpu_checks.sh OUTPUT_FOLDER [MINUTES]
# Takes MINUTES (8) and what is then under way. The tests run once, for 5 minutes at most; the figures go on where they
# were, also where of OUTPUT_FOLDER only gpu_speed.json and tests.txt are left.
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
left=$(python3 -c "print(max(0, $minutes - ($SECONDS - $start) / 60))")
python3 benchmarks/gpu_speed.py --device cuda --minutes "$left" --runs "$out/rows" --out "$out/gpu_speed.json"
