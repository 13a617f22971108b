"""Masks in files of their own: HDF5, NumPy's .npy, or Dragonfly's raw bytes; and which pixels a mask means."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.masks import Means, levels_of
from spilegate.records import UInt8

EXPECTED = "a mask: HDF5 with one dataset of the panels' shape (FILE:DATASET names it), .npy, or raw bytes"


def read(name: str, shape: tuple[int, int, int], means: Means) -> UInt8:
    """Return the levels (panels, y, x) of a mask that is in a file of its own.

    name : of the file, `:` and the dataset's name after it where an HDF5 file holds several of that shape
    means : what its values mean; unless it is given, a mask of 0 and 1 is 1 for bad pixels, as in CXI
    Raises InputError if it is none, or is of another shape.
    """
    path, inner = Path(name), None
    if not path.exists() and ":" in name:
        path, inner = Path(name.rpartition(":")[0]), name.rpartition(":")[2]
    files.check_readable(path, EXPECTED)
    values = _values(path, inner, shape)
    if values.size != math.prod(shape) or not _fits(values.shape, shape):
        raise InputError(f"{path}: a mask of shape {values.shape}; expected {shape}, as the patterns have")
    return levels_of(values.reshape(shape), "bad" if means == "auto" else means, f"{path}: mask")


def _values(path: Path, inner: str | None, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Return what a file of a mask holds."""
    if h5py.is_hdf5(path):
        with files.open_hdf5(path, EXPECTED) as file:
            if inner is None:
                inner = _only(file, path, shape)
            values: NDArray[Any] = files.dataset(file, inner, path, EXPECTED, kinds="iufb")[()]
            return values
    with path.open("rb") as raw:
        magic = raw.read(6)
    if magic == b"\x93NUMPY":
        try:
            found = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path}: {' '.join(str(error).split())}; expected {EXPECTED}") from error
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "iufb":
            raise InputError(f"{path}: values that are no numbers; expected {EXPECTED}")
        return found
    if path.stat().st_size != math.prod(shape):
        raise InputError(
            f"{path}: {path.stat().st_size} bytes; expected {EXPECTED}, a byte for each of {math.prod(shape)} pixels"
        )
    return np.fromfile(path, np.uint8).reshape(shape)


def _only(file: h5py.File, path: Path, shape: tuple[int, int, int]) -> str:
    """Return the name of the one dataset of the panels' shape; InputError if there is none, or several."""
    found = [name for name, item in files.datasets_in(file) if item.dtype.kind in "iufb" and _fits(item.shape, shape)]
    if len(found) == 1:
        return found[0]
    named = [name for name in found if name.rpartition("/")[2] == "mask"]
    if len(named) == 1:
        return named[0]
    what = f"several that may be: {files.shown(found)}; name one, {path}:DATASET" if found else "none of that shape"
    raise InputError(f"{path}: {what}; expected a mask of shape {shape}")


def _fits(found: tuple[int, ...] | None, shape: tuple[int, int, int]) -> bool:
    """Tell whether values of a shape are one for each pixel."""
    return found is not None and (found in (shape, shape[1:]) if shape[0] == 1 else found == shape)
