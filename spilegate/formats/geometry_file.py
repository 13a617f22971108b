"""A geometry file beside a file of patterns: what each says where the other is silent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spilegate.formats import crystfel, crystfel_layout, files
from spilegate.formats.crystfel import Geometry
from spilegate.formats.crystfel_grammar import Location, angstrom, metres
from spilegate.formats.crystfel_panels import Mask
from spilegate.formats.facts import STEADY, Facts
from spilegate.formats.reading import Options
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


def limits(geometry: Geometry, facts: Facts) -> tuple[Float64, Float64, Float64] | None:
    """Return below, above and equal to which values are none, as `Geometry.limits` does for the panels of a file.

    Of a detector of which the file has some modules only, those of these.
    """
    shape, modules = facts.stack.shape[1:], facts.modules
    count = 0 if modules is None else crystfel_layout.modules(geometry.panels, shape[1])
    if modules is None or count <= max(modules):
        return geometry.limits(shape)
    whole = geometry.limits((count, *shape[1:]))
    which = list(modules)
    return None if whole is None else (whole[0][which], whole[1][which], whole[2][:, which])


def gain(geometry: Geometry, facts: Facts, options: Options) -> list[str]:
    """Return that a geometry says what a photon is in ADU, a line, where nobody else does: values may be photons."""
    if facts.modules is not None or options.adu_per_photon != "auto" or options.photon_unit is not None:
        return []
    every = geometry.adu_per_photon(facts.stack.shape[1:])
    known = np.unique([] if every is None else every[np.isfinite(every)])
    if len(known) != 1 or known[0] == 1:
        return []
    said = f"{known[0]:.6g}"
    return [f"{geometry.path}: a photon is {said} units of the file; --set prepare.adu_per_photon={said} uses that"]


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
