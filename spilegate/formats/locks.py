"""One run at a time in a folder: a lock that the kernel takes back, however its process ends."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from spilegate.errors import InputError

FILE = ".spilegate.lock"


class Lock:
    """The right to write into a folder; used with `with`, so that it ends with the block.

    It is the process's alone: those it starts do not have it.

    folder : a folder, which need not exist yet; where : what messages begin with, an option and the folder
    missing : why there is no lock once it was taken, "" if there is one
    """

    def __init__(self, folder: Path, where: str) -> None:
        self.missing = ""
        self._path, self._where = Path(folder) / FILE, where
        self._descriptor: int | None = None

    def __enter__(self) -> Lock:
        """Return itself; the lock is not yet taken."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back and remove its file."""
        if self._descriptor is not None:
            # Removed while it is locked: whoever has opened it meanwhile finds out and makes a new one.
            with suppress(OSError):
                if self._is_its_file(self._descriptor):
                    self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def take(self) -> None:
        """Take the lock, unless it is taken already; the folder has to exist.

        Where the file system has no locks, `missing` says so.
        Raises InputError if another run has it, or its file cannot be written.
        """
        while self._descriptor is None and not self.missing:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise InputError(
                    f"{self._where}: cannot be written into ({error.strerror}); check space, permissions"
                ) from error
            try:
                if self._locked(descriptor) and self._is_its_file(descriptor):
                    self._descriptor = descriptor
                    _sign(descriptor)
            finally:
                if self._descriptor is None:
                    os.close(descriptor)

    def _locked(self, descriptor: int) -> bool:
        """Lock a file, or return False where there are no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
            raise InputError(
                f"{self._where}: in use by another run ({holder}); expected a folder that no run is writing into; wait "
                "until that has ended, or use another folder"
            ) from error
        except OSError as error:
            self.missing = (
                f"warning: the file system of {self._path.parent} has no locks ({error.strerror}): a second run in the "
                "same folder would not be noticed"
            )
            self._path.unlink(missing_ok=True)
            return False
        return True

    def _is_its_file(self, descriptor: int) -> bool:
        """Tell whether a file that was opened is still there: whoever had the lock removes it at the end."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.lstat())
        except FileNotFoundError:
            return False


def _sign(descriptor: int) -> None:
    """Write down who has the lock, for messages; the lock counts without, and a full disk has no room for it."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
