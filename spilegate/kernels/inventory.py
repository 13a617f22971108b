"""What is installed here and what would run here, found out without importing or starting any of it."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

DRIVER = "libcuda.so.1"
# A module and the distributions that may bring it; wheels and conda name some of them differently.
DISTRIBUTIONS = {
    "numpy": ("numpy",),
    "finufft": ("finufft",),
    "legate": ("legate",),
    "cupynumeric": ("nvidia-cupynumeric", "cupynumeric"),
    "legate_sparse": ("legate-sparse",),
    "cupy": ("cupy-cuda12x", "cupy-cuda13x", "cupy"),
    "cufinufft": ("cufinufft",),
}
GET_LEGATE = "pip install 'spilegate[legate]', or scripts/setup legate in the repository"
GET_NETWORK = "legate and nvidia-cupynumeric 25.10.0 (scripts/setup mpi in the repository), or conda's legate"
GET_SPARSE = "conda, with scripts/perlmutter/environment.yml; there are no wheels"
GET_MPI = "install openmpi-bin, libopenmpi-dev, libucx0 and libibverbs1 (Debian's names)"
PURPOSES = {
    "numpy": ("arrays", "pip install numpy"),
    "finufft": ("NUFFT on CPUs", "pip install finufft"),
    "legate": ("arrays split over processors and computers", GET_LEGATE),
    "cupynumeric": ("NumPy's functions on them", GET_LEGATE),
    "legate_sparse": ("the merge's conjugate gradients, if there", GET_SPARSE),
    "cupy": ("arrays on GPUs", "pip install cupy-cuda12x or cupy-cuda13x, as the driver has it"),
    "cufinufft": ("NUFFT on GPUs", "pip install cufinufft"),
}
UNTRIED = (
    "No part of spilegate has run on a GPU yet: not the FFT, the NUFFT (cufinufft), the matching, refining and soft "
    "assignment of patterns (CuPy), nor the merge's conjugate gradients"
)


@dataclass(frozen=True)
class Machine:
    """What was found.

    cores, memory_mib : what this process may use, and the computer's memory [MiB]
    versions : version by module name, None for what is not installed
    needs_driver : whether the installed Legate is linked with the driver's library; conda has one that is not
    driver_fault : why that library cannot be loaded, None if it can
    private_driver : folder in which this environment keeps that library, None if it has none
    devices : name of every GPU
    networks : networks that the installed Legate was built with
    launchers : path by name ("mpirun", "srun") of the programs that start several ranks, as far as found
    """

    cores: int
    memory_mib: int
    versions: dict[str, str | None]
    needs_driver: bool
    driver_fault: str | None
    private_driver: Path | None
    devices: tuple[str, ...]
    networks: tuple[str, ...]
    launchers: dict[str, str]


@dataclass(frozen=True)
class Part:
    """One thing that some run needs: `found` is None for what is missing, `remedy` how to get it."""

    name: str
    found: str | None
    purpose: str
    remedy: str


@dataclass(frozen=True)
class Start:
    """One way to start a reconstruction: it runs as `how` says unless there are obstacles, each with its remedy."""

    command: str
    how: str
    obstacles: tuple[Part, ...]


def examine(cores: int) -> Machine:
    """Look at this environment and this computer; `cores` is the number of threads that a run would use."""
    driver_fault, devices = _devices()
    about = _about_legate()
    networks = re.search(r"^networks\b.*?\"([^\"]*)\"", about, re.MULTILINE)
    private = Path(sys.prefix) / "libcuda"
    return Machine(
        cores=cores,
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        versions={module: _version(module) for module in DISTRIBUTIONS},
        needs_driver=re.search(r"^use_cuda\b.*= *OFF$", about, re.MULTILINE) is None,
        driver_fault=driver_fault,
        private_driver=private if (private / DRIVER).exists() else None,
        devices=devices,
        networks=tuple(networks.group(1).split()) if networks else (),
        launchers={name: path for name in ("mpirun", "srun") if (path := shutil.which(name))},
    )


def _version(module: str) -> str | None:
    """Return the version of an installed module, None if it is not installed; the module is not imported."""
    if find_spec(module) is None:
        return None
    for distribution in DISTRIBUTIONS[module]:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "unknown version"


def _devices() -> tuple[str | None, tuple[str, ...]]:
    """Return why the driver's library cannot be loaded (None if it can), and the names of the GPUs it knows."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        return str(error), ()
    count, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return None, ()
    names = []
    for index in range(count.value):
        known = driver.cuDeviceGetName(name, len(name), index) == 0
        names.append(name.value.decode() if known else f"GPU {index}")
    return None, tuple(names)


