"""Lines for the user: on the terminal or in a pipe unless quiet, and with time stamps in a log file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.text import Text

from spilegate.errors import InputError
from spilegate.kernels import launch


class Output:
    """Where lines go; used with `with`, so that the log is closed and has the error that ended the command.

    quiet : print nothing
    log : file to which the same lines are added, or None
    folder : a new log in this folder is opened by `open_log`, once the folder exists and may be written into
    """

    def __init__(self, *, quiet: bool = False, log: Path | None = None, folder: Path | None = None) -> None:
        # Several ranks write into a terminal that is made up; what is drawn over itself there ends up in a file.
        terminal = False if launch.ranks() > 1 else None
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True, force_terminal=terminal)
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
            self.open_log()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note the error, if any, in the log and close it."""
        if error is not None:
            self._to_log(f"error: {str(error) or type(error).__name__}")
        if self._path is not None and self._path.parent.is_dir():
            self.open_log()
        if self._file is not None:
            self._file.close()
            self._file = None

    def line(self, text: str, style: str = "") -> None:
        """Write one line."""
        self.console.print(Text(text, style=style))
        self._to_log(text)

    def open_log(self) -> None:
        """Open the log, at its end, and write what had to wait for it."""
        if self._path is None or self._file is not None:
            return
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--log {self._path}: cannot be written ({error.strerror}); name another file") from error
        self._file.writelines(self._waiting)
        self._file.flush()
        self._waiting.clear()

    def _in_folder(self, log: Path) -> bool:
        """Tell whether the log lies in the folder that may have to be made first."""
        return self._folder is not None and log.parent.resolve() == self._folder.resolve()

    def _to_log(self, text: str) -> None:
        """Add a line to the log, or keep it until the log is open."""
        if self._path is None:
            return
        stamped = f"{datetime.now(UTC).astimezone().isoformat(timespec='milliseconds')} {text}\n"
        if self._file is None:
            self._waiting.append(stamped)
        else:
            self._file.write(stamped)
            self._file.flush()
