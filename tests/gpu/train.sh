#!/usr/bin/env bash
# Train one of the five bundles at full width for so many minutes: a checkpoint and a curve every minute.
#
#   bash tests/gpu/train.sh NAME MINUTES [--data FOLDER] [--init_weights CHECKPOINT] [--piece_mib 15]
#
# NAME: dmmn, mrn, multires_encdec, da_refinenet, multilevel_unet. Results go to $OUT (output/gpu_training by default).
set -euo pipefail
out="${OUT:-output/gpu_training}"
source "$(dirname "$0")/environment.sh"
"$python" -m tests.gpu.train "$@" --output "$out" --prepare
"$python" -m tests.gpu.train "$@" --output "$out" 2>&1 | tee --ignore-interrupts "$out/log.txt"
