"""Non-uniform FFTs of volumes, by finufft; plans (and their work arrays) are kept between calls.

Points are given in radians per voxel, `2 pi q * voxel`, shape (3, N); volumes are in (x, y, z) index order with the
centre at M // 2. All transforms use `exp(-2 pi i q.x)` from real to reciprocal space and its conjugate back.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import finufft
import numpy as np
from numpy.typing import NDArray

Complex = NDArray[Any]
Real = NDArray[Any]

# Parts that a sum over points is cut into, one thread each.
HALVES = 2
# Below this many points a second thread costs more than it saves.
FEW_POINTS = 50_000


def block_points(size: int) -> int:
    """Return how many points to transform at once with a volume of size^3.

    Enough that the FFT of its grid, twice as fine, is a small part of the time, few enough to leave blocks for all
    threads and to fit the points into the memory that the last block has just given back.
    """
    return max(500_000, (2 * size) ** 3)


@lru_cache(maxsize=8)
def _idle_plans(*kind_of_plan: int | str | float) -> list[Any]:  # noqa: ARG001 - a key of the cache
    """Return the plans of one kind that no thread is using; empty at first."""
    return []


@contextmanager
def _plan(kind: int, size: int, n_trans: int, dtype: str, tolerance: float, threads: int) -> Iterator[Any]:
    """Lend a plan for volumes of `size`^3; plans are kept, so that FFT plans and grids are built once a thread.

    Evaluation takes points as they come: neighbours on a detector are neighbours in the volume, and sorting them costs
    more than it saves (measured: 1.5 times the whole). Summation needs its points sorted, or threads would collide.
    """
    idle = _idle_plans(kind, size, n_trans, dtype, tolerance, threads)
    try:
        plan = idle.pop()
    except IndexError:
        plan = _new_plan(kind, size, n_trans, dtype, tolerance, threads)
    yield plan
    idle.append(plan)


def _new_plan(kind: int, size: int, n_trans: int, dtype: str, tolerance: float, threads: int) -> Any:
    sign, sort = (-1, 0) if kind == 2 else (1, 2)
    return finufft.Plan(
        kind,
        (size,) * 3,
        n_trans=n_trans,
        eps=tolerance,
        isign=sign,
        dtype=dtype,
        nthreads=threads,
        upsampfac=2.0,
        spread_sort=sort,
    )


def forward(volumes: Complex, points: Real, *, tolerance: float, threads: int) -> Complex:
    """Evaluate the Fourier transform of volumes at points (type 2).

    volumes : (..., M, M, M) complex64 or complex128, at most one leading dimension
    points : (3, N) float32 or float64 to match, radians per voxel
    Returns (..., N) of the volumes' dtype: `sum_x volume(x) exp(-i points.x)`.
    """
    n_trans = 1 if volumes.ndim == 3 else volumes.shape[0]
    threads = threads if points.shape[1] >= FEW_POINTS else 1
    with _plan(2, volumes.shape[-1], n_trans, str(volumes.dtype), tolerance, threads) as plan:
        plan.setpts(*points)
        result: Complex = plan.execute(volumes)
    return result


def adjoint(strengths: Complex, points: Real, size: int, *, tolerance: float, threads: int) -> Complex:
    """Sum strengths at points onto a volume (type 1), the adjoint of `forward`.

    strengths : (N,) complex64 or complex128
    points : (3, N) float32 or float64 to match, radians per voxel
    Returns (size, size, size) of the strengths' dtype: `sum_j strengths_j exp(+i points_j.x)`.

    The points are summed in HALVES parts of one thread each, whatever `threads` is: threads that add to one grid do so
    in an order of their own, and the result would depend on it.
    """
    bounds = np.linspace(0, points.shape[1], HALVES + 1).astype(int)

    def part(number: int) -> Complex:
        chosen = slice(bounds[number], bounds[number + 1])
        with _plan(1, size, 1, str(strengths.dtype), tolerance, 1) as plan:
            plan.setpts(*points[:, chosen])
            result: Complex = plan.execute(strengths[chosen])
        return result

    with ThreadPoolExecutor(min(threads, HALVES)) as pool:
        first, second = pool.map(part, range(HALVES))
    first += second
    return first


def between_points(sources: Real, strengths: Complex, targets: Real, *, tolerance: float, threads: int) -> Complex:
    """Evaluate the Fourier transform of point sources at points (type 3).

    sources : (3, N_SOURCE) float64 [angstrom]; targets : (3, N) float64 [radians per angstrom]
    strengths : (N_SOURCE,) or (n, N_SOURCE) complex128, several sets at once
    Returns (N,) or (n, N): `sum_j strengths_j exp(-i targets.sources_j)`.
    """
    result: Complex = finufft.nufft3d3(
        *sources, strengths, *targets, eps=tolerance, isign=-1, nthreads=threads, upsampfac=2.0
    )
    return result


def adjoint_pictures(strengths: Complex, points: Real, size: int, *, tolerance: float, threads: int) -> Complex:
    """Sum strengths at points of a plane onto pictures (type 1 in two dimensions), one per row of strengths.

    strengths : (n, N) complex64; points : (2, N) float32, radians per pixel
    Returns (n, size, size) complex64.
    """
    # spread_thread=2: every thread takes its own picture (four times as fast as sharing each small picture).
    result: Complex = finufft.nufft2d1(
        *points, strengths, (size, size), eps=tolerance, isign=1, nthreads=threads, upsampfac=2.0, spread_thread=2
    )
    return result.reshape(-1, size, size)
