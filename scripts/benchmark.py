#!/usr/bin/env python3
"""Speed and accuracy of the stages against the library calls they are made of, all in one run.

    python scripts/benchmark.py [--threads 2] [--only match,refine,merge]

Ratios are what counts: a shared machine drifts, but a stage and its library calls drift together. A stage's floor is
the time of its NUFFT, GEMM and FFT calls alone, on arrays of the same shapes, with the same threads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from spilegate.kernels.tiles import over_tiles

from spilegate.evaluation.alignment import align
from spilegate.evaluation.comparison import resample_map
from spilegate.evaluation.resolution import fourier_shell_correlation
from spilegate.geometry import orientations
from spilegate.kernels import fft, nufft
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.preparation import Experiment, prepare
from spilegate.settings import MergingOptions, PhasingOptions, Settings
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import built_in_particle, density
from spilegate.stages import matching, merging, phasing, refining, slicing
from spilegate.state import Dataset, Float32, Float64

# The library's own best: many points at once, all threads in one call.
FLOOR_BLOCK_POINTS = 2_000_000


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Return the shortest of `repeats` times [s] and the last result."""
    times = []
    for _ in range(repeats):
        begin = perf_counter()
        result = work()
        times.append(perf_counter() - begin)
    return min(times), result


def row(name: str, seconds: float, text: str = "") -> None:
    """Print one line of the report."""
    print(f"{name:<58}{seconds:9.3f} s  {text}", flush=True)


