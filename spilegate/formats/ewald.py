"""From where pixels lie to reciprocal space: a detector written down in another way gives the same bits.

Positions are rounded as tangents of directions, x/z and y/z: what rounding did to metres, voxels or 1/angstrom is far
below that, and q is computed from tangents and wavelength alone.
"""

from __future__ import annotations

import math

import numpy as np

from spilegate.records import Bool, Float64

# Of the largest tangent: a part of a pixel that nothing notices.
ROUNDED = 2.0**-28
# Digits of a wavelength that are kept.
DIGITS = 10


def reciprocal(positions: Float64, wavelength: float) -> tuple[Float64, Bool]:
    """Return q (..., 3) [1/angstrom] of positions (..., 3) in any unit of length, and which have none: q = 0.

    `q = (s - z) / wavelength`, s being the direction from the sample, the beam along +z. Positions that are not finite
    or not beyond the sample are none.
    """
    z = positions[..., 2]
    nowhere = ~(np.isfinite(positions).all(-1) & (np.nan_to_num(z) > 0))
    tangent = np.where(nowhere[..., None], 0.0, positions[..., :2]) / np.where(nowhere, 1.0, z)[..., None]
    tangent = rounded(tangent)
    squared = (tangent**2).sum(-1)
    length = np.sqrt(1 + squared)
    # cos - 1, without the loss of digits near the beam.
    along = -squared / (length * (1 + length))
    q: Float64 = np.concatenate([tangent / length[..., None], along[..., None]], axis=-1) / wavelength
    return q, nowhere


def same_bits(q: Float64, wavelength: float) -> Float64:
    """Return q (..., 3) [1/angstrom] as `reciprocal` has it of the same pixels, whatever its last digits.

    Pixels at right angles to the beam and beyond have no tangent: with such ones q is returned as it is.
    """
    out = q * wavelength + np.array([0.0, 0.0, 1.0])
    result, nowhere = reciprocal(out, wavelength)
    return q if nowhere.any() else result


def rounded(values: Float64) -> Float64:
    """Return values rounded to a part of the largest, see ROUNDED."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        return values
    step = 2.0 ** math.ceil(math.log2(largest)) * ROUNDED
    result: Float64 = np.rint(values / step) * step
    return result


def rounded_wavelength(wavelength: float) -> float:
    """Return a wavelength without the digits that come from conversions of units."""
    return float(f"{wavelength:.{DIGITS}g}")
