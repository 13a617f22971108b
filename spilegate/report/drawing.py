"""Pictures off the critical path: drawing processes that the run never waits for until its results are on disk."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import spilegate
from spilegate.report.files import FIGURES, PART, REPORT
from spilegate.report.told import AGAIN, LAST

# Drawing takes a few seconds of one core; pausing ten times as long keeps its cost to the run below a tenth of one
# core, however short the generations are.
PAUSE = 10.0
# Nobody waits for a picture of a run that is over before so many seconds.
AT_FIRST = 15.0
# The process that writes the page loads what it needs so long after the start; what a shorter run needs, others load.
LOADED = 8.0
# What can be drawn without reading the patterns, and before what is measured after the last generation.
WHILE_RUNNING = ("density", "orientations", "convergence")
# The name by which the page is asked for.
PAGE = "report"
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
        self._entered = self._began
        self._page: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start the process that writes `report.html`, and return itself."""
        self._entered = time.perf_counter()
        self._page = self._process("--follow", f"{LOADED}")
        return self

    def __exit__(self, *_: object) -> None:
        """End what is still being drawn, whatever ended the run."""
        self.stop()
        self._end_page()

    def tell(self) -> None:
        """Let `report.html` be written anew; what comes while it is being written is told once more."""
        if self._page is not None:
            _send(self._page, AGAIN)

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
        if self._page is not None:
            self._processes.append(self._page)
            self._page = None
        for process in self._processes:
            _send(process, LAST)
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
        short = time.perf_counter() - self._entered < LOADED
        if short:
            self._end_page()
        self._start("--then", *second, *([PAGE] if short else []))
        self._standing_by = True

    def _end_page(self) -> None:
        """End the process that writes the page."""
        if self._page is not None:
            self._page.terminate()
            self._page.communicate()
            self._page = None
        with contextlib.suppress(OSError):
            for part in self._folder.glob(f"{REPORT}{PART}"):
                part.unlink()

    def _start(self, *arguments: str) -> None:
        """Start a drawing."""
        if process := self._process(*arguments):
            self._processes.append(process)

    def _process(self, *arguments: str) -> subprocess.Popen[str] | None:
        """Start a process, in the folder that holds the package, so that it is found installed or not.

        A system that has no room for another process costs pictures, not the run.
        """
        command = [sys.executable, "-m", "spilegate.report", str(self._folder), "--while-fed", *arguments]
        try:
            return subprocess.Popen(  # noqa: S603 - our own module and paths, no shell
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
            return None


def _send(process: subprocess.Popen[str], word: str) -> None:
    """Tell a process to go on; one that has ended will not hear it."""
    with contextlib.suppress(OSError, ValueError):
        if process.stdin is not None:
            process.stdin.write(word)
            process.stdin.flush()
