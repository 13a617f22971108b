"""Pictures off the critical path: drawing processes that the run never waits for until its results are on disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import spilegate
from spilegate.report.files import FIGURES, PART

# Drawing takes a few seconds of one core; pausing ten times as long keeps its cost to the run below a tenth of one
# core, however short the generations are.
PAUSE = 10.0
# What can be drawn without reading the patterns.
WHILE_RUNNING = ("density", "orientations", "convergence")
# At the end, shared between two processes that take about as long as each other.
AT_THE_END = (
    ("density", "intensity", "background", "fsc"),
    ("orientations", "convergence", "patterns", "outliers"),
)


class Drawing:
    """Starts `python -m spilegate.report` for an output folder; used with `with`, and no drawing outlives the block.

    Nor does one outlive a run that is killed: it reads from a pipe that ends when this process does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._processes: list[subprocess.Popen[str]] = []
        self._began = time.perf_counter()
        self._next = 0.0
        self._problem = ""
        self._lifeline: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Lay the pipe that drawings live by."""
        with contextlib.suppress(OSError):
            self._lifeline = os.pipe()
        return self

    def __exit__(self, *_: object) -> None:
        """End what is still being drawn, whatever ended the run."""
        lifeline, self._lifeline = self._lifeline, None
        for end in lifeline or ():
            os.close(end)
        self.stop()

    def begin_if_idle(self) -> None:
        """Start drawing what can be drawn without the patterns, unless that would slow the run down."""
        now = time.perf_counter()
        if self._processes:
            if self._processes[0].poll() is None:
                return
            # When it ended is not known, only that it has: its time is overestimated, which errs on the cheap side.
            self._next = now + PAUSE * min(now - self._began, 5.0)
            self.stop()
        if now >= self._next:
            self._began = now
            self._start("--background", "--only", *WHILE_RUNNING)

    def finish(self) -> str:
        """Draw everything, wait for it, and return what went wrong, "" if nothing did."""
        self.stop()
        self._problem = ""
        for names in AT_THE_END:
            self._start("--only", *names)
        problem = self._problem
        for process in self._processes:
            _, errors = process.communicate()
            if process.returncode:
                lines = errors.strip().splitlines() or [f"the drawing process ended with code {process.returncode}"]
                problem = lines[-1]
        self._processes.clear()
        return problem

    def stop(self) -> None:
        """End a drawing under way."""
        for process in self._processes:
            process.terminate()
            process.communicate()
        self._processes.clear()
        with contextlib.suppress(OSError):
            for part in (self._folder / FIGURES).glob(f"*{PART}"):
                part.unlink()

    def _start(self, *arguments: str) -> None:
        """Start a process, in the folder that holds the package, so that it is found installed or not.

        A system that has no room for another process costs pictures, not the run.
        """
        lifeline = [] if self._lifeline is None else ["--while-fed"]
        command = [sys.executable, "-m", "spilegate.report", str(self._folder), *lifeline, *arguments]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module and paths, no shell
                command,
                cwd=Path(spilegate.__file__).resolve().parent.parent,
                stdin=subprocess.DEVNULL if self._lifeline is None else self._lifeline[0],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Ctrl-C is for the run; it ends the drawing itself.
                start_new_session=True,
            )
        except OSError as error:
            self._problem = f"no process for it ({error.strerror})"
        else:
            self._processes.append(process)
