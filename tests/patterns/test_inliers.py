"""Outliers told from distances and brightness, made up with and without them."""

from __future__ import annotations

import numpy as np
import pytest

from spilegate.generation.poses import wide_limit
from spilegate.patterns.outliers import inliers

COUNT = 1000


def distances(
    part: float, decades: float, rng: np.random.Generator, misfit: float = 0.01, of_photons: float = 0.05
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances that photon noise makes of a misfit, over brightness; outliers fit four times worse than any."""
    brightness = 10 ** (decades * rng.random(COUNT))
    expected = misfit + of_photons / brightness
    distance = expected * (1 + 0.08 * rng.standard_normal(COUNT))
    outlier = np.zeros(COUNT, np.bool_)
    outlier[rng.permutation(COUNT)[: round(part * COUNT)]] = True
    distance[outlier] = (misfit + of_photons) * rng.uniform(4, 8, outlier.sum())
    return distance, brightness, outlier


@pytest.mark.parametrize("decades", [0.0, 1.0])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.3])
def test_outliers_are_found_and_no_other(part: float, decades: float) -> None:
    for seed in range(5):
        distance, brightness, outlier = distances(part, decades, np.random.default_rng(seed))
        good = inliers(distance, brightness, limit=5.0)
        assert not good[outlier].any()
        # Five standard deviations of a Gaussian: one in three million.
        assert (~good[~outlier]).sum() <= 1


def test_a_dark_pattern_is_no_outlier_for_being_dark() -> None:
    """Its distance is as large as that of a bright outlier."""
    distance, brightness, _ = distances(0.0, 1.5, np.random.default_rng(0))
    bright = np.flatnonzero(brightness > 20)[:20]
    distance[bright] = np.quantile(distance, 0.9)
    good = inliers(distance, brightness, limit=5.0)
    assert not good[bright].any()
    assert np.delete(good, bright).mean() > 0.995


def test_the_limit_counts_standard_deviations() -> None:
    distance = np.full(COUNT, 1.0) + 0.01 * np.random.default_rng(3).standard_normal(COUNT)
    for limit, expected in ((1.0, 0.841), (2.0, 0.977), (6.0, 1.0)):
        assert inliers(distance, np.ones(COUNT), limit=limit).mean() == pytest.approx(expected, abs=0.04)


def test_units_do_not_matter() -> None:
    distance, brightness, _ = distances(0.1, 1.0, np.random.default_rng(4))
    expected = inliers(distance, brightness, limit=5.0)
    for unit in (1e-6, 1e6):
        np.testing.assert_array_equal(inliers(unit * distance, brightness, limit=5.0), expected)
        np.testing.assert_array_equal(inliers(distance, unit * brightness, limit=5.0), expected)


@pytest.mark.parametrize("count", [20, 50])
def test_few_patterns_are_enough(count: int) -> None:
    rng = np.random.default_rng(5)
    distance = 0.1 * (1 + 0.05 * rng.standard_normal(count))
    distance[:2] = 0.5
    good = inliers(distance, np.ones(count), limit=5.0)
    assert not good[:2].any()
    assert (~good[2:]).sum() <= 1


def test_patterns_that_are_all_alike_are_all_good() -> None:
    assert inliers(np.full(30, 0.2), np.ones(30), limit=5.0).all()


def test_outliers_that_own_a_brightness_do_not_bend_the_line() -> None:
    """All the brightest patterns are of something else, as bright as nothing that the particle shows."""
    distance, brightness, _ = distances(0.0, 1.0, np.random.default_rng(6))
    alien = np.argsort(brightness)[-80:]
    distance[alien] *= 8
    good = inliers(distance, brightness, limit=5.0)
    assert not good[alien].any()
    assert np.delete(good, alien).mean() > 0.995


@pytest.mark.parametrize("width", [0.3, 0.5, 0.8])
def test_patterns_without_noise_are_all_good(width: float) -> None:
    """What sets them apart is how well a slice can be interpolated: distances are lognormal and wide."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        distance = 0.03 * np.exp(width * rng.standard_normal(COUNT))
        brightness = np.exp(0.15 * rng.standard_normal(COUNT))
        assert inliers(distance, brightness, limit=5.0, least=0.05, wide=5.0).all()
        distance[:50] = rng.uniform(0.7, 1.0, 50)
        assert not inliers(distance, brightness, limit=5.0, least=0.05, wide=5.0)[:50].any() or width > 0.5


def test_next_to_nothing_is_no_outlier() -> None:
    distance = 0.001 * (1 + 0.05 * np.random.default_rng(1).standard_normal(COUNT))
    distance[:3] = 0.01
    assert inliers(distance, np.ones(COUNT), limit=5.0, least=0.05).all()
    assert (~inliers(distance, np.ones(COUNT), limit=5.0)).sum() == 3


def test_only_patterns_without_noise_are_judged_by_logarithms() -> None:
    assert wide_limit(np.full(9, 0.05)) > 0
    assert wide_limit(np.full(9, 0.3)) == 0
