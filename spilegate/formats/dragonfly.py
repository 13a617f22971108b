"""Dragonfly's photons and detectors (Ayyer et al., J. Appl. Cryst. 49:1320, 2016), read from whoever wrote them.

Photons are lists: of every pattern the pixels that one photon hit, and those that several hit with how many; in a
binary file or in HDF5. They say nothing of the pixels: that is in the detector's file, which says nothing of the
wavelength.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats.dragonfly_detector import COLUMNS
from spilegate.formats.whole import check_whole
from spilegate.records import Int64

# What follows the numbers of patterns and pixels, and of which kind they are, is unused.
HEADER_BYTES = 1024
LISTS = ("place_ones", "place_multi", "count_multi")
NUM_PIX = "num_pix"
EXPECTED = "Dragonfly's photons"
# Types of values. A header says which there are, but writers put other things there: the size of the file tells.
INTEGERS, REALS = "<i4", "<f8"
MOST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Header:
    """What a binary file says of itself before the photons.

    patterns, pixels : how many; dtype : of the values
    numbers : (2, N_IMG) int64, of lists how many pixels of every pattern were hit once, and more often
    """

    patterns: int
    pixels: int
    dtype: str
    numbers: Int64 | None = None


class Photons:
    """Patterns of photons as an HDF5 dataset of dense ones would show them: (N_IMG, panels, y, x) counts.

    shape, dtype, chunks : as of a dataset; `photons[part]` are some of the patterns
    """

    chunks = None

    def __init__(self, lists: Lists | NDArray[Any], shape: tuple[int, int, int]) -> None:
        self._lists = lists
        self.shape = (len(lists), *shape)
        self.dtype = np.dtype(np.int32) if isinstance(lists, Lists) else lists.dtype

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return patterns; OSError if a list names pixels that there are not."""
        if not isinstance(self._lists, Lists):
            return np.asarray(self._lists[part]).reshape(-1, *self.shape[1:])
        first, last, _ = part.indices(self.shape[0])
        return self._lists.dense(first, last).reshape(-1, *self.shape[1:])


class Lists:
    """The photons of patterns as lists.

    lists : `place_ones`, `place_multi`, `count_multi`, each indexed by a range of patterns to one array after the other
    """

    def __init__(self, count: int, pixels: int, lists: tuple[Ragged, Ragged, Ragged]) -> None:
        self._count, self._pixels, self._lists = count, pixels, lists

    def __len__(self) -> int:
        """Return how many patterns there are."""
        return self._count

    def dense(self, first: int, last: int) -> NDArray[np.int32]:
        """Return patterns (n, N_PIX), from `first` to before `last`; OSError if they make no sense."""
        (ones, n_ones), (places, n_multi), (counts, n_counts) = (part.read(first, last) for part in self._lists)
        number = max(last - first, 0)
        if not np.array_equal(n_multi, n_counts):
            raise OSError(f"patterns {first} to {last - 1}: pixels of several photons without their numbers")
        place = np.concatenate([ones, places]).astype(np.int64)
        wrong = place[(place < 0) | (place >= self._pixels)]
        if len(wrong):
            raise OSError(f"patterns {first} to {last - 1}: photons at pixel {wrong[0]} of {self._pixels}")
        pattern = np.concatenate([np.repeat(np.arange(number), n) for n in (n_ones, n_multi)])
        weight = np.concatenate([np.ones(len(ones)), counts])
        photons = np.bincount(pattern * self._pixels + place, weight, minlength=number * self._pixels)
        wrong = np.concatenate([counts[counts < 0], photons[photons > MOST]])
        if len(wrong):
            raise OSError(f"patterns {first} to {last - 1}: {wrong[0]:.0f} photons at a pixel")
        return photons.astype(np.int32).reshape(number, self._pixels)


