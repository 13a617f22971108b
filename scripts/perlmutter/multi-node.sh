#!/usr/bin/env bash
#SBATCH --job-name=spilegate
#SBATCH --qos=regular
#SBATCH --constraint=gpu
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --time=01:00:00
# NOT run on Perlmutter from where it was written.
#
# Reconstruct on all GPUs of several nodes, one rank a GPU, started by srun. From the repository, after
# install-conda.sh gasnet (or install-wheels.sh, then name its folder in SPILEGATE_WHEELS); the account is yours to name:
#     export SBATCH_ACCOUNT=m1234
#     sbatch --nodes=16 scripts/perlmutter/multi-node.sh data.h5 --output out/
set -euo pipefail
: "${SLURM_JOB_ID:?submit this with sbatch, with SBATCH_ACCOUNT set to your project}"
cd "${SLURM_SUBMIT_DIR:?}"
# shellcheck source=scripts/perlmutter/activate.sh
source scripts/perlmutter/activate.sh spilegate-gasnet

# Of 256 GB on the node and 40 GB on each GPU; cuFINUFFT, CuPy and cuFFT take theirs outside of Legate's.
# The tasks of one rank share one Python, so every GPU has a rank of its own.
legate --nodes "$SLURM_JOB_NUM_NODES" --ranks-per-node 4 --launcher srun --gpus 1 --cpus 1 --sysmem 25000 --zcmem 1000 \
    --fbmem 24000 spilegate/main.py reconstruct "$@"
