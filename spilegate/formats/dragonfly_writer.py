"""Dragonfly's photons, binary or HDF5, with the detector that belongs to them, written block by block."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.dragonfly import HEADER_BYTES, INTEGERS, LISTS, MOST, NUM_PIX
from spilegate.formats.dragonfly_detector import BACKGROUND, COLUMNS, RADIUS
from spilegate.formats.outgoing import Outgoing
from spilegate.geometry.detector import pixel_spacing

Lists = list[NDArray[np.int32]]


def detector_path(path: Path) -> Path:
    """Return where the detector of a file of photons is written: beside it."""
    return path.with_name(f"{path.stem}_detector.h5")


def check(path: Path, patterns: Outgoing) -> None:
    """Raise InputError if patterns are no photons, or lack some: there is no other kind here."""
    if patterns.missing:
        raise InputError(
            f"{path}: {patterns.missing} values that single patterns lack; expected none, for which Dragonfly's lists "
            "have no word; --set prepare.broken_pixels=ever masks these pixels; or write .cxi or .h5"
        )
    if not patterns.counts:
        raise InputError(
            f"{path}: {patterns.taken_for}; expected photons, of which Dragonfly's files are lists; give a name that "
            "ends in .h5 or .cxi, or say what a photon is (prepare.photon_unit)"
        )


def write_binary(path: Path, patterns: Outgoing, *, force: bool) -> None:
    """Write photons as lists (`.emc`), and their detector beside them; each appears whole or not at all."""
    check(path, patterns)
    count, pixels = patterns.count, int(np.prod(patterns.shape))
    numbers = np.zeros((2, count), INTEGERS)
    with (
        files.replacing(path, force=force) as file,
        tempfile.TemporaryFile(dir=path.parent) as places,
        tempfile.TemporaryFile(dir=path.parent) as counts,
    ):
        file.seek(HEADER_BYTES + numbers.nbytes)
        done = 0
        for ones, multi, times in _lists(patterns):
            part = slice(done, done + len(ones))
            numbers[0, part], numbers[1, part] = ([len(each) for each in lists] for lists in (ones, multi))
            file.write(np.concatenate(ones).astype(INTEGERS).tobytes())
            places.write(np.concatenate(multi).astype(INTEGERS).tobytes())
            counts.write(np.concatenate(times).astype(INTEGERS).tobytes())
            done += len(ones)
        for rest in (places, counts):
            rest.seek(0)
            shutil.copyfileobj(rest, file)
        header = np.zeros(HEADER_BYTES // 4, INTEGERS)
        header[:2] = count, pixels
        file.seek(0)
        file.write(header.tobytes() + numbers.tobytes())
    write_detector(detector_path(path), patterns, force=force)


def write_hdf5(path: Path, patterns: Outgoing, *, force: bool) -> None:
    """Write photons as lists in HDF5, and their detector beside them; each appears whole or not at all."""
    check(path, patterns)
    with files.filling_hdf5(path, force=force) as (file, check_now):
        file[NUM_PIX] = np.array([np.prod(patterns.shape)], np.int64)
        found = [file.create_dataset(name, (patterns.count,), h5py.vlen_dtype(np.int32)) for name in LISTS]
        done = 0
        for lists in _lists(patterns):
            for dataset, each in zip(found, lists, strict=True):
                _write_lists(dataset, done, each)
            done += len(lists[0])
            check_now()
    write_detector(detector_path(path), patterns, force=force)


def _write_lists(dataset: h5py.Dataset, first: int, lists: Lists) -> None:
    """Write lists of several patterns; h5py takes lists that are all as long as each other for an array."""
    if len({len(each) for each in lists}) > 1:
        values: NDArray[Any] = np.empty(len(lists), object)
        values[:] = lists
        dataset[first : first + len(lists)] = values
        return
    for index, each in enumerate(lists):
        dataset[first + index] = each


def write_detector(path: Path, patterns: Outgoing, *, force: bool) -> None:
    """Write the detector of photons: positions in voxels, a voxel being about a pixel wide."""
    q = patterns.q.reshape(-1, 3)
    radius = 1 / (patterns.wavelength * pixel_spacing(q))
    columns: dict[str, NDArray[Any]] = dict(zip(COLUMNS, (q * patterns.wavelength * radius).T, strict=False))
    columns["corr"] = np.ones(len(q)) if patterns.response is None else patterns.response.ravel()
    columns["mask"] = np.zeros(len(q), np.uint8) if patterns.levels is None else patterns.levels.ravel()
    with files.replacing_hdf5(path, force=force) as file:
        for name in COLUMNS:
            file[name] = columns[name]
        file["detd"], file[RADIUS] = radius, radius
        if patterns.background is not None:
            file[BACKGROUND] = patterns.background.ravel()


def _lists(patterns: Outgoing) -> Iterator[tuple[Lists, Lists, Lists]]:
    """Yield, of some patterns at a time, the pixels of one photon, those of several, and how many these have."""
    for block in patterns.blocks():
        values = np.minimum(block.reshape(len(block), -1), MOST).astype(np.int32)
        ones = [np.flatnonzero(row == 1).astype(np.int32) for row in values]
        multi = [np.flatnonzero(row > 1).astype(np.int32) for row in values]
        yield ones, multi, [row[index] for row, index in zip(values, multi, strict=True)]
