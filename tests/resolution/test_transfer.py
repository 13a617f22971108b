"""Phase retrieval transfer function of phasings whose agreement is known."""

import numpy as np
import pytest

from spilegate.errors import InputError
from spilegate.resolution.transfer import phase_retrieval_transfer
from spilegate.stages.phasing import autocorrelation

SIZE = 25
THRESHOLD = 1 / np.e


@pytest.fixture(scope="module")
def density():
    """A lopsided cloud of Gaussians."""
    rng = np.random.default_rng(0)
    axis = np.arange(SIZE) - SIZE // 2
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    centres, heights = rng.uniform(-5, 5, (12, 3)), rng.uniform(0.5, 2, 12)
    blobs = [
        h * np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 3)
        for (a, b, c), h in zip(centres, heights, strict=True)
    ]
    return np.sum(blobs, axis=0).astype(np.float32)


def moved(density, shift):
    """Shift by fractions of a voxel, in Fourier space."""
    waves = np.meshgrid(*[np.fft.fftfreq(SIZE)] * 3, indexing="ij")
    ramp = np.exp(-2j * np.pi * sum(s * wave for s, wave in zip(shift, waves, strict=True)))
    return np.fft.ifftn(np.fft.fftn(density) * ramp).real.astype(np.float32)


def random_phases(density, seed):
    """The amplitudes of a density with the phases of noise."""
    noise = np.fft.rfftn(np.random.default_rng(seed).standard_normal(density.shape))
    spectrum = np.abs(np.fft.rfftn(density)) * noise / np.abs(noise)
    return np.fft.irfftn(spectrum, density.shape, axes=(0, 1, 2)).astype(np.float32)


def test_phasings_that_agree_have_one(density):
    measured = autocorrelation(density, threads=1)
    same = phase_retrieval_transfer(np.stack([density] * 3), measured, threads=1)
    np.testing.assert_allclose(same, 1, atol=1e-3)


def test_hand_and_place_are_free(density):
    """Half a voxel turns the finest shell by a quarter turn: whole voxels would not do."""
    others = [moved(density, (0.5, -2.3, 0.4)), moved(density, (3.3, 0.6, 0.5))[::-1, ::-1, ::-1]]
    measured = autocorrelation(density, threads=1)
    transfer = phase_retrieval_transfer(np.stack([density, *others]), measured, threads=1)
    np.testing.assert_allclose(transfer, 1, atol=5e-3)


@pytest.mark.parametrize("count", [3, 5, 8])
def test_random_phases_are_rejected_however_few_they_are(density, count):
    """|<F>| / sqrt(I) of the same phasings is about 1 / sqrt(n), for few of them above 1/e in every shell."""
    phasings = np.stack([random_phases(density, seed) for seed in range(count)])
    transfer = phase_retrieval_transfer(phasings, autocorrelation(density, threads=1), threads=1)
    plain = np.abs(np.fft.fftn(phasings, axes=(1, 2, 3)).mean(axis=0)) / np.abs(np.fft.fftn(density))
    assert np.sqrt((plain**2).mean()) == pytest.approx(count**-0.5, abs=0.05)
    # Superposition finds some agreement in the innermost shells, which have a handful of voxels.
    assert transfer[4:].max() < THRESHOLD
    assert np.sqrt((transfer[4:] ** 2).mean()) < 0.15


def test_known_share_of_common_phases(density):
    """F_i = S + N_i with independent N_i of the same power: PRTF^2 = |S|^2 / (|S|^2 + |N|^2) = 1/2."""
    phasings = [density + random_phases(density, seed) for seed in range(6)]
    intensity = 2 * autocorrelation(density, threads=1)
    transfer = phase_retrieval_transfer(np.stack(phasings), intensity, threads=1)
    np.testing.assert_allclose(transfer[3:], np.sqrt(0.5), atol=0.12)
    assert transfer[3:].mean() == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_one_phasing_is_refused(density):
    with pytest.raises(InputError, match="1 phasings; expected at least 2"):
        phase_retrieval_transfer(density[None], density, threads=1)
