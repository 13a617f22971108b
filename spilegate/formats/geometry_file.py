"""A geometry file beside a file of patterns: what each says where the other is silent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spilegate.formats import crystfel, files
from spilegate.formats.crystfel import Geometry
from spilegate.formats.crystfel_grammar import Location, angstrom, metres
from spilegate.formats.crystfel_panels import HIGH, LOW, Mask
from spilegate.formats.facts import STEADY, Facts
from spilegate.records import Bool, Float64

EXPECTED = "a mask that a geometry file names"


def read(path: Path, file: h5py.File | None) -> Geometry:
    """Return a geometry with the distance and wavelength that it says are in the file of patterns.

    file : the file of patterns, None if it is not HDF5
    Raises InputError for a geometry that cannot be used.
    """
    geometry = crystfel.read(path)
    if file is None:
        return geometry
    if geometry.clen_m is None and geometry.clen_path is not None:
        value = _number(file, geometry.clen_path)
        geometry = replace(geometry, clen_m=None if value is None else metres(value, geometry.clen_path.unit))
    if geometry.wavelength_angstrom is None and geometry.wavelength_path is not None:
        value = _number(file, geometry.wavelength_path)
        known = None if not value else angstrom(value, geometry.wavelength_path.unit)
        geometry = replace(geometry, wavelength_angstrom=known)
    return geometry


def dataset_of(geometry: Geometry, file: h5py.File) -> str | None:
    """Return the dataset of patterns that a geometry names, if the file has it."""
    name = geometry.data_path
    return name if name and "%" not in name and isinstance(file.get(name), h5py.Dataset) else None


def masked(geometry: Geometry, file: h5py.File | None, shape: tuple[int, int, int]) -> tuple[Bool, list[str]]:
    """Return which pixels (panels, y, x) a geometry's masks mark as bad, and which of these masks are not heeded."""
    bad, said = np.zeros(shape, np.bool_), []
    for mask in geometry.masks:
        problem = "is not in the file of patterns"
        if mask.file is not None:
            places = [Path(mask.file), geometry.path.parent / mask.file]
            found = next((place for place in places if place.is_file() and h5py.is_hdf5(place)), None)
            problem = f"in {mask.file}, which is not there, or no HDF5"
            if found is not None:
                with files.open_hdf5(found, EXPECTED) as other:
                    problem = _mark(bad, mask, other)
        elif file is not None:
            problem = _mark(bad, mask, file)
        if problem:
            said.append(f"{geometry.path}: mask {mask.path} {problem}: not heeded")
    return bad, said


def limits(geometry: Geometry, facts: Facts) -> tuple[Float64, Float64, tuple[float, ...]] | None:
    """Return below and above which values are none, (panels, y, x) each, and equal to which; None if no geometry says.

    Where a file has some of the detector's modules only, limits are those that all modules have.
    """
    shape = facts.stack.shape[1:]
    if facts.modules is None:
        return geometry.limits(shape)
    lows = {panel.flag_lessthan for panel in geometry.panels}
    highs = {min(panel.flag_morethan, panel.max_adu) for panel in geometry.panels}
    equal = {panel.flag_equal for panel in geometry.panels}
    if len(lows) > 1 or len(highs) > 1 or len(equal) > 1:
        return geometry.limits(shape)
    low, high, values = lows.pop(), highs.pop(), equal.pop()
    if low <= LOW and high >= HIGH and not values:
        return None
    return np.full(shape, low), np.full(shape, high), values


def _mark(bad: Bool, mask: Mask, file: h5py.File) -> str:
    """Add a mask to those pixels that are bad (panels, y, x); return why not, in words, or nothing.

    Masks of every pattern are those of the patterns' file, whose reader heeds them.
    """
    found: Any = file.get(mask.path)
    if not isinstance(found, h5py.Dataset):
        return "is not there"
    if found.dtype.kind not in "iub":
        return f"of type {found.dtype}"
    if found.size != bad.size:
        return "" if mask.file is None and found.size and not found.size % bad.size else f"of shape {found.shape}"
    bad |= mask.bad(found[()].reshape(bad.shape))
    return ""


def _number(file: h5py.File, place: Location) -> float | None:
    """Return a number that is the same for all patterns, None if there is none."""
    found: Any = file.get(place.path)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iuf" or not found.size:
        return None
    values = found[()].astype(np.float64).ravel()
    mean = float(values.mean())
    return mean if np.isfinite(mean) and np.ptp(values) <= STEADY * 10 * abs(mean) else None
