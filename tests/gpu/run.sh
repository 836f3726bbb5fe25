#!/usr/bin/env bash
# Run the kit on this machine: everything that has to be shown and measured on a GPU, in at most nine minutes.
#
#   bash tests/gpu/run.sh [--miniature] [--only STEP ...] [--seconds 520]
#
# Results go to $OUT (output/gpu by default) as they come. Packages that wheels.sh collected in .whl are used where the
# machine's own Python lacks them; nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OUT="${OUT:-$PWD/output/gpu}"
mkdir -p "$OUT"
python="${PYTHON:-python3}"
source tests/gpu/environment.sh
"$python" -m tests.gpu.kit "$OUT" "$@" 2>&1 | tee "$OUT/log.txt"
