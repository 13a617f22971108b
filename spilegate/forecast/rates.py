"""How fast one thread of this machine does what a run spends its time on, measured on the kernels that the run uses.

Times are of the processor and not of the clock on the wall, so that other jobs on the machine count little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np
import scipy.fft

from spilegate.forecast.counts import LM_TILE, ROUNDING_BYTES, Load, fft_operations, merged_elements
from spilegate.geometry import orientations
from spilegate.geometry.pose import Pose, steps
from spilegate.kernels import nufft
from spilegate.kernels.polar import Correlator
from spilegate.kernels.workers import libraries
from spilegate.records import Float64
from spilegate.stages import matching, merging, refining

# Points of the transforms that are timed: fewer take less time and are measured worse.
POINTS = 160_000
# Voxels along an edge of the volumes they are timed with: the transform of a larger grid would take most of the time.
LARGEST = 21
# Seconds of bookkeeping on the host for a pattern: too little to be measured for.
BOOKKEEPING = 4e-6
# Numbers that the cache of a core holds.
BLOCK = 2**18


@dataclass(frozen=True)
class Rates:
    """What one thread does.

    evaluate, gather : NUFFT points a second, type 2 (float32) and type 1 (float64), FFT of the grid apart
    gemm, fft : float32 operations a second; memory, host : bytes a second, in the cache and outside it
    call : seconds to start an array operation; step : seconds for a Levenberg-Marquardt step of one pattern
    """

    evaluate: float
    gather: float
    gemm: float
    fft: float
    memory: float
    host: float
    call: float
    step: float

    def seconds(self, resource: str, amount: float) -> float:
        """Return the time that an amount of a resource takes, see `counts.Term`."""
        if resource in ("call", "step"):
            return amount * float(getattr(self, resource))
        if resource == "pattern":
            return amount * BOOKKEEPING
        # Arrays are in the memory of the processor that works on them.
        return 0.0 if resource == "link" else amount / float(getattr(self, resource))


def measure(load: Load, q: Float64) -> Rates:
    """Return the rates on arrays like those of a load, in about a second.

    q : (N, 3) float64, pixels to the edge of the detector [1/angstrom]
    """
    with libraries().limit(limits=1, user_api="blas"):
        return _measured(load, q * (2 * np.pi * load.plan.voxel_angstrom))


def _measured(load: Load, q: Float64) -> Rates:
    """Measure with one thread; q in radians per voxel."""
    size = load.plan.size
    big = np.zeros((scipy.fft.next_fast_len(min(size, 2 * LARGEST), real=True) * 2,) * 3, np.float32)
    there_and_back = seconds(lambda: scipy.fft.irfftn(scipy.fft.rfftn(big), big.shape), 2)
    small, block = np.ones(8), np.ones(BLOCK, np.float32)
    part = np.ones(min(merged_elements(size), 2**20))
    return Rates(
        evaluate=evaluation_rate(q, min(size, LARGEST), POINTS),
        gather=summation_rate(q, min(size, LARGEST), POINTS),
        gemm=product_rate(load),
        fft=fft_operations(len(big)) / there_and_back,
        memory=3 * block.nbytes * 20 / seconds(lambda: [block + block for _ in range(20)]),
        host=ROUNDING_BYTES * part.size / seconds(lambda: np.add(part, np.rint(part / 0.5) * 0.5, out=part)),
        call=seconds(lambda: [small + small for _ in range(2000)]) / 2000,
        step=step_seconds(),
    )


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Return the shortest of `repeats` times."""
    times = []
    for _ in range(repeats):
        begin = process_time()
        work()
        times.append(process_time() - begin)
    return min(times)


def slope(work: Callable[[int], Callable[[], Any]], few: int, many: int) -> float:
    """Return the seconds that one more unit of work takes, whatever the work costs at all."""
    return max(1e-12, (seconds(work(many)) - seconds(work(few))) / (many - few))


def points(count: int, q: Float64, dtype: Any) -> Any:
    """Return the points (3, N) of so many patterns at random orientations."""
    rotations = orientations.matrices(orientations.random_quaternions(count, np.random.default_rng(0)))
    return orientations.rotated_points(rotations.astype(dtype), q.astype(dtype)).reshape(3, -1)


def evaluation_rate(q: Float64, size: int, points_each: int = 600_000) -> float:
    """Return type-2 points a second."""
    volumes = np.ones((2, size, size, size), np.complex64)

    def work(count: int) -> Callable[[], Any]:
        own = points(count, q, np.float32)
        return lambda: nufft.forward(volumes, own, tolerance=refining.TOLERANCE, threads=1)

    many = max(2, points_each // len(q))
    return 2 * len(q) / slope(work, many // 4, many)


def summation_rate(q: Float64, size: int, points_each: int = 1_000_000) -> float:
    """Return type-1 points a second."""

    def work(count: int) -> Callable[[], Any]:
        own = points(count, q, np.float64)
        strengths = np.ones(own.shape[1], np.complex128)
        return lambda: nufft.adjoint(strengths, own, 2 * size - 1, tolerance=merging.TOLERANCE)

    many = max(2, points_each // len(q))
    return len(q) / slope(work, many // 4, many)


def product_rate(load: Load) -> float:
    """Return operations a second in the products of a tile of patterns and a tile of views."""
    correlator = Correlator(load.plan.n_phi, load.plan.highest)
    n_harmonic, patterns, views = len(correlator.order), matching.TILE_PATTERNS, matching.TILE_VIEWS
    own = np.ones((n_harmonic, 2 * patterns, 2 * load.rings), np.float32)
    tile = np.ones((n_harmonic, 2 * load.rings, views), np.float32)
    operations = load.products_per_pair * patterns * views
    return operations * 10 / seconds(lambda: [correlator.halves(np.matmul(own, tile)) for _ in range(10)])


def step_seconds() -> float:
    """Return the host's time for a step of one pattern, in the numbers that refinement takes them."""
    quaternions = orientations.random_quaternions(LM_TILE, np.random.default_rng(0))
    hessian = np.broadcast_to(np.eye(4), (LM_TILE, 4, 4)).copy()
    gradient, damping = np.ones((LM_TILE, 4)), np.ones(LM_TILE)
    pose = Pose(quaternions, np.ones(LM_TILE))

    def work() -> None:
        for _ in range(20):
            orientations.matrices(pose.moved(steps(hessian, gradient, damping, 0.1)).quaternions)

    return seconds(work) / 20 / LM_TILE
