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
