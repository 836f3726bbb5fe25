#!/usr/bin/env bash
# Run the kit on this machine: everything that has to be shown and measured on a GPU, in at most nine minutes.
#
#   bash tests/gpu/run.sh [--miniature] [--only STEP ...] [--seconds 520]
#
# Results go to $OUT (output/gpu by default) as they come. $PYTHON is the Python to use (python3 by default). Packages
# that wheels.sh collected in .whl/ are used where it lacks them; nothing is downloaded.
set -euo pipefail
out="${OUT:-output/gpu}"
source "$(dirname "$0")/environment.sh"
# A mistake in the arguments must not touch earlier results.
"$python" -m tests.gpu.run "$out" "$@" --prepare
# What installing has taken counts.
"$python" -m tests.gpu.run "$out" --seconds $((520 - SECONDS)) "$@" 2>&1 | tee --ignore-interrupts "$out/log.txt"
