"""Patterns written in SpiniFEL's layout or in CXI, block by block, so that no more than a block is ever held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from spilegate.formats import cxi_masks, files, masks, origin, pixels
from spilegate.formats.facts import EV_ANGSTROM, JOULE_PER_EV
from spilegate.formats.outgoing import Outgoing
from spilegate.formats.reading import INTENSITIES, RESPONSE
from spilegate.geometry.detector import pixel_spacing
from spilegate.records import MERGE_ONLY, NEVER, Float64

# Where the file that patterns come from does not say how far away the detector is: directions are all that counts.
DISTANCE_M = 1.0


def write_spinifel(path: Path, patterns: Outgoing, *, force: bool) -> None:
    """Write patterns in SpiniFEL's layout; the file appears whole or not at all."""
    with files.filling_hdf5(path, force=force) as (file, check):
        _stack(file, INTENSITIES, patterns, check).attrs["unit"] = "photons" if patterns.counts else "arbitrary"
        position = file.create_dataset(pixels.POSITION, data=patterns.q * pixels.ANGSTROM_PER_METRE)
        position.attrs["unit"] = "1/m"
        position.attrs[pixels.SAME_BITS] = "of directions, x/z and y/z"
        file.create_dataset(pixels.INDEX_MAP, data=patterns.index_map)
        if patterns.levels is not None:
            file.create_dataset(masks.MASK, data=patterns.levels).attrs["levels"] = "0 use, 1 merge only, 2 never"
        if patterns.background is not None:
            file.create_dataset(masks.BACKGROUND, data=patterns.background).attrs["unit"] = "counts per pattern"
        if patterns.response is not None:
            file.create_dataset(RESPONSE, data=patterns.response)
        file.attrs[pixels.WAVELENGTH] = patterns.wavelength
        origin.write(file.create_group(origin.GROUP), patterns.origin)


def write_cxi(path: Path, patterns: Outgoing, *, force: bool) -> None:
    """Write patterns in CXI, version 1.6, with the position of every pixel; the file appears whole or not at all."""
    with files.filling_hdf5(path, force=force) as (file, check):
        file["cxi_version"], file["number_of_entries"] = 160, 1
        detector = file.create_group("entry_1/instrument_1/detector_1")
        axes = "experiment_identifier:module_identifier:y:x"
        _stack(detector, "data", patterns, check).attrs["axes"] = axes
        place = positions(patterns)
        size = pixel_spacing(patterns.q.reshape(-1, 3)) * patterns.wavelength * DISTANCE_M
        _quantity(detector, "xyz_map", np.moveaxis(place, -1, 0), "m")
        _quantity(detector, "distance", DISTANCE_M, "m")
        _quantity(detector, "x_pixel_size", size, "m")
        _quantity(detector, "y_pixel_size", size, "m")
        if patterns.levels is not None:
            bits = np.zeros(patterns.shape, np.uint32)
            bits[patterns.levels == NEVER] = cxi_masks.WRITTEN_BAD
            bits[patterns.levels == MERGE_ONLY] = cxi_masks.WRITTEN_MERGE_ONLY
            # A mask of every pattern may stand beside it, which is the one that other programs look for.
            detector.create_dataset("mask_shared" if patterns.missing else "mask", data=bits)
        if patterns.missing:
            _masks(detector, patterns, check)
        if patterns.background is not None:
            detector.create_dataset(masks.BACKGROUND, data=patterns.background)
        if patterns.response is not None:
            detector.create_dataset(RESPONSE, data=patterns.response)
        beam = file.create_group("entry_1/instrument_1/source_1")
        _quantity(beam, "energy", EV_ANGSTROM / patterns.wavelength * JOULE_PER_EV, "J")
        file["entry_1/data_1"] = h5py.SoftLink("/entry_1/instrument_1/detector_1")
        origin.write(file.create_group(f"entry_1/{origin.GROUP}"), patterns.origin)


def positions(patterns: Outgoing) -> Float64:
    """Return positions (panels, y, x, 3) [m] on a plane at DISTANCE_M."""
    out = patterns.q * patterns.wavelength + np.array([0.0, 0.0, 1.0])
    result: Float64 = DISTANCE_M * out / out[..., 2:]
    return result


def _stack(group: h5py.Group, name: str, patterns: Outgoing, check: Callable[[], None]) -> h5py.Dataset:
    """Write all patterns into a dataset, photons as integers. check : called now and then."""
    found: h5py.Dataset | None = None
    first = 0
    for block in patterns.blocks():
        if found is None:
            found = _dataset(group, name, patterns, np.uint16 if patterns.counts else np.float32)
        if patterns.counts and found.dtype == np.uint16 and np.nanmax(block, initial=0) >= np.iinfo(np.uint16).max:
            found = _wider(group, name, patterns, found, first)
        values: NDArray[Any] = block
        if patterns.counts:
            # The largest of an integer type is no value.
            values = np.where(np.isnan(block), 0, block).astype(found.dtype)
            values[np.isnan(block)] = np.iinfo(found.dtype).max
        found[first : first + len(block)] = values
        first += len(block)
        check()
    return found


def _dataset(group: h5py.Group, name: str, patterns: Outgoing, dtype: DTypeLike) -> h5py.Dataset:
    """Return an empty dataset for all patterns."""
    how: dict[str, Any] = {"chunks": (1, *patterns.shape), "compression": "gzip", "compression_opts": 1}
    return group.create_dataset(name, (patterns.count, *patterns.shape), dtype, **how)


def _masks(group: h5py.Group, patterns: Outgoing, check: Callable[[], None]) -> None:
    """Write a mask of every pattern: which values it lacks."""
    found = _dataset(group, "mask", patterns, np.uint32)
    first = 0
    for block in patterns.blocks():
        found[first : first + len(block)] = np.where(np.isnan(block), cxi_masks.WRITTEN_MISSING, 0)
        first += len(block)
        check()


def _wider(group: h5py.Group, name: str, patterns: Outgoing, found: h5py.Dataset, done: int) -> h5py.Dataset:
    """Return a dataset of wider integers, with the patterns that were written already."""
    group.move(name, f"{name}_narrow")
    result = _dataset(group, name, patterns, np.uint32)
    for index in range(done):
        values = found[index]
        lacking = values == np.iinfo(np.uint16).max
        result[index] = np.where(lacking, np.uint32(np.iinfo(np.uint32).max), values)
    del group[f"{name}_narrow"]
    return result


def _quantity(group: h5py.Group, name: str, value: Any, units: str) -> None:
    """Write a number with its unit."""
    group.create_dataset(name, data=value).attrs["units"] = units
