"""Merging patterns of different brightness: what a scale and a weight do to the normal equations and their solution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from photons import some_points, true_autocorrelation

from spilegate.geometry import orientations
from spilegate.kernels.events import events
from spilegate.kernels.workers import Threads
from spilegate.likelihood.sampling import Sampling
from spilegate.settings import MergingOptions
from spilegate.simulation.particle import built_in_particle
from spilegate.simulation.scattering import detector_q
from spilegate.stages import merging, slicing
from spilegate.stages.merging import Normal

SIZE, DIAMETER, COUNT = 11, 60.0, 90
VOXEL = 2.2 * DIAMETER / SIZE
WORKERS = Threads(2)


@pytest.fixture(scope="module")
def sampling() -> Sampling:
    """Pixels of a small detector with a response and a background of their own."""
    q = detector_q(14, 30.0, 1.0).reshape(-1, 3)
    rng, one = np.random.default_rng(0), np.ones(len(q))
    points = some_points(len(q), rng, mean=one, cell=one, coverage=one)
    return replace(points, q=q, pixels=np.arange(len(q)))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    volume = true_autocorrelation(built_in_particle("demo"), SIZE, VOXEL)
    # Zero outside the support, so that a merge can find all of it.
    volume = volume * merging.support_ball(SIZE, VOXEL, DIAMETER)
    return volume / volume.max()


@pytest.fixture(scope="module")
def rotations() -> np.ndarray:
    return orientations.matrices(orientations.random_quaternions(COUNT, np.random.default_rng(1)))


@pytest.fixture(scope="module")
def slices(truth: np.ndarray, rotations: np.ndarray, sampling: Sampling) -> np.ndarray:
    return slicing.slices(truth, VOXEL, rotations, sampling.q, workers=WORKERS)


@pytest.fixture(scope="module")
def scale() -> np.ndarray:
    """Two decades of brightness."""
    return 10 ** np.random.default_rng(2).uniform(-1, 1, COUNT)


def measured(slices: np.ndarray, scale: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Patterns without noise: d = s c I + b."""
    return (scale[:, None] * sampling.response * slices + sampling.background).astype(np.float32)


def normal(images: Any, sampling: Sampling, rotations: np.ndarray, **changes: np.ndarray) -> Normal:
    one, labels = np.ones(len(images)), np.zeros(len(images), int)
    (result,) = merging.normal_equations(
        images,
        sampling,
        labels,
        rotations,
        changes.get("scale", one),
        changes.get("weight", one),
        1,
        SIZE,
        VOXEL,
        workers=WORKERS,
    )
    assert result is not None
    return result


def solved(equations: Normal) -> np.ndarray:
    options = MergingOptions(iterations=200, tolerance=1e-7, regularisation=1e-9)
    support = merging.support_ball(SIZE, VOXEL, DIAMETER)
    found: np.ndarray = merging.solve(equations, support, np.zeros((SIZE,) * 3, np.float32), options, threads=1)[0]
    return found


def assert_alike(found: Normal, expected: Normal, tolerance: float) -> None:
    for name in ("kernel", "right"):
        one, other = getattr(found, name), getattr(expected, name)
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max(), name


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def test_brightness_response_and_background_do_not_change_the_merge(
    slices: np.ndarray, truth: np.ndarray, rotations: np.ndarray, sampling: Sampling, scale: np.ndarray
) -> None:
    alike = solved(normal(measured(slices, np.ones(COUNT), sampling), sampling, rotations))
    assert error(alike, truth) < 0.01
    images = measured(slices, scale, sampling)
    found = solved(normal(images, sampling, rotations, scale=scale))
    assert error(found, truth) < 0.01
    assert error(solved(normal(images, sampling, rotations)), truth) > 0.1


def test_a_pattern_of_scale_2_counts_as_two(slices: np.ndarray, rotations: np.ndarray, sampling: Sampling) -> None:
    scale = np.where(np.arange(COUNT) < 30, 2.0, 1.0)
    found = normal(measured(slices, scale, sampling), sampling, rotations, scale=scale)
    twice = np.concatenate([np.arange(COUNT), np.arange(30)])
    expected = normal(measured(slices[twice], np.ones(len(twice)), sampling), sampling, rotations[twice])
    assert_alike(found, expected, 1e-5)


