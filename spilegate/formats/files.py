"""What all readers and writers share: files replaced whole or not at all, and HDF5 files that may be broken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - importing it makes its compression filters known to HDF5

from spilegate.errors import InputError

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

    expected : what the file should be, for messages
    """
    if not path.is_file():
        found = "found a folder" if path.is_dir() else "not found"
        raise InputError(f"{path}: {found}; expected {expected}; check the path")
    try:
        with path.open("rb") as raw:
            raw.read(1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not h5py.is_hdf5(path):
        raise InputError(f"{path}: not an HDF5 file; expected {expected}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: truncated or damaged ({reason}); expected {expected}; copy it again") from error


def dataset(file: h5py.File, name: str, path: Path, expected: str) -> h5py.Dataset:
    """Return a dataset of real numbers.

    expected : its shape and meaning, for messages
    Raises InputError if it is missing, no dataset, or holds anything but integers or real numbers.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        what = "not in the file" if found is None else "a group"
        names = ", ".join(sorted(file)) or "nothing"
        raise InputError(f"{path}: dataset {name!r}: {what}; expected {expected}; the file holds {names}")
    if found.shape is None or found.dtype.kind not in "iuf":
        raise InputError(f"{path}: dataset {name!r}: type {found.dtype}; expected integers or real numbers, {expected}")
    return found
