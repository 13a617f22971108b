"""What the model of scaling counts, against what the stages do."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import as_dataset

from spilegate.geometry import orientations
from spilegate.geometry.detector import Detector
from spilegate.geometry.pose import Pose
from spilegate.kernels import fft, interpolation, nufft, polar
from spilegate.kernels.packing import Pack
from spilegate.kernels.workers import Here, Threads
from spilegate.likelihood.sampling import on_pixels
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.patterns.statistics import moments, radial_profile
from spilegate.settings import ComputeOptions, PrepareOptions, Settings
from spilegate.simulation.experiment import Simulation, detector_q
from spilegate.stages import matching, merging, refining, slicing

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import scaling_machines as machines  # noqa: E402

from spilegate.forecast import counts  # noqa: E402

DIAMETER, SIDE = 62.0, 40


@pytest.fixture(scope="module")
def own(simulation: Simulation) -> Experiment:
    """The patterns on threads, however these tests were started."""
    settings = Settings(prepare=PrepareOptions(diameter_angstrom=DIAMETER), compute=ComputeOptions(threads=2))
    return prepare(as_dataset(simulation), settings, Threads(2))


@dataclass(frozen=True)
class Recording(Threads):
    """Threads that remember what they were asked for."""

    runs: list[dict[str, Any]] = field(default_factory=list)

    def run(self, body: Any, count: int, outputs: Any, *, tile: int, split: Any = (), **more: Any) -> list[Any]:
        results = super().run(body, count, outputs, tile=tile, split=split, **more)
        seen = {"count": count, "pack": Pack.of(outputs), "tile": tile, "results": results, "split": bool(split)}
        self.runs.append(seen)
        return results


class Counted(np.ndarray):
    """An array that counts the operations on it, views apart, and the floating-point operations of products."""

    __module__ = "numpy"
    operations: ClassVar[Counter[str]] = Counter()
    VIEWS = frozenset({"reshape", "transpose", "real", "imag", "shape", "broadcast_to"})

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        inputs = tuple(np.asarray(each) if isinstance(each, Counted) else each for each in inputs)
        self.operations[function.__name__] += 1
        target = options.pop("out", None)
        if target is not None:
            options["out"] = tuple(np.asarray(each) for each in target)
        result = getattr(function, method)(*inputs, **options)
        if function is np.matmul:
            self.operations["flop"] += 2 * result.size * inputs[0].shape[-1]
        return target[0] if target is not None else counted(result)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function.__name__ not in self.VIEWS:
            self.operations[function.__name__] += 1
        result = function(*_plain(arguments), **{name: _plain(value) for name, value in options.items()})
        return counted(result)


def _plain(value: Any) -> Any:
    if isinstance(value, Counted):
        return np.asarray(value)
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value


def counted(array: Any) -> Any:
    return array.view(Counted) if isinstance(array, np.ndarray) else array


@pytest.fixture
def operations() -> Counter[str]:
    Counted.operations.clear()
    return Counted.operations


@pytest.fixture
def transforms(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Points times transforms, and transforms, of every NUFFT that is called."""
    seen: dict[str, list[int]] = {"forward": [], "grids": [], "adjoint": []}
    at, spectrum, adjoint = nufft.Transform.at, interpolation.fine_spectrum, nufft.adjoint

    def counting_at(self: nufft.Transform, points: Any, **options: Any) -> Any:
        result = at(self, points, **options)
        seen["forward"].append(result.size)
        return result

    def counting_spectrum(volumes: Any, **options: Any) -> Any:
        seen["grids"].append(1 if volumes.ndim == 3 else len(volumes))
        return spectrum(volumes, **options)

    def counting_adjoint(strengths: Any, points: Any, *rest: Any, **options: Any) -> Any:
        seen["adjoint"].append(points.shape[1])
        return adjoint(strengths, points, *rest, **options)

    monkeypatch.setattr(nufft.Transform, "at", counting_at)
    monkeypatch.setattr(interpolation, "fine_spectrum", counting_spectrum)
    monkeypatch.setattr(nufft, "adjoint", counting_adjoint)
    return seen


def load_of(experiment: Experiment, plan: Any) -> Any:
    return counts.at_plan(plan, len(experiment.images), SIDE, DIAMETER, experiment.q_max)


