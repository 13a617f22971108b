"""Slices against the direct Fourier sum and simulated truth."""

import numpy as np

from spilegate.backend import to_host
from spilegate.geometry import orientations
from spilegate.kernels.workers import Threads
from spilegate.stages import slicing


def test_slices_are_the_direct_fourier_sum(experiment):
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((7, 7, 7)).astype(np.float32)
    volume += volume[::-1, ::-1, ::-1]
    rotations = orientations.matrices(orientations.random_quaternions(3, rng))
    q = rng.uniform(-0.05, 0.05, (4, 5, 3))
    found = slicing.slices(volume, 8.0, rotations, q, workers=Threads(2))
    x = (np.stack(np.meshgrid(*[np.arange(7) - 3] * 3, indexing="ij"), -1) * 8.0).reshape(-1, 3)
    for slice_, rotation in zip(found, rotations, strict=True):
        expected = np.exp(-2j * np.pi * (q @ rotation) @ x.T) @ volume.ravel()
        np.testing.assert_allclose(slice_, expected.real, atol=2e-3 * np.abs(volume).sum() ** 0.5)


def test_slices_of_the_truth_are_the_patterns(experiment, true_autocorrelation, true_rotations, simulation):
    sampling = experiment.pixels(experiment.q_max).sampling
    plan = experiment.plans[-1]
    model = slicing.slices(
        true_autocorrelation, plan.voxel_angstrom, true_rotations[:20], sampling.q, workers=Threads(2)
    )
    patterns = sampling.counts(to_host(experiment.images)[:20])
    assert np.linalg.norm(model - patterns) < 2e-3 * np.linalg.norm(patterns)
