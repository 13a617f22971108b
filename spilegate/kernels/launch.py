"""Who does the work of a run: decided by how the program was started, never by editing code."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

from spilegate.errors import InputError
from spilegate.kernels.cores import quota_cores

if TYPE_CHECKING:
    from spilegate.kernels.workers import Workers

Backend = Literal["auto", "numpy", "cupy", "legate"]

# The launcher hands its options to the runtime in this variable.
LAUNCHED = "LEGATE_CONFIG"
# In which a scheduler or the user says how many cores to use.
CORES_GIVEN = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")
# How long the other ranks of a failed run wait to be ended.
SECONDS_FOR_THE_WRITER = 10.0
INSTALL = "pip install 'spilegate[legate]'; spilegate doctor says what else is missing"


def start(backend: Backend, threads: int | None, split_voxels: int) -> Workers:
    """Return the workers of this process: those of the launcher it was started by, the GPU asked for, or its threads.

    backend : "auto", or what was asked for; threads : None for all available cores
    split_voxels : volumes with at least as many voxels are split over all processors, where there are several
    Raises InputError if Legate or a GPU is asked for and cannot be had.
    """
    from spilegate.kernels.workers import Threads, libraries

    if backend not in get_args(Backend):
        raise InputError(f"backend: found {backend!r}; expected one of {', '.join(get_args(Backend))}")
    # BLAS adds up in an order of its own by several threads, of which no two computers have equally many.
    libraries().limit(limits=1, user_api="blas")
    if backend == "numpy" or (backend == "auto" and LAUNCHED not in os.environ):
        return Threads(threads or available_cores())
    if backend == "cupy":
        if LAUNCHED in os.environ:
            raise InputError(
                "--backend cupy: started by the legate launcher; expected no launcher, for one GPU: "
                "spilegate reconstruct ... --backend cupy; or leave the option out"
            )
        from spilegate.kernels.device import first_device

        return first_device(threads or available_cores())
    if find_spec("legate") is None or find_spec("cupynumeric") is None:
        raise InputError(f"--backend legate: legate and cupynumeric are not both installed; expected both; {INSTALL}")
    if LAUNCHED not in os.environ:
        raise InputError(
            "--backend legate: not started by the legate launcher, so it is not known which processors to use; "
            "expected e.g. legate --cpus 2 --gpus 0 spilegate/main.py ..., or LEGATE_CONFIG='--cpus 2 --gpus 0'"
        )
    try:
        from spilegate.kernels.tasks import LegateWorkers
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f"--backend legate: the runtime does not start ({_reason(error)}); expected the processors there are, "
            f"e.g. legate --cpus 2 --gpus 0 where there is no GPU; {INSTALL}"
        ) from error
    return LegateWorkers(threads, split_voxels)


def _reason(error: Exception) -> str:
    """Return what went wrong, without the stack that the runtime's messages end in."""
    lines = str(error).splitlines() or [type(error).__name__]
    return next((line.partition("#0 ")[2] for line in lines if "#0 " in line), lines[0])


def workers_for(array: Any, threads: int | None, split_voxels: int) -> Workers:
    """Return those who hold an array: the processors of the Legate run, a GPU, or the threads of this process."""
    from spilegate.backend import array_module
    from spilegate.kernels.workers import Threads

    module = array_module(array).__name__
    if module == "cupy":
        return start("cupy", threads, split_voxels)
    if module != "cupynumeric":
        return Threads(threads or available_cores())
    from spilegate.kernels.tasks import LegateWorkers

    return LegateWorkers(threads, split_voxels)


def is_writer() -> bool:
    """Tell whether this process writes files and talks to the user: of the processes of a run, the first."""
    runtime = _runtime()
    return runtime is None or int(runtime.node_id) == 0


def ranks() -> int:
    """Return how many processes the run has."""
    runtime = _runtime()
    return 1 if runtime is None else int(runtime.node_count)


def _runtime() -> Any | None:
    """Return the runtime, started if need be, if this process was started by its launcher."""
    if LAUNCHED not in os.environ or find_spec("legate") is None:
        return None
    try:
        from legate.core import get_legate_runtime

        return get_legate_runtime()
    except (ImportError, OSError, RuntimeError):
        # `start` says why.
        return None


def resuming(words: Sequence[str]) -> str:
    """Return the command line that resumes a reconstruction which was started by these words, ready for a shell."""
    again = [word for word in words if word not in {"--force", "--resume"}]
    program = Path(sys.argv[0])
    start = ["spilegate"]
    if program.name == "__main__.py":
        start = [sys.executable, "-m", "spilegate"]
    elif program.name == "main.py":
        start = [sys.executable, sys.argv[0]]
    text = shlex.join([*start, *again, "--resume"])
    # The launcher's own words are not known here.
    return f"legate ... {shlex.join([sys.argv[0], *again, '--resume'])}" if LAUNCHED in os.environ else text


def leave(code: int) -> NoReturn:
    """End the process after an error.

    Other ranks may be waiting for this one, and a usual exit would wait for them; so the writer, whose words are out,
    just ends, and the launcher ends the others.
    """
    if ranks() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        if not is_writer():
            time.sleep(SECONDS_FOR_THE_WRITER)
        os._exit(code)
    sys.exit(code)


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return cores_and_reason()[0]


def cores_and_reason() -> tuple[int, str]:
    """Return the number of cores this process may use, and what it is that allows no more, "" for the computer."""
    computer = os.cpu_count() or 1
    allowed = {"": computer}
    if hasattr(os, "sched_getaffinity"):
        allowed["affinity"] = len(os.sched_getaffinity(0))
    quota = quota_cores()
    if quota is not None:
        allowed["the quota of its control group"] = quota
    for name in CORES_GIVEN:
        # OpenMP takes a list, a number for each level of its nesting.
        text = os.environ.get(name, "").partition(",")[0].strip()
        if text.isascii() and text.isdigit() and int(text) > 0:
            allowed[name] = int(text)
    reason = min(allowed, key=lambda name: allowed[name])
    return allowed[reason], f"of {computer}, by {reason}" if reason else ""