@pytest.mark.parametrize("number", [2, -1])
def test_the_load_is_the_experiment(own: Experiment, number: int) -> None:
    plan = own.plans[number]
    load = load_of(own, plan)
    assert load.rings == len(own.rings(plan).sampling.q)
    assert load.used_match == pytest.approx(len(own.pixels(plan.q_match).sampling.q), rel=0.1)
    assert load.used_merge == pytest.approx(len(own.pixels(plan.q_merge).sampling.q), rel=0.1)
    assert load.views == len(orientations.view_grid(plan.n_views, np.random.default_rng(0)))
    assert load.stored == own.images.shape[1]


def test_speckles_alone_give_the_load_at_full_radius(own: Experiment) -> None:
    plan = own.plans[-1]
    alone = counts.full_radius(len(own.images), SIDE, DIAMETER * own.q_max)
    assert replace(alone, plan=plan) == load_of(own, plan)
    names = ("size", "n_views", "n_phi", "highest")
    assert [getattr(alone.plan, name) for name in names] == [getattr(plan, name) for name in names]


def test_refinement_evaluates_the_points_counted(own: Experiment, transforms: dict[str, list[int]]) -> None:
    """One step for every candidate of a third of the patterns, then one step for all."""
    plan, count = own.plans[-1], len(own.images)
    likelihood = own.pixels(plan.q_match)
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((plan.size,) * 3).astype(np.float32)
    quaternions = orientations.random_quaternions(2 * count, rng).reshape(count, 2, 4)
    keep = np.ones((count, 2), bool)
    keep[count // 3 :, 1] = False
    shortlist = refining.Shortlist(quaternions, np.zeros((count, 2), int), keep)
    refining.refine(
        own.images,
        likelihood,
        own.scale,
        volume[None],
        plan.voxel_angstrom,
        shortlist,
        iterations=1,
        largest_turn=0.05,
        workers=Threads(1),
    )
    load = load_of(own, plan)
    load = replace(load, used_match=len(likelihood.sampling.q), contested=2 / 3, gradients=1.0, values=1.0)
    assert counts.refine_points(load) == pytest.approx(sum(transforms["forward"]), rel=1e-12)
    grids = counts._refine(load, device=False).amounts["fft"] / counts.fft_operations(fft.fast_size(2 * plan.size))
    assert grids == pytest.approx(sum(transforms["grids"]), rel=1e-12)


@pytest.mark.parametrize(("side", "patterns"), [(40, 150), (128, 600)])
def test_the_merge_sums_the_points_and_blocks_counted(
    transforms: dict[str, list[int]], side: int, patterns: int
) -> None:
    """Few large patterns make more blocks than two."""
    rng, workers = np.random.default_rng(0), Recording(2)
    images = rng.random((patterns, side**2), dtype=np.float32)
    q = detector_q(side, 12.0, 1.0)[0].reshape(-1, 3)
    usable = np.ones(len(q), bool)
    one, detector = np.ones(patterns), Detector(q, usable, usable, np.ones(len(q)), np.zeros(len(q)))
    profile = radial_profile(moments(images, detector, one, one, workers=Threads(2)), detector, 0.005)
    sampling = on_pixels(detector, profile, q_first=0.0, q_last=0.03, matching=False)
    rotations = orientations.matrices(orientations.random_quaternions(patterns, rng))
    labels = np.arange(patterns) % 2
    merging.normal_equations(images, sampling, labels, rotations, one, one, 2, 21, 6.0, workers=workers)
    load = counts.full_radius(patterns, side, 5.0)
    load = replace(load, used_merge=len(sampling.q), states=2, plan=replace(load.plan, size=21))
    assert counts.merge_points(load) == sum(transforms["adjoint"])
    assert 2 * load.blocks == len(transforms["adjoint"])
    (run,) = workers.runs
    assert load.block == run["tile"]
    assert load.sum_bytes == 8 * (run["pack"].sum_length - 1)
    grids = counts._merge(load)[1].amounts["fft"] / counts.fft_operations(fft.fast_size(2 * 41)) / 2
    assert grids == pytest.approx(len(transforms["adjoint"]), rel=1e-12)


def test_matching_and_refinement_return_the_rows_counted(own: Experiment, transforms: dict[str, list[int]]) -> None:
    plan, workers = own.plans[3], Recording(2)
    rings, pixels = own.rings(plan), own.pixels(plan.q_match)
    views = orientations.view_grid(plan.n_views, np.random.default_rng(0))
    volume = np.random.default_rng(1).standard_normal((plan.size,) * 3).astype(np.float32)
    load = load_of(own, plan)
    found = matching.polar(
        own.images,
        rings,
        lambda rotations: slicing.slices(volume, plan.voxel_angstrom, rotations, rings.sampling.q, workers=workers)[
            None
        ],
        views,
        plan.n_phi,
        n_candidates=load.candidates,
        highest=plan.highest,
        workers=workers,
    )
    sliced, harmonics, match = workers.runs
    assert sum(transforms["forward"]) == load.views * load.rings * plan.n_phi
    slices, stacks, _ = counts._search(load, device=True)
    assert (slices.pieces, stacks.pieces) == (-(-sliced["count"] // sliced["tile"]), harmonics["count"])
    assert sliced["results"][0].nbytes == load.slice_bytes
    assert harmonics["results"][0].nbytes == load.stack_bytes
    refining.refine(
        own.images,
        pixels,
        own.scale,
        volume[None],
        plan.voxel_angstrom,
        refining.Shortlist(found.quaternions, found.state, np.ones(found.state.shape, bool)),
        iterations=0,
        largest_turn=0.05,
        workers=workers,
    )
    assert load.row_bytes == (match["pack"].row_bytes, workers.runs[-1]["pack"].row_bytes)


def test_products_and_calls_of_a_tile_are_those_counted(own: Experiment, operations: Counter[str]) -> None:
    load = counts.full_radius(1000, SIDE, 3.0)
    correlator = polar.Correlator(load.plan.n_phi, load.plan.highest)
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((4, load.rings, load.plan.n_phi)).astype(np.float32)
    views = rng.standard_normal((load.harmonics, 2 * load.rings, 8)).astype(np.float32)
    harmonics = counted(polar.pattern_harmonics(patterns, correlator.order))
    score = own.rings(load.plan).score
    operations.clear()
    correlator.best(harmonics, counted(views), counted(np.ones((1, 8), np.float32)), score)
    assert operations.pop("flop") == load.products_per_pair * 4 * 8
    # Elsewhere than on the host the two matrices of the Fourier sums are copied as well.
    assert operations.total() + 2 == counts.CALLS_OF_VIEW_TILE


@pytest.mark.parametrize("with_gradient", [True, False])
def test_calls_of_a_step_are_those_counted(
    own: Experiment, operations: Counter[str], monkeypatch: pytest.MonkeyPatch, with_gradient: bool
) -> None:
    plan = own.plans[2]
    likelihood, count = own.pixels(plan.q_match), refining.TILE_PATTERNS
    sampling = likelihood.sampling
    at = nufft.Transform.at
    monkeypatch.setattr(
        nufft.Transform,
        "at",
        lambda self, points, **options: counted(at(self, np.asarray(points), **options)),
    )
    volumes = refining._value_and_gradient_volumes(np.ones((plan.size,) * 3, np.float32))
    transform = nufft.Transform(volumes, tolerance=refining.TOLERANCE, threads=1)
    target = tuple(map(counted, likelihood.target(sampling.counts(own.images[:count]), own.scale[:count])))
    q = (sampling.q * (2 * np.pi * plan.voxel_angstrom)).astype(np.float32)
    fit = refining._Fit(Here(np, 1), target, likelihood, [transform], q, count, 0.05)
    quaternions = orientations.random_quaternions(count, np.random.default_rng(0))
    pose = Pose(quaternions, np.ones(count))
    fit._linearised(target, np.arange(count), transform, pose, with_gradient)
    del operations["flop"]
    # Copies from and to the host, which are none here: offsets, weights, patterns chosen, and what is returned.
    copies, expected = (7, counts.CALLS_OF_GRADIENT) if with_gradient else (4, counts.CALLS_OF_VALUE)
    assert operations.total() + copies == expected


def test_gpus_take_whole_blocks_at_once() -> None:
    load = counts.full_radius(10**6, 128, 8.0)
    on_cpus, on_gpus = (counts._match(load, gpu).amounts for gpu in (False, True))
    fewer = load.block / matching.TILE_PATTERNS
    assert on_cpus["link"] / on_gpus["link"] == pytest.approx(fewer, rel=1e-12)
    assert on_cpus["gemm"] == on_gpus["gemm"]
    assert on_gpus["call"] < on_cpus["call"]


def test_hosts_keep_the_bytes_counted() -> None:
    load = counts.full_radius(1000, SIDE, 3.0)
    machines.bookkeeping(100, load)
    tracemalloc.start()
    machines.bookkeeping(4000, load)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / 4000 == pytest.approx(counts.HOST_BYTES_PER_PATTERN, rel=0.15)
