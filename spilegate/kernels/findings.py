"""What a trial of libraries and processors found out, and how that is said; nothing here imports any of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

# What a trial says of an error is one line, and no longer than this.
LONGEST = 200


@dataclass(frozen=True)
class Library:
    """A library that was loaded, or not.

    version : None if it is not installed or does not load; fault : why it does not load, in one line
    """

    name: str
    version: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Driver:
    """The library of the NVIDIA driver, and the GPUs it knows.

    fault : why it cannot be loaded or used, in one line; cuda : newest CUDA it is for, 13.1 is 13010; 0 if not known
    names, memory_mib : of every GPU, its memory in all [MiB]
    loads : whether the library can be loaded, which is all that a Legate without GPUs asks for
    """

    fault: str | None = None
    cuda: int = 0
    names: tuple[str, ...] = ()
    memory_mib: tuple[int, ...] = ()
    loads: bool = False


@dataclass(frozen=True)
class Gpu:
    """One GPU, as CuPy sees it.

    capability : "9.0"; driver, runtime : CUDA's version, 13.1 is 13010
    free_mib, total_mib : its memory before anything was put there; bandwidth : of its memory [GB/s], 0 if not known
    """

    index: int
    name: str
    capability: str
    driver: int
    runtime: int
    free_mib: int
    total_mib: int
    bandwidth: float = 0.0


@dataclass(frozen=True)
class Check:
    """One result beside the known answer.

    where : "CPU" or "GPU 0"; error, tolerance : relative error, and the largest one that is taken for right
    fault : why there is no result, in one line
    """

    where: str
    name: str
    error: float = math.nan
    tolerance: float = 0.0
    fault: str | None = None

    @property
    def reason(self) -> str | None:
        """What is wrong, None if nothing is."""
        if self.fault is not None:
            return f"{self.where}, {self.name}: {self.fault}"
        # An error that is no number is no small error.
        if self.error <= self.tolerance:
            return None
        return (
            f"{self.where}, {self.name}: wrong, relative error {self.error:.1e}; expected at most {self.tolerance:.0e}"
        )


@dataclass(frozen=True)
class Speed:
    """How fast something was: `most` is what it can be at best, 0 if not known."""

    where: str
    name: str
    value: float
    unit: str
    most: float = 0.0

    @property
    def text(self) -> str:
        """The figure in words."""
        best = f" of {self.most:.0f}" if self.most else ""
        return f"{self.name} {self.value:.4g}{best} {self.unit}"


Finding = Library | Driver | Gpu | Check | Speed
KINDS: dict[str, type[Finding]] = {kind.__name__: kind for kind in (Library, Driver, Gpu, Check, Speed)}


@dataclass(frozen=True)
class Trial:
    """Everything that was found."""

    libraries: tuple[Library, ...] = ()
    driver: Driver = Driver()
    gpus: tuple[Gpu, ...] = ()
    checks: tuple[Check, ...] = ()
    speeds: tuple[Speed, ...] = ()

    def library(self, name: str) -> Library:
        """Return what was found out about a library."""
        return next((library for library in self.libraries if library.name == name), Library(name))

    def with_finding(self, found: Finding) -> Trial:
        """Return a trial that has one finding more."""
        if isinstance(found, Library):
            return replace(self, libraries=(*self.libraries, found))
        if isinstance(found, Driver):
            return replace(self, driver=found)
        if isinstance(found, Gpu):
            return replace(self, gpus=(*self.gpus, found))
        if isinstance(found, Check):
            return replace(self, checks=(*self.checks, found))
        return replace(self, speeds=(*self.speeds, found))

    def lines(self) -> list[tuple[str, bool]]:
        """Return what the processors did, in lines, each with whether all is well."""
        lines: list[tuple[str, bool]] = []
        for where in dict.fromkeys(check.where for check in self.checks):
            faults = [check.reason for check in self.checks if check.where == where and check.reason is not None]
            lines.extend((fault, False) for fault in faults)
            right = [check for check in self.checks if check.where == where and check.reason is None]
            if right:
                errors = ", ".join(f"{check.name} {check.error:.0e} of {check.tolerance:.0e}" for check in right)
                lines.append((f"{where}: {errors}", True))
            speeds = [speed.text for speed in self.speeds if speed.where == where]
            if speeds:
                lines.append((f"{where}: {', '.join(speeds)}", True))
        return [*((described(gpu), True) for gpu in self.gpus), *lines]


def described(gpu: Gpu) -> str:
    """Return a GPU in words."""
    memory = f"{gpu.free_mib} of {gpu.total_mib} MiB free"
    versions = f"driver for CUDA {cuda_version(gpu.driver)}, CUDA {cuda_version(gpu.runtime)} in use"
    return f"GPU {gpu.index}: {gpu.name}, compute capability {gpu.capability}, {versions}, {memory}"


def cuda_version(number: int) -> str:
    """Return a version of CUDA as people write it: "13.1" for 13010."""
    return f"{number // 1000}.{number % 1000 // 10}"


def as_record(found: Finding) -> dict[str, Any]:
    """Return a finding as JSON can hold it."""
    return {"kind": type(found).__name__, **asdict(found)}


def from_record(record: dict[str, Any]) -> Finding:
    """Return the finding of a record; raises KeyError or TypeError if it is none."""
    values: dict[Any, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    kind: Any = KINDS[values.pop("kind")]
    found: Finding = kind(**values)
    return found


def in_one_line(error: BaseException) -> str:
    """Return an error as "kind: first line" of what caused it."""
    # Libraries wrap what went wrong in pages of advice for other cases.
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(str(error))}".rstrip(": ")


def first_line(text: str) -> str:
    """Return the first line that has words, cut to what a terminal shows."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if any(character.isalnum() for character in line)), "")[:LONGEST]
