"""How well the intensities of two half-maps agree, shell by shell, whatever their phases are."""

from __future__ import annotations

import numpy as np

from spilegate.evaluation.fsc import pair_weights, shells
from spilegate.kernels import fft
from spilegate.records import Float32, Float64


def intensity_correlation(
    first: Float32, second: Float32, voxel_angstrom: float, *, threads: int
) -> tuple[Float64, Float64]:
    """Return q (N_SHELL,) [1/angstrom] and the correlation (N_SHELL,) of two volumes' intensities over each shell.

    Pearson's, of `|F|^2` less its mean over the shell: how alike the speckle of both is; Friedel mates count once. 0
    where one of them has no speckle.

    first, second : (M, M, M) float32, turned alike; where they lie does not matter
    """
    size = first.shape[0]
    shell, count = shells(size)
    weight = np.broadcast_to(pair_weights(size), (size, size, size // 2 + 1)).reshape(-1)

    def mean(values: Float64) -> Float64:
        total: Float64 = np.bincount(shell, values * weight, count.size).astype(np.float64)
        return total / np.maximum(count, 0.5)

    spectra = (fft.rfftn(volume, threads=threads).reshape(-1) for volume in (first, second))
    a, b = (np.abs(spectrum).astype(np.float64) ** 2 for spectrum in spectra)
    a, b = a - mean(a)[shell], b - mean(b)[shell]
    cross, one, other = (mean(product)[1:-1] for product in (a * b, a * a, b * b))
    norm = np.sqrt(one * other)
    correlation = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    return np.arange(1, count.size - 1) / (size * voxel_angstrom), correlation
