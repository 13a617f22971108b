#!/usr/bin/env bash
# NOT run on Perlmutter from where it was written: it follows Legate's documentation of conda and GASNet packages.
#
# Make the conda environment `spilegate` on a login node, from the repository:
#     scripts/perlmutter/install-conda.sh            Legate over UCX: for one node
#     scripts/perlmutter/install-conda.sh gasnet     Legate over GASNet-EX: for several nodes
#
# Why two: conda's ordinary Legate is built with UCX, which does not support Perlmutter's Slingshot 11. The packages under
# the label `gex` have GASNet-EX instead; its wrapper and MPI's are compiled here, against Cray's MPI. Whether legate-sparse
# goes with these packages is not known: that environment is made without, and the merge uses spilegate's own conjugate
# gradients.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
variant="${1:-ucx}"
file=scripts/perlmutter/environment.yml
# A login node has no GPU to choose the packages by.
export CONDA_OVERRIDE_CUDA="${CONDA_OVERRIDE_CUDA:-12.4}"

case "$variant" in
ucx | gasnet) module load conda ;;
*)
    echo "install-conda.sh: unknown variant '$variant'; expected ucx or gasnet" >&2
    exit 2
    ;;
esac
case "$variant" in
ucx)
    name=spilegate
    conda env create --yes --name "$name" --file "$file"
    ;;
gasnet)
    name=spilegate-gasnet
    own="$(mktemp --suffix=.yml)"
    trap 'rm -f "$own"' EXIT
    sed -e '/legate-sparse/d' -e 's|^  - legate$|  - legate/label/gex\n  - legate|' \
        -e 's|^  - legate>=.*|&\n  - realm-gex-wrapper\n  - legate-mpi-wrapper\n  - cmake>=3.26|' "$file" >"$own"
    conda env create --yes --name "$name" --file "$own"
    ;;
esac

# Activation scripts of packages use variables that are not set.
set +u
conda activate "$name"
if [[ "$variant" == gasnet ]]; then
    "$CONDA_PREFIX/mpi-wrapper/build-mpi-wrapper.sh"
    "$CONDA_PREFIX/gex-wrapper/build-gex-wrapper.sh"
fi
python -m pip install --no-deps --editable .
spilegate doctor
