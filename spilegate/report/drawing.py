"""Pictures off the critical path: one drawing process at a time, which the run never waits for."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import spilegate

# A drawing takes about two seconds of one core; pausing ten times as long keeps its cost to the run below a tenth of
# one core, however short the generations are.
PAUSE = 10.0


class Drawing:
    """Starts `python -m spilegate.report` for an output folder."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder, self._data = folder.resolve(), data.resolve()
        self._process: subprocess.Popen[str] | None = None
        self._began = self._ended = -1e9
        self._seconds = 0.0

    def begin_if_idle(self) -> None:
        """Start drawing what can be drawn without the patterns, unless that would slow the run down."""
        now = time.perf_counter()
        if self._process is not None:
            if self._process.poll() is None:
                return
            # When it ended is not known, only that it has; this overestimates its time, which errs on the cheap side.
            self._ended, self._seconds = now, now - self._began
            self._forget()
        if now - self._ended > PAUSE * min(self._seconds, 5.0):
            self._start("--background", "--only", "density", "orientations", "convergence")

    def finish(self, *names: str) -> str:
        """Draw everything (or the pictures named), wait for it, and return what went wrong, "" if nothing did."""
        if self._process is not None:
            self._process.wait()
            self._forget()
        process = self._start("--data", str(self._data), *(("--only", *names) if names else ()))
        _, errors = process.communicate()
        code = process.returncode
        self._process = None
        return "" if code == 0 else (errors.strip().splitlines() or [f"the drawing process ended with code {code}"])[-1]

    def stop(self) -> None:
        """End a drawing under way."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._forget()

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the process; it runs in the folder that holds the package, so that it is found installed or not."""
        self._began = time.perf_counter()
        self._process = subprocess.Popen(  # noqa: S603 - our own module and paths, no shell
            [sys.executable, "-m", "spilegate.report", str(self._folder), *arguments],
            cwd=Path(spilegate.__file__).resolve().parent.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the run; it ends the drawing itself.
            start_new_session=True,
        )
        return self._process

    def _forget(self) -> None:
        """Close the pipe of a process that has ended."""
        if self._process is not None and self._process.stderr is not None:
            self._process.stderr.close()
        self._process = None
