"""Phasing against known answers: a density from its autocorrelation, direct sums."""

import numpy as np
import pytest
from volumes import blobs

from spilegate.evaluation.alignment import align
from spilegate.settings import PhasingOptions
from spilegate.stages import phasing


@pytest.mark.parametrize("method", ["hio", "raar"])
def test_phasing_recovers_a_density_from_its_autocorrelation(method):
    truth = blobs(27, 8)
    target = phasing.amplitudes(phasing.autocorrelation(truth[None], threads=1), 1.0, q_min=0.0, q_max=0.5, threads=1)
    inside = phasing.ball(27, 1.0, 8.0)
    starts = phasing.random_start((1, 4, 27, 27, 27), inside, np.random.default_rng(9))
    target = phasing.Amplitudes(target.amplitude[:, None], target.measured[:, None])
    options = PhasingOptions(method=method, cycles=8)
    phased = phasing.phase(
        target, starts, np.broadcast_to(inside, starts.shape), phasing.ball(27, 1.0, 9.0), options, cycles=8, threads=2
    )
    best = phasing.combine(phased, 1.2)
    assert best.r_factor[0] < 0.1
    assert (best.density >= 0).all()
    assert align(best.density[0], truth, 1.0, threads=2).correlation > 0.98


def test_autocorrelation_is_the_direct_sum():
    rho = np.zeros((9, 9, 9), np.float32)
    rho[4, 4, 4], rho[5, 4, 3] = 2.0, 3.0
    found = phasing.autocorrelation(rho, threads=1)
    assert found[4, 4, 4] == pytest.approx(13.0, abs=1e-5)
    assert found[5, 4, 3] == pytest.approx(6.0, abs=1e-5)
    assert found[3, 4, 5] == pytest.approx(6.0, abs=1e-5)


def test_unmeasured_amplitudes_are_free():
    target = phasing.amplitudes(blobs(9, 8)[None], 2.0, q_min=0.1, q_max=0.2, threads=1)
    axis = np.fft.fftfreq(9, 2.0)
    q = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + np.fft.rfftfreq(9, 2.0) ** 2)
    np.testing.assert_array_equal(target.measured[0], (q >= 0.1 - 1e-7) & (q <= 0.2 + 1e-7))


def test_a_mean_of_phasings_is_not_blurred():
    """Amplitudes leave a density anywhere between two voxels, and in either hand: so are what is averaged."""
    size, rng = 25, np.random.default_rng(5)
    q = np.fft.fftfreq(size)
    smooth = np.exp(-40.0 * (q[:, None, None] ** 2 + q[:, None] ** 2 + np.fft.rfftfreq(size) ** 2))
    inside = phasing.ball(size, 1.0, 7.0)
    spectrum = np.fft.rfftn(rng.random((size,) * 3) * inside) * smooth
    density = np.fft.irfftn(spectrum, (size,) * 3, axes=(0, 1, 2)).astype(np.float32)
    moved = []
    for shift in ((0.0, 0.0, 0.0), (0.5, -0.4, 0.3), (2.3, 0.5, -1.5), (-0.5, 3.5, 0.2)):
        wave = [np.exp(-2j * np.pi * k * by) for k, by in zip((q, q, np.fft.rfftfreq(size)), shift, strict=True)]
        one = np.fft.irfftn(spectrum * wave[0][:, None, None] * wave[1][:, None] * wave[2], (size,) * 3, axes=(0, 1, 2))
        moved.append((one[::-1, ::-1, ::-1] if len(moved) % 2 else one).astype(np.float32))
    stack = np.stack(moved)[None]
    found = phasing.combine(phasing.Phased(stack, stack > 0, np.full((1, 4), 0.1)), 1.2).density[0]
    # In the place of one of them.
    assert min(np.abs(found - np.maximum(one, 0)).max() for one in moved) < 0.02 * density.max()
    assert found.min() >= 0


def test_others_are_brought_to_the_one_that_is_most_like_them():
    """Not to the one that fits best, which may be the one that fits the noise."""
    truth, rng = blobs(21, 5), np.random.default_rng(4)
    noise = rng.standard_normal((4, 21, 21, 21)).astype(np.float32) * truth.max()
    each = np.maximum(truth + np.array([1.5, 0.2, 0.1, 0.2], np.float32)[:, None, None, None] * noise, 0)
    r_factor = np.array([[0.10, 0.11, 0.11, 0.11]])
    phased = phasing.Phased(each[None], each[None] > 0, r_factor)
    found = phasing.combine(phased, 1.2)
    np.testing.assert_array_equal(found.support[0], each[2] > 0)
    assert found.r_factor == 0.10
    np.testing.assert_array_equal(phasing.combine(phased, 1.0).density[0], each[0])


def test_phasings_are_put_beside_each_other():
    stack = np.random.default_rng(0).random((2, 3, 4, 4, 4)).astype(np.float32)
    r_factor = np.arange(6.0).reshape(2, 3)
    first, second = (
        phasing.Phased(stack[:, own], stack[:, own] > 0.5, r_factor[:, own]) for own in (slice(1), slice(1, 3))
    )
    both = first.with_others(second)
    np.testing.assert_array_equal(both.density, stack)
    np.testing.assert_array_equal(both.support, stack > 0.5)
    np.testing.assert_array_equal(both.r_factor, r_factor)
