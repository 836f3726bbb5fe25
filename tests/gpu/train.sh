#!/usr/bin/env bash
# Train one of the five bundles at full width for so many minutes: a checkpoint and a curve every minute.
#
#   bash tests/gpu/train.sh NAME MINUTES [--data FOLDER] [--start_from CHECKPOINT] [--piece_mib 15]
#
# NAME: dmmn, mrn, multires_encdec, da_refinenet, multilevel_unet. Writes to $OUT (output/gpu_training by default).
set -euo pipefail
cd "$(dirname "$0")/../.."
export OUT="${OUT:-$PWD/output/gpu_training}"
mkdir -p "$OUT"
python="${PYTHON:-python3}"
source tests/gpu/environment.sh
"$python" -m tests.gpu.train "$@" --output "$OUT" 2>&1 | tee "$OUT/log.txt"
