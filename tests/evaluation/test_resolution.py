"""Fourier shell correlation against a direct loop over shells; the resolution read off known curves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spilegate.errors import InputError
from spilegate.evaluation.fsc import FscCurve, fourier_shell_correlation, resolution_angstrom


def pair(size, seed=0):
    rng = np.random.default_rng(seed)
    common, first, second = rng.standard_normal((3, size, size, size), dtype=np.float32)
    return common + 0.5 * first, common + 0.7 * second


def direct(first, second):
    """Correlate by whole spectra and one mask per shell, in double precision."""
    size = len(first)
    a, b = (np.fft.fftn(volume.astype(np.float64)) for volume in (first, second))
    axis = np.fft.fftfreq(size, 1 / size)
    shell = np.rint(np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2))
    masks = [shell == index for index in range(1, size // 2 + 1)]
    power = [np.sqrt((abs(a[mask]) ** 2).sum() * (abs(b[mask]) ** 2).sum()) for mask in masks]
    cross = [(a[mask] * b[mask].conj()).sum().real for mask in masks]
    return np.array(cross) / power, np.array([mask.sum() / 2 for mask in masks])


@pytest.mark.parametrize("size", [15, 16, 31])
def test_equals_a_direct_loop_over_shells(size):
    first, second = pair(size)
    curve = fourier_shell_correlation(first, second, 2.0, threads=1)
    expected, count = direct(first, second)
    np.testing.assert_allclose(curve.correlation, expected, atol=1e-5)
    np.testing.assert_allclose(curve.q, np.arange(1, size // 2 + 1) / (2.0 * size))
    # The Nyquist planes of an even size hold a few self-paired voxels.
    np.testing.assert_allclose(curve.count[: (size - 1) // 2], count[: (size - 1) // 2])


def test_does_not_depend_on_scale_or_offset():
    first, second = pair(21)
    plain = fourier_shell_correlation(first, second, 1.0, threads=1)
    changed = fourier_shell_correlation(30 * first + 7, 0.01 * second - 2, 1.0, threads=1)
    np.testing.assert_allclose(changed.correlation, plain.correlation, atol=1e-4)
    itself = fourier_shell_correlation(first, first, 1.0, threads=1)
    np.testing.assert_allclose(itself.correlation, 1, atol=1e-6)


def test_signal_and_noise_of_equal_power():
    """FSC of signal + noise with signal + other noise is S / (S + N)."""
    rng = np.random.default_rng(1)
    signal, one, other = rng.standard_normal((3, 61, 61, 61), dtype=np.float32)
    curve = fourier_shell_correlation(signal + one, signal + other, 1.0, threads=1)
    np.testing.assert_allclose(curve.correlation, 0.5, atol=4 / np.sqrt(curve.count).min())
    assert np.average(curve.correlation, weights=curve.count) == pytest.approx(0.5, abs=0.01)


def test_an_empty_volume_correlates_with_nothing():
    first, _ = pair(15)
    curve = fourier_shell_correlation(first, np.zeros_like(first), 1.0, threads=1)
    assert not curve.correlation.any()
    assert resolution_angstrom(curve, 0.5) is None


def test_volumes_of_different_size_are_refused():
    with pytest.raises(InputError, match=r"\(15, 15, 15\) and \(17, 17, 17\)"):
        fourier_shell_correlation(pair(15)[0], pair(17)[0], 1.0, threads=1)


def curve_of(*correlation):
    count = np.ones(len(correlation))
    return FscCurve(0.01 * np.arange(1, len(correlation) + 1), np.array(correlation, float), count)


def test_resolution_of_known_curves():
    assert resolution_angstrom(curve_of(1, 0.9, 0.7, 0.3, 0.0), 0.5) == pytest.approx(1 / 0.035)
    assert resolution_angstrom(curve_of(1, 0.3, 0.9, 0.1), 0.5) == pytest.approx(1 / (0.01 + 0.01 * 0.5 / 0.7))
    assert resolution_angstrom(curve_of(1, 0.9, 0.8), 0.5) == pytest.approx(1 / 0.03)
    assert resolution_angstrom(curve_of(0.4, 0.9, 0.8), 0.5) is None
    assert resolution_angstrom(curve_of(1, 0.5, 0.0), 0.5) == pytest.approx(1 / 0.02)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(0.1, 0.9))
def test_resolution_lies_within_the_curve(correlation, threshold):
    curve = curve_of(*correlation)
    resolution = resolution_angstrom(curve, threshold)
    assert (resolution is None) == (correlation[0] < threshold)
    if resolution is not None:
        assert curve.q[0] - 1e-12 <= 1 / resolution <= curve.q[-1] + 1e-12
