"""What all readers and writers share: files replaced whole or not at all, and HDF5 files that may be broken."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - importing it makes its compression filters known to HDF5

from spilegate.errors import InputError
from spilegate.formats.whole import check_whole, link_of

# Ending of a file that is being written; left behind only by a process that was killed.
PARTIAL = ".partial"


def check_target(path: Path, *, force: bool) -> None:
    """Raise InputError if `path` cannot be written: it exists and `force` is not set, is a folder, or has no folder."""
    if path.is_dir():
        raise InputError(f"{path}: found a folder; expected a file name")
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; expected a new file; --force overwrites it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: folder {path.parent} does not exist; make it or name another file")


@contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[Path]:
    """Give the name of a file beside `path` to write to; once it is written and on disk it is renamed to `path`.

    So `path` is never half written: after an error or a crash it is what it was before.
    Raises InputError if `path` cannot be written.
    """
    check_target(path, force=force)
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); check space, permissions") from error
    finally:
        partial.unlink(missing_ok=True)


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


@contextmanager
def opened(path: Path, expected: str) -> Iterator[h5py.File]:
    """Open an HDF5 file to read, also while another program writes it; raise InputError if that cannot be.

    Errors of what is done with it are not caught: whatever reads belongs into `reading`.
    """
    if not path.is_file():
        found = "found a folder" if path.is_dir() else "not found"
        raise InputError(f"{path}: {found}; expected {expected}; check the path")
    try:
        with path.open("rb") as raw:
            raw.read(1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    with reading(path, expected):
        file = _open(path, expected)
    with file:
        yield file


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turn whatever HDF5 finds wrong with a file while it is read into an InputError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if being_written(path):
            problem, remedy = "being written by another program", "wait until that has ended"
        elif "h5clear" in reason:
            problem, remedy = "never closed by the program that wrote it", f"h5clear -s {path} marks it as closed"
        else:
            problem, remedy = "truncated or damaged", "copy it again"
        raise InputError(f"{path}: {problem} ({reason}); expected {expected}; {remedy}") from error


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
    """Tell whether another program has locked a file to write it, as HDF5 does."""
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
        names = ", ".join(sorted(file)) or "nothing"
        raise InputError(f"{where}: {what}; expected {expected}; the file holds {names}")
    if found.shape is None or found.dtype.kind not in kinds:
        raise InputError(f"{where}: type {found.dtype}; expected integers or real numbers, {expected}")
    check_whole(found, where)
    return found
