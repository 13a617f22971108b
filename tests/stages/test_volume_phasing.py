"""Phasing, with arrays of other modules against NumPy's."""

import numpy as np
import pytest
from volumes import assert_close, assert_same, blobs

from spilegate.backend import to_host
from spilegate.kernels import fft
from spilegate.settings import PhasingOptions
from spilegate.stages import phasing


@pytest.fixture(scope="module")
def densities():
    """(2, 27, 27, 27) float32."""
    return np.stack([blobs(27, 10), blobs(27, 11)])


@pytest.mark.backend
def test_autocorrelations_and_amplitudes(bring, densities):
    expected = phasing.autocorrelation(densities, threads=1)
    assert_close(phasing.autocorrelation(bring(densities), threads=1), expected, 2e-6)
    keywords = {"q_min": 0.03, "q_max": 0.4, "threads": 1}
    target = phasing.amplitudes(expected[:, None], 1.0, **keywords)
    found = phasing.amplitudes(bring(expected[:, None]), 1.0, **keywords)
    assert_same(found.measured, target.measured)
    # A root triples the digits of what rounding leaves of zero.
    assert_close(found.amplitude, target.amplitude, 1e-3)
    np.testing.assert_allclose(
        to_host(found.amplitude) ** 2, target.amplitude**2, atol=2e-6 * target.amplitude.max() ** 2
    )


def targets(densities, bring=None):
    autocorrelation = phasing.autocorrelation(densities, threads=1)[:, None]
    target = phasing.amplitudes(autocorrelation, 1.0, q_min=0.03, q_max=0.4, threads=1)
    if bring is None:
        return target
    return phasing.Amplitudes(bring(target.amplitude), bring(target.measured))


def starts():
    """First densities and supports (2, 2, 27, 27, 27), and the limit of supports."""
    inside = phasing.ball(27, 1.0, 8.0)
    densities = phasing.random_start((2, 2, 27, 27, 27), inside, np.random.default_rng(12))
    return densities, np.broadcast_to(inside, densities.shape), phasing.ball(27, 1.0, 9.0)


@pytest.mark.backend
@pytest.mark.parametrize("on_host", [True, False])
def test_error_reduction_step_by_step(bring, densities, on_host):
    keywords = {"options": PhasingOptions(), "cycles": 0, "threads": 1}
    expected = phasing.phase(targets(densities), *starts(), **keywords)
    given = starts() if on_host else map(bring, starts())
    found = phasing.phase(targets(densities, bring), *given, **keywords)
    assert_close(found.density, expected.density, 1e-4)
    assert_same(found.support, expected.support)
    assert isinstance(found.r_factor, np.ndarray)
    assert found.r_factor.dtype == np.float64
    np.testing.assert_allclose(found.r_factor, expected.r_factor, rtol=1e-4)


@pytest.mark.backend
@pytest.mark.parametrize("method", ["hio", "raar"])
def test_many_steps_of_phasing_lead_to_as_good_a_fit(bring, densities, method):
    """They are chaotic: any two roundings part soon."""
    keywords = {"options": PhasingOptions(method=method), "cycles": 1, "threads": 1}
    expected = phasing.phase(targets(densities), *starts(), **keywords)
    found = phasing.phase(targets(densities, bring), *starts(), **keywords)
    assert (to_host(found.support) != expected.support).mean() < 0.01
    np.testing.assert_allclose(found.r_factor, expected.r_factor, rtol=0.2)


@pytest.mark.backend
@pytest.mark.parametrize("kind", ["er", "hio", "raar"])
def test_one_update(bring, kind):
    rng = np.random.default_rng(13)
    rho, projected = rng.standard_normal((2, 2, 27, 27, 27)).astype(np.float32)
    inside = rng.random(rho.shape) > 0.5
    expected = {
        "er": np.where(inside & (projected > 0), projected, 0),
        "hio": np.where(inside & (projected > 0), projected, rho - 0.7 * projected),
        "raar": np.where(inside & (2 * projected > rho), projected, 0.7 * rho - 0.4 * projected),
    }[kind].astype(np.float32)
    assert_close(phasing._update(rho, projected.copy(), inside, kind, 0.7), expected, 1e-6)
    assert_close(phasing._update(bring(rho), bring(projected), bring(inside), kind, 0.7), expected, 1e-6)


@pytest.mark.backend
def test_every_volume_is_centred_by_itself(bring, densities):
    shifts = [(3, -2, 5), (-7, 1, 0)]
    moved = np.stack([np.roll(d, s, (0, 1, 2)) for d, s in zip(densities, shifts, strict=True)])[:, None]
    centred = phasing._recentred(fft.to_corner(densities)[:, None], fft.to_corner(densities)[:, None] > 0)
    found = phasing._recentred(bring(fft.to_corner(moved)), bring(fft.to_corner(moved) > 0))
    for array, expected in zip(found, centred, strict=True):
        assert_same(array, expected)


@pytest.mark.backend
def test_combining_phasings(bring, densities):
    """The second one is the first one's other hand, elsewhere; the third one is too bad."""
    other = np.roll(densities[:, ::-1, ::-1, ::-1], (2, -1, 4), (1, 2, 3))
    stack = np.stack([densities, other, np.ones_like(other)], axis=1)
    r_factor = np.array([[0.1, 0.11, 0.9], [0.1, 0.11, 0.9]])
    expected = phasing.combine(phasing.Phased(stack, stack > 0, r_factor), 1.2)
    np.testing.assert_allclose(expected.density, densities, atol=1e-6)
    found = phasing.combine(phasing.Phased(bring(stack), bring(stack > 0), r_factor), 1.2)
    assert_close(found.density, expected.density, 1e-6)
    assert_same(found.support, densities > 0)
    assert_same(found.r_factor, np.array([0.1, 0.1]))
