"""Where the pixels of a file lie: positions in reciprocal space and in the assembled picture, checked and binned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.ewald import same_bits
from spilegate.geometry.detector import ewald_wavelength
from spilegate.records import Float64, Int64

Number = TypeVar("Number", bound=np.generic)

POSITION = "pixel_position_reciprocal"
INDEX_MAP = "pixel_index_map"
WAVELENGTH = "wavelength_angstrom"
# An attribute of positions that are rounded so that the same bits come of them in any format.
SAME_BITS = "rounded"
# A factor of 2 pi is known by the wavelength, but for this part.
SAME_WAVELENGTH = 0.1
ANGSTROM_PER_METRE = 1e10
# A largest |q| outside this range [1/angstrom] is not a diffraction experiment but a wrong unit.
PLAUSIBLE_Q = (1e-5, 20.0)
# Largest distance of a pixel from the Ewald sphere, relative to the largest |q|: far above the rounding of float32, far
# below what moves a pixel by a noticeable part of a speckle.
EWALD_TOLERANCE = 1e-3


def read_positions(file: h5py.File, path: Path, panel_shape: tuple[int, int, int]) -> tuple[Float64, float]:
    """Return pixel positions (panels, y, x, 3) float64 [1/angstrom] and the wavelength [angstrom].

    In the file they are in 1/metre, the components along the first or the last axis.
    Raises InputError for another shape, non-finite or implausible values, or pixels off the Ewald sphere.
    """
    expected = f"positions of the pixels [1/m], shape {(*panel_shape, 3)} or {(3, *panel_shape)}"
    found = files.dataset(file, POSITION, path, expected)
    values = _components_last(found, panel_shape, 3, path, expected).astype(np.float64) / ANGSTROM_PER_METRE
    where = f"{path}: dataset {POSITION!r}"
    values, wavelength = checked_positions(values, where, ANGSTROM_PER_METRE)
    known = file.attrs.get(WAVELENGTH)
    _compare(wavelength, known, where)
    if SAME_BITS in found.attrs and isinstance(known, float) and abs(known / wavelength - 1) < EWALD_TOLERANCE:
        return same_bits(values, float(known)), float(known)
    return values, wavelength


def checked_positions(values: Float64, where: str, per_angstrom: float = 1.0) -> tuple[Float64, float]:
    """Return positions (panels, y, x, 3) [1/angstrom] as they are, and the wavelength [angstrom] of their Ewald sphere.

    where : they are, and per_angstrom : how many of the unit that they were given in are 1/angstrom, for messages
    Raises InputError for non-finite or implausible values, or pixels off the Ewald sphere.
    """
    unit = "1/m" if per_angstrom != 1 else "1/angstrom"
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values).all(-1)).sum())
        raise InputError(
            f"{where}: {bad} pixels with a position that is not finite; expected positions of the pixels [{unit}], "
            f"shape {values.shape}"
        )
    largest = float(np.linalg.norm(values, axis=-1).max())
    if not PLAUSIBLE_Q[0] <= largest <= PLAUSIBLE_Q[1]:
        raise InputError(
            f"{where}: largest |q| {largest * per_angstrom:.3g} {unit}; expected {PLAUSIBLE_Q[0] * per_angstrom:g} to "
            f"{PLAUSIBLE_Q[1] * per_angstrom:g} {unit}; check the unit, it is {'1/metre' if unit == '1/m' else unit} "
            "without 2 pi"
        )
    return values, _checked_wavelength(values, where)


def _compare(found: float, known: Any, where: str) -> None:
    """Raise InputError if positions are 2 pi / d, as the wavelength that a file gives tells by the sphere's curvature.

    found, known : wavelength [angstrom] of the sphere and of the file, which may be anything or None
    """
    if not isinstance(known, float | int | np.number) or not np.isfinite(known) or known <= 0:
        return
    ratio = float(known) / found
    for factor, name, remedy in ((2 * np.pi, "2 pi / d", "divide"), (0.5 / np.pi, "1 / (2 pi d)", "multiply")):
        if abs(ratio / factor - 1) < SAME_WAVELENGTH:
            raise InputError(
                f"{where}: the curvature of its Ewald sphere is that of {found:.4g} angstrom, found {WAVELENGTH} = "
                f"{float(known):.4g}: positions are {name}; expected 1 / d; {remedy} them by 2 pi"
            )


def _components_last(
    found: h5py.Dataset, panel_shape: tuple[int, int, int], components: int, path: Path, expected: str
) -> NDArray[np.generic]:
    """Read a dataset whose components lie along the first or the last axis; return them along the last.

    A single panel need not have an axis of its own.
    """
    if found.shape == (*panel_shape, components):
        last: NDArray[np.generic] = found[()]
        return last
    if found.shape == (components, *panel_shape):
        return np.moveaxis(found[()], 0, -1)
    if (1, *found.shape) == (*panel_shape, components):
        only: NDArray[np.generic] = found[()][None]
        return only
    if panel_shape[0] == 1 and found.shape == (components, *panel_shape[1:]):
        one: NDArray[np.generic] = np.moveaxis(found[()], 0, -1)[None]
        return one
    name = found.name.removeprefix("/")
    raise InputError(f"{path}: dataset {name!r}: shape {found.shape}; expected {expected}, as the patterns have")


def _checked_wavelength(q: Float64, where: str) -> float:
    """Return the wavelength of the Ewald sphere through all pixels."""
    wavelength = ewald_wavelength(q)
    q_length = np.linalg.norm(q, axis=-1)
    off = float(np.abs(q[..., 2] + wavelength * q_length**2 / 2).max() / q_length.max())
    if off > EWALD_TOLERANCE:
        raise InputError(
            f"{where}: pixels lie off the Ewald sphere by up to {off:.2g} of the largest |q|; expected at most "
            f"{EWALD_TOLERANCE:g}, q = (s_out - z) / wavelength; check order and sign of the components"
        )
    if not q[..., 2].any():
        raise InputError(
            f"{where}: q_z is zero everywhere, as on a flat sphere; expected q_z = -wavelength |q|^2 / 2; set "
            "it to (sqrt(1 - (wavelength q_x)^2 - (wavelength q_y)^2) - 1) / wavelength, a short one if it is unknown"
        )
    if wavelength <= 0:
        raise InputError(
            f"{where}: q_z is positive, so the beam is not along +z; expected q_z = -wavelength |q|^2 / 2; "
            "change the sign of q_z"
        )
    return wavelength


def of_panels(found: h5py.Dataset, panel_shape: tuple[int, int, int]) -> NDArray[Any] | None:
    """Read one value for each pixel, (panels, y, x), or (y, x) of a single panel; None for another shape."""
    if panel_shape not in {found.shape, (1, *found.shape)}:
        return None
    values: NDArray[Any] = found[()]
    return values.reshape(panel_shape)


def read_response(file: h5py.File, path: Path, name: str, panel_shape: tuple[int, int, int]) -> Float64 | None:
    """Return what pixels count of what they would at the beam, (panels, y, x), None if the file does not say it.

    Raises InputError for another shape, or for values that are not above 0.
    """
    if not files.holds(file, name):
        return None
    expected = f"what pixels count of what they would at the beam, above 0, shape {panel_shape}"
    found = files.dataset(file, name, path, expected)
    values = of_panels(found, panel_shape)
    if values is None or not (np.isfinite(values) & (values > 0)).all():
        what = f"shape {found.shape}" if values is None else "values that are not above 0"
        raise InputError(f"{path}: dataset {name!r}: {what}; expected {expected}; mend it, or leave it out")
    return values.astype(np.float64)


def read_index_map(file: h5py.File, path: Path, panel_shape: tuple[int, int, int]) -> Int64:
    """Return (row, column) of every pixel in the assembled picture, (panels, y, x, 2) int64.

    Made up if the file has none: panels stacked. Raises InputError for another shape or for values that are no indices.
    """
    if not files.holds(file, INDEX_MAP):
        panel, row, column = np.indices(panel_shape, np.int64)
        return np.stack([panel * panel_shape[1] + row, column], axis=-1)
    expected = f"(row, column) of the pixels, shape {(*panel_shape, 2)} or {(2, *panel_shape)}"
    found = files.dataset(file, INDEX_MAP, path, expected)
    values = _components_last(found, panel_shape, 2, path, expected).astype(np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and (values % 1 == 0).all()):
        raise InputError(f"{path}: dataset {INDEX_MAP!r}: values that are not indices from 0; expected {expected}")
    return values.astype(np.int64)


def binned_shape(panel_shape: tuple[int, int, int], binning: int, path: Path) -> tuple[int, int, int]:
    """Return the panel shape after binning; raise InputError if the binning does not divide it."""
    panels, rows, columns = panel_shape
    if rows % binning or columns % binning:
        raise InputError(
            f"{path}: panels of {rows} x {columns} pixels cannot be binned by {binning}; expected a divisor of both"
        )
    return panels, rows // binning, columns // binning


def divisors(shape: tuple[int, int, int]) -> list[int]:
    """Return by which numbers panels (panels, y, x) can be binned, from the least, so that some pixels are left."""
    common = math.gcd(*shape[1:])
    return [number for number in range(2, common // 4 + 1) if common % number == 0]


def blocks(values: NDArray[Number], binning: int) -> NDArray[Number]:
    """Return a view of (n, y, x, ...) as blocks, (n, y / binning, binning, x / binning, binning, ...)."""
    n, rows, columns, *rest = values.shape
    return values.reshape(n, rows // binning, binning, columns // binning, binning, *rest)


def bin_positions(q: Float64, binning: int, wavelength: float) -> Float64:
    """Return the mean positions of blocks of pixels, (panels, y, x, 3), moved radially onto the Ewald sphere."""
    if binning == 1:
        return q
    beam = np.array([0.0, 0.0, 1 / wavelength])
    outgoing = blocks(q, binning).mean((2, 4)) + beam
    mean: Float64 = outgoing / (wavelength * np.linalg.norm(outgoing, axis=-1, keepdims=True)) - beam
    return mean


def bin_index_map(index_map: Int64, binning: int) -> Int64:
    """Return the places of blocks of pixels in a picture that is smaller by `binning`, (panels, y, x, 2)."""
    first: Int64 = blocks(index_map, binning).min((2, 4))
    return first // binning


def inscribed_q(q: Float64, wavelength: float) -> float:
    """Return |q| at the middle of the further side of the detector, left or right, up or down: the less [1/angstrom].

    By Friedel's law the nearer one shows what the further one does: that far all directions are covered.
    """
    across = np.abs(q[..., :2]).reshape(-1, 2).max(axis=0).min()
    # With a the scattering angle: across = sin(a) / wavelength, |q| = 2 sin(a / 2) / wavelength.
    return float(2 * np.sin(np.arcsin(np.clip(wavelength * across, 0, 1)) / 2) / wavelength)
