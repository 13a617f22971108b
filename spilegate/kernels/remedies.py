"""How to get what is missing, and which versions of CUDA do not go together."""

from __future__ import annotations

import contextlib
import re
from importlib import metadata

from spilegate.kernels.findings import cuda_version

DRIVER = "libcuda.so.1"
# Distributions that bring CuPy; wheels have CUDA's version in their name, conda's has not.
CUPY = ("cupy-cuda12x", "cupy-cuda13x", "cupy")
# What an environment without any of it gets: CUDA 12's wheels work with every driver from 525 on.
USUAL_CUDA = 12
GET_CUPY = {12: "pip install 'spilegate[gpu]'", 13: "pip install 'spilegate[gpu13]'"}
# The published wheel is linked with CUDA 12's libraries.
GET_CUFINUFFT = {
    12: GET_CUPY[12],
    13: "scripts/build_cufinufft in the repository, which builds it with nvcc, then pip install its wheel",
}
GET_LEGATE = "pip install 'spilegate[legate]', or scripts/setup legate in the repository"
REMEDIES = {
    "numpy": "pip install numpy",
    "finufft": "pip install finufft",
    "legate": GET_LEGATE,
    "cupynumeric": GET_LEGATE,
    "legate_sparse": "conda, with scripts/perlmutter/environment.yml; there are no wheels",
    DRIVER: "install the NVIDIA driver; without a GPU, scripts/setup legate fetches the library from Debian",
    "GPU": "a computer with an NVIDIA GPU and its driver; CUDA_VISIBLE_DEVICES can leave out one that does not work",
    "networking of legate": "legate 25.10.0 (scripts/setup mpi in the repository), or conda's legate",
    "mpirun or srun": "scripts/setup mpi in the repository, which brings Open MPI; else this computer's MPI",
}


def cuda_of_distributions(in_use: int) -> dict[str, int]:
    """Return CUDA's major version by the name of what is installed for it, as far as that can be told.

    in_use : version of CUDA that CuPy uses, 13.1 is 13010, 0 if not known
    """
    found = {}
    for name in CUPY:
        named = re.search(r"-cuda(\d+)x$", name)
        major = int(named.group(1)) if named else in_use // 1000
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(name)
            found[name] = major
    with contextlib.suppress(metadata.PackageNotFoundError):
        # The wheel's own name does not say it; those of what it needs do.
        needed = re.search(r"-cu(\d+)\b", " ".join(metadata.requires("legate") or []))
        if needed is not None:
            found["legate"] = int(needed.group(1))
    return {name: major for name, major in found.items() if major > 0}


def wanted_cuda(cuda: dict[str, int]) -> int:
    """Return CUDA's major version that what is missing should be for: that of the rest, of Legate before CuPy.

    Of two versions side by side the newer one's libraries are found first, so that the older cufinufft does not load.
    """
    of_cupy = {major for name, major in cuda.items() if name in CUPY}
    major = cuda.get("legate", of_cupy.pop() if len(of_cupy) == 1 else USUAL_CUDA)
    return major if major in GET_CUPY else USUAL_CUDA


def remedies(cuda: dict[str, int]) -> dict[str, str]:
    """Return how to get every part, by its name, for the CUDA that the rest is for."""
    wanted = wanted_cuda(cuda)
    # Beside conda's CuPy a wheel of another one would overwrite its files.
    plain = "cupy" in cuda and wanted == USUAL_CUDA
    cufinufft = "pip install 'cufinufft>=2.5.1'" if plain else GET_CUFINUFFT[wanted]
    return {**REMEDIES, "cupy": GET_CUPY[wanted], "cufinufft": cufinufft}


def mixtures(cuda: dict[str, int], driver: int) -> list[str]:
    """Return what does not go together, a sentence each, with what to do.

    driver : newest version of CUDA that the driver is for, 13.1 is 13010, 0 if not known
    """
    found = []
    of_cupy, wanted = [name for name in cuda if name in CUPY], wanted_cuda(cuda)
    steps = dict.fromkeys([f"pip uninstall {' '.join(of_cupy)} cufinufft", GET_CUPY[wanted], GET_CUFINUFFT[wanted]])
    anew = f"{', then '.join(steps)}."
    if len(of_cupy) > 1:
        found.append(f"{' and '.join(of_cupy)} overwrite each other's files; expected one of them: {anew}")
    elif of_cupy and "legate" in cuda and cuda[of_cupy[0]] != cuda["legate"]:
        versions = f"{of_cupy[0]} is for CUDA {cuda[of_cupy[0]]}, legate for CUDA {cuda['legate']}"
        found.append(f"{versions}; expected one CUDA: {anew}")
    found.extend(
        f"{name} is for CUDA {major}, the driver for CUDA {cuda_version(driver)} at most; "
        f"expected a newer driver, or {name} for an older CUDA."
        for name, major in cuda.items()
        if 0 < driver // 1000 < major
    )
    return found
