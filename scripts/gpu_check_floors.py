"""Part 3 of `scripts/gpu_check`: every stage against the library calls that it is made of, on the same sizes.

A floor is bare cufinufft, cuBLAS or cuFFT on arrays that are there already, with the same options, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from gpu_check_report import Report
from gpu_check_runs import Size

from spilegate.backend import to_host
from spilegate.generation.models import AUTOCORRELATION_LIMIT
from spilegate.geometry import orientations
from spilegate.kernels import fft
from spilegate.kernels.device import Device
from spilegate.kernels.plans import plan_of
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.patterns.prepare import prepare
from spilegate.records import Float64
from spilegate.settings import MergingOptions, PhasingOptions, Settings
from spilegate.stages import assigning, matching, merging, phasing, refining, slicing

# Points of a bare transform at once.
MOST_POINTS = 40_000_000


class Floors:
    """The stages of the last generation on patterns of one size, at their true orientations."""

    def __init__(self, report: Report, device: Device, size: Size) -> None:
        self.report, self.device, self.size = report, device, size
        dataset, self.quaternions = size.made(device)
        settings = Settings.model_validate({"prepare": {"diameter_angstrom": 60.0}})
        self.experiment = prepare(dataset, settings, device)
        self.plan = self.experiment.plans[-1]
        self.rotations = orientations.matrices(self.quaternions)
        self.one = np.ones(size.images)
        self.name = f"{size.images} x {size.pixels}^2"
        self.normal = self._normal()
        self.support = merging.support_ball(
            self.plan.size, self.plan.voxel_angstrom, AUTOCORRELATION_LIMIT * self.experiment.diameter_angstrom
        )
        self.volume, _ = self._solved()
        self.volume = to_host(self.volume)

    def timed(self, work: Callable[[], Any], repeats: int = 3) -> float:
        """Return the shortest of some times [s], the device's work included; the first call is not counted."""
        work()
        times = []
        for _ in range(repeats):
            self._wait()
            begin = perf_counter()
            work()
            self._wait()
            times.append(perf_counter() - begin)
        return min(times)

    def _wait(self) -> None:
        if self.device.xp is not np:
            self.device.xp.cuda.Device().synchronize()

    def run(self) -> None:
        """Time every stage."""
        for stage in (
            self.copy,
            self.slicing,
            self.matching,
            self.refining,
            self.merging,
            self.solving,
            self.phasing,
            self.soft,
        ):
            self.report.attempt("floors", f"{stage.__name__}, {self.name}", stage)
        if self.device.xp is not np:
            pool = self.device.xp.get_default_memory_pool()
            self.report.note(
                pool_gib=round(pool.total_bytes() / 2**30, 2), free_gib=round(self.device.free() / 2**30, 2)
            )

    def speed(self, stage: str, seconds: float, floor: float | None, **figures: float) -> None:
        """Report a stage."""
        self.report.speed(f"{stage}, {self.name}", seconds, floor, **figures)

    def copy(self) -> None:
        """Copy on the device."""
        xp = self.device.xp
        source = xp.zeros(int(min(2**28, self.device.free() / 32)), dtype=xp.float32)
        target = xp.empty_like(source)
        seconds = self.timed(lambda: target.__setitem__(..., source))
        self.speed("copy on the device, read and written", seconds, None, GiB_per_s=2 * source.nbytes / seconds / 2**30)

    def _points(self, rotations: Float64, q: Float64, dtype: Any) -> list[Any]:
        """Return rotated points (3, N) [radians per voxel] of some rotations at a time."""
        array = self.device.here.array
        flat = array(q.reshape(-1, 3) * (2 * np.pi * self.plan.voxel_angstrom), dtype)
        step = max(1, MOST_POINTS // flat.shape[0])
        blocks = (rotations[first : first + step] for first in range(0, len(rotations), step))
        return [orientations.rotated_points(array(block, dtype), flat).reshape(3, -1) for block in blocks]

    def bare(self, kind: int, size: int, n_trans: int, rotations: Float64, q: Float64) -> tuple[float, int]:
        """Return the time of bare transforms at rotated points, and their number."""
        xp = self.device.xp
        real, complex_ = (xp.float64, xp.complex128) if kind == 1 else (xp.float32, xp.complex64)
        blocks = self._points(rotations, q, real)
        tolerance = merging.TOLERANCE if kind == 1 else slicing.TOLERANCE
        count = sum(points.shape[1] for points in blocks)
        shapes = [(points.shape[1],) if kind == 1 else (n_trans, size, size, size) for points in blocks]
        data = [xp.ones(shape, dtype=complex_) for shape in dict.fromkeys(shapes)]
        given = [data[list(dict.fromkeys(shapes)).index(shape)] for shape in shapes]

        def work() -> None:
            with plan_of(blocks[0], kind, size, n_trans, str(np.dtype(complex_)), tolerance, 1) as plan:
                for points, values in zip(blocks, given, strict=True):
                    plan.setpts(*points)
                    plan.execute(values if n_trans > 1 or kind == 1 else values[0])

        return self.timed(work), count

    def slicer(self, q: Float64) -> matching.Slicer:
        """Return the slicer of the merged model."""
        return lambda rotations: slicing.slices(
            self.volume, self.plan.voxel_angstrom, rotations, q, workers=self.device
        )[None]

    def slicing(self) -> None:
        """Slices of views against bare transforms."""
        views = orientations.view_grid(self.plan.n_views, np.random.default_rng(0))
        q = self.experiment.rings(self.plan).sampling.q
        seconds = self.timed(lambda: self.slicer(q)(views))
        floor, count = self.bare(2, self.plan.size, 1, views, q)
        self.speed("slices of all views", seconds, floor, points_per_s=count / seconds)

    def matching(self) -> None:
        """Polar matching against its transforms and products."""
        views = orientations.view_grid(1960, np.random.default_rng(0))
        n_phi = 128
        likelihood = self.experiment.rings(replace(self.plan, n_phi=n_phi))
        q = likelihood.sampling.q
        seconds = self.timed(
            lambda: matching.polar(
                self.experiment.images, likelihood, self.slicer(q), views, n_phi,
                n_candidates=3, highest=self.plan.highest, workers=self.device,
            )
        )  # fmt: skip
        floor = self.bare(2, self.plan.size, 1, views, q)[0] + self._products(likelihood, views, n_phi)
        pairs = len(views) * n_phi * self.size.images
        self.speed(f"polar matching, {len(views) * n_phi} orientations", seconds, floor, pairs_per_s=pairs / seconds)

    def _products(self, likelihood: Any, views: Float64, n_phi: int) -> float:
        """Return the time of a polar search's matrix products alone."""
        correlator, xp = Correlator(n_phi, self.plan.highest), self.device.xp
        expected = likelihood.expected(self.slicer(likelihood.sampling.q)(views)[0])
        coverage = likelihood.sampling.coverage
        stack = view_harmonics(
            *expected, coverage, correlator.order, tile=matching.TILE_VIEWS, workers=self.device
        ).stack
        stack = self.device.here.array(stack)
        rows = self.device.here.rows(matching.TILE_PATTERNS, 4.0 * matching.TILE_VIEWS * 4 * n_phi)
        counts = likelihood.sampling.counts(
            self.device.here.array(self.experiment.images[: min(rows, self.size.images)])
        )
        patterns = pattern_harmonics(likelihood.observed(counts).values, correlator.order)
        times = self.size.images / counts.shape[0]
        even, odd = (self.device.here.array(matrix) for matrix in (correlator._even, correlator._odd))
        columns, split = counts.shape[0] * matching.TILE_VIEWS, 2 * correlator.n_even
        product = xp.empty((len(correlator.order), 2 * counts.shape[0], matching.TILE_VIEWS), dtype=xp.float32)
        sums = xp.empty((n_phi // 2, columns), dtype=xp.float32)

        def work() -> None:
            for tile in stack:
                xp.matmul(patterns, tile, out=product)
                flat = product.reshape(2 * len(correlator.order), -1)
                xp.matmul(even, flat[:split], out=sums)
                xp.matmul(odd, flat[split:], out=sums)

        return self.timed(work) * times

    def refining(self) -> None:
        """One Gauss-Newton step against its transforms."""
        likelihood = self.experiment.pixels(self.plan.q_match)
        shape = (self.size.images, 1)
        shortlist = refining.Shortlist(self.quaternions[:, None], np.zeros(shape, np.int64), np.ones(shape, np.bool_))
        seconds = self.timed(
            lambda: refining.refine(
                self.experiment.images, likelihood, self.one, self.volume[None], self.plan.voxel_angstrom, shortlist,
                iterations=1, largest_turn=0.1, workers=self.device,
            )
        )  # fmt: skip
        q = likelihood.sampling.q
        twice, count = self.bare(2, self.plan.size, 2, self.rotations, q)
        once, _ = self.bare(2, self.plan.size, 1, self.rotations, q)
        self.speed("refinement, one step", seconds, twice + once, points_per_s=3 * count / seconds)

    def _normal(self) -> merging.Normal:
        (normal,) = merging.normal_equations(
            self.experiment.images, self.experiment.merged(self.plan.q_merge), np.zeros(self.size.images, np.int64),
            self.rotations, self.one, self.one, 1, self.plan.size, self.plan.voxel_angstrom, workers=self.device,
        )  # fmt: skip
        if normal is None:
            raise RuntimeError("no pattern was merged")
        return normal

    def merging(self) -> None:
        """Time normal equations against their transform."""
        seconds = self.timed(self._normal)
        q = self.experiment.merged(self.plan.q_merge).q
        floor, count = self.bare(1, 2 * self.plan.size - 1, 1, self.rotations, q)
        self.speed("normal equations", seconds, floor, points_per_s=count / seconds)

    def _solved(self) -> tuple[Any, dict[str, float]]:
        array = self.device.here.array
        system = merging.Normal(array(self.normal.kernel), array(self.normal.right))
        nothing = np.zeros(self.support.shape, np.float32)
        return merging.solve(system, array(self.support), array(nothing), MergingOptions(), threads=1)

    def pairs(self, size: int, batch: int, dtype: Any, count: int) -> float:
        """Return the time of so many pairs of a real transform and its inverse alone."""
        xp = self.device.xp
        cubes = xp.zeros((batch, size, size, size), dtype=dtype)
        spectra = fft.rfftn(cubes, threads=1)
        if xp is np:
            return self.timed(lambda: [fft.irfftn(fft.rfftn(cubes, threads=1), size, threads=1) for _ in range(count)])
        from cupyx.scipy.fftpack import get_fft_plan

        there = get_fft_plan(cubes, axes=fft.AXES, value_type="R2C")
        back = get_fft_plan(spectra, shape=(size,) * 3, axes=fft.AXES, value_type="C2R")

        def work() -> None:
            for _ in range(count):
                there.fft(cubes, spectra, -1)
                back.fft(spectra, cubes, 1)

        return self.timed(work)

    def solving(self) -> None:
        """Conjugate gradients against their transforms."""
        _, figures = self._solved()
        seconds = self.timed(self._solved)
        padded, count = fft.fast_size(2 * self.plan.size - 1), int(figures["cg_iterations"]) + 3
        floor = self.pairs(padded, 1, np.float64, count)
        self.speed(f"conjugate gradients, {count - 3} iterations, {padded}^3", seconds, floor)

    def phasing(self) -> None:
        """Phasings of the last generation against their transforms."""
        size, voxel, array = self.plan.size, self.plan.voxel_angstrom, self.device.here.array
        options, inside = PhasingOptions(), phasing.ball(size, voxel, self.experiment.diameter_angstrom / 2)
        for batch in (1, 12):
            merged = array(np.repeat(self.volume[None], batch, axis=0))
            target = phasing.amplitudes(merged, voxel, q_min=0, q_max=self.plan.q_merge, threads=1)
            starts = phasing.random_start((batch, size, size, size), inside, np.random.default_rng(0))
            rho, support = array(starts), array(np.broadcast_to(inside, starts.shape))
            bound = array(inside)
            seconds = self.timed(
                lambda target=target, rho=rho, support=support, bound=bound: phasing.phase(
                    target, rho, support, bound, options, cycles=options.cycles, threads=1
                )
            )
            floor = self.pairs(size, batch, np.float32, options.cycles * 81 + 21)
            self.speed(f"{batch} phasings, {options.cycles} cycles, {size}^3", seconds, floor)

    def soft(self) -> None:
        """Soft assignment of the blind start's size against its products."""
        plan = self.experiment.plans[0]
        likelihood = self.experiment.rings(plan)
        views = orientations.view_grid(plan.n_views, np.random.default_rng(0))
        slices = slicing.slices(
            self.volume, self.plan.voxel_angstrom, views, likelihood.sampling.q, workers=self.device
        )
        seconds = self.timed(
            lambda: assigning.expect(
                self.experiment.images, likelihood, slices, self.one, self.one, 0.05, workers=self.device
            )
        )
        pairs = len(views) * plan.n_phi * self.size.images
        self.speed(f"soft assignment, {len(views)} views", seconds, None, pairs_per_s=pairs / seconds)


def floors(report: Report, device: Device, sizes: list[Size]) -> None:
    """Time the stages on several sizes."""
    for size in sizes:
        Floors(report, device, size).run()
