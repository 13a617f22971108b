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
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from benchmark_floors import PATTERNS, PIXELS, Ground, timed
from scipy.spatial.transform import Rotation

from spilegate.evaluation.alignment import align
from spilegate.evaluation.comparison import resample_map
from spilegate.evaluation.fsc import fourier_shell_correlation
from spilegate.geometry import orientations
from spilegate.kernels import fft
from spilegate.records import Float32, Float64
from spilegate.settings import PhasingOptions
from spilegate.simulation.particle import density
from spilegate.stages import matching, phasing, refining
from spilegate.stages.refining import Shortlist


def row(name: str, seconds: float, text: str = "") -> None:
    """Print one line of the report."""
    print(f"{name:<58}{seconds:9.3f} s  {text}", flush=True)


def alone(quaternions: Float64) -> Shortlist:
    """Return a shortlist of one candidate (n, 4) for each pattern."""
    shape = (len(quaternions), 1)
    return Shortlist(quaternions[:, None], np.zeros(shape, np.int64), np.ones(shape, np.bool_))


class Bench(Ground):
    """The benchmarks, one method each."""

    def simulate(self) -> None:
        """Time the simulation of the patterns that the other benchmarks work on."""
        seconds, _ = timed(self.simulated, 1)
        row(f"simulation of {PATTERNS} patterns of {PIXELS}x{PIXELS}", seconds, "bar: 20 s")

    def match(self) -> None:
        """Polar matching of 250,000 orientations against slicing and GEMM in double precision, and its floor."""
        views = orientations.view_grid(1960, np.random.default_rng(0))
        n_phi = 128
        grid = self.experiment.rings(replace(self.plan, n_phi=n_phi, highest=self.plan.highest))
        search = partial(
            matching.polar,
            self.experiment.images,
            grid,
            self.slicer(grid.sampling.q),
            views,
            n_phi,
            n_candidates=3,
            highest=self.plan.highest,
            workers=self.workers,
        )
        seconds, _ = timed(search)
        floor = self.polar_floor(grid, views, n_phi)
        count = len(views) * n_phi
        fast = PATTERNS * count / seconds
        row(f"polar, {count} orientations x {PATTERNS} patterns", seconds, f"{fast / 1e6:.0f} M pairs/s")
        row("  its NUFFT, GEMM and Fourier sums alone", floor, f"stage / library = {seconds / floor:.2f}")
        seconds = self.published_seconds(10_000)
        slow = PATTERNS * 10_000 / seconds
        row("slices (double, 1e-12) and GEMM, 10000 orientations", seconds, f"{slow / 1e6:.2f} M pairs/s")
        print(f"  polar is {fast / slow:.0f} times as fast (bar: 200)")
        self._agreement()

    def _agreement(self) -> None:
        """Print how often both matchers choose the same orientation of one grid, or one as good."""
        pixels = self.experiment.pixels(self.plan.q_match)
        views, n_phi = orientations.view_grid(108, np.random.default_rng(2)), 96
        grid = self.experiment.rings(replace(self.plan, n_phi=n_phi))
        keywords: dict[str, Any] = {"n_candidates": 1, "highest": n_phi // 2, "workers": self.workers}
        images = self.experiment.images
        polar = matching.polar(images, grid, self.slicer(grid.sampling.q), views, n_phi, **keywords)
        gemm = matching.gemm(images, pixels, self.slicer(pixels.sampling.q), views, n_phi, **keywords)
        same = orientations.angle_between(polar.quaternions[:, 0], gemm.quaternions[:, 0]) < 1e-3
        distances = [
            refining.refine(
                images,
                pixels,
                self.scale,
                self.merged[None],
                self.plan.voxel_angstrom,
                alone(found.quaternions[:, 0]),
                iterations=0,
                largest_turn=1.0,
                workers=self.workers,
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
        sampling = self.experiment.merged(self.plan.q_merge)
        seconds, normal = timed(self.normal)
        floor = self.adjoint_seconds(sampling.q)
        size = 2 * self.plan.size - 1
        row(f"normal equations of {PATTERNS * len(sampling.q)} pixels on {size}^3", seconds)
        row("  its NUFFT alone", floor, f"stage / library = {seconds / floor:.2f}")
        seconds, (merged, figures) = timed(lambda: self.solved(normal))
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
        """Refinement of all orientations, one Gauss-Newton step."""
        likelihood = self.experiment.pixels(self.plan.q_match)
        q = likelihood.sampling.q
        turn = Rotation.from_rotvec(np.random.default_rng(3).normal(0, 0.02, (PATTERNS, 3)))
        start = (Rotation.from_quat(self.simulation.quaternions, scalar_first=True) * turn).as_quat(scalar_first=True)
        step = partial(
            refining.refine,
            self.experiment.images,
            likelihood,
            self.scale,
            self.merged[None],
            self.plan.voxel_angstrom,
            alone(start),
            iterations=1,
            largest_turn=0.1,
            workers=self.workers,
        )
        seconds, _ = timed(step)
        floor = self.nufft_seconds(self.rotations, q, 2) + self.nufft_seconds(self.rotations, q)
        row(f"one Gauss-Newton step, {PATTERNS} patterns of {len(q)} pixels", seconds)
        row("  its NUFFTs alone", floor, f"stage / library = {seconds / floor:.2f}")

    def phase(self) -> None:
        """One phasing of the last generation."""
        size, voxel = self.plan.size, self.plan.voxel_angstrom
        target = phasing.amplitudes(self.merged, voxel, q_min=0, q_max=self.plan.q_merge, threads=self.threads)
        inside = phasing.ball(size, voxel, self.experiment.diameter_angstrom / 2)
        rho = phasing.random_start((size,) * 3, inside, np.random.default_rng(0))
        options = PhasingOptions()
        seconds, _ = timed(
            lambda: phasing.phase(target, rho, inside, inside, options, cycles=options.cycles, threads=self.threads)
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