def _about_legate() -> str:
    """Return what the installed Legate says about how it was built, as text: importing it might start it."""
    spec = find_spec("legate")
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [Path(folder) / "install_info.py" for folder in folders]
    return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


def parts(machine: Machine) -> list[Part]:
    """Return everything that some run needs, found or missing."""
    modules = [Part(name, machine.versions[name], *PURPOSES[name]) for name in DISTRIBUTIONS]
    gpus = f"{len(machine.devices)} x {machine.devices[0]}" if machine.devices else None
    return [
        *modules,
        _driver(machine),
        Part("GPU", gpus, "needed for --gpus", "a computer with an NVIDIA GPU, and its driver"),
        Part("networking of legate", ", ".join(machine.networks) or None, "several ranks", GET_NETWORK),
        Part("mpirun or srun", ", ".join(machine.launchers.values()) or None, "starts several ranks", GET_MPI),
    ]


def _driver(machine: Machine) -> Part:
    """Return the driver's library."""
    if machine.driver_fault is not None and machine.private_driver is not None:
        remedy = f"start with scripts/legate, or put {machine.private_driver} on LD_LIBRARY_PATH"
    else:
        remedy = "install the NVIDIA driver; without a GPU, scripts/setup legate fetches the library from Debian"
    found = None if machine.driver_fault is not None else "can be loaded"
    purpose = "Legate does not start without it, GPU or not" if machine.needs_driver else "GPUs"
    return Part(DRIVER, found, purpose, remedy)


def starts(machine: Machine) -> list[Start]:
    """Return the ways to start a reconstruction, each with what keeps it from running here."""
    missing = {part.name: part for part in parts(machine) if part.found is None}

    def obstacles(*names: str) -> tuple[Part, ...]:
        return tuple(missing[name] for name in names if name in missing)

    base = ["numpy", "finufft", "legate", "cupynumeric", *([DRIVER] if machine.needs_driver else [])]
    program = "spilegate/main.py reconstruct ..."
    memory = min(4000, machine.memory_mib // 2)
    gpus = max(1, len(machine.devices))
    starter = "mpirun" if "mpirun" in machine.launchers or "srun" not in machine.launchers else "srun"
    threads = _count(machine.cores, "thread")
    return [
        Start("spilegate reconstruct ...", f"on NumPy with {threads}", obstacles("numpy", "finufft")),
        Start(
            f"legate --cpus {machine.cores} --gpus 0 --sysmem {memory} {program}",
            f"on cuPyNumeric, split over {_count(machine.cores, 'CPU')}",
            obstacles(*base),
        ),
        Start(
            f"legate --gpus {gpus} {program}",
            f"on cuPyNumeric, split over {_count(gpus, 'GPU')} (not tried yet)",
            obstacles(*dict.fromkeys([*base, DRIVER]), "GPU", "cupy", "cufinufft"),
        ),
        Start(
            f"legate --ranks-per-node 2 --launcher {starter} --cpus 1 --gpus 0 --sysmem {memory // 2} {program}",
            "on cuPyNumeric, split over 2 ranks (scripts/legate --environment mpi sets what UCX wants)",
            obstacles(*base, "networking of legate", "mpirun or srun"),
        ),
    ]


def _count(number: int, word: str) -> str:
    """Return a number of things in words: "1 CPU", "2 CPUs"."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def solver(machine: Machine) -> str:
    """Return which conjugate gradients the merge would use under Legate."""
    if machine.versions["legate_sparse"] is None:
        return "spilegate's own conjugate gradients, because legate_sparse is not installed"
    return f"legate_sparse.linalg.cg of legate_sparse {machine.versions['legate_sparse']}"


def remarks(machine: Machine) -> list[str]:
    """Return what else a user has to know, a sentence each."""
    return [f"Under legate the merge would be solved by {solver(machine)}.", f"{UNTRIED}."]
