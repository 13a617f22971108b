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
# Pixels that are worked on at once.
AT_ONCE = 1 << 16
# Digits of a wavelength that are kept.
DIGITS = 10


def reciprocal(positions: Float64, wavelength: float) -> tuple[Float64, Bool]:
    """Return q (..., 3) [1/angstrom] of positions (..., 3) in any unit of length, and which have none: q = 0.

    `q = (s - z) / wavelength`, s being the direction from the sample, the beam along +z. Positions that are not finite
    or not beyond the sample are none.
    """
    q: Float64 = np.zeros(positions.shape)
    nowhere = np.zeros(positions.shape[:-1], np.bool_)
    flat, points, none = positions.reshape(-1, 3), q.reshape(-1, 3), nowhere.reshape(-1)
    # Of a large detector every copy counts.
    parts = [slice(first, first + AT_ONCE) for first in range(0, len(flat), AT_ONCE)]
    for part in parts:
        z = flat[part, 2]
        none[part] = ~(np.isfinite(flat[part]).all(-1) & (np.nan_to_num(z) > 0))
        np.divide(flat[part, :2], z[:, None], out=points[part, :2], where=~none[part, None])
    step = step_of(points[:, :2])
    for part in parts:
        tangent = np.rint(points[part, :2] / step) * step if step else points[part, :2]
        squared = (tangent**2).sum(-1)
        length = np.sqrt(1 + squared)
        points[part, :2] = tangent / length[:, None]
        # cos - 1, without the loss of digits near the beam.
        points[part, 2] = -squared / (length * (1 + length))
        points[part] /= wavelength
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
    step = step_of(values)
    return np.rint(values / step) * step if step else values


def step_of(values: Float64) -> float:
    """Return the step of rounded values, a power of two; 0 if all are 0."""
    largest = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))
    return 2.0 ** math.ceil(math.log2(largest)) * ROUNDED if largest else 0.0


def rounded_wavelength(wavelength: float) -> float:
    """Return a wavelength without the digits that come from conversions of units."""
    return float(f"{wavelength:.{DIGITS}g}")
