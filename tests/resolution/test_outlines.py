"""What the supports contribute to a half-set FSC, and what is left of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from spilegate.evaluation.fsc import FscCurve, fourier_shell_correlation, resolution_angstrom
from spilegate.geometry.fourier import frequency_radius, radius_grid
from spilegate.resolution.outlines import corrected_correlation
from spilegate.resolution.surrogates import surrogate

SIZE, VOXEL, DIAMETER = 41, 2.0, 40.0
# Both halves know the particle up to here [1/angstrom].
KNOWN = 0.07


def low_passed(volume: np.ndarray) -> np.ndarray:
    keep = frequency_radius(SIZE, half=True) <= KNOWN * VOXEL
    return np.fft.irfftn(np.fft.rfftn(volume) * keep, volume.shape, axes=(0, 1, 2))


@pytest.fixture(scope="module")
def body() -> tuple[np.ndarray, np.ndarray]:
    """A lumpy body, and its support with a sharp edge."""
    support = radius_grid(SIZE) * VOXEL < 0.4 * DIAMETER
    rng = np.random.default_rng(1)
    return 1 + rng.standard_normal((SIZE,) * 3), support


def halves(body: np.ndarray, support: np.ndarray, noise: float, *, common: bool) -> tuple[np.ndarray, np.ndarray]:
    """The body as far as it is known, or all of it; then noise of each half's own, all cut to the support."""
    rng = np.random.default_rng(2)
    structure = body if common else low_passed(body * support)
    both = [(structure + noise * rng.standard_normal(body.shape)) * support for _ in range(2)]
    return both[0].astype(np.float32), both[1].astype(np.float32)


def correlations(pair: tuple[np.ndarray, np.ndarray], support: np.ndarray) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    curve = fourier_shell_correlation(*pair, VOXEL, threads=1)
    corrected = corrected_correlation(
        curve, pair, (support, support), lambda v: v, partial(surrogate, rng=rng, threads=1), VOXEL, DIAMETER, threads=1
    )
    return curve.q, curve.correlation, corrected


def crossing(q: np.ndarray, correlation: np.ndarray) -> float:
    resolution = resolution_angstrom(FscCurve(q, correlation, q), 0.143)
    assert resolution is not None
    return 1 / resolution


def test_agreement_that_only_the_edge_of_the_support_makes_is_taken_off(body):
    volume, support = body
    q, plain, corrected = correlations(halves(volume, support, 0.25, common=False), support)
    assert crossing(q, plain) > 2.5 * KNOWN
    assert crossing(q, corrected) < 2 * KNOWN


def test_agreement_on_structure_stays(body):
    volume, support = body
    q, plain, corrected = correlations(halves(volume, support, 0.6, common=True), support)
    inside = q > KNOWN + 2 / DIAMETER
    assert plain[inside].mean() > 0.6
    assert corrected[inside].mean() > plain[inside].mean() - 0.15


def test_halves_that_agree_everywhere_are_left_as_they_are(body):
    volume, support = body
    pair = halves(volume, support, 0.0, common=True)
    _, plain, corrected = correlations(pair, support)
    np.testing.assert_array_equal(plain, corrected)
    np.testing.assert_allclose(plain, 1, atol=1e-5)


def test_halves_that_agree_on_their_outlines_only_are_left_with_nothing(body):
    """Neither with agreement, nor with less than none."""
    volume, support = body
    whole = ((2 + volume) * support).astype(np.float32)
    rng = np.random.default_rng(4)
    pair = tuple(surrogate(whole, support, KNOWN * VOXEL, rng, threads=1) for _ in range(2))
    q, plain, corrected = correlations(pair, support)
    outside = q > KNOWN + 2 / DIAMETER
    assert plain[outside].mean() > 0.1
    assert abs(corrected[outside].mean()) < 0.05
    assert corrected.min() > -0.3
