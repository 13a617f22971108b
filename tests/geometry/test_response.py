"""Polarisation and solid angle against what a flat detector does."""

import numpy as np
import pytest

from spilegate.geometry.response import response
from spilegate.simulation.scattering import detector_q

WAVELENGTH = 1.2


def directions(q: np.ndarray) -> np.ndarray:
    """Unit vectors towards the pixels."""
    outgoing = q.reshape(-1, 3) + np.array([0, 0, 1 / WAVELENGTH])
    return outgoing / np.linalg.norm(outgoing, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def q() -> np.ndarray:
    """A flat detector that reaches scattering angles above 50 degrees."""
    return detector_q(41, 1.5, WAVELENGTH).reshape(-1, 3)


def test_nothing_asked_for_is_one_everywhere(q: np.ndarray) -> None:
    found = response(q, polarisation="none", solid_angle=False)
    assert found.dtype == np.float64
    assert np.array_equal(found, np.ones(len(q)))


def test_the_solid_angle_is_that_of_a_flat_pixel(q: np.ndarray) -> None:
    corners = directions(q).reshape(41, 41, 3)
    flat = corners[..., :2] / corners[..., 2:]
    # Of a pixel of area a at distance 1: a cos(angle to its normal) / distance^2.
    distance = np.sqrt(1 + (flat**2).sum(-1))
    expected = (1 / distance) / distance**2
    found = response(q, polarisation="none", solid_angle=True).reshape(41, 41)
    assert np.allclose(found, expected, rtol=1e-9)
    assert found[20, 20] == 1
    assert found.min() < 0.3


@pytest.mark.parametrize(("polarisation", "axis"), [("horizontal", [1, 0, 0]), ("vertical", [0, 1, 0])])
def test_a_dipole_does_not_radiate_along_itself(q: np.ndarray, polarisation: str, axis: list[int]) -> None:
    found = response(q, polarisation=polarisation, solid_angle=False)
    expected = (np.cross(directions(q), axis) ** 2).sum(1)
    assert np.allclose(found, expected, rtol=1e-9)
    # In the plane normal to the field nothing is lost.
    across = np.abs(q @ axis) < 1e-12
    assert across.sum() == 41
    assert np.allclose(found[across], 1)


def test_both_factors_multiply(q: np.ndarray) -> None:
    both = response(q, polarisation="vertical", solid_angle=True)
    one = response(q, polarisation="vertical", solid_angle=False)
    other = response(q, polarisation="none", solid_angle=True)
    assert np.allclose(both, one * other, rtol=1e-12)
