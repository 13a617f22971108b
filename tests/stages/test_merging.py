"""Merging against known answers: simulated truth, direct sums and dense least squares."""

import numpy as np
import pytest
from scipy.sparse.linalg import cg as scipy_cg

from spilegate.geometry import orientations
from spilegate.kernels.workers import Here
from spilegate.settings import MergingOptions
from spilegate.stages import merging


@pytest.fixture(scope="module")
def normal(experiment, true_rotations):
    plan = experiment.plans[-1]
    (normal,) = merging.normal_equations(
        experiment.images,
        experiment.merged(plan.q_merge),
        np.zeros(len(true_rotations), int),
        true_rotations,
        np.ones(len(true_rotations)),
        np.ones(len(true_rotations)),
        1,
        plan.size,
        plan.voxel_angstrom,
        workers=experiment.workers,
    )
    return normal


def test_merge_with_true_orientations_gives_the_true_intensity(experiment, normal, true_intensity):
    plan = experiment.plans[-1]
    support = merging.support_ball(plan.size, plan.voxel_angstrom, 62.0)
    merged, figures = merging.solve(normal, support, np.zeros(support.shape, np.float32), MergingOptions(), threads=2)
    assert figures["cg_iterations"] <= 40
    assert figures["merge_residual"] <= 1.1e-4
    intensity = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(merged))).real
    axis = (np.arange(plan.size) - plan.size // 2) / (plan.size * plan.voxel_angstrom)
    inside = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) <= plan.q_merge
    error = np.linalg.norm((intensity - true_intensity)[inside]) / np.linalg.norm(true_intensity[inside])
    assert error <= 1e-2


def test_normal_equations_are_the_direct_sums():
    rng = np.random.default_rng(6)
    rotations = orientations.matrices(orientations.random_quaternions(4, rng))
    q = rng.uniform(-0.05, 0.05, (6, 3))
    patterns, weight = rng.random((4, 6)).astype(np.float32), rng.random(6).astype(np.float32)
    found = merging.normal_equations_of_slices(patterns, weight, rotations, q, 5, 7.0, here=Here(np, 1))
    points = np.einsum("nji,pj->npi", rotations, q).reshape(-1, 3)

    def cosine_sum(values, size):
        axis = (np.arange(size) - size // 2) * 7.0
        x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
        return np.cos(2 * np.pi * x @ points.T) @ values

    w = np.broadcast_to(weight, patterns.shape).ravel()
    np.testing.assert_allclose(found.kernel, cosine_sum(w, 9), atol=1e-4)
    np.testing.assert_allclose(found.right, cosine_sum(w * patterns.ravel(), 5), atol=1e-4)


def test_every_state_merges_its_own_patterns(experiment, normal, true_rotations):
    plan = experiment.plans[-1]
    labels = np.arange(len(true_rotations)) % 2 * 2
    one = np.ones(len(true_rotations))
    arguments = (experiment.images, experiment.merged(plan.q_merge), labels, true_rotations, one, one)
    first, none, second = merging.normal_equations(
        *arguments, 3, plan.size, plan.voxel_angstrom, workers=experiment.workers
    )
    assert none is None
    largest = np.abs(normal.kernel).max()
    np.testing.assert_allclose(first.kernel + second.kernel, normal.kernel, atol=1e-9 * largest)
    np.testing.assert_allclose(first.right + second.right, normal.right, atol=1e-9 * np.abs(normal.right).max())
    assert np.abs(first.kernel - second.kernel).max() > 1e-3 * largest


def test_merge_solves_the_dense_least_squares_problem():
    rng = np.random.default_rng(7)
    size, voxel, count = 5, 7.0, 30
    rotations = orientations.matrices(orientations.random_quaternions(count, rng))
    q = rng.uniform(-0.06, 0.06, (40, 3))
    support = merging.support_ball(size, voxel, 15.0)
    axis = (np.arange(size) - size // 2) * voxel
    x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)[support]
    model = np.cos(2 * np.pi * np.einsum("nji,pj->npi", rotations, q).reshape(-1, 3) @ x.T)
    patterns = (model @ rng.standard_normal(len(x))).reshape(count, -1).astype(np.float32)
    normal = merging.normal_equations_of_slices(
        patterns, np.ones(40, np.float32), rotations, q, size, voxel, here=Here(np, 1)
    )
    options = MergingOptions(iterations=300, tolerance=1e-12, regularisation=1e-3)
    merged, _ = merging.solve(normal, support, np.zeros((size,) * 3, np.float32), options, threads=1)
    padded = np.zeros((10,) * 3)
    padded[:9, :9, :9] = normal.kernel
    ridge = 1e-3 * np.fft.fftn(np.roll(padded, (-4,) * 3, (0, 1, 2))).real.max()
    matrix = model.T @ model + ridge * np.eye(len(x))
    expected, info = scipy_cg(matrix, model.T @ patterns.ravel().astype(float), rtol=1e-12)
    assert info == 0
    # The dense problem knows nothing of evenness; both have the same, even solution.
    np.testing.assert_allclose(merged[support], expected, rtol=0.02, atol=2e-3 * np.abs(expected).max())
    assert not merged[~support].any()


def test_merging_nothing_gives_nothing():
    normal = merging.Normal(np.ones((9, 9, 9)), np.zeros((5, 5, 5)))
    merged, figures = merging.solve(
        normal, np.ones((5, 5, 5), bool), np.ones((5, 5, 5), np.float32), MergingOptions(), threads=1
    )
    assert not merged.any()
    assert figures["cg_iterations"] == 0
