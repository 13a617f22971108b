"""Non-uniform FFTs of volumes, by finufft or, for arrays on a GPU, cufinufft; plans are kept between calls.

Points are given in radians per voxel, `2 pi q * voxel`, shape (3, N); volumes are in (x, y, z) index order with the
centre at M // 2. All transforms use `exp(-2 pi i q.x)` from real to reciprocal space and its conjugate back.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import finufft
import numpy as np
from numpy.typing import NDArray

from spilegate.backend import array_module, from_host, to_host
from spilegate.kernels import interpolation
from spilegate.kernels.blocks import tiles
from spilegate.kernels.interpolation import in_parallel
from spilegate.kernels.plans import QUIET, library_of, load_cufinufft, plan_of, where
from spilegate.kernels.workers import Here

Complex = NDArray[Any]
Real = NDArray[Any]

# Targets of point sources, and pictures, at once. Every block is transformed by one thread, or results would depend on
# the number of threads.
BLOCK_TARGETS, BLOCK_PICTURES = 1 << 20, 2


def block_points(size: int) -> int:
    """Return how many points to evaluate at once with a volume of size^3.

    Enough that what every evaluation does with the whole grid is a small part of the time, few enough to leave blocks
    for all threads and to fit the points into the memory that the last block has just given back.
    """
    return max(500_000, interpolation.block_points(interpolation.fine_size(size)))


def evaluation_bytes(size: int) -> float:
    """Return the memory that finufft takes, and gives back, for every evaluation of a complex64 volume of size^3."""
    return 8.0 * interpolation.fine_size(size) ** 3


def _placed(*arrays: Any) -> list[Any]:
    """Return arrays as their library wants them: on the device and without gaps, or in host memory."""
    if library_of(arrays[0]) == "cufinufft":
        return [array_module(array).ascontiguousarray(array) for array in arrays]
    return [to_host(array) for array in arrays]


def _name(dtype: Any) -> str:
    """Return the name of a dtype, as "complex64"."""
    return str(np.dtype(dtype))


class Transform:
    """The Fourier transform of volumes, to be evaluated at many points (type 2), by many threads, tile by tile.

    volumes : (..., M, M, M) complex64 or complex128, at most one leading dimension
    threads : that its own preparation may use, which is done once, by whoever needs it first
    """

    def __init__(self, volumes: Any, *, tolerance: float, threads: int) -> None:
        self.volumes = volumes
        self.tolerance = tolerance
        self.threads = threads
        self._spectra: Complex | None = None
        self._lock = Lock()

    def on(self, here: Here) -> Transform:
        """Return the transform for arrays of the module of a body."""
        if array_module(self.volumes) is here.xp:
            return self
        return Transform(here.array(self.volumes), tolerance=self.tolerance, threads=self.threads)

    def at(self, points: Any, *, threads: int, first: int | None = None) -> Any:
        """Return (..., N) of the volumes' dtype and array module: `sum_x volume(x) exp(-i points.x)`.

        points : (3, N) float32 or float64 to match, radians per voxel; first : so many of the volumes
        """
        volumes = self.volumes if first is None else self.volumes[:first, ...]
        if library_of(volumes) == "finufft":
            x = [to_host(points[axis, ...]) for axis in range(3)]
            spectra = self._prepared() if first is None else self._prepared()[:first]
            return from_host(
                interpolation.interpolated(spectra, x, tolerance=self.tolerance, threads=threads), self.volumes
            )
        grids, x = _placed(volumes, points)
        n_trans = 1 if grids.ndim == 3 else grids.shape[0]
        with plan_of(grids, 2, grids.shape[-1], n_trans, _name(grids.dtype), self.tolerance, 1) as plan:
            plan.setpts(*x)
            return plan.execute(grids)

    def _prepared(self) -> Complex:
        """Return the spectra on a finer grid, for the host."""
        with self._lock:
            if self._spectra is None:
                self._spectra = interpolation.fine_spectrum(
                    to_host(self.volumes), tolerance=self.tolerance, threads=self.threads
                )
            return self._spectra


def forward(volumes: Any, points: Any, *, tolerance: float, threads: int) -> Any:
    """Evaluate the Fourier transform of volumes at points once; see `Transform`."""
    return Transform(volumes, tolerance=tolerance, threads=threads).at(points, threads=threads)


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
    result = np.empty((*strengths.shape[:-1], targets.shape[1]), strengths.dtype)
    sources, targets = np.ascontiguousarray(sources), np.ascontiguousarray(targets)

    def work(own: slice) -> None:
        result[..., own] = finufft.nufft3d3(
            *sources, strengths, *targets[:, own], eps=tolerance, isign=-1, nthreads=1, upsampfac=2.0, **QUIET
        )

    in_parallel(work, list(tiles(0, targets.shape[1], BLOCK_TARGETS)), threads)
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
        return result.reshape(-1, size, size)
    pictures = np.empty((len(values), size, size), values.dtype)

    def work(own: slice) -> None:
        pictures[own] = finufft.nufft2d1(x, y, values[own], (size, size), nthreads=1, **options, **QUIET)

    in_parallel(work, list(tiles(0, len(values), BLOCK_PICTURES)), threads)
    return from_host(pictures, strengths)
