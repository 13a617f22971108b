"""Pixel maps: x, y and z of every pixel as datasets of one file, as Cheetah has them, in metres or in pixels."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.facts import DISTANCES
from spilegate.records import Float64

AXES = ("x", "y", "z")
EXPECTED = "a geometry: CrystFEL's, or a pixel map in HDF5 with x, y and z of every pixel"
# Further than this [m] no pixel is from the beam: then they are numbers of pixels.
FURTHEST = 1.0


def is_map(path: Path) -> bool:
    """Tell whether a file is a pixel map; never raises."""
    return path.is_file() and h5py.is_hdf5(path)


def read(path: Path, shape: tuple[int, int, int], distance: float | None, pixel: float | None) -> Float64:
    """Return the positions of pixels (panels, y, x, 3) [m].

    shape : (panels, y, x) of the patterns; distance : [m] from the sample, added where z is none; pixel : [m], what
    positions in pixels are multiplied with; None if not known
    Raises InputError for a map of other pixels, or if distance or size of a pixel are needed and not known.
    """
    with files.open_hdf5(path, EXPECTED) as file:
        names = AXES if AXES[2] in file else AXES[:2]
        found = [files.dataset(file, name, path, EXPECTED)[()].astype(np.float64) for name in names]
    for name, values in zip(names, found, strict=True):
        if values.size != math.prod(shape):
            raise InputError(
                f"{path}: dataset {name!r}: {values.size} pixels {values.shape}; expected {math.prod(shape)}, as the "
                "patterns have; give the map of this detector"
            )
    x, y, z = (values.reshape(shape) for values in (*found, *[np.zeros(shape)] * (3 - len(found))))
    if not np.isfinite(x).any() or not np.isfinite(y).any():
        raise InputError(f"{path}: no finite positions; expected {EXPECTED}; make the map again")
    if max(float(np.nanmax(np.abs(x))), float(np.nanmax(np.abs(y)))) > FURTHEST:
        if pixel is None:
            raise InputError(
                f"{path}: positions in pixels; expected the size of a pixel as well; add --pixel-um NUMBER"
            )
        x, y = x * pixel, y * pixel
    if not float(np.nanmedian(z)) >= DISTANCES[0]:
        if distance is None:
            raise InputError(f"{path}: no distance from the sample in z; expected it; add --distance-m NUMBER")
        z = np.where(np.isfinite(z) & (np.abs(z) < DISTANCES[0]), z, 0.0) + distance
    return np.stack([x, y, z], axis=-1)
