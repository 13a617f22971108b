"""What the process of a trial does: load libraries, ask the driver, compare with known answers, measure."""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spilegate.kernels import findings
from spilegate.kernels.cuda_libraries import preload
from spilegate.kernels.findings import Check, Driver, Finding, Gpu, Library, Speed
from spilegate.kernels.remedies import DRIVER

if TYPE_CHECKING:
    from spilegate.kernels.known_answers import Hands

# In this order; Legate is none of them, because importing it starts it.
LIBRARIES = ("numpy", "finufft", "cupy", "cufinufft")
# The driver's number for this is no fault of the driver.
NO_DEVICE = 100
# Bytes, or an eighth of the free memory if that is less.
MOST_COPIED = 1 << 30
# Rows of the matrices and points of the NUFFTs whose speed is measured.
SIZES = {"matrix product": 4096, "NUFFT type 2": 1_000_000}


class Report:
    """Where the process writes what it begins and finds, each at once, in case it is the last."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def begin(self, step: str, what: str) -> None:
        """Say what comes next; both are "" at the end."""
        self._write(json.dumps({"begin": what, "step": step}).encode() + b"\n")

    def add(self, found: Finding) -> None:
        """Say what was found."""
        self._write(json.dumps(findings.as_record(found)).encode() + b"\n")


def load(name: str) -> Library:
    """Import a library, and return its version or why it cannot be had."""
    if find_spec(name) is None:
        return Library(name)
    try:
        if name == "cufinufft":
            preload()
        module = import_module(name)
    except BaseException as error:
        # Some end the process where they find something missing.
        return Library(name, fault=_unresolved(name) or findings.in_one_line(error))
    return Library(name, str(getattr(module, "__version__", "of unknown version")))


def _unresolved(name: str) -> str | None:
    """Return what a library's own shared object lacks: cufinufft says only that it could not find it."""
    spec = find_spec(name)
    folders = [] if spec is None else spec.submodule_search_locations or []
    for path in (path for folder in folders for path in sorted(Path(folder).glob(f"lib{name}*.so*"))):
        try:
            ctypes.CDLL(str(path))
        except OSError as error:
            return findings.in_one_line(error)
    return None


def ask_driver() -> Driver:
    """Load the driver's library and return what it knows."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        return Driver(str(error))
    number, size, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(128)
    cuda = number.value if driver.cuDriverGetVersion(ctypes.byref(number)) == 0 else 0
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number))
    if code == NO_DEVICE:
        return Driver(None, cuda, loads=True)
    if code != 0:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        return Driver(f"CUDA error {code}, {(text.value or b'unknown').decode()}", cuda, loads=True)
    names, memory = [], []
    for index in range(number.value):
        # The first devices have the numbers 0, 1 ... as handles, too.
        known = driver.cuDeviceGetName(name, len(name), index) == 0
        names.append(name.value.decode() if known else f"GPU {index}")
        driver.cuDeviceTotalMem_v2(ctypes.byref(size), index)
        memory.append(size.value >> 20)
    return Driver(None, cuda, tuple(names), tuple(memory), loads=True)


def compare(report: Report, where: str, hands: Hands, *, nuffts: bool) -> None:
    """Compare results, those of NUFFTs or all others, with known answers; what goes wrong is a finding, too."""
    from spilegate.kernels import known_answers

    checks = known_answers.NUFFT_CHECKS if nuffts else known_answers.CHECKS
    for name, error_of, tolerance in checks:
        report.begin("", name)
        try:
            report.add(Check(where, name, error_of(hands), tolerance))
        except Exception as error:
            report.add(Check(where, name, fault=findings.in_one_line(error)))


def measure(report: Report, where: str, hands: Hands, name: str, size: int, most: float = 0.0) -> None:
    """Measure the speed of one thing at a size; `most` is what it can be at best."""
    from spilegate.kernels import known_answers

    report.begin("", f"speed of {name}")
    try:
        value, unit = known_answers.SPEEDS[name](hands, size)
        report.add(Speed(where, name, value, unit, most))
    except Exception as error:
        report.add(Check(where, f"speed of {name}", fault=findings.in_one_line(error)))


def try_gpu(report: Report, index: int, *, nuffts: bool) -> None:
    """Ask a GPU what it is, compare its results with known answers, and measure it."""
    from spilegate.kernels import known_answers

    where = f"GPU {index}"
    try:
        cupy = import_module("cupy")
        with cupy.cuda.Device(index):
            gpu = _asked(cupy, index)
            report.add(gpu)
            hands = known_answers.Hands(cupy, "cufinufft", index)
            compare(report, where, hands, nuffts=False)
            measure(report, where, hands, "matrix product", SIZES["matrix product"])
            measure(report, where, hands, "copy", min(MOST_COPIED, (gpu.free_mib << 20) // 8), gpu.bandwidth)
            # Last: of all libraries cufinufft is most likely to end the process.
            if nuffts and load("cufinufft").version is not None:
                compare(report, where, hands, nuffts=True)
                measure(report, where, hands, "NUFFT type 2", SIZES["NUFFT type 2"])
    except Exception as error:
        report.add(Check(where, "start", fault=findings.in_one_line(error)))


def _asked(cupy: Any, index: int) -> Gpu:
    """Return what CUDA says about a GPU, the current one."""
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(index)
    free, total = runtime.memGetInfo()
    bandwidth = 0.0
    with contextlib.suppress(Exception):
        # Clock [kHz], twice a cycle, times the width [bits]; some drivers say 0, or do not say.
        attributes = cupy.cuda.Device(index).attributes
        bandwidth = 2e3 * attributes["MemoryClockRate"] * attributes["GlobalMemoryBusWidth"] / 8
    return Gpu(
        index=index,
        name=properties["name"].decode(),
        capability=f"{properties['major']}.{properties['minor']}",
        driver=int(runtime.driverGetVersion()),
        runtime=int(runtime.runtimeGetVersion()),
        free_mib=int(free) >> 20,
        total_mib=int(total) >> 20,
        bandwidth=bandwidth / 1e9,
    )


def try_processor(report: Report, *, nuffts: bool) -> None:
    """Compare what NumPy and finufft do with known answers."""
    from spilegate.kernels import known_answers

    hands = known_answers.Hands(import_module("numpy"), "finufft")
    compare(report, "CPU", hands, nuffts=False)
    if nuffts:
        compare(report, "CPU", hands, nuffts=True)


def perform(report: Report, step: str, sound: list[str]) -> None:
    """Do one step; `sound` are the libraries that are known to load, to which it may add one."""
    if step in LIBRARIES:
        library = load(step)
        report.add(library)
        if library.version is not None:
            sound.append(step)
    elif step == "driver":
        report.add(ask_driver())
    elif step != "CPU":
        try_gpu(report, int(step.partition(" ")[2]), nuffts="cufinufft" in sound)
    elif "numpy" in sound:
        try_processor(report, nuffts="finufft" in sound)
