"""Non-uniform FFTs of volumes, by finufft or, for arrays on a GPU, cufinufft; plans are kept between calls.

Points are given in radians per voxel, `2 pi q * voxel`, shape (3, N); volumes are in (x, y, z) index order with the
centre at M // 2. All transforms use `exp(-2 pi i q.x)` from real to reciprocal space and its conjugate back.
"""

from __future__ import annotations

from typing import Any

import finufft
import numpy as np
from numpy.typing import NDArray

from spilegate.backend import array_module, from_host, to_host
from spilegate.kernels.plans import QUIET, library_of, load_cufinufft, plan_of, where

Complex = NDArray[Any]
Real = NDArray[Any]

# Below this many points a second thread costs more than it saves.
FEW_POINTS = 50_000


def block_points(size: int) -> int:
    """Return how many points to transform at once with a volume of size^3.

    Enough that the FFT of its grid, twice as fine, is a small part of the time, few enough to leave blocks for all
    threads and to fit the points into the memory that the last block has just given back.
    """
    return max(500_000, (2 * size) ** 3)


def _placed(*arrays: Any) -> list[Any]:
    """Return arrays as their library wants them: on the device and without gaps, or in host memory."""
    if library_of(arrays[0]) == "cufinufft":
        return [array_module(array).ascontiguousarray(array) for array in arrays]
    return [to_host(array) for array in arrays]


def _name(dtype: Any) -> str:
    """Return the name of a dtype, as "complex64"."""
    return str(np.dtype(dtype))


def forward(volumes: Any, points: Any, *, tolerance: float, threads: int) -> Any:
    """Evaluate the Fourier transform of volumes at points (type 2).

    volumes : (..., M, M, M) complex64 or complex128, at most one leading dimension
    points : (3, N) float32 or float64 to match, radians per voxel
    Returns (..., N) of the volumes' dtype and array module: `sum_x volume(x) exp(-i points.x)`.
    """
    n_trans = 1 if volumes.ndim == 3 else volumes.shape[0]
    threads = threads if points.shape[1] >= FEW_POINTS else 1
    grids, x = _placed(volumes, points)
    with plan_of(grids, 2, volumes.shape[-1], n_trans, _name(grids.dtype), tolerance, threads) as plan:
        plan.setpts(*x)
        return from_host(plan.execute(grids), volumes)


def adjoint(strengths: Any, points: Any, size: int, *, tolerance: float) -> Any:
    """Sum strengths at points onto a volume (type 1), the adjoint of `forward`.

    strengths : (N,) complex64 or complex128
    points : (3, N) float32 or float64 to match, radians per voxel
    Returns (size, size, size) of the strengths' dtype and array module: `sum_j strengths_j exp(+i points_j.x)`.

    By one thread: threads that add to one grid do so in an order of their own, and the result would depend on it.
    """
    values, x = _placed(strengths, points)
    with plan_of(values, 1, size, 1, _name(values.dtype), tolerance, 1) as plan:
        plan.setpts(*x)
        return from_host(plan.execute(values), strengths)


def between_points(sources: Real, strengths: Complex, targets: Real, *, tolerance: float, threads: int) -> Complex:
    """Evaluate the Fourier transform of point sources at points (type 3).

    sources : (3, N_SOURCE) float64 [angstrom]; targets : (3, N) float64 [radians per angstrom]
    strengths : (N_SOURCE,) or (n, N_SOURCE) complex128, several sets at once
    Returns (N,) or (n, N): `sum_j strengths_j exp(-i targets.sources_j)`.
    """
    result: Complex = finufft.nufft3d3(
        *sources, strengths, *targets, eps=tolerance, isign=-1, nthreads=threads, upsampfac=2.0, **QUIET
    )
    return result


def adjoint_pictures(strengths: Any, points: Any, size: int, *, tolerance: float, threads: int) -> Any:
    """Sum strengths at points of a plane onto pictures (type 1 in two dimensions), one per row of strengths.

    strengths : (n, N) complex64; points : (2, N) float32, radians per pixel
    Returns (n, size, size) complex64 of the strengths' array module.
    """
    values, (x, y) = _placed(strengths, points)
    options: dict[str, Any] = {"eps": tolerance, "isign": 1, "upsampfac": 2.0}
    if library_of(values) == "cufinufft":
        result = load_cufinufft().nufft2d1(x, y, values, (size, size), **options, **where(values))
    else:
        # spread_thread=2: every thread takes its own picture (four times as fast as sharing each small picture).
        result = finufft.nufft2d1(x, y, values, (size, size), nthreads=threads, spread_thread=2, **options, **QUIET)
    return from_host(result.reshape(-1, size, size), strengths)
