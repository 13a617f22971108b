"""Pictures off the critical path: drawing processes that the run never waits for until its results are on disk."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Self

import spilegate
from spilegate.report.files import FIGURES, PART, REPORT
from spilegate.report.told import AGAIN, LAST, SOON

# The process that writes the page loads what it needs so long after the start, or when it is needed.
LOADED = 8.0
# The name by which the page is asked for.
PAGE = "report"
# Pictures of what does not change any more after the last generation, while halves of the patterns are reconstructed.
BEFORE_THE_END = ("density", "orientations", "convergence", "intensity")
# The others and the page, shared between two processes that take about as long as each other.
AT_THE_END = (("patterns",), (PAGE, "background", "outliers", "fsc"))


class Drawing:
    """Starts `python -m spilegate.report` for an output folder; used with `with`, and no drawing outlives the block.

    Nor does one outlive a run that is killed: it reads from a pipe that ends when this process does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._processes: list[subprocess.Popen[str]] = []
        self._problem = ""
        self._last = False

    def __enter__(self) -> Self:
        """Start the process that writes `report.html` after every generation, and return itself."""
        self._start("--follow", f"{LOADED}", "--then", *AT_THE_END[1])
        return self

    def __exit__(self, *_: object) -> None:
        """End what is still being drawn, whatever ended the run."""
        self.stop()

    def begin(self, last: bool) -> None:
        """Let `report.html` be written anew; a generation that comes meanwhile replaces one that waits.

        last : what is drawn from now on will not change any more; what does change is drawn, by processes that stand
        by, in `finish`
        """
        self._tell(AGAIN)
        if last and not self._last:
            self._last = True
            self._tell(SOON)
            self._start("--only", *BEFORE_THE_END, "--then", *AT_THE_END[0])

    def finish(self) -> str:
        """Draw everything, wait for it, and return what went wrong, "" if nothing did."""
        if not self._processes:
            self.__enter__()
        self.begin(last=True)
        self._tell(LAST)
        problem = self._problem
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
        self._problem, self._last = "", False
        with contextlib.suppress(OSError):
            for part in (*(self._folder / FIGURES).glob(f"*{PART}"), *self._folder.glob(f"{REPORT}{PART}")):
                part.unlink()

    def _tell(self, word: str) -> None:
        """Tell all processes to go on; those that have ended will not hear it."""
        for process in self._processes:
            with contextlib.suppress(OSError, ValueError):
                if process.stdin is not None:
                    process.stdin.write(word)
                    process.stdin.flush()

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
