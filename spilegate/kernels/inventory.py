"""What is installed here, what works, and what would run here; Legate, which an import would start, is not imported."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from spilegate.kernels.findings import Check, Trial, cuda_version
from spilegate.kernels.remedies import CUPY, DRIVER, cuda_of_distributions, mixtures, remedies
from spilegate.kernels.trial import attempt
from spilegate.kernels.trying import LIBRARIES

# A module and the distributions that may bring it; wheels and conda name some of them differently.
DISTRIBUTIONS = {
    "numpy": ("numpy",),
    "finufft": ("finufft",),
    "legate": ("legate",),
    "cupynumeric": ("nvidia-cupynumeric", "cupynumeric"),
    "legate_sparse": ("legate-sparse",),
    "cupy": CUPY,
    "cufinufft": ("cufinufft",),
}
PURPOSES = {
    "numpy": "arrays",
    "finufft": "NUFFT on CPUs",
    "legate": "arrays split over processors and computers",
    "cupynumeric": "NumPy's functions on them",
    "legate_sparse": "the merge's conjugate gradients, if there",
    "cupy": "arrays on GPUs",
    "cufinufft": "NUFFT on GPUs",
}
UNTRIED = (
    "--backend cupy has run on one H100: every kernel and stage agrees with NumPy there, and a blind run gave the same "
    "orientations; runs under legate --gpus have not been tried on a GPU yet. scripts/gpu_check says what holds here"
)
# What CuPy, cuFFT and cufinufft take lies beside what Legate sets apart for itself: so much of what is free.
LEGATES_PART = 0.6
# Where there is no GPU to ask [MiB]; and how many GPUs such a computer is thought to have.
SOME_MEMORY, SOME_GPUS = 40_000, 4
# How the dynamic linker says that a library is not there, which needs no other reason.
NO_FILE = "No such file"
PROGRAM = "spilegate/main.py reconstruct ..."


@dataclass(frozen=True)
class Machine:
    """What was found.

    cores, memory_mib : what this process may use, and the computer's memory [MiB]
    versions : version by module name, None for what is not installed or does not load
    cuda : CUDA's major version by the name of what is installed for it, as far as that can be told
    needs_driver : whether the installed Legate is linked with the driver's library; conda has one that is not
    private_driver : folder in which this environment keeps that library, None if it has none
    networks : networks that the installed Legate was built with
    launchers : path by name ("mpirun", "srun") of the programs that start several ranks, as far as found
    trial : what libraries, the driver and GPUs did when they were tried
    """

    cores: int
    memory_mib: int
    versions: dict[str, str | None]
    cuda: dict[str, int]
    needs_driver: bool
    private_driver: Path | None
    networks: tuple[str, ...]
    launchers: dict[str, str]
    trial: Trial


@dataclass(frozen=True)
class Part:
    """One thing that some run needs.

    found : None for what is missing or does not work; remedy : how to get it; reason : why it does not work
    """

    name: str
    found: str | None
    purpose: str
    remedy: str
    reason: str | None = None


@dataclass(frozen=True)
class Start:
    """One way to start a reconstruction: it runs as `how` says unless there are obstacles, each with its remedy."""

    command: str
    how: str
    obstacles: tuple[Part, ...]


def examine(cores: int) -> Machine:
    """Look at this environment and this computer; `cores` is the number of threads that a run would use."""
    about = _about_legate()
    networks = re.search(r"^networks\b.*?\"([^\"]*)\"", about, re.MULTILINE)
    private = Path(sys.prefix) / "libraries"
    trial = attempt()
    return Machine(
        cores=cores,
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        versions={name: trial.library(name).version if name in LIBRARIES else _version(name) for name in DISTRIBUTIONS},
        cuda=cuda_of_distributions(trial.gpus[0].runtime if trial.gpus else 0),
        needs_driver=re.search(r"^use_cuda\b.*= *OFF$", about, re.MULTILINE) is None,
        private_driver=private if (private / DRIVER).exists() else None,
        networks=tuple(networks.group(1).split()) if networks else (),
        launchers={name: path for name in ("mpirun", "srun") if (path := shutil.which(name))},
        trial=trial,
    )


def _version(module: str) -> str | None:
    """Return the version of an installed module, None if it is not installed; the module is not imported."""
    if find_spec(module) is None:
        return None
    for distribution in DISTRIBUTIONS[module]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return "unknown version"


def _about_legate() -> str:
    """Return what the installed Legate says about how it was built, as text: importing it might start it."""
    spec = find_spec("legate")
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [Path(folder) / "install_info.py" for folder in folders]
    return "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


def faults(trial: Trial) -> dict[str, str]:
    """Return why a library, or "GPU", cannot be used, by name: it does not load, or a result is wrong or missing."""
    found = {library.name: f"does not load: {library.fault}" for library in trial.libraries if library.fault}
    for check in trial.checks:
        if check.reason is not None:
            found.setdefault(_blamed(check), check.reason)
    driver = trial.driver
    if driver.fault is not None and (driver.loads or NO_FILE not in driver.fault):
        found["GPU" if driver.loads else DRIVER] = driver.fault
    return found


def _blamed(check: Check) -> str:
    """Return what is to blame for a result that is wrong or missing."""
    nufft = "NUFFT" in check.name
    if check.where == "CPU":
        return "finufft" if nufft else "numpy"
    if nufft:
        return "cufinufft"
    # CUDA's own errors are called CUDARuntimeError and the like; these come from its libraries or headers not found.
    return "cupy" if re.match(r"(OS|Import|Runtime|(\w+NotFound))Error\b", check.fault or "") else "GPU"


def parts(machine: Machine) -> list[Part]:
    """Return everything that some run needs, found or missing."""
    driver, reasons, how_to_get = machine.trial.driver, faults(machine.trial), remedies(machine.cuda)
    if not driver.loads and machine.private_driver is not None:
        how_to_get[DRIVER] = f"start with scripts/legate, or put {machine.private_driver} on LD_LIBRARY_PATH"
    versions = f"for CUDA up to {cuda_version(driver.cuda)}" if driver.cuda else "can be loaded"
    needed = "Legate does not start without it, GPU or not" if machine.needs_driver else "GPUs"

    def part(name: str, found: str | None, purpose: str) -> Part:
        reason = reasons.get(name)
        return Part(name, None if reason else found, purpose, how_to_get[name], reason)

    return [
        *(part(name, machine.versions[name], PURPOSES[name]) for name in DISTRIBUTIONS),
        part(DRIVER, versions if driver.loads else None, needed),
        part("GPU", _counted(driver.names), "needed for --gpus and --backend cupy"),
        part("networking of legate", ", ".join(machine.networks) or None, "several ranks"),
        part("mpirun or srun", ", ".join(machine.launchers.values()) or None, "starts several ranks"),
    ]


def _counted(names: tuple[str, ...]) -> str | None:
    """Return GPUs in words: "2 x A100"; None if there are none."""
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or None


def gpu_memory(trial: Trial) -> int:
    """Return what Legate should set apart of every GPU's memory [MiB]."""
    # Without CuPy all of the memory is known, not what of it is free.
    free = [gpu.free_mib for gpu in trial.gpus] or list(trial.driver.memory_mib)
    room = int(LEGATES_PART * min(free)) if free else SOME_MEMORY
    return room // 1000 * 1000 or room


