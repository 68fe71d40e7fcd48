#!/usr/bin/env bash
# Everything that needs a GPU, within eight minutes: the machine's account, the tests marked `gpu`, gpu.py, and tune on the device.
#
#     bash benchmarks/gpu_all.sh FOLDER [cuda|cpu]
#
# Each step has its share of the time and goes into files of its own in FOLDER; a step that fails or is late stops none of the others.
# FOLDER/summary.txt says how each ended. With `cpu` the same steps run without a GPU, as far as they can, to see that the script works.
set -u
out=${1:?which folder?}
device=${2:-cuda}
cd "$(dirname "$0")/.." || exit 2
mkdir -p "$out"
out=$(cd "$out" && pwd)
python=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
: >"$out/summary.txt"
failed=0

step() { # step NAME SECONDS COMMAND...
    local name=$1 seconds=$2 began=$SECONDS status
    shift 2
    timeout --kill-after=5 "$seconds" "$@" >"$out/$name.txt" 2>&1
    status=$?
    ((status == 0)) || failed=1
    ((status == 124 || status == 137)) && status="$status (more than $seconds s)"
    echo "$name: exit status $status, $((SECONDS - began)) s" | tee -a "$out/summary.txt"
}

network=torchvision:resnet18
rounds=20
batches=1,32
if [ "$device" = cpu ]; then rounds=2 batches=1; fi

command -v nvidia-smi >/dev/null && step nvidia_smi 15 nvidia-smi
step doctor 40 "$python" -m deploykit doctor
step tests 150 "$python" -m pytest -q -p no:cacheprovider -m gpu tests/runtime tests/backends tests/profiler tests/verdict
step gpu 150 "$python" benchmarks/gpu.py --network "$network" --device "$device" --rounds "$rounds" --batches "$batches" --out "$out"
step tune 110 "$python" -m deploykit tune "$network" --untrained --data noise --device "$device" --engines onnxruntime --precisions fp32,tf32,fp16 \
    --seconds 60 --out "$out/resnet18.tuned.onnx" --format json
exit "$failed"
