"""What `scripts/benchmark.py` measures on, and the library calls that its stages are compared with."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import finufft
import numpy as np

from spilegate.generation.models import AUTOCORRELATION_LIMIT
from spilegate.geometry import orientations
from spilegate.kernels import nufft
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.workers import Here
from spilegate.likelihood.statistics import Likelihood
from spilegate.patterns.prepare import Experiment, prepare
from spilegate.records import Dataset, Float32, Float64
from spilegate.settings import MergingOptions, Settings
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import built_in_particle
from spilegate.stages import matching, merging, slicing

# The library's own best: many points at once, all threads in one call.
FLOOR_BLOCK_POINTS = 2_000_000
PATTERNS, PIXELS = 1000, 64


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Return the shortest of `repeats` times [s] and the last result."""
    times = []
    for _ in range(repeats):
        begin = perf_counter()
        result = work()
        times.append(perf_counter() - begin)
    return min(times), result


class Ground:
    """The patterns, the experiment and the merged truth that all benchmarks work on, and times of library calls."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.particle = built_in_particle("demo")
        self.simulation = self.simulated()
        images = self.simulation.intensities.reshape(PATTERNS, -1)
        dataset = Dataset(
            images=images,
            q=self.simulation.pixel_position.reshape(-1, 3),
            mask=np.zeros(images.shape[1], np.uint8),
            panel_shape=(1, PIXELS, PIXELS),
            pixel_index_map=self.simulation.pixel_index_map.reshape(-1, 2),
            digest="",
            source="benchmark",
        )
        settings = Settings.model_validate({"compute": {"threads": threads}})
        self.experiment: Experiment = prepare(dataset, settings)
        self.workers = self.experiment.workers
        self.plan = self.experiment.plans[-1]
        self.rotations = orientations.matrices(self.simulation.quaternions)
        # The simulated pulses are all alike.
        self.scale = np.ones(PATTERNS)
        self.support = merging.support_ball(
            self.plan.size, self.plan.voxel_angstrom, AUTOCORRELATION_LIMIT * self.experiment.diameter_angstrom
        )
        self.merged, _ = self.solved(self.normal())

    def simulated(self) -> Simulation:
        """Return noise-free patterns of the built-in particle."""
        return simulate(
            self.particle,
            images=PATTERNS,
            pixels=PIXELS,
            resolution_angstrom=8.0,
            wavelength_angstrom=1.0,
            photons=None,
            seed=0,
            threads=self.threads,
        )

    def normal(self) -> merging.Normal:
        """Return the normal equations of all patterns at their true orientations."""
        (normal,) = merging.normal_equations(
            self.experiment.images,
            self.experiment.merged(self.plan.q_merge),
            np.zeros(PATTERNS, np.int64),
            self.rotations,
            self.scale,
            self.scale,
            1,
            self.plan.size,
            self.plan.voxel_angstrom,
            workers=self.workers,
        )
        if normal is None:
            raise RuntimeError("no pattern was merged")
        return normal

    def solved(self, normal: merging.Normal) -> tuple[Float32, dict[str, float]]:
        """Return the merged autocorrelation (M, M, M) and the figures of its CG."""
        start = np.zeros(self.support.shape, np.float32)
        return merging.solve(normal, self.support, start, MergingOptions(), threads=self.threads)

    def slicer(self, q: Float64) -> matching.Slicer:
        """Return the slicer of the merged truth."""
        return lambda rotations: slicing.slices(
            self.merged, self.plan.voxel_angstrom, rotations, q, workers=self.workers
        )[None]

    def polar_floor(self, likelihood: Likelihood, views: Float64, n_phi: int) -> float:
        """Return the time of the NUFFT, GEMM and Fourier sums of a polar search alone."""
        correlator = Correlator(n_phi, self.plan.highest)
        sampling = likelihood.sampling
        expected = likelihood.expected(self.slicer(sampling.q)(views)[0])
        stack = view_harmonics(
            *expected, sampling.coverage, correlator.order, tile=matching.TILE_VIEWS, workers=self.workers
        ).stack
        first = sampling.counts(self.experiment.images[: matching.TILE_PATTERNS])
        patterns = pattern_harmonics(likelihood.observed(first).values, correlator.order)
        rows, split = 2 * len(correlator.order), 2 * correlator.n_even

        def multiply(here: Here, part: slice) -> tuple[()]:  # noqa: ARG001 - as every body
            for tile in stack:
                product = np.matmul(patterns, tile).reshape(rows, -1)
                np.dot(correlator._even, product[:split])
                np.dot(correlator._odd, product[split:])
            return ()

        gemm, _ = timed(lambda: self.workers.run(multiply, PATTERNS, [], tile=matching.TILE_PATTERNS))
        return gemm + self.nufft_seconds(views, sampling.q)

    def nufft_seconds(self, rotations: Float64, q: Float64, n_trans: int = 1) -> float:
        """Return the time of the type-2 transforms at rotated points."""
        flat = (q.reshape(-1, 3) * 2 * np.pi * self.plan.voxel_angstrom).astype(np.float32)
        step = max(1, FLOOR_BLOCK_POINTS // len(flat))
        blocks = [
            orientations.rotated_points(rotations[b : b + step].astype(np.float32), flat).reshape(3, -1)
            for b in range(0, len(rotations), step)
        ]
        volume = np.repeat(self.merged[None].astype(np.complex64), n_trans, axis=0)

        def work() -> None:
            for points in blocks:
                nufft.forward(volume, points, tolerance=slicing.TOLERANCE, threads=self.threads)

        return timed(work)[0]

    def adjoint_seconds(self, q: Float64) -> float:
        """Return the time of the type-1 transform of all patterns at once, with all threads."""
        points = orientations.rotated_points(self.rotations, q * (2 * np.pi * self.plan.voxel_angstrom)).reshape(3, -1)
        strengths, size = np.ones(points.shape[1], np.complex128), 2 * self.plan.size - 1
        options: dict[str, Any] = {"eps": merging.TOLERANCE, "isign": 1, "nthreads": self.threads, "upsampfac": 2.0}
        return timed(lambda: finufft.nufft3d1(*points, strengths, (size,) * 3, **options))[0]

    def published_seconds(self, count: int) -> float:
        """Return the time of slicing at 1e-12 and one double-precision GEMM per 500 orientations."""
        likelihood = self.experiment.pixels(self.plan.q_match)
        sampling = likelihood.sampling
        (images,) = likelihood.target(sampling.counts(self.experiment.images).astype(np.float64), self.scale)
        q = sampling.q * (2 * np.pi * self.plan.voxel_angstrom)
        rotations = orientations.matrices(orientations.random_quaternions(count, np.random.default_rng(1)))
        volume = self.merged.astype(np.complex128)
        best = np.full(len(images), -np.inf)
        begin = perf_counter()
        for first in range(0, count, 500):
            points = orientations.rotated_points(rotations[first : first + 500], q).reshape(3, -1)
            model = nufft.forward(volume, points, tolerance=1e-12, threads=self.threads).real.reshape(500, -1)
            model, squares = likelihood.expected(model)
            gain = 2 * images @ model.T - squares.sum(1)
            best = np.maximum(best, gain.max(1))
        return perf_counter() - begin