def starts(machine: Machine) -> list[Start]:
    """Return the ways to start a reconstruction, each with what keeps it from running here."""
    missing = {part.name: part for part in parts(machine) if part.found is None}

    def start(command: str, how: str, *needs: str) -> Start:
        return Start(command, how, tuple(missing[name] for name in dict.fromkeys(needs) if name in missing))

    alone = ["numpy", "finufft"]
    legate = [*alone, "legate", "cupynumeric", *([DRIVER] if machine.needs_driver else [])]
    device, ranks = [DRIVER, "GPU", "cupy", "cufinufft"], ["networking of legate", "mpirun or srun"]
    memory, on_device = min(4000, machine.memory_mib // 2), f"--fbmem {gpu_memory(machine.trial)}"
    gpus = len(machine.trial.driver.names)
    launcher = "mpirun" if "mpirun" in machine.launchers or "srun" not in machine.launchers else "srun"
    ways = [
        start("spilegate reconstruct ...", f"on NumPy with {_count(machine.cores, 'thread')}", *alone),
        start("spilegate reconstruct ... --backend cupy", "on one GPU by CuPy", *alone, *device),
        start(
            f"legate --cpus {machine.cores} --gpus 0 --sysmem {memory} {PROGRAM}",
            f"on cuPyNumeric, split over {_count(machine.cores, 'CPU')}",
            *legate,
        ),
        start(
            f"legate --ranks-per-node 2 --launcher {launcher} --cpus 1 --gpus 0 --sysmem {memory // 2} {PROGRAM}",
            "on cuPyNumeric, split over 2 ranks (scripts/legate --environment mpi sets what UCX wants)",
            *(*legate, *ranks),
        ),
        start(
            f"legate --gpus {gpus or 1} {on_device} {PROGRAM}",
            f"on cuPyNumeric, split over {_count(gpus or 1, 'GPU')} (not tried yet)",
            *(*legate, *device),
        ),
    ]
    if gpus == 1:
        return ways
    command = f"legate --ranks-per-node {gpus or SOME_GPUS} --gpus 1 {on_device} --launcher {launcher} {PROGRAM}"
    how = "on cuPyNumeric, a rank for each GPU, as is best for several (not tried yet)"
    return [*ways, start(command, how, *legate, *device, *ranks)]


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
    driver = machine.trial.driver
    # The driver's library without a GPU, which Legate wants, is good for any CUDA.
    found = mixtures(machine.cuda, driver.cuda if driver.names else 0)
    if driver.names and machine.versions["cupy"] is None:
        found.append("Without CuPy, the tasks of a run under legate --gpus would run on CPU processors, not on GPUs.")
    return [*found, f"Under legate the merge would be solved by {solver(machine)}.", f"{UNTRIED}."]
