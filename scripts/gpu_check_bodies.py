"""Part 1 of `scripts/gpu_check`: every kernel and body on the device against NumPy.

Inputs are random and fresh for every run of the check; the device's free memory is filled with NaN before every call,
so that what is read before it is written shows; and everything is computed twice, so that races show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_check_data import as_dataset, model, spread_out
from gpu_check_report import Report

from spilegate.geometry import orientations
from spilegate.geometry.detector import pixel_spacing
from spilegate.kernels import algebra, cg, events, fft, nufft, polar, resample
from spilegate.kernels.blocks import GROUP
from spilegate.kernels.device import Device
from spilegate.kernels.exact import Rows, Total
from spilegate.kernels.workers import Here, Threads, Workers
from spilegate.likelihood.statistics import Gaussian, Likelihood, Poisson
from spilegate.patterns import zingers
from spilegate.patterns.background import background_of
from spilegate.patterns.diameter import estimate as diameter
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.patterns.statistics import Weighing, moments, shell_sums, shells
from spilegate.records import Float32
from spilegate.schedule import Plan
from spilegate.settings import MergingOptions, PhasingOptions, Settings
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import built_in_particle
from spilegate.stages import assigning, matching, merging, phasing, refining, slicing

PART = "bodies"
# Rounding, relative to the largest value, of single and double precision; NUFFTs have their tolerance beside.
SINGLE, DOUBLE = 3e-5, 1e-11
PATTERNS, PIXELS = 192, 32


class Bodies:
    """The comparisons; `device` and `host` are the workers compared."""

    def __init__(self, report: Report, device: Device, threads: int, seed: int) -> None:
        self.report = report
        self.device = device
        self.host = Threads(threads)
        self.rng = np.random.default_rng(seed)

    def poison(self) -> None:
        """Fill what the device's pool will hand out next with NaN."""
        xp = self.device.xp
        blocks = [xp.full(size, xp.nan, dtype=xp.float32) for size in (2**8, 2**12, 2**16, 2**20, 2**24) for _ in "123"]
        del blocks

    def same(self, name: str, work: Callable[[Workers], Any], tolerance: float) -> None:
        """Compare what both workers make, and what the device makes the second time."""

        def compared() -> None:
            right = _listed(work(self.host))
            self.poison()
            first = _listed(work(self.device))
            self.poison()
            again = _listed(work(self.device))
            for number, (one, two, expected) in enumerate(zip(first, again, right, strict=True)):
                label = name if len(right) == 1 else f"{name} [{number}]"
                self.report.compare(PART, label, one, expected, tolerance)
                self.report.compare(PART, f"{label}, again", two, one, tolerance)

        self.report.attempt(PART, name, compared)

    def kernels(self) -> None:
        """Compare every kernel."""
        for real, complex_, tolerance in ((np.float32, np.complex64, SINGLE), (np.float64, np.complex128, DOUBLE)):
            self._transforms(real, complex_, tolerance)
            self._algebra(real, tolerance)
        self._resampling()
        self._harmonics()
        self._sums()

    def _transforms(self, real: Any, complex_: Any, tolerance: float) -> None:
        name, rng = np.dtype(real).name, self.rng
        eps = max(tolerance / 3, 1e-6 if real is np.float64 else 1e-5)
        points = rng.uniform(-np.pi, np.pi, (3, 60_001)).astype(real)
        strengths = (rng.standard_normal(60_001) + 1j * rng.standard_normal(60_001)).astype(complex_)
        for size in (11, 35):
            volumes = (rng.standard_normal((2, size, size, size)) + 0j).astype(complex_)
            for grids in (volumes[0], volumes):
                self.same(
                    f"NUFFT type 2, {grids.shape[:-3]} {size}^3 {name}",
                    lambda w, grids=grids: nufft.forward(
                        w.here.array(grids), w.here.array(points), tolerance=eps, threads=1
                    ),
                    20 * eps,
                )
            self.same(
                f"NUFFT type 1, {size}^3 {name}",
                lambda w, size=size: nufft.adjoint(w.here.array(strengths), w.here.array(points), size, tolerance=eps),
                20 * eps,
            )
            cube = rng.standard_normal((size, size, size)).astype(real)
            self.same(f"rfftn and back {size}^3 {name}", lambda w, cube=cube: _back_and_forth(w, cube), tolerance)
        if real is np.float32:
            few = points[:2, :400]
            values = (rng.standard_normal((5, 400)) + 0j).astype(complex_)
            self.same(
                "NUFFT type 1 to pictures",
                lambda w: nufft.adjoint_pictures(
                    w.here.array(values), w.here.array(few), 41, tolerance=1e-5, threads=1
                ),
                1e-4,
            )

    def _algebra(self, real: Any, tolerance: float) -> None:
        name, rng = np.dtype(real).name, self.rng
        rows = rng.standard_normal((50, 333)).astype(real)
        self.same(f"squared norms {name}", lambda w: algebra.squared_norms(w.here.array(rows)), tolerance)
        self.same(f"largest columns {name}", lambda w: algebra.largest(w.here.array(rows), 4), 0.0)
        if real is np.float64:
            matrix = rng.standard_normal((60, 60))
            matrix = matrix @ matrix.T + 60 * np.eye(60)
            right = rng.standard_normal(60)

            def solved(workers: Workers) -> Any:
                own, b = workers.here.array(matrix), workers.here.array(right)
                return cg.solve(lambda x: own @ x, b, 0 * b, tolerance=1e-12, iterations=200)[0]

            self.same("conjugate gradients", solved, 1e-9)

    def _resampling(self) -> None:
        import scipy.sparse

        matrix = scipy.sparse.random_array((70, 90), density=0.2, rng=self.rng, dtype=np.float32, format="csr")
        images = self.rng.random((33, 90)).astype(np.float32)
        self.same("sparse resampling", lambda w: resample.resampled(matrix, w.here.array(images)), SINGLE)
        counts = self.rng.poisson(0.3, (65, 90)).astype(np.float32)
        lists = events.events(counts, int(counts.sum(1).max()))
        self.same("lists of photons to patterns", lambda w: events.dense(w.here.array(lists), 90), 0.0)

    def _harmonics(self) -> None:
        n_phi, n_ring, n_view = 48, 7, 100
        slices = self.rng.random((n_view, n_ring, n_phi)).astype(np.float32)
        patterns = self.rng.random((40, n_ring, n_phi)).astype(np.float32)
        full, gaps = np.ones((n_ring, n_phi), np.float32), np.ones((n_ring, n_phi), np.float32)
        gaps[2:4, 5:20] = 0
        correlator = polar.Correlator(n_phi, 20)
        for label, coverage in (("", full), (" with gaps", gaps)):

            def searched(workers: Workers, coverage: Float32 = coverage) -> Any:
                views = polar.view_harmonics(
                    slices, slices * slices, coverage, correlator.order, tile=32, workers=workers
                )
                here = workers.here
                own = polar.pattern_harmonics(here.array(patterns), correlator.order)
                stack, sums = here.array(views.stack), here.array(views.sums)

                def score(correlation: Any, own_sums: Any) -> Any:
                    return correlation / here.xp.sqrt(own_sums)

                best = correlator.best(own, stack[1], sums[1], score)
                return views.stack, views.sums, best

            self.same(f"harmonics and correlations{label}", searched, SINGLE)

    def _sums(self) -> None:
        images = self.rng.random((500, 40)).astype(np.float32)

        def body(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
            xp = here.xp
            return (
                xp.sum(block, axis=1),
                xp.sum(block / 3, axis=0),
                block * 2,
                here.array(np.arange(part.start, part.stop)),
            )

        outputs = [Rows((), np.float32), Total((40,), 500.0), Rows((40,), np.float32, split=True), Rows((), np.int64)]
        self.same("rows, sums, and what stays", lambda w: w.run(body, 500, outputs, tile=GROUP, split=[images]), SINGLE)
        self.same("every other row", lambda w: w.take(w.here.array(images), 1, 2), 0.0)
        host = self.rng.random((300, 400)).astype(np.float32)

        def uploaded(workers: Workers) -> Any:
            temporary = host.copy()
            kept = workers.here.array(temporary) if workers is self.device else workers.here.array(temporary).copy()
            temporary[:] = np.nan
            return kept

        if self.device.xp is not np:
            self.same("what is uploaded is a copy", uploaded, 0.0)

    def stages(self) -> None:
        """Compare every stage on patterns of the built-in particle."""
        kinds = ("", None, Gaussian), (" photons", 3000.0, Poisson), (" few", 60.0, Poisson)
        for label, photons, statistics in kinds:
            simulation = simulate(
                built_in_particle("demo"), images=PATTERNS, pixels=PIXELS, resolution_angstrom=14.0,
                wavelength_angstrom=1.0, photons=photons, seed=int(self.rng.integers(2**31)), threads=self.host.threads,
            )  # fmt: skip
            self.report.attempt(
                PART, f"stages{label}", lambda s=simulation, n=label, k=statistics: self._stages(s, n, k)
            )

    def _stages(self, simulation: Simulation, label: str, statistics: Callable[..., Likelihood]) -> None:
        rng = self.rng
        dataset = as_dataset(simulation, sparse=label == " few", gaps=label == " photons")
        settings = Settings.model_validate({"prepare": {"diameter_angstrom": 60.0}})
        experiment = prepare(dataset, settings, self.host)
        plan, n_image = experiment.plans[2], len(experiment.images)
        on = {id(self.host): experiment.images, id(self.device): self.device.xp.asarray(experiment.images)}
        detector, one = experiment.detector, np.ones(n_image)
        scale = rng.uniform(0.8, 1.2, n_image)
        self.same(f"moments{label}", lambda w: moments(on[id(w)], detector, scale, one, workers=w).square, 1e-6)
        spacing = pixel_spacing(detector.q[detector.merged])
        beyond = zingers.innermost(detector, None, spacing)
        laid = shells(detector, spacing, q_max=experiment.q_max, beyond=beyond)
        self.same(f"sums{label}", lambda w: shell_sums(on[id(w)], laid, workers=w).squares, 1e-5)
        if label != " few":
            self.same(
                f"background{label}",
                lambda w: background_of(shell_sums(on[id(w)], laid, workers=w), detector, spread_out(scale), one),
                1e-5,
            )
            self.same(
                f"texture{label}",
                lambda w: diameter.texture_power(
                    on[id(w)], detector, scale, one, experiment.profile, q_max=experiment.q_max, workers=w
                )[1][0],
                1e-3,
            )

        def mended(workers: Workers) -> Any:
            images = on[id(workers)]
            sums = shell_sums(images, laid, workers=workers)
            weighing = Weighing(scale, one, sums.most)
            found, _ = zingers.find(images, detector, sums, weighing, counts=dataset.counts, workers=workers)
            return zingers.mended(images, found, len(detector.q), workers=workers)

        self.same(f"zingers{label}", mended, 1e-6)
        volume = model(experiment, plan, rng)
        rings = statistics(experiment.rings(plan).sampling)
        pixels = statistics(experiment.pixels(plan.q_match).sampling)
        views = orientations.view_grid(100, rng)
        rotations = orientations.matrices(orientations.random_quaternions(n_image, rng))

        def slicer(workers: Workers, likelihood: Likelihood) -> matching.Slicer:
            return lambda turned: slicing.slices(
                volume, plan.voxel_angstrom, turned, likelihood.sampling.q, workers=workers
            )[None]

        self.same(f"slices{label}", lambda w: slicer(w, rings)(views), 1e-3)
        self.same(
            f"polar matching{label}: distances",
            lambda w: matching.polar(
                on[id(w)], rings, slicer(w, rings), views, plan.n_phi,
                n_candidates=3, highest=plan.highest, workers=w,
            ).distance,
            2e-3,
        )  # fmt: skip
        self.same(
            f"GEMM matching{label}: distances",
            lambda w: (
                matching.gemm(
                    on[id(w)], pixels, slicer(w, pixels), views[:20], 32, n_candidates=2, highest=16, workers=w
                ).distance
            ),
            2e-3,
        )
        sliced = slicing.slices(volume, plan.voxel_angstrom, views, rings.sampling.q, workers=self.host)

        def expected(workers: Workers) -> Any:
            found = assigning.expect(on[id(workers)], rings, sliced, scale, one, 0.05, workers=workers)
            return found.mean, found.weight, found.distance, found.sums

        self.same(f"soft assignment{label}", expected, 2e-3)
        quaternions = orientations.quaternions(rotations)
        shortlist = refining.Shortlist(
            np.stack([quaternions, orientations.random_quaternions(n_image, rng)], axis=1),
            np.zeros((n_image, 2), np.int64),
            np.ones((n_image, 2), np.bool_),
        )
        alone = refining.Shortlist(
            quaternions[:, None], np.zeros((n_image, 1), np.int64), np.ones((n_image, 1), np.bool_)
        )
        for iterations in (0, 1):
            # One candidate for a step: which of two equally bad ones is chosen would hang on rounding.
            own = shortlist if iterations == 0 else alone
            self.same(
                f"refinement{label}, {iterations} steps: distances",
                lambda w, iterations=iterations, own=own: refining.refine(
                    on[id(w)], pixels, scale, volume[None], plan.voxel_angstrom, own,
                    iterations=iterations, largest_turn=0.1, workers=w,
                ).distance,
                5e-3,
            )  # fmt: skip
        self._merged(experiment, plan, on, rotations, scale, label)

    def _merged(
        self, experiment: Experiment, plan: Plan, on: dict[int, Any], rotations: Any, scale: Any, label: str
    ) -> None:
        """Compare the normal equations, their solution and the phasing of one solution."""

        def normal(workers: Workers) -> merging.Normal:
            (found,) = merging.normal_equations(
                on[id(workers)], experiment.merged(plan.q_merge), np.zeros(len(scale), np.int64), rotations, scale,
                np.ones(len(scale)), 1, plan.size, plan.voxel_angstrom, workers=workers,
            )  # fmt: skip
            if found is None:
                raise RuntimeError("no pattern was merged")
            return found

        self.same(f"normal equations{label}", lambda w: (normal(w).kernel, normal(w).right), 1e-5)
        right = normal(self.host)
        support = merging.support_ball(plan.size, plan.voxel_angstrom, 60.0)
        nothing = np.zeros(support.shape, np.float32)

        def solved(workers: Workers) -> Any:
            array = workers.here.array
            system = merging.Normal(array(right.kernel), array(right.right))
            return merging.solve(
                system, array(support), array(nothing), MergingOptions(iterations=15, tolerance=1e-9), threads=1
            )[0]

        self.same(f"merge{label}", solved, 1e-4)
        merged = solved(self.host)
        starts = phasing.random_start((3, *support.shape), support, self.rng)

        def phased(workers: Workers) -> Any:
            array = workers.here.array
            target = phasing.amplitudes(
                array(np.repeat(merged[None], 3, axis=0)), plan.voxel_angstrom, q_min=0.0, q_max=plan.q_merge, threads=1
            )
            inside = array(np.broadcast_to(support, starts.shape))
            found = phasing.phase(target, array(starts), inside, array(support), PhasingOptions(), cycles=0, threads=1)
            return found.density, found.r_factor, phasing.autocorrelation(found.density, threads=1)

        self.same(f"error reduction{label}", phased, 3e-3)


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


def _back_and_forth(workers: Workers, cube: Any) -> Any:
    spectrum = fft.rfftn(workers.here.array(cube), threads=1, size=40)
    kept = fft.irfftn(spectrum, 40, threads=1, keep=len(cube))
    return spectrum, kept, fft.ifftn(fft.fftn(workers.here.array(cube), threads=1), threads=1)
