"""The soft assignment of the blind start against known answers."""

from dataclasses import replace

import numpy as np

from spilegate.geometry import orientations
from spilegate.kernels.workers import Threads
from spilegate.stages import assigning, slicing


def test_cold_expectation_gives_every_view_its_own_patterns(experiment, true_autocorrelation):
    """Patterns made of slices at grid orientations: at low temperature the expected pattern of a view is its slice."""
    plan = replace(experiment.plans[0], n_phi=32)
    likelihood = experiment.rings(plan)
    sampling = likelihood.sampling
    voxel = experiment.plans[-1].voxel_angstrom
    views = orientations.view_grid(12, np.random.default_rng(10))
    slices = slicing.slices(true_autocorrelation, voxel, views, sampling.q, workers=Threads(2))
    shifted = np.concatenate([np.roll(slices, shift, axis=-1) for shift in (0, 5, 11)])
    images = shifted.reshape(len(shifted), -1)
    rings = replace(sampling.rings, resample=np.eye(images.shape[1], dtype=np.float32))
    # So little noise that a single pattern tells its orientation.
    exact = replace(sampling, rings=rings, n_pixel=images.shape[1], variance=1e-4 * sampling.variance)
    identity = replace(likelihood, sampling=exact)
    one = np.ones(len(images))
    expected = assigning.expect(images, identity, slices, one, one, 1e-4, workers=Threads(2))
    np.testing.assert_allclose(expected.weight, 3.0, atol=1e-3)
    np.testing.assert_allclose(expected.mean, slices, rtol=1e-3, atol=1e-4 * np.abs(slices).max())
    assert expected.mean_distance < 1e-4
    assert expected.entropy < 0.05
    warm = assigning.expect(images, identity, slices, one, one, 1e3, workers=Threads(2))
    assert warm.entropy > 0.99
    np.testing.assert_allclose(warm.weight.sum(axis=0), 36, rtol=1e-4)