@dataclass(frozen=True)
class Ragged:
    """Lists of many patterns: one array of all of them and where each begins, or an HDF5 dataset of arrays."""

    values: Any
    begin: Int64 | None

    def read(self, first: int, last: int) -> tuple[NDArray[Any], Int64]:
        """Return the lists of patterns one after the other, and the length of each."""
        if self.begin is not None:
            edges = self.begin[first : last + 1]
            return np.asarray(self.values[edges[0] : edges[-1]]), np.diff(edges)
        found = [np.zeros(0, np.int32) if each is None else np.asarray(each) for each in self.values[first:last]]
        lengths = np.array([len(each) for each in found], np.int64)
        return np.concatenate([np.zeros(0, np.int32), *found]), lengths


def header_of(path: Path) -> Header | None:
    """Return what a binary file of photons says of itself, None if it is none: its size has to be what it says."""
    size = path.stat().st_size
    if size < HEADER_BYTES:
        return None
    count, pixels = (int(value) for value in np.fromfile(path, INTEGERS, 2))
    if count < 1 or pixels < 1:
        return None
    rest = size - HEADER_BYTES
    for dtype in (INTEGERS, REALS):
        if rest == np.dtype(dtype).itemsize * count * pixels:
            return Header(count, pixels, dtype)
    if rest < 8 * count:
        return None
    numbers = np.fromfile(path, INTEGERS, 2 * count, offset=HEADER_BYTES).astype(np.int64).reshape(2, count)
    ones, multi = numbers.sum(axis=1).tolist()
    if numbers.min() < 0 or rest != 8 * count + 4 * ones + 8 * multi:
        return None
    return Header(count, pixels, INTEGERS, numbers)


def is_photons(file: h5py.File) -> bool:
    """Tell whether an HDF5 file holds lists of photons."""
    return all(name in file for name in LISTS)


def is_detector(file: h5py.File) -> bool:
    """Tell whether an HDF5 file is a detector's, which has no patterns."""
    return all(name in file for name in COLUMNS)


def binary(path: Path, header: Header, shape: tuple[int, int, int]) -> Photons:
    """Return the patterns of a binary file; they are read as they are asked for. shape : (panels, y, x)."""
    values: Any
    if header.numbers is None:
        values = np.memmap(path, header.dtype, "r", HEADER_BYTES, (header.patterns, header.pixels))
        return Photons(values, shape)
    lengths = header.numbers[[0, 1, 1]]
    ends = np.cumsum(lengths.sum(axis=1))
    at = HEADER_BYTES + 8 * header.patterns
    values = np.memmap(path, header.dtype, "r", at, (int(ends[-1]),)) if ends[-1] else np.zeros(0, np.int32)
    ones, places, counts = (
        Ragged(part, np.append(0, np.cumsum(length)))
        for part, length in zip(np.split(values, ends[:-1]), lengths, strict=True)
    )
    return Photons(Lists(header.patterns, header.pixels, (ones, places, counts)), shape)


def pixels_of(file: h5py.File, path: Path) -> int:
    """Return how many pixels the patterns of an HDF5 file have; InputError if it does not say."""
    found = file.get(NUM_PIX)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iu" or not found.size:
        raise InputError(f"{path}: dataset {NUM_PIX!r}: not a number of pixels; expected that of {EXPECTED}")
    return int(np.prod(found[()].astype(np.int64)))


def hdf5(file: h5py.File, path: Path, shape: tuple[int, int, int]) -> Photons:
    """Return the patterns of an HDF5 file; they are read as they are asked for. shape : (panels, y, x)."""
    found = [file[name] for name in LISTS]
    for name, each in zip(LISTS, found, strict=True):
        kind = h5py.check_vlen_dtype(each.dtype) if isinstance(each, h5py.Dataset) else None
        if kind is None or kind.kind not in "iu" or each.ndim != 1 or not len(each) or len(each) != len(found[0]):
            raise InputError(
                f"{path}: dataset {name!r}: {getattr(each, 'dtype', 'a group')} {getattr(each, 'shape', '')}; expected "
                f"a list of integers for every pattern, as {EXPECTED} have"
            )
        check_whole(each, f"{path}: dataset {name!r}")
    ones, places, counts = (Ragged(each, None) for each in found)
    return Photons(Lists(len(found[0]), math.prod(shape), (ones, places, counts)), shape)
