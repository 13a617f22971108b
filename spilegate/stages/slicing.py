"""Slice: model intensities on the Ewald sphere from the autocorrelation."""

from __future__ import annotations

import numpy as np

from spilegate.geometry.orientations import rotated_points
from spilegate.kernels import nufft
from spilegate.state import Float32, Float64

# float32 slices: the noise of a pattern is far above 1e-4 of its intensity, and finufft's speed depends on it.
TOLERANCE = 1e-4
# Points transformed at once: the rotated points, 12 bytes each, are the only large array of a block.
BLOCK_POINTS = 2_000_000


def slices(autocorrelation: Float32, voxel_angstrom: float, rotations: Float64, q: Float64, *, threads: int) -> Float32:
    """Return the model intensities of one state at the rotated points `R^T q`.

    autocorrelation : (M, M, M) float32
    rotations : (N, 3, 3) float64, particle to laboratory
    q : (..., 3) float64 [1/angstrom], laboratory frame: pixels or rings
    Returns (N, ...) float32: `I(R^T q) = sum_x A(x) exp(-2 pi i R^T q . x)`, a type-2 NUFFT.
    """
    volume = autocorrelation.astype(np.complex64)
    flat = (q.reshape(-1, 3) * (2 * np.pi * voxel_angstrom)).astype(np.float32)
    result = np.empty((len(rotations), len(flat)), np.float32)
    step = max(1, BLOCK_POINTS // len(flat))
    for begin in range(0, len(rotations), step):
        block = rotations[begin : begin + step].astype(np.float32)
        points = rotated_points(block, flat).reshape(3, -1)
        result[begin : begin + step] = nufft.forward(volume, points, tolerance=TOLERANCE, threads=threads).real.reshape(
            len(block), -1
        )
    return result.reshape(len(rotations), *q.shape[:-1])
