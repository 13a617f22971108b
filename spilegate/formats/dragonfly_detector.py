"""Dragonfly's detectors: where the pixels of its photons lie, how much they see and which of them may be used.

Positions are in voxels of Dragonfly's grid, on an Ewald sphere through the origin whose radius, in voxels, is one over
the wavelength: its curvature tells it, and a wavelength makes 1/angstrom of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.masks import Means
from spilegate.formats.pixels import EWALD_TOLERANCE, PLAUSIBLE_Q
from spilegate.geometry.detector import ewald_wavelength, pixel_spacing
from spilegate.records import NEVER, USE, Float64, Int64, UInt8

COLUMNS = ("qx", "qy", "qz", "corr", "mask")
BACKGROUND, RADIUS = "background", "ewald_rad"
EXPECTED = "a detector of Dragonfly, .dat or HDF5"
# The radius that the file gives, and that of the sphere its pixels lie on, are the same but for this part.
SAME_RADIUS = 0.01
# Pixels lie on a grid if they are no further from it than this part of a pixel.
ON_GRID = 0.1
# Pixels nearest to the beam, whose response counts as 1.
INNERMOST = 16


@dataclass(frozen=True)
class Pixels:
    """What a detector's file says of its pixels.

    q : (panels, y, x, 3) [1/angstrom]; levels, response, background : (panels, y, x); background is None if not there
    index_map : (panels, y, x, 2)
    """

    q: Float64
    levels: UInt8
    response: Float64
    background: Float64 | None
    index_map: Int64


def read(path: Path, count: int, wavelength: float, means: Means = "auto") -> Pixels:
    """Read a detector for photons of `count` pixels and a wavelength [angstrom]; means : what its mask does.

    Raises InputError if it is no detector, has other pixels, or none that lie on an Ewald sphere.
    """
    table, radius, background = _table(path)
    if len(table) != count:
        raise InputError(f"{path}: {len(table)} pixels; expected {count}, as the photons have; give their detector")
    if not np.isfinite(table).all():
        bad = int((~np.isfinite(table).all(1)).sum())
        raise InputError(f"{path}: {bad} pixels with values that are not finite; expected {' '.join(COLUMNS)} of each")
    q, corr, mask = table[:, :3].copy(), table[:, 3], table[:, 4]
    # Some writers have the beam along -z.
    q[:, 2] *= -1.0 if q[:, 2].mean() > 0 else 1.0
    found = 1 / ewald_wavelength(q) if q[:, 2].any() else 0.0
    off = float(np.abs(np.linalg.norm(q + np.array([0, 0, found]), axis=1) - found).max()) if found > 0 else np.inf
    if off > EWALD_TOLERANCE * np.linalg.norm(q, axis=1).max():
        raise InputError(
            f"{path}: pixels lie off the Ewald sphere by up to {off:.2g} voxels; expected qx qy qz on a sphere through "
            "0 0 0 about the z axis, in columns 1 to 3; make the detector's file again"
        )
    if radius is not None and abs(radius / found - 1) > SAME_RADIUS:
        raise InputError(
            f"{path}: {RADIUS} {radius:g} voxels; expected {found:.6g}, the radius of the sphere that the pixels lie "
            "on; make the detector's file again"
        )
    largest = float(np.linalg.norm(q, axis=1).max()) / (wavelength * found)
    if not PLAUSIBLE_Q[0] <= largest <= PLAUSIBLE_Q[1]:
        raise InputError(
            f"{path}: prepare.wavelength_angstrom = {wavelength:g}: its pixels reach to {1 / largest:.3g} angstrom; "
            f"expected {1 / PLAUSIBLE_Q[1]:g} to {1 / PLAUSIBLE_Q[0]:g}; give the wavelength in angstrom"
        )
    shape, places = _places(q, found)
    if means in ("good", "bad"):
        mask = np.where(mask == (1 if means == "good" else 0), USE, NEVER)
    levels = np.where((mask < USE) | (mask > NEVER) | (corr <= 0), NEVER, mask).astype(np.uint8)
    inner = np.argsort(np.linalg.norm(q, axis=1), kind="stable")
    inner = inner[corr[inner] > 0][:INNERMOST]
    response = np.where(corr > 0, corr, 1.0) / (np.median(corr[inner]) if len(inner) else 1.0)
    return Pixels(
        (q / (wavelength * found)).reshape(*shape, 3),
        levels.reshape(shape),
        response.reshape(shape),
        None if background is None else background.reshape(shape),
        places.reshape(*shape, 2),
    )


def _table(path: Path) -> tuple[Float64, float | None, Float64 | None]:
    """Return the columns (N_PIX, 5) of a file, the sphere's radius [voxels] and background, None if not there."""
    if path.is_file() and not h5py.is_hdf5(path):
        return (*_text(path), None)
    with files.open_hdf5(path, EXPECTED) as file:
        columns = [files.dataset(file, name, path, EXPECTED)[()].astype(np.float64).ravel() for name in COLUMNS]
        radius = _scalar(file, RADIUS)
        found = file.get(BACKGROUND)
        background = None if found is None else files.dataset(file, BACKGROUND, path, EXPECTED)[()].ravel()
    lengths = sorted({len(column) for column in columns} | (set() if background is None else {len(background)}))
    if len(lengths) > 1 or not lengths[0]:
        raise InputError(f"{path}: columns of {lengths} pixels; expected as many {' '.join(COLUMNS)} as each other")
    return np.stack(columns, axis=1), radius, None if background is None else background.astype(np.float64)


