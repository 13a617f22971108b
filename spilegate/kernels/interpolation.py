"""Fourier transforms of volumes at points on the host: one FFT of a finer grid, then finufft's interpolation.

Taken apart, because a transform by several of finufft's own threads rounds in another way than by one. The FFT gives
the same bits for any number of threads; the points come in blocks of one size, whoever interpolates them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from spilegate.kernels.blocks import tiles
from spilegate.kernels.plans import INTERPOLATION, QUIET, plan_of

# Points interpolated at once: ten milliseconds of work, or this part of the samples of a large grid, through all of
# which finufft goes every time, to fill as much memory with zeros. (A quarter of so many cost a fifth more.)
FEWEST_POINTS, PART_OF_GRID = 1 << 17, 0.25
# Finufft's widest kernel, in steps of the finer grid, and nodes that integrate it to double precision.
WIDEST_KERNEL, NODES = 16, 64

Work = TypeVar("Work")


def in_parallel(work: Callable[[Work], None], parts: Sequence[Work], threads: int) -> None:
    """Apply a function to parts of some work that do not depend on each other."""
    if min(threads, len(parts)) < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(min(threads, len(parts))) as pool:
        for _ in pool.map(work, parts):
            pass


def fine_size(size: int) -> int:
    """Return the samples along an edge of the finer grid for volumes of size^3: even, twice as many or a few more."""
    return int(max(2 * scipy.fft.next_fast_len(size, real=True), 2 * WIDEST_KERNEL))


def block_points(fine: int) -> int:
    """Return how many points are interpolated at once on a grid of fine^3 samples."""
    return max(FEWEST_POINTS, int(PART_OF_GRID * fine**3))


def fine_spectrum(volumes: NDArray[Any], *, tolerance: float, threads: int) -> NDArray[Any]:
    """Return the spectra of volumes (..., M, M, M), complex, on the finer grid, made ready for `interpolated`.

    Lines that hold nothing but zeros are not transformed.
    """
    size = volumes.shape[-1]
    fine, low = fine_size(size), size // 2
    factor = _factors(size, fine, tolerance).astype(volumes.real.dtype)
    spectra = volumes
    for axis in (-1, -2, -3):
        shape = list(spectra.shape)
        shape[axis] = fine
        padded = np.zeros(shape, volumes.dtype)
        last, target = np.moveaxis(spectra, axis, -1), np.moveaxis(padded, axis, -1)
        np.multiply(last[..., low:], factor[low:], out=target[..., : size - low])
        np.multiply(last[..., :low], factor[:low], out=target[..., fine - low :])
        spectra = scipy.fft.fft(padded, axis=axis, overwrite_x=True, workers=threads)
    return spectra


def interpolated(
    spectra: NDArray[Any], points: Iterable[NDArray[Any]], *, tolerance: float, threads: int
) -> NDArray[Any]:
    """Return the values (..., N) of spectra (..., F, F, F), from `fine_spectrum`, at points x, y, z (N,) in radians."""
    x, y, z = (np.ascontiguousarray(coordinate) for coordinate in points)
    together = spectra.shape[0] if spectra.ndim > 3 else 1
    result = np.empty((*spectra.shape[:-3], len(x)), spectra.dtype)

    def work(own: slice) -> None:
        with plan_of(spectra, INTERPOLATION, spectra.shape[-1], together, str(spectra.dtype), tolerance, 1) as plan:
            plan.setpts(x[own], y[own], z[own])
            if together == 1:
                # In its place: fresh memory takes as long as a tenth of the interpolation.
                plan.execute(spectra.reshape(spectra.shape[-3:]), result.reshape(-1)[own])
            else:
                result[:, own] = plan.execute(spectra)

    in_parallel(work, list(tiles(0, len(x), block_points(spectra.shape[-1]))), threads)
    return result


@lru_cache(maxsize=32)
def _factors(size: int, fine: int, tolerance: float) -> NDArray[np.float64]:
    """Return what the samples (size,) along an edge are multiplied by: one over the kernel's Fourier transform.

    The sign puts sample 0 of the finer grid at -pi, where finufft has it.
    """
    step = 2 * np.pi / fine
    node, weight = np.polynomial.legendre.leggauss(NODES)
    half = WIDEST_KERNEL * step / 2
    distance = (node + 1) / 2 * half
    impulse = np.zeros(fine, np.complex128)
    impulse[fine // 2] = 1.0
    plan = import_module("finufft").Plan(
        2, (fine,), eps=tolerance, isign=-1, upsampfac=2.0, nthreads=1, spreadinterponly=1, **QUIET
    )
    plan.setpts(distance)
    wave = np.arange(size) - size // 2
    # The kernel is even; half of it is integrated.
    transform = np.cos(np.outer(wave, distance)) @ (weight * plan.execute(impulse).real) * half / step
    factors: NDArray[np.float64] = (1.0 - 2.0 * (wave % 2)) / transform
    return factors
