"""Lines for the user: on the terminal or in a pipe unless quiet, and with time stamps in a log file."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TextIO, cast

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spilegate.errors import InputError
from spilegate.kernels import launch
from spilegate.report.live_line import LiveLine
from spilegate.report.terminal import Stream, complain, printable


class Output:
    """Where lines go; used with `with`, so that the log is closed and has the error that ended the command.

    A terminal, pipe or log that cannot be written to never ends a command: it is said once, on standard error.

    quiet : print nothing
    product : the lines are what the command is for, so that lines lost are an error, unless the reader has left
    log : file to which the same lines are added, or None
    folder : a new log in this folder is opened by `open_log`, once the folder exists and may be written into
    """

    def __init__(
        self, *, quiet: bool = False, product: bool = False, log: Path | None = None, folder: Path | None = None
    ) -> None:
        # Several ranks write into a terminal that is made up; what is drawn over itself there ends up in a file.
        terminal = False if launch.ranks() > 1 else None
        self._stream = Stream(sys.stdout)
        file = cast("IO[str]", self._stream)
        self.console = Console(file=file, quiet=quiet, highlight=False, soft_wrap=True, force_terminal=terminal)
        self.live = LiveLine(self.console)
        self._product = product
        self._said: set[str] = set()
        self._path = log
        self._file: TextIO | None = None
        self._waiting: list[str] = []
        self._folder = folder
        if log is None:
            return
        if log.is_dir():
            raise InputError(f"--log {log}: found a folder; expected a file name")
        if not log.parent.is_dir() and log.parent != folder:
            raise InputError(f"--log {log}: folder {log.parent} does not exist; make it or name another file")

    def __enter__(self) -> Output:
        """Open the log, before anything is lost for a run that could not write it, and return itself."""
        if self._path is not None and (self._path.is_file() or not self._in_folder(self._path)):
            try:
                self._path.open("a").close()
            except OSError as error:
                raise InputError(f"--log {self._path}: cannot be written ({error.strerror}); name another") from error
            self.open_log()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note the error, if any, in the log and close it."""
        self.live.clear()
        if error is not None:
            self._to_log(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        self.open_log()
        if self._file is not None:
            try:
                self._file.close()
            except OSError as problem:
                self.warn(f"--log {self._path}", problem)
            self._file = None

    def line(self, text: str, style: str = "") -> None:
        """Write one line."""
        self.console.print(Text(printable(text), style=style))
        self._to_log(text)
        failed = self._stream.failed
        if failed is None:
            return
        if not self._product:
            self.warn("standard output", failed)
        elif failed.errno != errno.EPIPE:
            raise InputError(f"standard output: cannot be written ({failed.strerror}); give it another place")

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Write rows of names and values: as a table on a terminal, else a line each."""
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"{name:{width}s}  {value}" for name, value in rows]
        if not self.console.is_terminal:
            for text in (title, *lines):
                self.line(text)
            return
        table = Table(title=Text(printable(title), style="bold"), box=ROUNDED, show_header=False, title_justify="left")
        for name, value in rows:
            table.add_row(Text(printable(name)), Text(printable(value)))
        self.console.print(table)
        for text in (title, *lines):
            self._to_log(text)

    def warn(self, what: str, error: OSError | InputError) -> None:
        """Say once that something beside the results cannot be written."""
        if what not in self._said:
            self._said.add(what)
            reason = f"{what}: cannot be written ({error.strerror or error})" if isinstance(error, OSError) else error
            complain(f"warning: {reason}; the work goes on without it")

    def open_log(self) -> None:
        """Open the log, at its end, and write what had to wait for it."""
        if self._path is None or self._file is not None or not self._path.parent.is_dir():
            return
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            self.warn(f"--log {self._path}", error)
            return
        self._write("".join(self._waiting))
        self._waiting.clear()

    def _in_folder(self, log: Path) -> bool:
        """Tell whether the log lies in the folder that may have to be made first."""
        return self._folder is not None and log.parent.resolve() == self._folder.resolve()

    def _to_log(self, text: str) -> None:
        """Add a line to the log, or keep it until the log is open."""
        if self._path is None:
            return
        stamped = f"{datetime.now(UTC).astimezone().isoformat(timespec='milliseconds')} {printable(text)}\n"
        if self._file is None:
            self._waiting.append(stamped)
        else:
            self._write(stamped)

    def _write(self, text: str) -> None:
        """Write into the open log; what a full disk has no room for is written with the next lines, if it has then."""
        try:
            self._file.write(text)  # type: ignore[union-attr] # it is open
            self._file.flush()  # type: ignore[union-attr]
        except OSError as error:
            self.warn(f"--log {self._path}", error)
