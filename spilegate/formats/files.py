"""What all readers and writers share: files replaced whole or not at all, and HDF5 files that may be broken."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - importing it makes its compression filters known to HDF5

from spilegate.errors import InputError
from spilegate.formats.whole import check_whole, link_of

# Ending of a file that is being written; left behind only by a process that was killed.
PARTIAL = ".partial"
# All that its name adds to that of the file it becomes, for `glob`.
PARTIALS = f".{'[0-9a-f]' * 16}{PARTIAL}"
# Names of datasets that are said at once.
MOST_NAMES = 20
# Errors of a disk that holds no more.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_target(path: Path, *, force: bool) -> None:
    """Raise InputError if `path` cannot be written: it exists and `force` is not set, is a folder, or has no folder."""
    if path.is_dir():
        raise InputError(f"{path}: found a folder; expected a file name")
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; expected a new file; --force overwrites it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: folder {path.parent} does not exist; make it or name another file")


class Writer:
    """A file being written, by Python or by HDF5; its first error is kept, and raised by `check`.

    HDF5 writes when it likes, also when a handle is freed, where an exception is lost; and after a write that failed it
    can neither close its file nor end the process in order. So it is never told.
    """

    def __init__(self, raw: FileIO) -> None:
        self.error: OSError | None = None
        self._raw = raw

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place in the file and return it."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._raw.tell()

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        return self._raw.read(size)

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return how many bytes there were."""
        return self._raw.readinto(buffer)

    def write(self, content: bytes | memoryview) -> int:
        """Write all bytes, or keep the error, and nothing is written any more."""
        rest = memoryview(content)
        try:
            while len(rest) and self.error is None:
                rest = rest[self._raw.write(rest) :]
        except OSError as error:
            self.error = error
        return len(content)

    def truncate(self, size: int) -> int:
        """Make the file end at `size`, or keep the error."""
        try:
            self._raw.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def check(self) -> None:
        """Wait until everything is on disk; raise the first OSError that there was."""
        if self.error is not None:
            raise self.error
        os.fsync(self._raw.fileno())


@contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[Writer]:
    """Give a file beside `path` to write to; once it is written and on disk it is renamed to `path`.

    So `path` is never half written: after an error or a crash it is what it was before.
    Raises InputError if `path` cannot be written.
    """
    check_target(path, force=force)
    # Nobody else has this name, and it is made, never opened: no other run, no link can be waiting there.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    writer = None
    try:
        with partial.open("x+b", buffering=0) as raw:
            writer = Writer(raw)
            yield writer
            writer.check()
        partial.replace(path)
        _flush(path.parent)
    except Exception as error:
        # Whatever HDF5 makes of a file that could not be written is not what is wrong.
        reason = (writer.error if writer else None) or error
        if isinstance(reason, OSError):
            raise InputError(unwritten(path, reason)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def replace(path: Path, content: bytes, *, force: bool = True) -> None:
    """Write a file whole or not at all; raises InputError if it cannot be written."""
    with replacing(path, force=force) as file:
        file.write(content)


@contextmanager
def replacing_hdf5(path: Path, *, force: bool) -> Iterator[h5py.File]:
    """Give an HDF5 file to fill; it appears at `path` whole or not at all.

    Raises InputError if it cannot be written.
    """
    with filling_hdf5(path, force=force) as (file, _):
        yield file


@contextmanager
def filling_hdf5(path: Path, *, force: bool) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Give an HDF5 file to fill, as `replacing_hdf5` does, and what to call now and then where that takes long.

    It raises what has gone wrong so far: an error of the disk, or Ctrl-C.
    """
    with replacing(path, force=force) as writer, _undisturbed() as heed, h5py.File(writer, "w") as file:

        def check() -> None:
            if writer.error is not None:
                raise writer.error
            heed()

        yield file, check


@contextmanager
def _undisturbed() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C wait until the block has ended: raised where HDF5 calls `Writer`, it would be lost as errors are.

    Yields what heeds it at once, to be called where HDF5 is not at work.
    """
    caught: list[int] = []
    handlers: dict[signal.Signals, Any] = {}
    # Handlers run in the main thread only.
    if threading.current_thread() is threading.main_thread():
        handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        handlers = {each: handler for each, handler in handlers.items() if callable(handler)}
    for each in handlers:
        signal.signal(each, lambda number, _: caught.append(number))

    def heed() -> None:
        while caught:
            number = caught.pop(0)
            handlers[signal.Signals(number)](number, None)

    try:
        yield heed
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    for number in dict.fromkeys(caught):
        signal.raise_signal(number)


def unwritten(path: Path, error: OSError) -> str:
    """Return the message for a file that could not be written."""
    if error.errno in FULL:
        return f"{path}: cannot be written: the disk is full, or a quota reached ({error.strerror}); make space"
    return f"{path}: cannot be written ({error.strerror or error}); check space, permissions"


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_hdf5(path: Path, expected: str) -> Iterator[h5py.File]:
    """Open an HDF5 file to read; whatever HDF5 finds wrong with it, also later while reading, becomes an InputError.

    For headers and small datasets: what else goes wrong inside would be blamed on the file. See `opened`.
    expected : what the file should be, for messages
    """
    with opened(path, expected) as file, reading(path, expected):
        yield file


def check_readable(path: Path, expected: str) -> None:
    """Raise InputError if there is no such file, or it may not be read. expected : what it should be, for messages."""
    if not path.is_file():
        found = "found a folder" if path.is_dir() else "not found"
        raise InputError(f"{path}: {found}; expected {expected}; check the path")
    try:
        with path.open("rb") as raw:
            raw.read(1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def size(path: Path) -> int:
    """Return the size of a file, or of all files in a folder [bytes]."""
    parts = path.iterdir() if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())


@contextmanager
def opened(path: Path, expected: str) -> Iterator[h5py.File]:
    """Open an HDF5 file to read, also while another program writes it; raise InputError if that cannot be.

    Errors of what is done with it are not caught: whatever reads belongs into `reading`.
    """
    check_readable(path, expected)
    with reading(path, expected):
        file = _open(path, expected)
    with file:
        yield file


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turn whatever HDF5 finds wrong with a file while it is read into an InputError."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError | RuntimeError) and not _of_h5py(error):
            raise
        reason = " ".join(str(error).split())
        if being_written(path):
            problem, remedy = "being written by another program", "wait until that has ended"
        elif "required filter" in reason or "can't open directory" in reason:
            problem, remedy = "compressed by a filter that is not there", "pip install hdf5plugin --upgrade"
        elif "h5clear" in reason:
            problem, remedy = "never closed by the program that wrote it", f"h5clear -s {path} marks it as closed"
        else:
            problem, remedy = "truncated or damaged", "copy it again"
        raise InputError(f"{path}: {problem} ({reason}); expected {expected}; {remedy}") from error


def _of_h5py(error: Exception) -> bool:
    """Tell whether an error came out of h5py: of damaged files it raises errors of any kind."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and "h5py" in Path(trace.tb_frame.f_code.co_filename).parts


def _open(path: Path, expected: str) -> h5py.File:
    """Open a file as it is, else as one that is being written for readers beside it, else in spite of its lock."""
    problem: OSError | None = None
    for way in ({}, {"swmr": True}, {"locking": False}):
        try:
            return h5py.File(path, "r", **way)
        except OSError as error:
            problem = problem or error
            # Its lock hides why else it cannot be opened.
            if "h5clear" in str(error):
                problem = error
    if not being_written(path) and not h5py.is_hdf5(path):
        raise InputError(f"{path}: not an HDF5 file; expected {expected}") from problem
    raise problem or OSError("cannot be opened")


def being_written(path: Path) -> bool:
    """Tell whether another program has locked a file to write it, as HDF5 does; what is no file is not."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # This file system knows no locks.
        return False
    finally:
        os.close(descriptor)
    return False


def names_in(group: h5py.Group) -> list[str]:
    """Return the names of what a group holds, sorted; those that are no text are left out, as of damaged files."""
    return sorted(name for name in group if isinstance(name, str))


def shown(names: Iterable[str]) -> str:
    """Return names for a message: in one line, and not too many."""
    return ", ".join(name if name.isprintable() else repr(name) for name in islice(names, MOST_NAMES)) or "nothing"


def datasets_in(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the datasets below a group, with their names from there; those whose names are no text are left out."""
    found: list[tuple[str, h5py.Dataset]] = []

    def look(name: str | bytes, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and isinstance(name, str):
            found.append((name, item))

    group.visititems(look)
    yield from found


def holds(file: h5py.File, name: str) -> bool:
    """Tell whether a file names something, were it a link that leads nowhere: `in` passes over these."""
    return name in file or link_of(file, name) is not None


def dataset(file: h5py.File, name: str, path: Path, expected: str, *, kinds: str = "iuf") -> h5py.Dataset:
    """Return a dataset of real numbers, all of which are there.

    expected : its shape and meaning, for messages; kinds : of types that are allowed, as NumPy names them
    Raises InputError if it is missing, no dataset, of another type, or if a part of it was never written or is in a
    file that is not there.
    """
    found, where = file.get(name), f"{path}: dataset {name!r}"
    if not isinstance(found, h5py.Dataset):
        what = "not in the file" if found is None else "a group"
        if found is None and (link := link_of(file, name)):
            raise InputError(f"{where}: {link}; expected {expected}")
        raise InputError(f"{where}: {what}; expected {expected}; the file holds {shown(names_in(file))}")
    if found.shape is None or found.dtype.kind not in kinds:
        raise InputError(f"{where}: type {found.dtype}; expected integers or real numbers, {expected}")
    check_whole(found, where)
    return found
