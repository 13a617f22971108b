"""Half-set FSC less what the supports contribute to it: the phases beyond some radius replaced by random ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spilegate.evaluation.resolution import fourier_shell_correlation
from spilegate.geometry.fourier import frequency_radius
from spilegate.kernels import fft
from spilegate.state import Bool, Float32, Float64

# Phases are random beyond where the halves' correlation first falls below this.
RANDOM_BELOW = 0.8
# What a support makes of the strong shells inside the radius reaches this many speckles beyond it.
REACH_SPECKLES = 1.5
DRAWS = 4


def corrected_correlation(
    halves: tuple[Float32, Float32],
    supports: tuple[Bool, Bool],
    move: Callable[[Float32], Float32],
    voxel_angstrom: float,
    diameter_angstrom: float,
    rng: np.random.Generator,
    *,
    threads: int,
) -> tuple[Float64, Float64]:
    """Return the shell correlation (N_SHELL,) of two halves as it is, and less what their supports contribute.

    Chen et al., Ultramicroscopy 135:24 (2013): `(FSC_t - FSC_n) / (1 - FSC_n)`, where n are the same halves with random
    phases beyond some radius, their supports imposed anew. Densities are zero outside of their supports, whose outlines
    come from the lowest shells: those alone make halves agree further out, on what nobody has measured. As there, the
    curve is left as it is up to a little beyond that radius.

    halves, supports : (M, M, M) float32 and bool, each in its own place; move : brings the second half onto the first
    """
    curve = fourier_shell_correlation(halves[0], move(halves[1]), voxel_angstrom, threads=threads)
    low = np.flatnonzero(curve.correlation < RANDOM_BELOW)
    if not len(low):
        return curve.correlation, curve.correlation
    q_random = float(curve.q[low[0]])
    outlines = np.zeros_like(curve.correlation)
    for _ in range(DRAWS):
        first, second = (
            _randomised(half, support, q_random * voxel_angstrom, rng, threads)
            for half, support in zip(halves, supports, strict=True)
        )
        outlines += fourier_shell_correlation(first, move(second), voxel_angstrom, threads=threads).correlation / DRAWS
    # A chance agreement below zero is no reason to raise the curve, and 1 leaves nothing to divide by.
    outlines = np.clip(outlines, 0.0, 0.999)
    outside = curve.q > q_random + REACH_SPECKLES / diameter_angstrom
    return curve.correlation, np.where(outside, (curve.correlation - outlines) / (1 - outlines), curve.correlation)


def _randomised(volume: Float32, support: Bool, radius: float, rng: np.random.Generator, threads: int) -> Float32:
    """Return a volume with the phases of noise at more than `radius` [1/voxel], cut to its support."""
    size = volume.shape[0]
    spectrum = fft.rfftn(volume, threads=threads)
    noise = fft.rfftn(rng.standard_normal(volume.shape, dtype=np.float32), threads=threads)
    random = np.abs(spectrum) * noise / np.maximum(np.abs(noise), 1e-20)
    mixed = np.where(frequency_radius(size, half=True) >= radius, random, spectrum)
    result: Float32 = fft.irfftn(mixed, size, threads=threads) * support
    return result