def test_a_weight_counts_patterns(slices: np.ndarray, rotations: np.ndarray, sampling: Sampling) -> None:
    images = measured(slices, np.ones(COUNT), sampling)
    weight = np.repeat([0.0, 1.0, 3.0], COUNT // 3)
    found = normal(images, sampling, rotations, weight=weight)
    chosen = np.repeat(np.arange(COUNT), weight.astype(int))
    assert_alike(found, normal(images[chosen], sampling, rotations[chosen]), 1e-5)


def test_patterns_of_weight_0_are_left_out_exactly(
    slices: np.ndarray, rotations: np.ndarray, sampling: Sampling, scale: np.ndarray
) -> None:
    """Whatever they show, in every bit."""
    images = measured(slices, scale, sampling)
    weight = (np.arange(COUNT) % 3 > 0).astype(float)
    expected = normal(images, sampling, rotations, scale=scale, weight=weight)
    images[weight == 0] = np.float32(1e12)
    found = normal(images, sampling, rotations, scale=scale, weight=weight)
    np.testing.assert_array_equal(found.kernel, expected.kernel)
    np.testing.assert_array_equal(found.right, expected.right)
    good = weight > 0
    assert_alike(found, normal(images[good], sampling, rotations[good], scale=scale[good]), 1e-9)


def test_no_good_pattern_means_no_equations(slices: np.ndarray, rotations: np.ndarray, sampling: Sampling) -> None:
    labels = (np.arange(COUNT) % 2).astype(np.int64)
    images = measured(slices, np.ones(COUNT), sampling)
    found = merging.normal_equations(
        images,
        sampling,
        labels,
        rotations,
        np.ones(COUNT),
        np.where(labels == 1, 0.0, 1.0),
        2,
        SIZE,
        VOXEL,
        workers=WORKERS,
    )
    assert found[0] is not None
    assert found[1] is None


def test_lists_of_photons_merge_like_counts(rotations: np.ndarray, sampling: Sampling, scale: np.ndarray) -> None:
    counts = np.random.default_rng(3).poisson(0.2, (COUNT, sampling.n_pixel)).astype(np.float32)
    found = normal(events(counts, int(counts.sum(1).max())), sampling, rotations, scale=scale)
    expected = normal(counts, sampling, rotations, scale=scale)
    np.testing.assert_array_equal(found.right, expected.right)


def test_bright_patterns_decide_where_photons_are_few(
    slices: np.ndarray, truth: np.ndarray, rotations: np.ndarray, sampling: Sampling, scale: np.ndarray
) -> None:
    """The weight s is what the statistics of photons want: any other power of s leaves more noise."""
    rng = np.random.default_rng(4)
    bare = replace(sampling, background=0 * sampling.background)
    light = np.maximum(slices, 0) * (50 / slices.mean())
    images = rng.poisson(scale[:, None] * bare.response * light).astype(np.float32)
    errors = {
        power: error(
            solved(normal(images, bare, rotations, scale=scale, weight=scale**power)) * (slices.mean() / 50), truth
        )
        for power in (-1.0, 0.0, 1.0)
    }
    assert errors[0.0] < 0.8 * errors[-1.0]
    assert errors[0.0] < errors[1.0]


def test_the_centre_of_the_equations_is_a_plain_sum(
    slices: np.ndarray, rotations: np.ndarray, sampling: Sampling, scale: np.ndarray
) -> None:
    """Weighed by scale, response and |q|, a pixel's photons above the background count, wherever they were seen."""
    images = measured(slices, scale, sampling)
    found = normal(images, sampling, rotations, scale=scale)
    radius = np.linalg.norm(sampling.q, axis=-1)
    evening = radius / radius.mean()
    photons = (images.astype(float) - sampling.background).sum(0)
    centre = SIZE - 1
    assert found.kernel[centre, centre, centre] == pytest.approx(scale.sum() * (evening @ sampling.response), rel=1e-4)
    assert found.right[SIZE // 2, SIZE // 2, SIZE // 2] == pytest.approx(evening @ photons, rel=1e-3)
