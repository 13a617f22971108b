"""Directional and local resolution and the agreement of intensities, where the answers are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from spilegate.evaluation.fsc import fourier_shell_correlation, resolution_angstrom
from spilegate.resolution.directional import cone_correlations, crossings, half_sphere
from spilegate.resolution.intensities import intensity_correlation
from spilegate.resolution.local import local_resolution

SIZE, VOXEL = 41, 2.0
AXES = np.eye(3)


def filtered(rng: np.random.Generator, keep: np.ndarray) -> np.ndarray:
    """Noise whose Fourier voxels are kept where `keep` says so."""
    spectrum = np.fft.rfftn(rng.standard_normal((SIZE,) * 3)) * keep
    return np.fft.irfftn(spectrum, (SIZE,) * 3, axes=(0, 1, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def q() -> np.ndarray:
    """The wave vectors (M, M, M // 2 + 1, 3) of a half spectrum [1/angstrom]."""
    full, half = np.fft.fftfreq(SIZE, VOXEL), np.fft.rfftfreq(SIZE, VOXEL)
    return np.stack(np.meshgrid(full, full, half, indexing="ij"), axis=-1)


def test_what_is_known_along_some_directions_only_is_told_by_cones(q: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    length = np.linalg.norm(q, axis=-1)
    # Along z nothing finer than 16 angstrom is common to both, everywhere else 6 angstrom.
    along = np.abs(q[..., 2]) > np.cos(np.radians(45)) * length
    known = length < np.where(along, 1 / 16, 1 / 6)
    common = filtered(rng, known)
    first, second = (common + filtered(rng, ~known) for _ in range(2))
    radius, curves = cone_correlations(first, second, VOXEL, AXES, threads=2)
    found = crossings(radius, curves, 0.5)
    assert_allclose(found[:2], 6.0, rtol=0.06)
    assert_allclose(found[2], 16.0, rtol=0.1)


def test_a_cone_that_holds_everything_is_the_shell_correlation(q: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    common = filtered(rng, np.exp(-np.linalg.norm(q, axis=-1) * 20))
    first, second = (common + 0.1 * filtered(rng, np.ones(q.shape[:-1])) for _ in range(2))
    curve = fourier_shell_correlation(first, second, VOXEL, threads=2)
    radius, cones = cone_correlations(first, second, VOXEL, AXES, half_angle_deg=90.0, threads=2)
    assert_allclose(radius, curve.q)
    assert_allclose(cones, np.tile(curve.correlation, (3, 1)), atol=1e-5)
    some, part = cone_correlations(first, second, VOXEL, AXES, q_max=0.1, half_angle_deg=90.0, threads=1)
    assert_allclose(some, radius[radius <= 0.1])
    assert_allclose(part, cones[:, : len(some)])
    assert crossings(radius, cones, 0.5)[0] == pytest.approx(resolution_angstrom(curve, 0.5), rel=1e-5)


def test_curves_that_never_cross_and_always_lie_below() -> None:
    q = np.array([0.1, 0.2, 0.3])
    curves = np.array([[0.9, 0.8, 0.7], [0.1, 0.9, 0.9], [np.nan, 0.8, 0.2], [np.nan] * 3])
    assert_allclose(crossings(q, curves, 0.5), [1 / 0.3, np.inf, 1 / 0.25, np.inf])


def test_directions_cover_half_of_the_sphere_evenly() -> None:
    directions = half_sphere(200)
    assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert (directions[:, 2] > 0).all()
    # Of a uniform half sphere: no direction in the plane, and a third of the square along each axis.
    assert_allclose(directions.mean(axis=0), [0, 0, 0.5], atol=0.01)
    assert_allclose((directions**2).mean(axis=0), 1 / 3, atol=0.01)
    nearest = np.sort(np.abs(directions @ directions.T), axis=1)[:, -2]
    assert np.degrees(np.arccos(nearest)).min() > 4


def test_each_place_has_the_resolution_that_it_was_given(q: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    length = np.linalg.norm(q, axis=-1)
    place = np.arange(SIZE) - SIZE // 2
    left = (place < 0)[:, None, None]
    fine, coarse = filtered(rng, length < 1 / 6), filtered(rng, length < 1 / 12)
    common = np.where(left, fine, coarse)
    halves = [
        common + np.where(left, filtered(rng, length >= 1 / 6), filtered(rng, length >= 1 / 12)) for _ in range(2)
    ]
    found, other = local_resolution(*(half.astype(np.float32) for half in halves), VOXEL, 0.25, (2, 1), threads=2)
    assert found.shape == (SIZE, SIZE)
    middle = slice(8, -8)
    assert np.nanmedian(found[4:13, middle]) == pytest.approx(6.0, rel=0.1)
    assert np.nanmedian(found[-13:-4, middle]) == pytest.approx(12.0, rel=0.15)
    # The planes across y and z share x.
    assert np.nanmedian(other[4:13, middle]) == pytest.approx(6.0, rel=0.1)


def test_noise_and_equals_have_the_local_resolution_of_the_ends() -> None:
    rng = np.random.default_rng(3)
    one, other = (rng.standard_normal((SIZE,) * 3).astype(np.float32) for _ in range(2))
    (same,) = local_resolution(one, one, VOXEL, 0.2, [0], threads=1)
    assert_allclose(same, 1 / (int(0.2 * SIZE * VOXEL) / (SIZE * VOXEL)), rtol=1e-6)
    assert np.isnan(local_resolution(one, other, VOXEL, 0.2, [0], threads=1)).mean() > 0.9


def test_intensities_agree_wherever_the_volumes_lie_and_noise_does_not(q: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    length = np.linalg.norm(q, axis=-1)
    common = filtered(rng, length < 0.1)
    first, second = (common + filtered(rng, length >= 0.1) for _ in range(2))
    radius, curve = intensity_correlation(first, np.roll(second, (3, -2, 5), (0, 1, 2)), VOXEL, threads=2)
    assert_allclose(curve[radius < 0.09], 1, atol=1e-4)
    # Independent speckle: a shell of n voxels correlates by 1 / sqrt(n).
    assert np.abs(curve[radius > 0.11]).max() < 0.15
    assert np.abs(curve[radius > 0.11].mean()) < 0.02
