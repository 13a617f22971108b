"""Libraries and GPUs are tried in a process of their own, which may crash or hang: what it found until then is known.

`attempt` starts `python -m spilegate.kernels.trial`, which writes a line of JSON for all it begins and all it finds. If
it ends or hangs on the way, whatever it had begun last is to blame, and another process does the steps after that.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn

import spilegate
from spilegate.kernels import findings
from spilegate.kernels.findings import Check, Driver, Finding, Library, Trial
from spilegate.kernels.trying import LIBRARIES, Report, perform

STEPS = (*LIBRARIES, "driver", "CPU")
# Seconds that a process may take: a file system that many nodes share takes long to bring CUDA's libraries.
SECONDS = 60.0


@dataclass
class _Seen:
    """What a process wrote: findings, steps it began, and what it had begun last, "" if it went through."""

    found: list[Finding] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    open: str = "started"


def attempt(steps: tuple[str, ...] = STEPS, *, seconds: float = SECONDS) -> Trial:
    """Try libraries and the CPU, then, if CuPy loads, every GPU that the driver knows.

    seconds : how long a process may take; another one goes on after what crashed or hung
    """
    trial = _tried(Trial(), steps, seconds)
    if trial.library("cupy").version is None:
        return trial
    return _tried(trial, tuple(f"GPU {index}" for index in range(len(trial.driver.names))), seconds)


def _tried(trial: Trial, steps: tuple[str, ...], seconds: float) -> Trial:
    """Return a trial with the findings of some steps added."""
    while steps:
        sound = [library.name for library in trial.libraries if library.version is not None]
        try:
            seen, end = _process(steps, sound, seconds)
        except OSError as error:
            seen, end = _Seen(), findings.in_one_line(error)
        for found in seen.found:
            trial = trial.with_finding(found)
        if not seen.open:
            break
        # Without a first step it would not begin the second one either.
        blamed = seen.begun[-1:] or steps
        for step in blamed:
            trial = trial.with_finding(_fault(step, seen.open, end))
        steps = steps[steps.index(blamed[-1]) + 1 :]
    return trial


def _fault(step: str, what: str, reason: str) -> Finding:
    """Return that a step did not come to its end."""
    if step in LIBRARIES:
        return Library(step, fault=reason)
    return Driver(reason) if step == "driver" else Check(step, what, fault=reason)


def _process(steps: tuple[str, ...], sound: list[str], seconds: float) -> tuple[_Seen, str]:
    """Run a process for some steps; return what it wrote, and how it ended if not as it should.

    sound : libraries that are known to load
    """
    # Modules are looked for where this process finds them, and the package where it is, installed or not.
    paths = [str(Path(entry or ".").absolute()) for entry in sys.path]
    arguments = [json.dumps(argument) for argument in (steps, sound, paths)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "spilegate.kernels.trial", *arguments],
            cwd=Path(spilegate.__file__).resolve().parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
        )
        try:
            end = _ended(process.wait(seconds), errors)
        except subprocess.TimeoutExpired:
            end = f"it took longer than {seconds:g} s"
        finally:
            if process.poll() is None:
                _kill(process)
        out.seek(0)
        return _seen(out.read().decode(errors="replace")), end


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that has not ended, and those that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # One that waits for a broken device cannot be ended; it is not waited for.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


def _ended(code: int, errors: IO[bytes]) -> str:
    """Return how a process ended, in one line, with the last thing it said."""
    errors.seek(0)
    said = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    with contextlib.suppress(ValueError):
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the process {how}" + (f" ({said[-1][: findings.LONGEST]})" if said else "")
    return f"the process ended by signal {-code}"


def _seen(text: str) -> _Seen:
    """Return what the lines of a process say; the last one may have been cut short."""
    seen = _Seen()
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            record = json.loads(line)
            if "begin" not in record:
                seen.found.append(findings.from_record(record))
                continue
            seen.open = record["begin"]
            if record["step"]:
                seen.begun.append(record["step"])
    return seen


def main(steps: list[str], sound: list[str], paths: list[str]) -> NoReturn:
    """Do some steps.

    sound : libraries that are known to load; paths : where modules are looked for
    """
    sys.path[:] = paths
    # A crash is a finding; its memory need not lie about.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Libraries that print do so elsewhere.
    channel = os.dup(1)
    os.dup2(2, 1)
    report = Report(lambda line: os.write(channel, line))
    for step in steps:
        report.begin(step, "start")
        perform(report, step, sound)
    report.begin("", "")
    # Some libraries crash when they are taken down, which no longer matters.
    os._exit(0)


if __name__ == "__main__":
    main(*(json.loads(argument) for argument in sys.argv[1:]))
