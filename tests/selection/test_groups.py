"""Mixtures of normal distributions: as many groups as points were drawn from, where they were drawn from."""

import numpy as np
import pytest

from spilegate.selection.groups import mixture

CENTRES = np.array([[0.0, 0.0], [4.0, 1.0], [-1.0, 5.0]])
NUMBERS = (90, 45, 30)


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of which one is long, with a few points of none of them; points, and where each is from."""
    rng = np.random.default_rng(2)
    long = np.array([[0.3, 0.9], [0.0, 0.3]])
    points = [
        centre + rng.normal(size=(number, 2)) @ (long if k == 1 else 0.4 * np.eye(2))
        for k, (centre, number) in enumerate(zip(CENTRES, NUMBERS, strict=True))
    ]
    points.append(rng.uniform(-8, 12, (3, 2)))
    return np.concatenate(points), np.repeat(np.arange(4), [*NUMBERS, 3])


def test_groups_are_found_in_clouds(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    points, origin = clouds
    found = mixture(points, np.random.default_rng(0))
    assert len(found.share) == 3
    np.testing.assert_allclose(found.mean, CENTRES, atol=0.4)
    np.testing.assert_allclose(found.share, np.array(NUMBERS) / len(points), atol=0.04)
    belongs = found.probabilities(points)
    np.testing.assert_allclose(belongs.sum(axis=1), 1)
    members = origin < 3
    assert (belongs.argmax(axis=1)[members] == origin[members]).mean() > 0.98


def test_one_cloud_is_one_group_and_units_do_not_matter() -> None:
    points = np.random.default_rng(4).normal(size=(60, 2)) * [0.01, 50.0] + [3.0, -7.0]
    found = mixture(points, np.random.default_rng(0))
    assert len(found.share) == 1
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance[0])), points.std(axis=0), rtol=0.1)
    # The density of a normal distribution in its middle, and of nothing but strays far away.
    peak = found.densities(found.mean)[0, 0]
    assert peak == pytest.approx(found.share[0] / np.sqrt(np.linalg.det(2 * np.pi * found.covariance[0])))
    assert found.probabilities(points.max(axis=0)[None] + 9 * points.std(axis=0))[0, 1] > 0.99
