"""Patterns that lie in memory, with where their pixels lie: the same layout as that of a file, so the same checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spilegate.errors import InputError
from spilegate.formats import ewald, masks, pixels
from spilegate.formats.facts import EV_ANGSTROM
from spilegate.formats.flat import Flat
from spilegate.formats.patterns import Stack
from spilegate.formats.reading import Layout
from spilegate.records import NEVER, Float64, UInt8

# What messages call it in place of a file.
NAME = "arrays"
SHAPES = "(patterns, y, x), or (patterns, panels, y, x)"


@dataclass(frozen=True)
class Placed:
    """What is known of a flat detector whose pixels have no positions of their own, units in the names."""

    wavelength_angstrom: float | None = None
    photon_energy_ev: float | None = None
    distance_m: float | None = None
    pixel_um: float | None = None
    centre: tuple[float, float] | None = None

    def flat(self, shape: tuple[int, int, int]) -> Flat:
        """Return the detector; raises InputError for what is missing, makes no sense, or is there twice."""
        if self.wavelength_angstrom is not None and self.photon_energy_ev is not None:
            raise InputError("wavelength_angstrom and photon_energy_ev: found both; expected one; leave one out")
        known = {"distance_m": self.distance_m, "pixel_um": self.pixel_um}
        known |= {"photon_energy_ev": self.photon_energy_ev} if self.photon_energy_ev is not None else {
            "wavelength_angstrom": self.wavelength_angstrom
        }  # fmt: skip
        lacking = [name for name, value in known.items() if value is None]
        if lacking:
            raise InputError(
                f"{', '.join(lacking)}: not given; expected q_inverse_angstrom, or wavelength, distance and pixel of a "
                "flat detector; add these"
            )
        values = [positive(value, name) for name, value in known.items()]
        distance, pixel, beam = values
        if shape[0] != 1:
            raise InputError(
                f"images: {shape[0]} panels; expected one, or q_inverse_angstrom, which says where they lie"
            )
        wavelength = beam if self.photon_energy_ev is None else EV_ANGSTROM / beam
        middle = ((shape[1] - 1) / 2, (shape[2] - 1) / 2)
        row, column = self.centre or middle
        size = pixel * 1e-6
        return Flat(shape, distance, (size, size), (float(row), float(column)), ewald.rounded_wavelength(wavelength))


def positive(value: Any, name: str) -> float:
    """Return a positive number; raises InputError for anything else, by its name."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(f"{name}: found {value!r}; expected a positive number")
    return number


class Held:
    """Patterns in memory, as a dataset of a file would show them."""

    chunks = None

    def __init__(self, values: NDArray[Any]) -> None:
        self._values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns."""
        return self._values[part]


def layout(
    images: ArrayLike,
    q_inverse_angstrom: ArrayLike | None = None,
    *,
    placed: Placed | None = None,
    mask: ArrayLike | None = None,
    background: ArrayLike | None = None,
    means: masks.Means = "auto",
) -> Layout:
    """Return what arrays say of their pixels, as a file of the same content would.

    images : (N_IMG, panels, y, x), or (N_IMG, y, x) of one panel
    q_inverse_angstrom : (panels, y, x, 3) [1/angstrom], on the Ewald sphere; placed : of a flat detector, in its place
    mask : (panels, y, x) levels, see `masks.levels_of`; background : (panels, y, x) [counts per pattern]
    Raises InputError for another shape or type, positions off the sphere, levels or a background that are none.
    """
    values = numbers(images, "images", "iuf")
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise InputError(f"images: shape {values.shape}; expected patterns, {SHAPES}")
    stack = Stack(Held(values), Path(NAME), "images")
    shape, flat = stack.shape[1:], None
    if q_inverse_angstrom is None:
        flat = (placed or Placed()).flat(shape)
        q, wavelength = flat.q, flat.wavelength
    elif placed is not None and placed != Placed():
        raise InputError(
            "q_inverse_angstrom and a flat detector: found both; expected one of them; leave out the other"
        )
    else:
        q, wavelength = _positions(q_inverse_angstrom, shape)
    levels = None if mask is None else masks.levels_of(of_pixels(mask, "mask", shape, "iufb"), means, "mask")
    known = None if background is None else of_pixels(background, "background", shape, "iuf").astype(np.float64)
    panel, row, column = np.indices(shape, np.int64)
    return Layout(
        Path(NAME),
        stack,
        q,
        wavelength,
        np.stack([panel * shape[1] + row, column], axis=-1),
        levels,
        lambda used: _background(known, used),
        format="arrays in memory",
        flat=flat,
    )


def numbers(values: ArrayLike, name: str, kinds: str) -> NDArray[Any]:
    """Return values as an array of some kinds of type, as in `numpy.dtype.kind`; raises InputError for others."""
    try:
        found = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: no array ({error}); expected numbers; check that all rows are of one length"
        ) from error
    if found.dtype.kind not in kinds:
        raise InputError(f"{name}: values of type {found.dtype}; expected numbers; convert them first")
    return found


def of_pixels(values: ArrayLike, name: str, shape: tuple[int, int, int], kinds: str) -> NDArray[Any]:
    """Return one value for each pixel (panels, y, x), or (y, x) of a single panel; InputError for another shape."""
    found = numbers(values, name, kinds)
    if shape not in {found.shape, (1, *found.shape)}:
        raise InputError(f"{name}: shape {found.shape}; expected {shape}, as the patterns have")
    return found.reshape(shape)


def _positions(values: ArrayLike, shape: tuple[int, int, int]) -> tuple[Float64, float]:
    """Return positions (panels, y, x, 3) and the wavelength of their Ewald sphere [angstrom]."""
    found = numbers(values, "q_inverse_angstrom", "iuf").astype(np.float64)
    if (*shape, 3) not in {found.shape, (1, *found.shape)}:
        raise InputError(
            f"q_inverse_angstrom: shape {found.shape}; expected {(*shape, 3)}, the three components of every pixel"
        )
    return pixels.checked_positions(found.reshape(*shape, 3), "q_inverse_angstrom")


def _background(known: Float64 | None, levels: UInt8) -> Float64 | None:
    """Return a background, 0 where pixels are never used."""
    return None if known is None else masks.checked_background(np.where(levels == NEVER, 0.0, known), "background")
