"""One text, one result: stages and runs on NumPy, on a strict array module and, under the launcher, on its arrays."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import array_api_strict
import numpy as np
import pytest
from conftest import as_dataset, spread

from spilegate.backend import to_host
from spilegate.generation import models, start
from spilegate.geometry import orientations
from spilegate.geometry.detector import pixel_spacing
from spilegate.kernels.events import events
from spilegate.kernels.polar import view_harmonics
from spilegate.kernels.workers import Threads, Workers
from spilegate.likelihood import sampling
from spilegate.likelihood.statistics import Poisson
from spilegate.mtip import reconstruct
from spilegate.patterns import zingers
from spilegate.patterns.diameter import estimate as diameter
from spilegate.patterns.diameter import pair_distances
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.patterns.statistics import Weighing, moments, radial_profile, shell_sums, shells
from spilegate.records import State
from spilegate.resolution import held_out as prediction
from spilegate.settings import Settings
from spilegate.simulation.experiment import Simulation
from spilegate.stages import assigning, matching, merging, refining, slicing

STRICT = Threads(2, array_api_strict)
COUNT = 70


@pytest.fixture(scope="module", params=["bright", "photons"])
def measured(request: pytest.FixtureRequest, simulation: Simulation, true_autocorrelation: np.ndarray) -> Any:
    """An experiment on NumPy and its true autocorrelation: intensities, or lists of photons on a masked detector."""
    dataset, settings = as_dataset(simulation), options(prepare={"diameter_angstrom": 62.0})
    images = dataset.images[:COUNT]
    if request.param == "bright":
        return prepare(replace(dataset, images=images), settings, Threads(2)), true_autocorrelation
    rng = np.random.default_rng(6)
    unit = 2000 / images.sum(axis=1).mean()
    background = np.full(len(dataset.q), 0.1)
    mask = np.zeros((40, 40), np.uint8)
    mask[18:22, 16:] = 2
    mask[:3, :3] = 1
    seen = (mask < 2).ravel()
    counts = rng.poisson((images * unit * rng.gamma(4, 0.25, (COUNT, 1)) + background) * seen)
    dataset = replace(
        dataset,
        images=events(counts, int(counts.sum(axis=1).max())),
        counts=True,
        mask=mask.ravel(),
        background=background * seen,
    )
    return prepare(dataset, settings, Threads(2)), true_autocorrelation * np.float32(unit)


def stage_results(experiment: Experiment, volume: np.ndarray, workers: Workers) -> dict[str, Any]:
    """What every stage that works on patterns gives with these workers."""
    plan = experiment.plans[2]
    patterns = spread(experiment.images, workers)
    rings, pixels = experiment.rings(plan), experiment.pixels(plan.q_match)
    scale, weight = experiment.scale, np.where(np.arange(COUNT) % 9, 1.0, 0.0)
    rng = np.random.default_rng(0)
    views = orientations.view_grid(plan.n_views, rng)
    voxel = experiment.plans[-1].voxel_angstrom

    def slicer(on: sampling.Sampling) -> Any:
        return lambda rotations: slicing.slices(volume, voxel, rotations, on.q, workers=workers)[None]

    slices = slicer(rings.sampling)(views)[0]
    coverage = rings.sampling.coverage
    harmonics = view_harmonics(*rings.expected(slices), coverage, list(range(8)), tile=100, workers=workers)
    keywords = {"n_candidates": 2, "highest": plan.highest, "workers": workers}
    polar = matching.polar(patterns, rings, slicer(rings.sampling), views, plan.n_phi, **keywords)
    gemm = matching.gemm(patterns, pixels, slicer(pixels.sampling), views[:20], 32, **keywords)
    shortlist = refining.Shortlist(polar.quaternions, polar.state, np.ones(polar.state.shape, bool))
    refined = refining.refine(
        patterns, pixels, scale, volume[None], voxel, shortlist, iterations=2, largest_turn=0.05, workers=workers
    )
    first = experiment.plans[0]
    start_rings = experiment.rings(first)
    few = orientations.view_grid(first.n_views, rng)
    model = slicing.slices(volume, voxel, few, start_rings.sampling.q, workers=workers)
    expected = assigning.expect(patterns, start_rings, model, scale, weight, 0.2, workers=workers)
    (normal,) = merging.normal_equations(
        patterns,
        experiment.merged(plan.q_match),
        np.zeros(COUNT, int),
        orientations.matrices(polar.quaternions[:, 0]),
        scale,
        weight,
        1,
        15,
        voxel,
        workers=workers,
    )
    assert normal is not None
    detector, q_max = experiment.detector, experiment.q_max
    added = moments(patterns, detector, scale, weight, workers=workers)
    profile = radial_profile(added, detector, 0.004)
    texture = diameter.texture_power(patterns, detector, scale, weight, profile, q_max=q_max, workers=workers)
    curve = pair_distances.mean_curve(added, detector, scale, weight, q_max=q_max)
    summed = shell_sums(patterns, shells(detector, 0.01, q_max=q_max, beyond=0.5 * q_max), workers=workers)
    band = prediction.Band(0.6 * q_max, 0.8 * q_max, q_max)
    state = start.random_state(experiment, first, options(), rng)
    foreseen = prediction._products(
        replace(experiment, images=patterns, workers=workers),
        band,
        replace(state, voxel_angstrom=voxel, autocorrelation=volume[None]),
        np.zeros(COUNT, int),
        orientations.matrices(polar.quaternions[:, 0]),
    )
    return {
        "slices": slices,
        "view harmonics": harmonics.stack,
        "view sums": harmonics.sums,
        "polar distance": polar.distance,
        "polar orientation": polar.quaternions,
        "gemm distance": gemm.distance,
        "gemm orientation": gemm.quaternions,
        "refined distance": refined.distance,
        "refined orientation": refined.quaternions,
        "refined scale": refined.factor,
        "refined cost": refined.cost,
        "expected pattern": expected.mean,
        "expected weight": expected.weight,
        "entropy": np.array([expected.entropy, expected.mean_distance]),
        "kernel": normal.kernel,
        "right-hand side": normal.right,
        "profile": np.stack([profile.mean, profile.variance]),
        "texture": texture[1][0],
        "mean curve": np.stack([curve.mean, curve.variance(62.0)]),
        "shells": summed.values,
        "squares": summed.squares,
        "mean square": added.square,
        "foreseen": foreseen[0],
    }


@pytest.fixture(scope="module")
def on_numpy(measured: Any) -> dict[str, Any]:
    experiment, volume = measured
    assert isinstance(experiment.rings(experiment.plans[0]), Poisson) == (experiment.images.dtype.kind == "i")
    return stage_results(experiment, volume, Threads(2))


def test_every_body_is_written_for_any_array_module(measured: Any, on_numpy: dict[str, Any]) -> None:
    strict = stage_results(*measured, STRICT)
    for name, expected in on_numpy.items():
        # Distances have a unit: 1 is that of the mean pattern.
        unit = 1.0 if name.endswith("distance") else np.abs(expected).max()
        np.testing.assert_allclose(strict[name], expected, atol=1e-5 * unit, rtol=0, err_msg=name)


@pytest.mark.backend
def test_every_stage_gives_the_same_bits_here_as_on_numpy(
    measured: Any, on_numpy: dict[str, Any], workers: Workers
) -> None:
    here = stage_results(*measured, workers)
    for name, expected in on_numpy.items():
        np.testing.assert_array_equal(here[name], expected, err_msg=name)


def mended(experiment: Experiment, workers: Workers) -> tuple[Any, int]:
    """What is made of patterns in which some pixels are hot."""
    patterns, rng = experiment.images.copy(), np.random.default_rng(4)
    counts = patterns.dtype.kind == "i"
    far = np.flatnonzero(np.linalg.norm(experiment.detector.q, axis=1) > 0.04)
    for row, pixel in zip(patterns, rng.choice(far, len(patterns)), strict=True):
        if counts:
            row[20:80] = pixel
        else:
            row[pixel] *= 1e4
    images, detector = spread(patterns, workers), experiment.detector
    spacing = pixel_spacing(detector.q[detector.merged])
    beyond = zingers.innermost(detector, None, spacing)
    sums = shell_sums(images, shells(detector, spacing, q_max=1.0, beyond=beyond), workers=workers)
    weighing = Weighing(np.ones(len(images)), np.ones(len(images)), sums.most)
    found, _ = zingers.find(images, detector, sums, weighing, counts=counts, workers=workers)
    return zingers.mended(images, found, len(detector.q), workers=workers), len(found.value)


def test_hot_pixels_are_mended_by_any_array_module(measured: Any) -> None:
    expected, strict = mended(measured[0], Threads(2)), mended(measured[0], STRICT)
    assert expected[1] == strict[1] > COUNT * 0.8
    np.testing.assert_allclose(strict[0], expected[0], rtol=1e-5)


@pytest.mark.backend
def test_hot_pixels_are_mended_to_the_same_bits_here_as_on_numpy(measured: Any, workers: Workers) -> None:
    expected, here = mended(measured[0], Threads(2)), mended(measured[0], workers)
    assert expected[1] == here[1] > COUNT * 0.8
    np.testing.assert_array_equal(to_host(here[0]), expected[0])
    # A copy that can be worked on like what was given.
    taken = workers.take(here[0], 1, 2)
    np.testing.assert_array_equal(to_host(taken), expected[0][1::2])


def options(**more: Any) -> Settings:
    quick = {"start": {"iterations": 8, "count": 1}, "phasing": {"cycles": 2, "starts": 2}}
    return Settings.model_validate({"seed": 3, "compute": {"threads": 2}, **quick, **more})


@pytest.mark.backend
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"matching": {"states": 2}},
        {"resolution": {"half_sets": True}},
        {"start": {"iterations": 8, "count": 1, "patterns": 40}},
        {"symmetry": "D2"},
    ],
    ids=str,
)
def test_whole_runs_give_the_same_bits_here_as_on_numpy(
    simulation: Simulation, workers: Workers, more: dict[str, Any]
) -> None:
    few = replace(simulation, intensities=simulation.intensities[:160])
    quick = {"resolution": {"half_sets": False, "phasings": 2}, "convergence": {"most_generations": 3}}
    more = quick | more
    settings = options(prepare={"diameter_angstrom": 62.0, "q_max": 0.06}, **more)
    results = [reconstruct(as_dataset(few, who), settings) for who in (Threads(2), workers)]
    for field in fields(State):
        first, second = (getattr(result.state, field.name) for result in results)
        np.testing.assert_array_equal(first, second, err_msg=field.name)
    first, second = (result.certainty for result in results)
    np.testing.assert_array_equal(first.half_set_fsc, second.half_set_fsc)
    np.testing.assert_array_equal(first.held_out.deviations, second.held_out.deviations)
    np.testing.assert_array_equal(first.prtf, second.prtf)
    assert results[0].figures == results[1].figures


@pytest.mark.backend
def test_the_diameter_is_estimated_the_same_here_as_on_numpy(simulation: Simulation, workers: Workers) -> None:
    both = [prepare(as_dataset(simulation, who), options(), who) for who in (Threads(2), workers)]
    assert both[0].diameter_angstrom == both[1].diameter_angstrom
    np.testing.assert_array_equal(both[0].profile.variance, both[1].profile.variance)


@pytest.mark.backend
def test_merging_and_phasing_with_split_volumes_agree(simulation: Simulation, workers: Workers) -> None:
    """Volumes split over all processors: sums in another order, so a few times the precision of a single stage."""
    states = []
    for split in (10**9, 0):
        settings = options(prepare={"diameter_angstrom": 62.0, "q_max": 0.06})
        settings = settings.model_copy(update={"compute": settings.compute.model_copy(update={"split_voxels": split})})
        dataset = as_dataset(simulation, workers)
        experiment = prepare(dataset, settings)
        plan = experiment.plans[2]
        state = start.random_state(experiment, experiment.plans[1], settings, np.random.default_rng(5))
        state = replace(state, quaternions=simulation.quaternions, scale=np.ones(300), generation=1)
        states.append(models.merge(experiment, plan, state, settings.merging))
    (first, before), (second, after) = states
    largest = np.abs(first.autocorrelation).max()
    # CG stops at 1e-4; both stop after the same iterations or nearly so.
    np.testing.assert_allclose(second.autocorrelation, first.autocorrelation, atol=2e-3 * largest)
    assert after["merge_residual"] <= 1.1e-4
    assert abs(after["cg_iterations"] - before["cg_iterations"]) <= 6