def _scalar(file: h5py.File, name: str) -> float | None:
    """Return a number that a file may have, None if it has none."""
    found: Any = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.size != 1 or found.dtype.kind not in "iuf":
        return None
    value = float(found[()].ravel()[0])
    return value if np.isfinite(value) and value > 0 else None


def _text(path: Path) -> tuple[Float64, float | None]:
    """Return the table of a text file, and the radius if its first line has it, after the distance in pixels."""
    try:
        with path.open(encoding="ascii") as file:
            first = file.readline(1000).split()
            number, *others = int(first[0]), *map(float, first[1:])
            table = np.loadtxt(file, ndmin=2, usecols=range(len(COLUMNS)))
    except (ValueError, IndexError, OSError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())[:200]}; expected {EXPECTED}") from error
    if len(table) != number:
        raise InputError(f"{path}: {len(table)} lines of pixels; expected {number}, as its first line says")
    radius = others[1] if len(others) > 1 else np.nan
    return table, radius if np.isfinite(radius) and radius > 0 else None


def _places(q: Float64, radius: float) -> tuple[tuple[int, int, int], Int64]:
    """Return the shape (panels, y, x) of the pixels, and the place of each in a picture (N_PIX, 2).

    The shape is that of one panel if the pixels are a full grid, row by row; else they are a row. Rows go along y, or,
    as Dragonfly's own maker of detectors has it, along x. radius : of the Ewald sphere, in units of q
    """
    flat = q[:, :2] / (q[:, 2:] + radius)
    position = (flat - flat.min(axis=0)) / pixel_spacing(np.column_stack([flat, np.zeros(len(flat))]))
    places: Int64 = np.rint(position).astype(np.int64)
    if float(np.abs(position - places).max()) < ON_GRID:
        # Along either axis positions may go up or down.
        last = places.max(axis=0)
        for turned in (places, last - places, np.abs([last[0], 0] - places), np.abs([0, last[1]] - places)):
            for order in (turned[:, ::-1], turned):
                rows, columns = (order.max(axis=0) + 1).tolist()
                if rows * columns == len(q) and np.array_equal(order, np.indices((rows, columns)).reshape(2, -1).T):
                    return (1, rows, columns), order
    return (1, 1, len(q)), places[:, ::-1]
