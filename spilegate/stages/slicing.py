"""Slice: model intensities on the Ewald sphere from the autocorrelation."""

from __future__ import annotations

import numpy as np

from spilegate.geometry.orientations import rotated_points
from spilegate.kernels import nufft
from spilegate.kernels.tiles import over_tiles
from spilegate.state import Float32, Float64

# float32 slices: the noise of a pattern is far above 1e-4 of its intensity, and finufft's speed depends on it.
TOLERANCE = 1e-4


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

    def slice_block(part: slice) -> None:
        points = rotated_points(rotations[part].astype(np.float32), flat).reshape(3, -1)
        spectrum = nufft.forward(volume, points, tolerance=TOLERANCE, threads=1)
        result[part] = spectrum.real.reshape(-1, len(flat))

    step = max(1, nufft.block_points(len(volume)) // len(flat))
    for _ in over_tiles(slice_block, len(rotations), step, threads=threads):
        pass
    return result.reshape(len(rotations), *q.shape[:-1])
