"""Pictures off the critical path: drawing processes that the run never waits for until its results are on disk."""

from __future__ import annotations

import contextlib
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
# Nobody waits for a picture of a run that is over before so many seconds.
AT_FIRST = 15.0
# What can be drawn without reading the patterns, and before what is measured after the last generation.
WHILE_RUNNING = ("density", "orientations", "convergence")
# The others, shared between two processes that take about as long as each other.
AT_THE_END = (("background", "outliers", "fsc"), ("intensity", "patterns"))


class Drawing:
    """Starts `python -m spilegate.report` for an output folder; used with `with`, and no drawing outlives the block.

    Nor does one outlive a run that is killed: it reads from a pipe that ends when this process does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._processes: list[subprocess.Popen[str]] = []
        self._began = time.perf_counter()
        self._next = self._began + AT_FIRST
        self._problem = ""
        self._standing_by = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what is still being drawn, whatever ended the run."""
        self.stop()

    def begin(self, last: bool) -> None:
        """Start drawing what can be drawn without the patterns, unless that would slow the run down.

        last : what is drawn now will not change any more; what does change is drawn, by processes that stand by, in
        `finish`
        """
        if last:
            self._begin_last()
            return
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
        if not self._standing_by:
            self._begin_last()
        problem = self._problem
        for process in self._processes:
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.write("\n")
                    process.stdin.flush()
        for process in self._processes:
            # Not `communicate`, which would end what it lives by.
            errors = process.stderr.read() if process.stderr else ""
            if process.wait():
                lines = errors.strip().splitlines() or [f"the drawing process ended with code {process.returncode}"]
                problem = lines[-1]
        self.stop()
        return problem

    def stop(self) -> None:
        """End a drawing under way."""
        for process in self._processes:
            process.terminate()
            process.communicate()
        self._processes.clear()
        self._problem, self._standing_by = "", False
        with contextlib.suppress(OSError):
            for part in (self._folder / FIGURES).glob(f"*{PART}"):
                part.unlink()

    def _begin_last(self) -> None:
        """Start the processes that draw what does not change any more, and the rest when they are told."""
        self.stop()
        first, second = AT_THE_END
        self._start("--only", *WHILE_RUNNING, "--then", *first)
        self._start("--then", *second)
        self._standing_by = True

    def _start(self, *arguments: str) -> None:
        """Start a process, in the folder that holds the package, so that it is found installed or not.

        A system that has no room for another process costs pictures, not the run.
        """
        command = [sys.executable, "-m", "spilegate.report", str(self._folder), "--while-fed", *arguments]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module and paths, no shell
                command,
                cwd=Path(spilegate.__file__).resolve().parent.parent,
                stdin=subprocess.PIPE,
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
