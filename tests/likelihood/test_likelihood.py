"""Likelihoods against least squares, photon statistics and differences worked out by others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from photons import some_points
from scipy.optimize import minimize_scalar
from scipy.stats import poisson

from spilegate.likelihood.sampling import MODEL_ERROR, Sampling
from spilegate.likelihood.statistics import Gaussian, Likelihood, Poisson

POINTS = 40
BOTH = pytest.mark.parametrize("statistics", [Gaussian, Poisson])


def patterns_and_slices(
    sampling: Sampling, rng: np.random.Generator, patterns: int = 6, slices: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of patterns with scales of their own, and slices that are no closer to one than to another."""
    intensity = rng.gamma(2.0, 10.0, (patterns, POINTS))
    scale = 10 ** rng.uniform(-0.5, 0.5, (patterns, 1))
    counts = rng.poisson(scale * sampling.response * intensity + sampling.background)
    return counts.astype(np.float32), rng.gamma(2.0, 10.0, (slices, POINTS)).astype(np.float32)


def losses(likelihood: Likelihood, counts: np.ndarray, slices: np.ndarray) -> np.ndarray:
    """Loss of every slice for every pattern, as the matchers work it out."""
    observed = likelihood.observed(counts)
    model, summed = likelihood.expected(slices)
    score = likelihood.score(observed.values @ model.T, summed @ likelihood.sampling.coverage)
    found: np.ndarray = likelihood.loss(score, observed.amount[:, None])
    return found


def squared_distance(sampling: Sampling, counts: np.ndarray, intensity: np.ndarray) -> float:
    """Weighted squared distance at the best positive scale, by LAPACK."""
    root = np.sqrt(sampling.coverage.astype(float) * sampling.cell / sampling.variance)
    values = (counts.astype(float) - sampling.background) / sampling.response
    column = (root * intensity)[:, None]
    scale = np.linalg.lstsq(column, root * values, rcond=None)[0]
    return float(((root * values - column @ np.maximum(scale, 0)) ** 2).sum())


def surprise(sampling: Sampling, counts: np.ndarray, expected: np.ndarray) -> float:
    """Negative log-likelihood of photons at the best scale of what is expected, by SciPy."""
    cell = sampling.coverage * sampling.cell

    def loss(log_scale: float) -> float:
        return -float(cell @ poisson.logpmf(counts, np.exp(log_scale) * expected))

    return float(minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9}).fun)


def test_gaussian_losses_are_half_the_squared_distances_at_the_best_scale() -> None:
    rng = np.random.default_rng(0)
    sampling = some_points(POINTS, rng)
    counts, slices = patterns_and_slices(sampling, rng)
    expected = [[squared_distance(sampling, pattern, one) / 2 for one in slices] for pattern in counts]
    np.testing.assert_allclose(losses(Gaussian(sampling), counts, slices), expected, rtol=1e-4)


def test_a_slice_that_wants_a_negative_scale_explains_nothing() -> None:
    rng = np.random.default_rng(1)
    sampling = some_points(POINTS, rng, background=np.full(POINTS, 30.0))
    counts = rng.poisson(5.0, (3, POINTS)).astype(np.float32)
    slices = rng.gamma(2.0, 10.0, (2, POINTS)).astype(np.float32)
    expected = [[squared_distance(sampling, pattern, one) / 2 for one in slices] for pattern in counts]
    assert np.ptp(expected, axis=1).max() == 0
    np.testing.assert_allclose(losses(Gaussian(sampling), counts, slices), expected, rtol=1e-4)


def test_poisson_losses_differ_as_log_likelihoods_at_the_best_scale() -> None:
    rng = np.random.default_rng(2)
    sampling = some_points(POINTS, rng)
    counts, slices = patterns_and_slices(sampling, rng)
    ground = sampling.background + MODEL_ERROR * sampling.response * sampling.mean
    expected = np.array(
        [[surprise(sampling, pattern, sampling.response * one + ground) for one in slices] for pattern in counts]
    )
    found = losses(Poisson(sampling), counts, slices)
    assert np.ptp(expected, axis=1).min() > 10
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], rtol=1e-4, atol=0.01)


@BOTH
def test_distances_are_0_for_a_perfect_slice_and_1_for_the_mean(statistics: Any) -> None:
    rng = np.random.default_rng(3)
    sampling = some_points(POINTS, rng)
    likelihood: Likelihood = statistics(sampling)
    truth = rng.gamma(2.0, 10.0, (4, POINTS)).astype(np.float32)
    scale = np.array([[0.3], [1.0], [2.0], [30.0]])
    if statistics is Gaussian:
        counts = scale * truth * sampling.response + sampling.background
    else:
        # Here the background has the pattern's scale, and no model is trusted to be free of errors.
        counts = scale * ((truth + MODEL_ERROR * sampling.mean) * sampling.response + sampling.background)
    counts = counts.astype(np.float32)
    slices = np.concatenate([truth, sampling.mean[None]])
    distance = likelihood.observed(counts).distance(losses(likelihood, counts, slices))
    np.testing.assert_allclose(np.diag(distance[:, :4]), 0, atol=2e-4)
    np.testing.assert_allclose(distance[:, 4], 1, atol=2e-4)
    others = distance[:, :4][~np.eye(4, dtype=bool)]
    assert others.min() > 0.3


