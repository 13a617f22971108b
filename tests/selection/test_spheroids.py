"""Spheroids fitted to patterns of spheroids: sizes, shapes, directions, centres, and what they do not explain."""

import numpy as np
import pytest

from spilegate.geometry.detector import Detector
from spilegate.geometry.orientations import matrices, random_quaternions
from spilegate.kernels.workers import Threads
from spilegate.likelihood.sampling import Profile, Sampling, on_pixels
from spilegate.selection import spheroids
from spilegate.selection.structure import mates, ring_means, significance
from spilegate.simulation.clusters import droplet_patterns

COUNT, PIXELS, SPACING = 60, 41, 0.003
SMALLEST, LARGEST = 25.0, 160.0
MOST_Q = 0.03


def flat(centre: np.ndarray | None = None) -> np.ndarray:
    """Positions of a detector's pixels, without the Ewald sphere's curvature, that of the beam moved."""
    line = (np.arange(PIXELS) - PIXELS // 2) * SPACING
    x, y = np.meshgrid(line, line, indexing="ij")
    return np.stack([x.ravel(), y.ravel(), np.zeros(PIXELS**2)], axis=-1) - (0 if centre is None else centre)


def sampling(q_last: float = MOST_Q) -> Sampling:
    q = flat()
    everything = np.ones(len(q), np.bool_)
    detector = Detector(q, everything, everything, np.ones(len(q)), np.zeros(len(q)))
    profile = Profile(np.array([0.0, 1.0]), np.ones(2), np.ones(2))
    return on_pixels(detector, profile, q_first=0.0, q_last=q_last, matching=True)


class Seen:
    """Spheroids at random orientations, and the ellipses that they are seen in."""

    def __init__(self, photons: float) -> None:
        rng = np.random.default_rng(5)
        size, stretch = rng.uniform(45, 95, COUNT), np.exp(rng.uniform(-0.4, 0.4, COUNT))
        half = np.stack([size / 2 * stretch ** (-1 / 3)] * 2 + [size / 2 * stretch ** (2 / 3)], axis=-1)
        turns = matrices(random_quaternions(COUNT, rng))
        self.offset = np.zeros((COUNT, 3))
        self.offset[:, :2] = rng.uniform(-0.7, 0.7, (COUNT, 2)) * SPACING
        patterns = droplet_patterns(half, turns, np.stack([flat(offset) for offset in self.offset]))
        self.brightness = photons / patterns.sum(axis=1)
        self.exact = (patterns * self.brightness[:, None]).astype(np.float32)
        self.noisy = rng.poisson(self.exact).astype(np.float32)
        # Diameters squared, seen along the beam.
        squares = np.einsum("nij,nj,nkj->nik", turns, (2 * half) ** 2, turns)[:, :2, :2]
        values, vectors = np.linalg.eigh(squares)
        self.diameter = np.prod(values, axis=1) ** 0.25
        self.aspect = np.sqrt(values[:, 1] / values[:, 0])
        self.angle = np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1])


def fitted(images: np.ndarray) -> spheroids.Spheroids:
    return spheroids.fit(images, sampling(), SMALLEST, LARGEST, SPACING, workers=Threads(2))


@pytest.fixture(scope="module")
def bright() -> Seen:
    return Seen(1e6)


@pytest.fixture(scope="module")
def dim() -> Seen:
    return Seen(3000.0)


def test_exact_patterns_give_what_they_are_made_of(bright: Seen) -> None:
    found = fitted(bright.exact)
    np.testing.assert_allclose(found.diameter_angstrom, bright.diameter, rtol=2e-3)
    np.testing.assert_allclose(found.aspect, bright.aspect, rtol=4e-3)
    long = bright.aspect > 1.1
    assert long.sum() > 20
    assert np.abs(np.sin(found.angle - bright.angle)[long]).max() < 0.02
    np.testing.assert_allclose(found.centre, bright.offset[:, :2], atol=0.02 * SPACING)
    np.testing.assert_allclose(found.brightness, bright.brightness, rtol=0.01)
    assert np.abs(found.misfit).max() < 2e-3


