"""Errors of orientations after the best global rotation: known answers, also when most patterns are wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spilegate.errors import InputError
from spilegate.evaluation.figures import of_orientations
from spilegate.evaluation.orientations import orientation_error
from spilegate.evaluation.states import orientation_figures
from spilegate.geometry.orientations import angle_between, half_turned


def as_array(rotations):
    return rotations.as_quat(scalar_first=True)


def scene(count, seed, spread_deg=0.0, wrong=0.0):
    """Return found and true orientations and the global rotation G between: R_found = noise R_true G^T."""
    rng = np.random.default_rng(seed)
    truth, g = Rotation.random(count, rng=rng), Rotation.random(rng=rng)
    noise = Rotation.from_rotvec(spread_deg * rng.standard_normal((count, 3)), degrees=True)
    found = as_array(noise * truth * g.inv())
    lost = rng.random(count) < wrong
    found[lost] = as_array(Rotation.random(int(lost.sum()), rng=rng))
    return found * rng.choice([-1, 1], (count, 1)), as_array(truth), as_array(g), lost


@given(seed=st.integers(0, 10**6), count=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_exact_orientations_have_no_error(seed, count):
    found, truth, g, _ = scene(count, seed)
    error = orientation_error(found, truth)
    assert error.degrees.max() < 1e-5
    assert error.fraction_within_12_deg == 1.0
    assert angle_between(error.global_quaternion, g) < 1e-5


def test_rotation_is_on_the_particle_side():
    """A rotation of the laboratory instead of the particle frame is no global rotation of the reconstruction."""
    truth = Rotation.random(50, rng=np.random.default_rng(1))
    turned = Rotation.from_rotvec([0, 0, 60], degrees=True) * truth
    assert orientation_error(as_array(turned), as_array(truth)).median_deg > 20


def test_errors_of_normal_noise():
    found, truth, g, _ = scene(2000, 3, spread_deg=2.0)
    error = orientation_error(found, truth)
    # The length of three normal components has the median 1.538.
    assert error.median_deg == pytest.approx(2 * 1.538, rel=0.04)
    assert angle_between(error.global_quaternion, g) < 0.5
    assert error.fraction_within_12_deg > 0.999


@pytest.mark.parametrize("wrong", [0.3, 0.6, 0.85])
def test_wrong_patterns_do_not_draw_the_rotation(wrong):
    found, truth, g, lost = scene(1500, 5, spread_deg=2.0, wrong=wrong)
    error = orientation_error(found, truth)
    assert angle_between(error.global_quaternion, g) < 1.0
    assert error.fraction_within_12_deg == pytest.approx(1 - lost.mean(), abs=0.01)


def test_median_is_least():
    found, truth, _, _ = scene(301, 7, spread_deg=3.0, wrong=0.2)
    error = orientation_error(found, truth)
    best, orientations, true = (
        Rotation.from_quat(quaternion, scalar_first=True) for quaternion in (error.global_quaternion, found, truth)
    )
    assert np.median(np.degrees((orientations * best * true.inv()).magnitude())) == pytest.approx(error.median_deg)
    for turn in Rotation.random(20, rng=np.random.default_rng(0)) ** 0.01:
        other = np.degrees((orientations * turn * best * true.inv()).magnitude())
        assert np.median(other) >= error.median_deg - 0.05


def test_random_orientations_are_reported_as_such():
    truth, found = (as_array(Rotation.random(1000, rng=np.random.default_rng(seed))) for seed in (0, 1))
    error = orientation_error(found, truth)
    assert error.median_deg > 90
    assert error.fraction_within_12_deg < 0.02


def test_bad_quaternions_are_refused():
    found, truth, _, _ = scene(10, 0)
    with pytest.raises(InputError, match=r"\(10, 4\) and \(9, 4\)"):
        orientation_error(found, truth[:9])
    found[3] = 0
    with pytest.raises(InputError, match="1 of 10 found quaternions zero"):
        orientation_error(found, truth)
    found[3] = np.nan
    with pytest.raises(InputError, match="1 of 10 found quaternions"):
        orientation_error(found, truth)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.5, 1.0])
def test_half_turns_about_the_beam_are_told_apart_from_errors(part):
    """By no global rotation do they become right, but up to half a turn the others are what they are."""
    found, truth, _, _ = scene(600, 8, spread_deg=3.0)
    turned = np.arange(600) < part * 600
    found = np.where(turned[:, None], half_turned(found), found)
    figures = orientation_figures(found, truth, np.zeros(600, np.int64))
    assert figures["median_up_to_half_turn"] == pytest.approx(3 * 1.538, rel=0.1)
    assert figures["half_turned"] == pytest.approx(part, abs=0.02)
    said = of_orientations(figures)
    assert ("half a turn about the beam" in said) == (part > 0)
    assert figures["median"] == pytest.approx(3 * 1.538, rel=0.1) or part > 0.1


def test_random_orientations_are_not_excused():
    rng = np.random.default_rng(2)
    found, truth = (as_array(Rotation.random(500, rng=rng)) for _ in range(2))
    figures = orientation_figures(found, truth, np.zeros(500, np.int64))
    assert "half a turn" not in of_orientations(figures)


def test_half_a_turn_is_a_rotation_of_the_laboratory():
    found = as_array(Rotation.random(20, rng=np.random.default_rng(1)))
    expected = Rotation.from_euler("z", 180, degrees=True) * Rotation.from_quat(found, scalar_first=True)
    np.testing.assert_allclose(angle_between(half_turned(found), as_array(expected)), 0, atol=1e-5)
