#!/usr/bin/env bash
# A cohort on SLURM: sbatch --nodes=4 slurm_cohort.sh. The same command resumes, also after a time limit.
#SBATCH --job-name=cohort
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
set -euo pipefail

: "${BUNDLE:?folder of the bundle that all nodes see}"
: "${SLIDES:?datalist, table, glob or URL}"
: "${OUTPUT:?folder that all nodes see, or a URL}"
: "${CACHE:=${TMPDIR:-/tmp}/multimag-cache}" # on each node's own disk

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
# With exec, so that the background job is srun itself and ends when it is killed.
on() { exec srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" "${@:2}"; }
ip=$(on "$head" hostname --ip-address | awk '{print $1}')
address=$ip:${RAY_PORT:-6379}
gpus=${SLURM_GPUS_PER_NODE:-0}
gpus=${gpus##*:} # the number in "a100:4"
room=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block)

# Only this job can use the cluster: srun passes the token on to it.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | sha256sum | cut -c 1-64)

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
on "$head" ray start --head --node-ip-address="$ip" --port="${address##*:}" "${room[@]}" &
until ray status --address="$address" >/dev/null 2>&1; do sleep 2; done
for node in "${nodes[@]:1}"; do
  on "$node" ray start --address="$address" "${room[@]}" &
done

# Given explicitly, as nodes may not have joined yet.
if ((gpus > 0)); then
  workers=(--workers $((${#nodes[@]} * gpus)) --gpus 1 --cpus $((SLURM_CPUS_PER_TASK / gpus)))
else
  workers=(--workers "${#nodes[@]}" --gpus 0 --cpus "$SLURM_CPUS_PER_TASK")
fi
multimag cohort --bundle "$BUNDLE" --slides "$SLIDES" --output "$OUTPUT" --cache "$CACHE" --ray "$address" "${workers[@]}" "$@"
