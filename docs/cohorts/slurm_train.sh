#!/usr/bin/env bash
# Training on several machines with SLURM: sbatch --nodes=2 slurm_train.sh --datalist … --output_dir … --checkpoint_dir …
# Submitted again, it resumes after the last finished epoch.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
set -euo pipefail

: "${BUNDLE:?folder of the bundle that all nodes see}"

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
gpus=${SLURM_GPUS_PER_NODE:-1}
# Without it, torchrun may look for processes where they were before it restarted them, and wait forever
# (pytorch/pytorch issue 135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / ${gpus##*:}))

cd "$BUNDLE"
srun torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc_per_node="${gpus##*:}" --max-restarts=3 \
  --rdzv_id="$SLURM_JOB_ID" --rdzv_backend=c10d --rdzv_endpoint="$head:29500" \
  -m monai.bundle run --config_file "['configs/train.yaml','configs/multi_gpu_train.yaml']" "$@"