class Bench:
    """The patterns, the experiment and the merged truth that all benchmarks work on."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.particle = built_in_particle("demo")
        self.simulation = self._simulated()
        images = self.simulation.intensities.reshape(1000, -1)
        dataset = Dataset(
            images=images,
            q=self.simulation.pixel_position.reshape(-1, 3),
            weight=np.ones(images.shape[1], np.float32),
            panel_shape=(1, 64, 64),
            pixel_index_map=self.simulation.pixel_index_map.reshape(-1, 2),
            digest="",
            source="benchmark",
        )
        settings = Settings.model_validate({"compute": {"threads": threads}})
        self.experiment: Experiment = prepare(dataset, settings)
        self.plan = self.experiment.plans[-1]
        self.rotations = orientations.matrices(self.simulation.quaternions)
        self.merged, self.merge_figures = self._merge()

    def _normal(self) -> merging.Normal:
        sampling = self.experiment.pixels(self.plan.q_merge)
        weight = np.linalg.norm(sampling.q, axis=-1).astype(np.float32)
        return merging.normal_equations(
            sampling.patterns(self.experiment.images),
            weight / weight.mean(),
            self.rotations,
            sampling.q,
            self.plan.size,
            self.plan.voxel_angstrom,
            threads=self.threads,
        )

    def simulate(self) -> None:
        """Time the simulation of the patterns that the other benchmarks work on."""
        seconds, _ = timed(self._simulated, 1)
        row("simulation of 1000 patterns of 64x64", seconds, "bar: 20 s")

    def _simulated(self) -> Simulation:
        return simulate(
            self.particle,
            images=1000,
            pixels=64,
            resolution_angstrom=8.0,
            wavelength_angstrom=1.0,
            photons=None,
            seed=0,
            threads=self.threads,
        )

    def _merge(self) -> tuple[Float32, dict[str, float]]:
        support = merging.support_ball(
            self.plan.size, self.plan.voxel_angstrom, 1.15 * self.experiment.diameter_angstrom
        )
        start = np.zeros(support.shape, np.float32)
        return merging.solve(self._normal(), support, start, MergingOptions(), threads=self.threads)

    def slicer(self, q: Float64) -> matching.Slicer:
        """Return the slicer of the merged truth."""
        return lambda rotations: slicing.slices(
            self.merged, self.plan.voxel_angstrom, rotations, q, threads=self.threads
        )[None]

    def match(self) -> None:
        """Polar matching of 250,000 orientations against slicing and GEMM in double precision, and its floor."""
        views = orientations.view_grid(1960, np.random.default_rng(0))
        n_phi = 128
        grid = self.experiment.rings(replace(self.plan, n_phi=n_phi, highest=self.plan.highest))
        search = partial(
            matching.polar,
            self.experiment.images,
            grid,
            self.slicer(grid.q),
            views,
            n_phi,
            n_candidates=3,
            highest=self.plan.highest,
            threads=self.threads,
        )
        seconds, _ = timed(search)
        floor = self._polar_floor(grid, views, n_phi)
        count = len(views) * n_phi
        fast = 1e3 * count / seconds
        row(f"polar, {count} orientations x 1000 patterns", seconds, f"{fast / 1e6:.0f} M pairs/s")
        row("  its NUFFT, GEMM and Fourier sums alone", floor, f"stage / library = {seconds / floor:.2f}")
        seconds = self._published(10_000)
        slow = 1e3 * 10_000 / seconds
        row("slices (double, 1e-12) and GEMM, 10000 orientations", seconds, f"{slow / 1e6:.2f} M pairs/s")
        print(f"  polar is {fast / slow:.0f} times as fast (bar: 200)")
        self._agreement()

    def _polar_floor(self, grid: Any, views: Float64, n_phi: int) -> float:
        correlator = Correlator(n_phi, self.plan.highest)
        slices = self.slicer(grid.q)(views)[0]
        stack = view_harmonics(grid.weigh(slices), correlator.order, threads=self.threads).stack
        patterns = pattern_harmonics(
            grid.weigh(grid.patterns(self.experiment.images[: matching.TILE_PATTERNS])), correlator.order
        )
        half = len(correlator.order)

        def tile(_: slice) -> None:
            for begin in range(0, stack.shape[2], matching.TILE_VIEWS):
                part = stack[..., begin : begin + matching.TILE_VIEWS]
                product = np.matmul(patterns, part).reshape(2 * half, -1)
                np.dot(correlator._even, product[: 2 * correlator.n_even])
                np.dot(correlator._odd, product[2 * correlator.n_even :])

        gemm, _ = timed(lambda: list(over_tiles(tile, 1000, matching.TILE_PATTERNS, threads=self.threads)))
        return gemm + self._nufft_seconds(views, grid.q)

    def _nufft_seconds(self, rotations: Float64, q: Float64, n_trans: int = 1) -> float:
        """Return the time of the type-2 transforms at rotated points, in blocks of the stage's size."""
        flat = (q.reshape(-1, 3) * 2 * np.pi * self.plan.voxel_angstrom).astype(np.float32)
        step = max(1, FLOOR_BLOCK_POINTS // len(flat))
        blocks = [
            orientations.rotated_points(rotations[b : b + step].astype(np.float32), flat).reshape(3, -1)
            for b in range(0, len(rotations), step)
        ]
        volume = np.repeat(self.merged[None].astype(np.complex64), n_trans, axis=0)
        volume = volume[0] if n_trans == 1 else volume

        def work() -> None:
            for points in blocks:
                nufft.forward(volume, points, tolerance=slicing.TOLERANCE, threads=self.threads)

        return timed(work)[0]

    def _published(self, count: int) -> float:
        """Return the time of slicing at 1e-12 and one double-precision GEMM per 500 orientations."""
        sampling = self.experiment.pixels(self.plan.q_match)
        images = sampling.weigh(sampling.patterns(self.experiment.images)).astype(np.float64)
        q = sampling.q * (2 * np.pi * self.plan.voxel_angstrom)
        rotations = orientations.matrices(orientations.random_quaternions(count, np.random.default_rng(1)))
        volume = self.merged.astype(np.complex128)
        best = np.full(len(images), -np.inf)
        begin = perf_counter()
        for first in range(0, count, 500):
            points = orientations.rotated_points(rotations[first : first + 500], q).reshape(3, -1)
            model = nufft.forward(volume, points, tolerance=1e-12, threads=self.threads).real.reshape(500, -1)
            model = (model - sampling.offset) * sampling.root_weight
            gain = 2 * images @ model.T - (model**2).sum(1)
            best = np.maximum(best, gain.max(1))
        return perf_counter() - begin

    def _agreement(self) -> None:
        """Print how often both matchers choose the same orientation of one grid, or one as good."""
        pixels = self.experiment.pixels(self.plan.q_match)
        views, n_phi = orientations.view_grid(108, np.random.default_rng(2)), 96
        grid = self.experiment.rings(replace(self.plan, n_phi=n_phi))
        keywords = {"n_candidates": 1, "highest": n_phi // 2, "threads": self.threads}
        images = self.experiment.images
        polar = matching.polar(images, grid, self.slicer(grid.q), views, n_phi, **keywords)
        gemm = matching.gemm(images, pixels, self.slicer(pixels.q), views, n_phi, **keywords)
        same = orientations.angle_between(polar.quaternions[:, 0], gemm.quaternions[:, 0]) < 1e-3
        distances = [
            refining.refine(
                images,
                np.arange(len(images)),
                pixels,
                self.merged,
                self.plan.voxel_angstrom,
                found.quaternions[:, 0],
                iterations=0,
                largest_turn=1.0,
                threads=self.threads,
            ).distance
            for found in (polar, gemm)
        ]
        good = same | (distances[0] <= 1.05 * distances[1])
        print(
            f"  polar on rings and gemm on pixels, {len(views) * n_phi} orientations: same for {same.mean():.1%}, "
            f"same or as good (distance within 5 %) for {good.mean():.1%}"
        )

    def merge(self) -> None:
        """Merge with the true orientations: time, floor, accuracy, CG."""
        sampling = self.experiment.pixels(self.plan.q_merge)
        seconds, normal = timed(self._normal)
        q = sampling.q * (2 * np.pi * self.plan.voxel_angstrom)
        points = orientations.rotated_points(self.rotations, q).reshape(3, -1)
        strengths = np.ones(points.shape[1], np.complex128)
        size = 2 * self.plan.size - 1
        floor, _ = timed(
            lambda: nufft.adjoint(strengths, points, size, tolerance=merging.TOLERANCE, threads=self.threads)
        )
        row(f"normal equations of {points.shape[1]} pixels on {size}^3", seconds)
        row("  its NUFFT alone", floor, f"stage / library = {seconds / floor:.2f}")
        support = merging.support_ball(
            self.plan.size, self.plan.voxel_angstrom, 1.15 * self.experiment.diameter_angstrom
        )
        start = np.zeros(support.shape, np.float32)
        seconds, (merged, figures) = timed(
            lambda: merging.solve(normal, support, start, MergingOptions(), threads=self.threads)
        )
        padded = fft.fast_size(size)
        cube = np.zeros((padded,) * 3)
        pair, _ = timed(lambda: fft.irfftn(fft.rfftn(cube, threads=self.threads), padded, threads=self.threads))
        floor = pair * (figures["cg_iterations"] + 3)
        row(f"CG, {figures['cg_iterations']:.0f} iterations to {figures['merge_residual']:.1e}", seconds)
        row("  its FFTs alone", floor, f"stage / library = {seconds / floor:.2f}")
        print(
            f"  relative error of the intensity inside the measured sphere: {self._merge_error(merged):.1e} (bar: 1e-2)"
        )

    def _merge_error(self, merged: Float32) -> float:
        size, voxel = self.plan.size, self.plan.voxel_angstrom
        truth = density(self.particle, size, voxel, threads=self.threads).astype(np.float64)
        expected = np.abs(np.fft.rfftn(np.fft.ifftshift(truth)) * voxel**3) ** 2
        found = np.fft.rfftn(np.fft.ifftshift(merged)).real
        axis, last = np.fft.fftfreq(size, voxel), np.fft.rfftfreq(size, voxel)
        inside = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + last**2) <= self.plan.q_merge
        return float(np.linalg.norm((found - expected)[inside]) / np.linalg.norm(expected[inside]))

    def refine(self) -> None:
        """Refinement of 1000 orientations, three Gauss-Newton steps."""
        sampling = self.experiment.pixels(self.plan.q_match)
        turn = Rotation.from_rotvec(np.random.default_rng(3).normal(0, 0.02, (1000, 3)))
        start = (Rotation.from_quat(self.simulation.quaternions, scalar_first=True) * turn).as_quat(scalar_first=True)
        linearise = partial(
            refining.refine,
            self.experiment.images,
            np.arange(1000),
            sampling,
            self.merged,
            self.plan.voxel_angstrom,
            start,
            largest_turn=0.1,
            threads=self.threads,
        )
        seconds, _ = timed(lambda: linearise(iterations=1))
        floor = self._nufft_seconds(self.rotations, sampling.q, 2) + self._nufft_seconds(self.rotations, sampling.q)
        row(f"one Gauss-Newton step, 1000 patterns of {len(sampling.q)} pixels", seconds)
        row("  its NUFFTs alone", floor, f"stage / library = {seconds / floor:.2f}")

    def phase(self) -> None:
        """One phasing of the last generation."""
        size, voxel = self.plan.size, self.plan.voxel_angstrom
        target = phasing.amplitudes(self.merged[None], voxel, q_min=0, q_max=self.plan.q_merge, threads=self.threads)
        inside = phasing.ball(size, voxel, self.experiment.diameter_angstrom / 2)
        rho = phasing.random_start((1, size, size, size), inside, np.random.default_rng(0))
        options = PhasingOptions()
        seconds, _ = timed(
            lambda: phasing.phase(
                target, rho, inside[None], inside, options, cycles=options.cycles, threads=self.threads
            )
        )
        corner = fft.to_corner(rho)
        pair, _ = timed(
            lambda: [
                fft.irfftn(fft.rfftn(corner, threads=self.threads), size, threads=self.threads) for _ in range(100)
            ]
        )
        floor = pair / 100 * (options.cycles * 81 + 21)
        row(f"phasing, {options.cycles} cycles on {size}^3", seconds)
        row("  its FFTs alone", floor, f"stage / library = {seconds / floor:.2f}")

    def align(self) -> None:
        """Alignment at 81^3 and FSC at 151^3."""
        fixed = density(self.particle, 81, 2.0, threads=self.threads)
        turn = Rotation.random(rng=np.random.default_rng(4))
        shift = np.array([3.3, -4.1, 2.7])
        moved = replace(self.particle, positions=-turn.apply(self.particle.positions) + shift)
        moving = density(moved, 81, 2.0, threads=self.threads)
        seconds, found = timed(lambda: align(moving, fixed, 2.0, threads=self.threads), 3)
        back = Rotation.from_quat(found.quaternion, scalar_first=True)
        # fixed = moving brought back: the inverse turn, the inverted hand, and the shift that centres it again.
        angle = np.degrees((back * turn).magnitude())
        expected = turn.inv().apply(shift) * (1 if found.inverted else -1)
        miss = np.abs(found.shift_angstrom - expected).max() / 2.0
        row(
            "alignment at 81^3", seconds, f"off by {angle:.3f} degrees and {miss:.3f} voxel, inverted: {found.inverted}"
        )
        first = resample_map(fixed, 2.0, 151, 1.0, threads=self.threads)
        second = first + np.random.default_rng(5).normal(0, first.std(), first.shape).astype(np.float32)
        seconds, _ = timed(lambda: fourier_shell_correlation(first, second, 1.0, threads=self.threads), 5)
        row("FSC at 151^3", seconds, "bar: 0.3 s")


def start_up() -> None:
    """Time of importing the package and of the command line's help, each a fresh process."""
    for name, command, bar in (
        ("import spilegate", ["-c", "import spilegate"], 0.3),
        ("spilegate --help", ["-m", "spilegate", "--help"], 0.7),
    ):
        seconds, _ = timed(partial(subprocess.run, [sys.executable, *command], check=True, capture_output=True), 5)
        row(name, seconds, f"bar: {bar} s")


def main() -> None:
    """Run the benchmarks asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["simulate", "match", "refine", "merge", "phase", "align", "start-up"]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(names), help="comma-separated, of " + ", ".join(names))
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(names)}")
    bench = Bench(arguments.threads) if set(chosen) - {"start-up"} else None
    for name in chosen:
        if name == "start-up":
            start_up()
        else:
            getattr(bench, name)()


if __name__ == "__main__":
    main()
