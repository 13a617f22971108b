#!/usr/bin/env bash
# NOT run on Perlmutter from where it was written.
#
# Sourced by the jobs, from the repository: activate the wheels in SPILEGATE_WHEELS (see install-wheels.sh) if it is set,
# else the conda environment in SPILEGATE_CONDA, else the one given (see install-conda.sh):
#     source scripts/perlmutter/activate.sh ENVIRONMENT
set -euo pipefail
# Activation scripts of packages use variables that are not set.
set +u
if [[ -n "${SPILEGATE_WHEELS:-}" ]]; then
    # shellcheck disable=SC1091 # written by install-wheels.sh
    source "$SPILEGATE_WHEELS/bin/activate-spilegate"
else
    module load conda
    # With the one for several nodes come LEGATE_MPI_WRAPPER, REALM_GASNETEX_WRAPPER and GASNet's settings for Slingshot.
    conda activate "${SPILEGATE_CONDA:-$1}"
fi
set -u
