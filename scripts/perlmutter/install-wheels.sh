#!/usr/bin/env bash
# NOT run on Perlmutter from where it was written: it follows Legate's documentation of networking with wheels.
#
# Make a virtual environment from wheels on a login node, from the repository:
#     scripts/perlmutter/install-wheels.sh [FOLDER]        default $SCRATCH/spilegate-wheels
#
# Legate 25.10 is the newest whose wheels have networking and were seen to work on several ranks. It is UCX, which does not
# support Slingshot 11: fine on one node, slow on several; install-conda.sh gasnet is the quick way there.
# There are no wheels of legate-sparse: the merge uses spilegate's own conjugate gradients.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder="${1:-${SCRATCH:?SCRATCH is not set; name a folder}/spilegate-wheels}"
module load python
# Legate's bundled wrapper is for MPICH's stable interface, which this module has and cray-mpich has not.
module load cray-mpich-abi

python -m venv --clear "$folder"
"$folder/bin/python" -m pip install --editable '.[dev,legate]' legate==25.10.0 nvidia-cupynumeric==25.10.0 'numpy<2.4' \
    libucx-cu12==1.19.0 cupy-cuda12x cufinufft
cat >"$folder/bin/activate-spilegate" <<EOF
module load python cray-mpich-abi
source "$folder/bin/activate"
# cray-mpich-abi has no libmpi.so to recognise it by.
export LEGATE_MPI_WRAPPER=liblegate_mpi_wrapper_mpich.so
EOF
# shellcheck disable=SC1091 # written above
source "$folder/bin/activate-spilegate"
spilegate doctor
echo "in a job: source $folder/bin/activate-spilegate"