@BOTH
def test_the_best_slice_does_not_depend_on_a_patterns_brightness(statistics: Any) -> None:
    rng = np.random.default_rng(4)
    sampling = some_points(POINTS, rng, background=np.zeros(POINTS))
    counts, slices = patterns_and_slices(sampling, rng)
    likelihood: Likelihood = statistics(sampling)
    found = [
        likelihood.observed(factor * counts).distance(losses(likelihood, factor * counts, slices))
        for factor in (np.float32(1), np.float32(64))
    ]
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


def on_pixels(rng: np.random.Generator) -> Sampling:
    """Points that are pixels: all there, each standing for itself."""
    return some_points(POINTS, rng, cell=np.ones(POINTS), coverage=np.ones(POINTS))


@BOTH
def test_residuals_are_the_gradient_of_the_cost(statistics: Any) -> None:
    """Gauss-Newton's right-hand side against central differences, intensities and scales, background and response."""
    rng = np.random.default_rng(5)
    sampling = on_pixels(rng)
    likelihood: Likelihood = statistics(sampling)
    counts, slices = patterns_and_slices(sampling, rng, patterns=5, slices=5)
    scale, factor = rng.uniform(0.5, 2, 5), rng.uniform(0.5, 2, 5)
    target = tuple(np.asarray(array, float) for array in likelihood.target(counts.astype(float), scale))

    def cost(intensity: np.ndarray, factor: np.ndarray) -> np.ndarray:
        found: np.ndarray = likelihood.residuals(target, intensity, factor)[2]
        return found

    intensity = slices.astype(float)
    residual, root, _ = likelihood.residuals(target, intensity, factor)
    for point in range(POINTS):
        step = np.zeros(POINTS)
        step[point] = 1e-3
        numerical = (cost(intensity + step, factor) - cost(intensity - step, factor)) / 2e-3
        np.testing.assert_allclose(-2 * (residual * root)[:, point], numerical, rtol=1e-4, atol=1e-7)
    numerical = (cost(intensity, factor + 1e-5) - cost(intensity, factor - 1e-5)) / 2e-5
    np.testing.assert_allclose(-2 * (residual * root * intensity).sum(1) / factor, numerical, rtol=1e-5)
    narrow = tuple(array.astype(np.float32) for array in target)
    single = likelihood.residuals(narrow, slices, factor.astype(np.float32))
    assert all(array.dtype == np.float32 for array in single)
    for found, expected in zip(single, (residual, root, cost(intensity, factor)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_poisson_cost_is_the_deviance() -> None:
    """Twice the log-likelihood that a slice at a scale falls short of one that expects every count."""
    rng = np.random.default_rng(6)
    sampling = on_pixels(rng)
    likelihood = Poisson(sampling)
    counts, slices = patterns_and_slices(sampling, rng, patterns=3, slices=3)
    scale, factor = np.array([0.5, 1.0, 2.0]), np.float32([1.3, 1.0, 0.8])
    _, _, cost = likelihood.residuals(likelihood.target(counts, scale), slices, factor)
    signal = (factor[:, None] * slices + MODEL_ERROR * sampling.mean) * sampling.response
    expected = scale[:, None] * signal + sampling.background
    short = poisson.logpmf(counts, np.maximum(counts, 1e-300)) - poisson.logpmf(counts, expected)
    np.testing.assert_allclose(cost, 2 * short.sum(1), rtol=1e-4)


@BOTH
def test_the_mean_pattern_is_measured_at_its_best_scale(statistics: Any) -> None:
    rng = np.random.default_rng(7)
    sampling = on_pixels(rng)
    likelihood: Likelihood = statistics(sampling)
    counts, _ = patterns_and_slices(sampling, rng)
    scale = rng.uniform(0.5, 2, len(counts))
    target = likelihood.target(counts, scale)

    def cost(factor: float, pattern: int) -> float:
        own = tuple(array[pattern : pattern + 1] for array in target)
        return float(likelihood.residuals(own, sampling.mean[None], np.float32([factor]))[2][0])

    everyone = range(len(counts))
    best = [minimize_scalar(cost, bounds=(1e-2, 20), args=(one,), method="bounded").fun for one in everyone]
    # A likelihood of photons knows its best scale in closed form only where there is no background.
    np.testing.assert_allclose(likelihood.mean_cost(target), best, rtol=1e-3 if statistics is Gaussian else 0.02)


@BOTH
def test_photons_of_the_true_slice_cost_one_for_each_pixel(statistics: Any) -> None:
    """The model error adds nothing where there is background enough; the variance is what the photons make it."""
    rng = np.random.default_rng(8)
    truth = rng.uniform(20, 40, POINTS)
    background = np.full(POINTS, 3.0)
    response = rng.uniform(0.8, 1, POINTS)
    expected = response * truth + background
    sampling = some_points(
        POINTS,
        rng,
        mean=np.full(POINTS, 1e-3),
        variance=expected / response**2,
        response=response,
        background=background,
        cell=np.ones(POINTS),
        coverage=np.ones(POINTS),
    )
    likelihood: Likelihood = statistics(sampling)
    counts = rng.poisson(expected, (400, POINTS)).astype(np.float32)
    target = likelihood.target(counts, np.ones(400))
    _, _, cost = likelihood.residuals(target, truth[None].astype(np.float32), np.ones(400, np.float32))
    assert cost.mean() / POINTS == pytest.approx(1, abs=0.03)
