"""Fourier shell correlation by direction: whether a density is as well known along one axis as along others."""

from __future__ import annotations

import numpy as np
from scipy.fft import fftfreq, rfftfreq

from spilegate.evaluation.fsc import half_spectrum, shells
from spilegate.records import Float32, Float64

# Half the opening of a cone, as is usual: Tan et al., Nat. Methods 14:793 (2017).
HALF_ANGLE_DEG = 20.0
GOLDEN = (1 + 5**0.5) / 2


def cone_correlations(
    first: Float32,
    second: Float32,
    voxel_angstrom: float,
    directions: Float64,
    *,
    q_max: float = np.inf,
    half_angle_deg: float = HALF_ANGLE_DEG,
    threads: int,
) -> tuple[Float64, Float64]:
    """Return q (N_SHELL,) [1/angstrom] and the correlation (n, N_SHELL) of two volumes in double cones.

    Tan et al. (2017): the Fourier shell correlation over those voxels only that lie within an angle of the direction or
    its opposite. NaN where a cone has no voxel of a shell, 0 where a volume has no power there.

    first, second : (M, M, M) float32 in (x, y, z) index order, laid over each other; directions : (n, 3) float64, unit
    q_max : of the last shell [1/angstrom], if it is not that of the volumes
    """
    size = first.shape[0]
    shell, count = shells(size)
    a, b = (half_spectrum(volume, threads) for volume in (first, second))
    # Shell 0 has no direction, and the corners beyond Nyquist are not asked for.
    last = min(count.size - 2, int(min(q_max * size * voxel_angstrom, size) + 1e-6))
    inside = np.flatnonzero((shell > 0) & (shell <= last))
    shell, a, b = shell[inside], a[inside], b[inside]
    unit = _unit(size, inside)
    products = np.stack([a.real * b.real + a.imag * b.imag, np.abs(a) ** 2, np.abs(b) ** 2]).astype(np.float64)
    # Rounding must not leave out what lies on the cone itself.
    least = np.cos(np.radians(half_angle_deg)) - 1e-6
    result = np.full((len(directions), last), np.nan)
    for row, direction in zip(result, directions, strict=True):
        within = np.abs(unit @ direction.astype(np.float32)) >= least
        index = shell[within]
        cross, one, other = (np.bincount(index, each[within], last + 1)[1:] for each in products)
        known = np.bincount(index, minlength=last + 1)[1:] > 0
        norm = np.sqrt(one * other)
        row[known] = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)[known]
    return np.arange(1, last + 1) / (size * voxel_angstrom), result


def half_sphere(count: int) -> Float64:
    """Return directions (count, 3) float64 spread evenly over half of the sphere: the other half is the same to cones.

    A spiral whose turns are a golden section apart: Gonzalez, Math. Geosci. 42:49 (2010).
    """
    z = (np.arange(count) + 0.5) / count
    turn = 2 * np.pi * np.arange(count) / GOLDEN
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=-1)


def crossings(q: Float64, correlation: Float64, threshold: float) -> Float64:
    """Return the resolution (n,) [angstrom] at which each curve (n, N_SHELL) first falls below a threshold.

    Shells that a cone misses are passed over. Infinite where the first shell lies below, the last shell's where none.
    """
    found = np.empty(len(correlation))
    for index, curve in enumerate(correlation):
        known = np.isfinite(curve)
        radius, values = q[known], curve[known]
        below = np.flatnonzero(values < threshold)
        if not len(values) or (len(below) and not below[0]):
            found[index] = np.inf
        elif not len(below):
            found[index] = 1 / radius[-1]
        else:
            outer = below[0]
            part = (values[outer - 1] - threshold) / (values[outer - 1] - values[outer])
            found[index] = 1 / (radius[outer - 1] + part * (radius[outer] - radius[outer - 1]))
    return found


def _unit(size: int, inside: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Float32:
    """Return the directions (n, 3) float32 of some voxels of a half spectrum, by their flat numbers."""
    shape = (size, size, size // 2 + 1)
    places = np.unravel_index(inside, shape)
    axes = (fftfreq(size), fftfreq(size), rfftfreq(size))
    vectors = np.stack([axis[place] for axis, place in zip(axes, places, strict=True)], axis=-1)
    unit: Float32 = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit
