"""Local resolution: how finely two half-maps agree around every point of a plane through the particle's middle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft, ndimage

from spilegate.geometry.fourier import frequency_radius
from spilegate.records import Float32, Float64

# Half of agreement: what a window holds is few voxels of a band, on which noise alone agrees by 0.2 or so.
THRESHOLD = 0.5
# A window reaches so many times the length that a band is about (standard deviation of its Gaussian).
WINDOW = 1.0
# Bands, of so many shells in width at least, are at most so many: they cost two transforms each.
BAND_WIDTH, MOST_BANDS = 1.5, 24


def local_resolution(
    first: Float32, second: Float32, voxel_angstrom: float, q_max: float, axes: Sequence[int], *, threads: int
) -> list[Float64]:
    """Return the local resolution (M, M) [angstrom] in the planes through the middle across some axes.

    Windowed correlation of two half-maps, band by band: Cardone, Heymann, Steven, J. Struct. Biol. 184:226 (2013). Here
    the window grows with the length that a band resolves, so that every band has about as many independent values in
    it. The resolution is where the correlation first falls below THRESHOLD; NaN where it does so in the first band.

    first, second : (M, M, M) float32 in (x, y, z) index order, laid over each other; q_max : of the data [1/angstrom]
    A plane's first index is the first of the two axes that are left, in (x, y, z) order.
    """
    size = first.shape[0]
    spectra = [fft.rfftn(volume, workers=threads) for volume in (first, second)]
    radius = frequency_radius(size, half=True) * size
    step = 1 / (size * voxel_angstrom)
    # A band of the first shell fills the volume: it says nothing of a place in it.
    last = max(min(size // 2, int(q_max / step + 1e-6)), 2)
    shells = np.linspace(2, last, min(last - 1, MOST_BANDS))
    width = max(BAND_WIDTH, (last - 2) / MOST_BANDS)
    curves: list[list[Float64]] = [[] for _ in axes]
    for shell in shells:
        band = np.exp(-0.5 * ((radius - shell) / (width / 2)) ** 2).astype(np.float32)
        a, b = (fft.irfftn(spectrum * band, first.shape, workers=threads) for spectrum in spectra)
        for curve, axis in zip(curves, axes, strict=True):
            curve.append(_correlation(a, b, axis, WINDOW * size / shell))
    return [_crossing(np.stack(curve), shells * step) for curve in curves]


def _correlation(a: Float32, b: Float32, axis: int, sigma: float) -> Float64:
    """Return the correlation (M, M) of two volumes in a Gaussian window around every point of the middle plane."""
    size = a.shape[0]
    weight = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2).astype(np.float32)
    sums = []
    for one, other in ((a, b), (a, a), (b, b)):
        # One sum along the axis, without the products of all voxels.
        across = np.einsum("xyz,xyz,xyz->" + "xyz".replace("xyz"[axis], ""), one, other, _along(weight, axis, a.shape))
        sums.append(ndimage.gaussian_filter(across.astype(np.float64), sigma, mode="constant"))
    cross, first, second = sums
    norm = np.sqrt(np.maximum(first * second, 0.0))
    result: Float64 = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 1e-12 * norm.max(initial=0.0))
    return result


def _along(weight: Float32, axis: int, shape: tuple[int, ...]) -> Float32:
    """Return weights along an axis, for all voxels."""
    return np.broadcast_to(np.expand_dims(weight, [other for other in range(3) if other != axis]), shape)


def _crossing(curve: Float64, q: Float64) -> Float64:
    """Return 1/q (M, M) where curves (N_BAND, M, M) first fall below THRESHOLD, linear in q; NaN for the first band."""
    below = curve < THRESHOLD
    outer = np.where(below.any(axis=0), below.argmax(axis=0), len(q))
    inner = np.clip(outer - 1, 0, len(q) - 1)
    next_one = np.minimum(outer, len(q) - 1)
    c_in, c_out = (np.take_along_axis(curve, index[None], axis=0)[0] for index in (inner, next_one))
    part = np.where(outer < len(q), (c_in - THRESHOLD) / np.where(c_in > c_out, c_in - c_out, 1.0), 0.0)
    return np.where(outer > 0, 1 / (q[inner] + part * (q[next_one] - q[inner])), np.nan)
