"""Slice: model intensities on the Ewald sphere from the autocorrelation."""

from __future__ import annotations

from typing import Any

import numpy as np

from spilegate.geometry.orientations import rotated_points
from spilegate.kernels import nufft
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here, Workers
from spilegate.records import Float32, Float64

# float32 slices: the noise of a pattern is far above 1e-4 of its intensity, and finufft's speed depends on it.
TOLERANCE = 1e-4
# Memory of a point: its coordinates, twice, what it is sorted by, and its value.
POINT_BYTES = 64


def transform(autocorrelation: Float32, *, workers: Workers) -> nufft.Transform:
    """Return what `slices` first makes of an autocorrelation (M, M, M) float32, for those who slice it often."""
    return nufft.Transform(autocorrelation.astype(np.complex64), tolerance=TOLERANCE, threads=workers.threads)


def slices(
    autocorrelation: Float32 | nufft.Transform,
    voxel_angstrom: float,
    rotations: Float64,
    q: Float64,
    *,
    workers: Workers,
) -> Float32:
    """Return the model intensities of one state at the rotated points `R^T q`.

    autocorrelation : (M, M, M) float32, or its `transform`
    rotations : (N, 3, 3) float64, particle to laboratory
    q : (..., 3) float64 [1/angstrom], laboratory frame: pixels or rings
    Returns (N, ...) float32: `I(R^T q) = sum_x A(x) exp(-2 pi i R^T q . x)`, a type-2 NUFFT; where a device does the
    work, an array of it.
    """
    model = autocorrelation
    if not isinstance(model, nufft.Transform):
        model = transform(model, workers=workers)
    flat = (q.reshape(-1, 3) * (2 * np.pi * voxel_angstrom)).astype(np.float32)

    def slice_tile(here: Here, part: slice) -> tuple[Any]:
        xp = here.xp
        points = rotated_points(here.array(rotations[part], np.float32), here.array(flat))
        spectrum = model.on(here).at(xp.reshape(points, (3, -1)), threads=here.threads)
        return (xp.reshape(xp.real(spectrum), (-1, len(flat))),)

    step = max(1, nufft.block_points(len(model.volumes)) // len(flat))
    outputs = [Rows((len(flat),), np.float32, shared=True)]
    (result,) = workers.run(
        slice_tile,
        len(rotations),
        outputs,
        tile=step,
        row_bytes=POINT_BYTES * len(flat),
        tile_bytes=nufft.evaluation_bytes(len(model.volumes)),
    )
    sliced: Float32 = result.reshape(len(rotations), *q.shape[:-1])
    return sliced
