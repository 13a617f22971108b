"""Orientations, rings, grids and the diameter."""

import numpy as np
import pytest
from conftest import as_dataset
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spilegate.geometry import detector, fourier, orientations
from spilegate.kernels import fft
from spilegate.kernels.workers import Threads
from spilegate.patterns.checks import inscribed_radius
from spilegate.patterns.diameter import estimate as diameter
from spilegate.patterns.statistics import moments, radial_profile
from spilegate.simulation.experiment import detector_q, simulate
from spilegate.simulation.particle import built_in_particle, diameter_angstrom


def bare(q):
    """A detector without masks, background or corrections."""
    every = np.ones(len(q), bool)
    return detector.Detector(q, every, every, np.ones(len(q)), np.zeros(len(q)))


@given(st.integers(0, 2**31))
def test_quaternions_and_matrices_are_inverse(seed):
    quaternions = orientations.random_quaternions(5, np.random.default_rng(seed))
    assert (quaternions[:, 0] >= 0).all()
    np.testing.assert_allclose(orientations.quaternions(orientations.matrices(quaternions)), quaternions, atol=1e-9)


def test_random_quaternions_are_uniform():
    rotations = orientations.matrices(orientations.random_quaternions(20_000, np.random.default_rng(0)))
    assert np.abs(rotations.mean(0)).max() < 0.03
    angle = 2 * np.arccos(np.minimum(1, np.abs(Rotation.from_matrix(rotations).as_quat()[:, 3])))
    # Angles of uniform rotations have the density (1 - cos a) / pi.
    assert abs((angle < np.pi / 2).mean() - (0.5 - 1 / np.pi)) < 0.015


@pytest.mark.parametrize("count", [12, 300, 1000])
def test_views_cover_the_sphere_evenly(count):
    views = orientations.view_grid(count, np.random.default_rng(1))
    assert len(views) >= count
    np.testing.assert_allclose(
        np.matmul(views, views.transpose(0, 2, 1)), np.broadcast_to(np.eye(3), views.shape), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(views), 1)
    beams = views[:, 2]
    assert np.abs(beams.mean(0)).max() < 1e-6
    probe = np.random.default_rng(2).standard_normal((500, 3))
    probe /= np.linalg.norm(probe, axis=1, keepdims=True)
    nearest = np.arccos(np.clip((probe @ beams.T).max(1), -1, 1))
    assert nearest.max() < 1.2 * np.sqrt(4 * np.pi / len(views))


def test_turning_about_the_beam_shifts_rings():
    points = detector.ewald_points(np.array([0.1]), 2 * np.pi * np.arange(8) / 8, 1.5)
    turned = points @ orientations.about_beam(np.array(2 * np.pi / 8)).T
    np.testing.assert_allclose(turned, np.roll(points, -1, axis=0), atol=1e-12)


@pytest.mark.parametrize("wavelength", [0.5, 1.0, 2.7])
def test_wavelength_and_ewald_points_follow_the_detector(wavelength):
    q = detector_q(32, 10.0, wavelength).reshape(-1, 3)
    assert detector.ewald_wavelength(q) == pytest.approx(wavelength, rel=1e-9)
    length = np.linalg.norm(q, axis=1)
    again = detector.ewald_points(length, np.arctan2(q[:, 1], q[:, 0]), wavelength)
    np.testing.assert_allclose(again, q, atol=1e-12)


def test_rings_resample_smooth_patterns_and_skip_masked_pixels():
    q = detector_q(48, 10.0, 1.0).reshape(-1, 3)
    usable = np.ones(len(q), bool)
    usable[: 48 * 3] = False
    usable[np.abs(q[:, 0]) < 0.002] = False

    def pattern(at):
        return np.cos(2 * np.pi * (at[..., 0] * 30 + at[..., 1] * 20)) + 2

    images = pattern(q)[None].astype(np.float32)
    images[:, ~usable] = 1e6
    rings = detector.rings(q, usable, q_first=0.01, q_last=0.08, spacing=0.008, n_phi=48)
    found = rings.patterns(images)[0]
    assert found.shape == rings.q.shape[:2]
    assert np.abs(found - pattern(rings.q)).max() < 0.15
    assert np.sqrt(np.mean((found - pattern(rings.q)) ** 2)) < 0.03


def test_fourier_resize_is_exact_for_band_limited_volumes():
    rng = np.random.default_rng(3)
    small = rng.standard_normal((2, 9, 9, 9))
    large = fourier.fourier_resize(small, 21, threads=1)
    np.testing.assert_allclose(fourier.fourier_resize(large, 9, threads=1), small, atol=1e-12)
    np.testing.assert_allclose(large[:, 10, 10, 10], small[:, 4, 4, 4], atol=1e-12)
    with pytest.raises(ValueError, match="odd"):
        fourier.fourier_resize(small, 10, threads=1)


@given(st.integers(1, 500))
def test_fast_odd_sizes(at_least):
    size = fft.fast_odd_size(at_least)
    assert size >= at_least
    assert size % 2 == 1
    assert size <= max(3, 1.35 * at_least + 2)


def test_profile_has_mean_and_variance_of_rings():
    rng = np.random.default_rng(4)
    q = detector_q(32, 10.0, 1.0).reshape(-1, 3)
    length = np.linalg.norm(q, axis=1)
    images = (100 + rng.standard_normal((400, len(q))) * (10 + 300 * length)).astype(np.float32)
    one = np.ones(len(images))
    profile = radial_profile(moments(images, bare(q), one, one, workers=Threads(2)), bare(q), 0.01)
    mean, variance = profile.at(np.array([0.05, 0.09]))
    np.testing.assert_allclose(mean, 100, rtol=0.01)
    np.testing.assert_allclose(np.sqrt(variance), [25, 37], rtol=0.03)


@pytest.mark.parametrize("pixels", [16, 24, 40, 128])
def test_inscribed_radius_is_the_side_of_a_square_detector(pixels):
    q = detector_q(pixels, 12.0, 1.0).reshape(-1, 3)
    assert inscribed_radius(q, np.ones(len(q), bool)) == pytest.approx(1 / 12.0, rel=0.05)


@pytest.mark.parametrize("name", ["demo", "dumbbell"])
@pytest.mark.parametrize("photons", [None, 20_000.0])
def test_diameter_from_patterns_within_a_fifth(name, photons):
    particle = built_in_particle(name)
    data = as_dataset(
        simulate(
            particle,
            images=200,
            pixels=64,
            resolution_angstrom=8.0,
            wavelength_angstrom=1.0,
            photons=photons,
            seed=1,
            threads=2,
        )
    )
    arguments = (data.images, bare(data.q), np.ones(200), np.ones(200))
    of_all = moments(*arguments, workers=Threads(2))
    profile = radial_profile(of_all, bare(data.q), detector.pixel_spacing(data.q))
    found = diameter.estimate_diameter(*arguments, of_all, profile, q_max=1 / 8.0, workers=Threads(2))
    assert found == pytest.approx(diameter_angstrom(particle), rel=0.2)
