"""Masked detectors: correlations, matching and refinement against direct sums and against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from photons import blind, correlations, measured, settings, true_autocorrelation, turned

from spilegate.geometry import orientations
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.workers import Threads
from spilegate.likelihood.sampling import Sampling
from spilegate.likelihood.statistics import Gaussian, Likelihood, Poisson
from spilegate.patterns.prepare import Experiment, prepare
from spilegate.simulation.experiment import Simulation
from spilegate.simulation.particle import Particle, built_in_particle
from spilegate.stages import matching, refining, slicing
from spilegate.stages.matching import Candidates, Slicer
from spilegate.stages.refining import Refined, Shortlist

RINGS, SHIFTS = 4, 16
DIAMETER = 62.0
BOTH = pytest.mark.parametrize("statistics", [Gaussian, Poisson])


@pytest.fixture(scope="module")
def demo() -> Particle:
    return built_in_particle("demo")


@pytest.fixture(scope="module")
def seen(demo: Particle) -> Simulation:
    """Patterns behind gaps and a stop, of a decade of brightness, on a known background."""
    return measured(
        demo,
        images=128,
        photons=30_000.0,
        mask=("cross", "beamstop"),
        scale_decades=1.0,
        background=0.5,
        known_background=True,
    )


@pytest.fixture(scope="module")
def setup(seen: Simulation) -> Experiment:
    return prepare(blind(seen), settings(prepare={"diameter_angstrom": DIAMETER}), Threads(1))


@pytest.fixture(scope="module")
def model(demo: Particle, seen: Simulation, setup: Experiment) -> np.ndarray:
    """The true autocorrelation in photons of a pattern of mean brightness."""
    plan = setup.plans[-1]
    volume = true_autocorrelation(demo, plan.size, plan.voxel_angstrom)
    sampling = setup.pixels(plan.q_match).sampling
    slices = slicer(volume, plan.voxel_angstrom, sampling)(orientations.matrices(seen.quaternions))[0]
    signal = sampling.counts(setup.images) - sampling.background
    assert seen.hidden is not None
    unit: np.ndarray = volume * np.float32(signal.sum() / (seen.hidden.scale @ slices).sum())
    return unit


def slicer(volume: np.ndarray, voxel_angstrom: float, sampling: Sampling) -> Slicer:
    def sliced(rotations: np.ndarray) -> np.ndarray:
        return slicing.slices(volume, voxel_angstrom, rotations, sampling.q, workers=Threads(1))[None]

    return sliced


def test_masked_sums_over_all_shifts_are_the_direct_ones() -> None:
    rng = np.random.default_rng(1)
    coverage = (rng.random((RINGS, SHIFTS)) < 0.7).astype(np.float32)
    slices, summands = rng.random((2, 5, RINGS, SHIFTS)).astype(np.float32)
    patterns = rng.random((3, RINGS, SHIFTS)).astype(np.float32) * coverage
    correlator = Correlator(SHIFTS, SHIFTS // 2)
    views = view_harmonics(slices, summands, coverage, correlator.order, tile=3, workers=Threads(2))
    assert views.sums.shape == (2, SHIFTS, 3)
    sums = np.concatenate(list(views.sums), axis=1)
    stack = np.concatenate(list(views.stack), axis=2)
    full = correlations(correlator, pattern_harmonics(patterns, correlator.order), stack)
    for shift in range(SHIFTS):
        turned_back = np.roll([slices, summands], -shift, axis=-1)
        expected = np.einsum("irp,vrp->iv", patterns, turned_back[0])
        np.testing.assert_allclose(full[shift, :, :5], expected, atol=1e-4)
        np.testing.assert_allclose(sums[shift, :5], (coverage * turned_back[1]).sum((1, 2)), atol=1e-4)
    assert (sums[:, 5] == 1).all()


@pytest.mark.parametrize("covered", [0.7, 1.0])
def test_the_best_masked_score_is_found_at_its_shift(covered: float) -> None:
    """As scores join correlations with sums that differ from shift to shift, the largest correlation need not win."""
    rng = np.random.default_rng(2)
    coverage = (rng.random((RINGS, SHIFTS)) < covered).astype(np.float32)
    slices = rng.gamma(0.5, 1.0, (6, RINGS, SHIFTS)).astype(np.float32)
    patterns = rng.gamma(0.5, 1.0, (8, RINGS, SHIFTS)).astype(np.float32) * coverage
    likelihood = Gaussian(no_weights(coverage))
    correlator = Correlator(SHIFTS, SHIFTS // 2)
    views = view_harmonics(slices, slices**2, coverage, correlator.order, tile=6, workers=Threads(1))
    harmonics = pattern_harmonics(patterns, correlator.order)
    shifts = np.stack([np.roll(slices, -shift, axis=-1) for shift in range(SHIFTS)])
    correlations = np.einsum("irp,svrp->siv", patterns, shifts)
    scores = correlations / np.sqrt((coverage * shifts**2).sum((2, 3)))[:, None]
    best = correlator.best(harmonics, views.stack[0], views.sums[0], likelihood.score)
    np.testing.assert_allclose(best, [scores[:8].max(0), scores[8:].max(0)], rtol=1e-4)
    column = np.broadcast_to(np.arange(6), (8, 6))
    for half in (0, 1):
        shift = correlator.best_shift(
            harmonics,
            views.stack[0][:, :, column],
            views.sums[0][:, column],
            np.full((8, 6), half),
            likelihood.score,
        )
        np.testing.assert_array_equal(shift, scores[8 * half : 8 * half + 8].argmax(0) + 8 * half)
    by_correlation = correlations.argmax(0) != scores.argmax(0)
    assert by_correlation.any() == (covered < 1)


def no_weights(coverage: np.ndarray) -> Sampling:
    one = np.ones_like(coverage)
    return Sampling(np.zeros((*one.shape, 3)), one, one, one, 0 * one, one, coverage, one.size)


def best(setup: Experiment, volume: np.ndarray, likelihood: Likelihood, method: Any) -> Candidates:
    """The best orientations of all patterns on 200 views and 48 shifts."""
    found: Candidates = method(
        setup.images,
        likelihood,
        slicer(volume, setup.plans[-1].voxel_angstrom, likelihood.sampling),
        orientations.view_grid(200, np.random.default_rng(2)),
        48,
        n_candidates=2,
        highest=24,
        workers=Threads(1),
    )
    return found


@BOTH
def test_polar_and_gemm_agree_on_masked_samples(setup: Experiment, model: np.ndarray, statistics: Any) -> None:
    rings = setup.rings(replace(setup.plans[-1], n_phi=48)).sampling
    assert 0.5 < rings.coverage.mean() < 0.95
    likelihood = statistics(rings)
    fast, slow = (best(setup, model, likelihood, method) for method in (matching.polar, matching.gemm))
    np.testing.assert_allclose(fast.distance, slow.distance, atol=2e-3)
    angle = orientations.angle_between(fast.quaternions[:, 0], slow.quaternions[:, 0])
    assert (angle < 1e-3).mean() >= 0.97


@BOTH
def test_polar_on_masked_rings_chooses_as_well_as_gemm_on_pixels(
    setup: Experiment, model: np.ndarray, seen: Simulation, statistics: Any
) -> None:
    plan = setup.plans[-1]
    rings = statistics(setup.rings(replace(plan, n_phi=48)).sampling)
    pixels = statistics(setup.pixels(plan.q_match).sampling)
    errors = [
        orientations.angle_between(best(setup, model, *how).quaternions[:, 0], seen.quaternions)
        for how in ((rings, matching.polar), (pixels, matching.gemm))
    ]
    # The views of the grid are 14 degrees apart.
    assert [float(np.median(error)) < 8 for error in errors] == [True, True]
    assert [float((error < 20).mean()) > 0.97 for error in errors] == [True, True]
    assert np.median(errors[0]) < 1.1 * np.median(errors[1])


def refined(
    setup: Experiment, likelihood: Likelihood, volume: np.ndarray, start: np.ndarray, **changes: Any
) -> Refined:
    keywords: dict[str, Any] = {"iterations": 12, "largest_turn": 0.1, "workers": Threads(1)}
    return refining.refine(
        changes.pop("images", setup.images),
        likelihood,
        changes.pop("scale"),
        volume[None],
        setup.plans[-1].voxel_angstrom,
        Shortlist(start[:, None], np.zeros((len(start), 1), int), np.ones((len(start), 1), bool)),
        **keywords,
    )


@BOTH
def test_orientation_and_scale_are_refined_together(
    setup: Experiment, model: np.ndarray, seen: Simulation, statistics: Any
) -> None:
    """Without noise, from 3 degrees and 25 % away, behind the mask and above the background."""
    assert seen.hidden is not None
    likelihood = statistics(setup.pixels(setup.plans[-1].q_match).sampling)
    sampling, scale, truth = likelihood.sampling, seen.hidden.scale, seen.quaternions
    sliced = slicer(model, setup.plans[-1].voxel_angstrom, sampling)(orientations.matrices(truth))[0]
    exact = np.zeros_like(setup.images)
    if statistics is Poisson:
        sliced = np.maximum(sliced, 0)
        # Photon statistics allow a model some error: it is part of what they expect.
        likelihood = Poisson(replace(sampling, mean=np.full_like(sampling.mean, 1e-3)))
    exact[:, sampling.pixels] = scale[:, None] * sliced + sampling.background
    rng = np.random.default_rng(3)
    wrong = scale * rng.choice([0.75, 1.25], len(scale))
    result = refined(setup, likelihood, model, turned(truth, 3.0, rng), images=exact, scale=wrong)
    assert orientations.angle_between(result.quaternions, truth).max() < 0.05
    error = np.abs(wrong * result.factor / scale - 1)
    assert np.median(error) < 5e-4
    # Steps of less than a thousandth are not taken.
    assert error.max() < 2e-3
    assert result.distance.max() < 1e-4


@BOTH
def test_noisy_scales_and_orientations_are_refined(
    setup: Experiment, model: np.ndarray, seen: Simulation, statistics: Any
) -> None:
    assert seen.hidden is not None
    likelihood = statistics(setup.pixels(setup.plans[-1].q_match).sampling)
    scale = seen.hidden.scale
    start = turned(seen.quaternions, 3.0, np.random.default_rng(4))
    result = refined(setup, likelihood, model, start, scale=1.25 * scale)
    error = orientations.angle_between(result.quaternions, seen.quaternions)
    assert np.median(error) < 0.6
    # The error that photon statistics allow a model makes all scales a few per cent smaller; their mean is set to 1.
    assert np.median(result.factor) == pytest.approx(0.8, rel=0.06)
    assert np.median(np.abs(result.factor / np.median(result.factor) - 1)) < 0.03
