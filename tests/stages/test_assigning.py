"""Soft assignments against known and direct answers, and runs on patterns of few photons."""

from dataclasses import replace

import numpy as np
import pytest
from photons import blind, correlation, measured, settings

from spilegate.geometry import orientations
from spilegate.geometry.detector import Rings
from spilegate.kernels.workers import Threads
from spilegate.likelihood.sampling import Sampling
from spilegate.likelihood.statistics import Gaussian, Poisson
from spilegate.mtip import reconstruct
from spilegate.patterns.brightness import shrunken
from spilegate.patterns.prepare import prepare
from spilegate.stages import assigning, slicing


def test_cold_expectation_gives_every_view_its_own_patterns(experiment, true_autocorrelation):
    """Patterns made of slices at grid orientations: at low temperature the expected pattern of a view is its slice."""
    plan = replace(experiment.plans[0], n_phi=32)
    likelihood = experiment.rings(plan)
    sampling = likelihood.sampling
    voxel = experiment.plans[-1].voxel_angstrom
    views = orientations.view_grid(12, np.random.default_rng(10))
    slices = slicing.slices(true_autocorrelation, voxel, views, sampling.q, workers=Threads(2))
    shifted = np.concatenate([np.roll(slices, shift, axis=-1) for shift in (0, 5, 11)])
    images = shifted.reshape(len(shifted), -1)
    rings = replace(sampling.rings, resample=np.eye(images.shape[1], dtype=np.float32))
    # So little noise that a single pattern tells its orientation.
    exact = replace(sampling, rings=rings, n_pixel=images.shape[1], variance=1e-4 * sampling.variance)
    identity = replace(likelihood, sampling=exact)
    one = np.ones(len(images))
    expected = assigning.expect(images, identity, slices, one, one, 1e-4, workers=Threads(2))
    np.testing.assert_allclose(expected.weight, 3.0, atol=1e-3)
    np.testing.assert_allclose(expected.mean, slices, rtol=1e-3, atol=1e-4 * np.abs(slices).max())
    assert expected.mean_distance < 1e-4
    assert expected.entropy < 0.05
    warm = assigning.expect(images, identity, slices, one, one, 1e3, workers=Threads(2))
    assert warm.entropy > 0.99
    np.testing.assert_allclose(warm.weight.sum(axis=0), 36, rtol=1e-4)


RINGS, SHIFTS, VIEWS, PATTERNS = 3, 16, 7, 130


@pytest.mark.parametrize("covered", [0.6, 1.0])
@pytest.mark.parametrize("statistics", [Gaussian, Poisson])
def test_expectation_is_the_direct_sum(covered: float, statistics: type[Gaussian | Poisson]) -> None:
    """Probabilities, and the averages they give, against sums over all orientations written out."""
    rng = np.random.default_rng(5)
    coverage = (rng.random((RINGS, SHIFTS)) < covered).astype(np.float32)
    slices = rng.gamma(2.0, 2.0, (VIEWS, RINGS, SHIFTS)).astype(np.float32)
    counts = rng.poisson(3.0, (PATTERNS, RINGS, SHIFTS)).astype(np.float32) * coverage
    likelihood = statistics(plain_sampling(coverage, mean=4.0))
    scale, weight = rng.uniform(0.5, 2, PATTERNS), (np.arange(PATTERNS) % 5 > 0).astype(float)
    found = assigning.expect(counts.reshape(PATTERNS, -1), likelihood, slices, scale, weight, 0.0, workers=Threads(2))
    observed, (model, summed) = likelihood.observed(counts), likelihood.expected(slices)
    turned, sums = (np.stack([np.roll(array, -s, axis=-1) for s in range(SHIFTS)]) for array in (model, summed))
    score = likelihood.score(
        np.einsum("irp,svrp->siv", observed.values, turned), (coverage * sums).sum((2, 3))[:, None]
    )
    loss = likelihood.loss(score, observed.amount[:, None]).astype(float)
    probability = np.exp(loss.min(axis=(0, 2))[:, None] - loss)
    probability /= probability.sum(axis=(0, 2))[:, None]
    back = np.stack([np.roll(counts, s, axis=-1) for s in range(SHIFTS)])
    there = np.stack([np.roll(coverage, s, axis=-1) for s in range(SHIFTS)])
    reached = np.einsum("siv,i,srp->vrp", probability, scale * weight, there)
    mean = np.einsum("siv,i,sirp->vrp", probability, weight, back) / np.maximum(reached, 1e-6)
    some = reached > 1e-3
    np.testing.assert_allclose(found.weight, reached, atol=2e-3)
    np.testing.assert_allclose(found.mean[some], mean[some], rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(found.view, loss.min(axis=0).argmin(axis=1))
    np.testing.assert_array_equal(found.shift, loss.min(axis=2).argmin(axis=0))
    expected = np.einsum("siv,sv->i", probability, (coverage * sums).sum((2, 3)))
    np.testing.assert_allclose(found.sums, expected, rtol=1e-3)
    entropy = -(probability * np.log(probability)).sum(axis=(0, 2)) @ weight / weight.sum() / np.log(VIEWS * SHIFTS)
    assert found.entropy == pytest.approx(entropy, rel=1e-3)
    above, of_mean = loss.min(axis=(0, 2)) - observed.perfect, observed.mean - observed.perfect
    assert found.mean_distance == pytest.approx(above @ weight / (of_mean @ weight), rel=1e-3)


def plain_sampling(coverage: np.ndarray, mean: float) -> Sampling:
    """Rings whose samples are the pixels themselves."""
    one = np.ones_like(coverage)
    rings = Rings(np.zeros((*one.shape, 3)), one[:, 0], coverage, np.eye(one.size, dtype=np.float32))
    return Sampling(rings.q, mean * one, one, one, 0 * one, one, coverage, one.size, rings=rings)


@pytest.mark.parametrize(("decades", "kept"), [(0.0, 0.15), (1.0, 0.95)])
def test_scales_are_shrunken_to_what_pulses_differ_by(decades: float, kept: float) -> None:
    """Photon noise does not pass for bright and dim pulses, and bright and dim pulses are left as they are."""
    rng = np.random.default_rng(6)
    truth = 10 ** (decades * rng.random(3000))
    truth /= truth.mean()
    counts = rng.poisson(100 * truth)
    found = shrunken(counts / 100, counts / 100**2, np.ones(3000))
    assert found.mean() == pytest.approx(1.0)
    if decades:
        assert np.std(found) > kept * np.std(truth)
        assert np.abs(found - truth).mean() < np.abs(counts / 100 - truth).mean()
    else:
        assert np.std(found) < kept * np.std(counts / 100)


def test_few_photons_are_reconstructed_blind() -> None:
    """Patterns of 60 photons, which do not tell their orientations, give the density if all orientations are asked."""
    seen = measured(images=4000, photons=60.0)
    options = settings(
        prepare={"diameter_angstrom": 62.0},
        start={"count": 1, "iterations": 12},
        phasing={"starts": 4},
        convergence={"most_generations": 4},
        compute={"threads": 2},
    )
    assert prepare(blind(seen), options).soft
    assert correlation(reconstruct(blind(seen), options), seen) > 0.78