def test_of_few_photons_they_are_right_within_their_errors(dim: Seen) -> None:
    found = fitted(dim.noisy)
    off = np.log(found.diameter_angstrom / dim.diameter) / found.diameter_error
    assert abs(np.median(off)) < 0.5
    # Standard deviations of 60 normal numbers: 1 within 3 of their own errors.
    assert 0.7 < 1.48 * np.median(np.abs(off)) < 1.4
    np.testing.assert_allclose(found.diameter_angstrom, dim.diameter, rtol=0.05)
    assert abs((found.misfit / found.misfit_error).mean()) < 1.0
    assert np.median(np.hypot(*(found.centre - dim.offset[:, :2]).T)) < 0.2 * SPACING


def test_form_factor_is_that_of_a_sphere_and_its_slope_its_derivative() -> None:
    s = np.linspace(1e-3, 12, 4001)
    value, slope = spheroids.form_factor(s)
    np.testing.assert_allclose(value[600:], (3 * (np.sin(s) - s * np.cos(s)) / s**3)[600:], atol=1e-10)
    np.testing.assert_allclose(slope[1:-1], (value[2:] - value[:-2]) / (s[2:] - s[:-2]), atol=2e-5)
    assert spheroids.form_factor(np.zeros(1))[0][0] == 1


def test_derivatives_of_the_model_are_differences() -> None:
    x, y = (flat()[:, axis] / SPACING for axis in range(2))
    ones = np.ones(len(x))
    u = [np.array([value]) for value in (np.log(0.21), 0.12, -0.17, np.log(50.0), np.log(0.3), 0.3, -0.4)]
    mu, jacobian = spheroids._model(np, x, y, ones, 0.1 * ones, u)
    assert mu.shape == (1, len(x))
    for k in range(len(u)):
        step = np.eye(len(u))[k] * 1e-5
        ends = [
            spheroids._model(np, x, y, ones, 0.1 * ones, [v + sign * d for v, d in zip(u, step, strict=True)])[0]
            for sign in (1, -1)
        ]
        difference = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(jacobian[:, k], difference, atol=1e-5 * np.abs(difference).max(), err_msg=str(k))


def test_spheroids_show_no_structure_and_others_do(dim: Seen) -> None:
    everywhere, workers = sampling(0.06), Threads(2)
    alike = significance(dim.noisy, everywhere, fitted(dim.noisy), SPACING, workers=workers)
    assert abs(np.median(alike)) < 0.5
    assert 0.7 < alike.std() < 1.4
    # Two balls beside each other: fringes across the pattern, alike at q and -q.
    fringes = 1 + np.cos(2 * np.pi * flat()[:, 0] * 90)
    two = np.random.default_rng(1).poisson(10 * fringes * dim.exact).astype(np.float32)
    assert np.median(significance(two, everywhere, fitted(two), SPACING, workers=workers)) > 10


def test_every_pixel_has_one_mate_across_the_beam() -> None:
    q = flat()[:, :2]
    first, second = mates(q, 0.75 * SPACING)
    assert len(first) == (len(q) - 1) // 2
    np.testing.assert_allclose(q[first], -q[second], atol=1e-12)
    means = ring_means(np.linalg.norm(q, axis=1), 2 * SPACING)
    np.testing.assert_allclose(means.sum(axis=1), 1, rtol=1e-6)
    assert ((means > 0).sum(axis=0) == 1).all()


def test_the_size_of_the_mean_pattern_says_how_far_out_to_fit() -> None:
    q = np.linspace(0.001, 0.08, 80)
    mean = 1000 * spheroids.form_factor(np.pi * 60 * q)[0] ** 2
    assert spheroids.radius_of_fit(q, mean, SMALLEST, LARGEST) == pytest.approx(2.5 / 60, rel=0.03)


def test_threads_change_no_bit(dim: Seen) -> None:
    one, three = (
        spheroids.fit(dim.noisy, sampling(), SMALLEST, LARGEST, SPACING, workers=Threads(threads)) for threads in (1, 3)
    )
    np.testing.assert_array_equal(one.diameter_angstrom, three.diameter_angstrom)
    np.testing.assert_array_equal(one.misfit, three.misfit)
