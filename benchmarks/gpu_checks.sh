#!/usr/bin/env bash
# Runs the tests that need a GPU, then gpu_speed.py, in MINUTES altogether (default 8). Resumes in the same folder:
# repeat it until it prints "unfinished tests: 0" and "unfinished rows: 0".
#     benchmarks/gpu_checks.sh OUTPUT_FOLDER [MINUTES [OPTIONS of gpu_speed.py]]
# Needs python3 with torch, einops, numpy, OpenCV, safetensors, tqdm, pytest and hypothesis; no network.
# Results: tests.txt, tests.jsonl and gpu_speed.json in OUTPUT_FOLDER. With these three it resumes on another machine.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
minutes=${2:-8}
shift $(($# < 2 ? $# : 2))
export PYTHONPATH=$PWD:$PWD/benchmarks PYTHONUNBUFFERED=1
tests=(tests/reference/tracking/test_*_gpu.py tests/reference/training/test_*_gpu.py tests/test_*_gpu.py)

# Prints the seconds that are left, at least 1, less the argument.
left() {
    python3 -c "print(max(1, round(60 * $minutes - $SECONDS - $1)))"
}

if [ $# -eq 0 ] && ! python3 -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "gpu_checks: expected a GPU that PyTorch can use" >&2
    exit 1
fi

# Tests get 40 % of the time. One that hangs is ended by timeout, and is the last one of the next call.
if ! grep -qs "unfinished tests: 0$" "$out/tests.txt"; then
    seconds=$(python3 -c "print(round(0.4 * 60 * $minutes))")
    timeout --kill-after=5 $((seconds + 20)) \
        python3 -m pytest -p parts.gpu.resumed_tests --progress-file "$out/tests.jsonl" --seconds "$seconds" \
        -rfE -p no:cacheprovider "${tests[@]}" >> "$out/tests.txt" 2>&1
    tail -n 30 "$out/tests.txt"
fi

# gpu_speed.py stops by itself; timeout ends it if a call on the GPU hangs.
limit=$(python3 -c "print($(left 15) / 60)")
timeout --kill-after=5 "$(left 5)" python3 benchmarks/gpu_speed.py \
    --device cuda --work-dir "$out/rows" --out "$out/gpu_speed.json" "$@" --time-limit "$limit"
echo "$SECONDS seconds"
