"""Every stage against known answers: simulated truth, brute force, or independent sums."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import spread
from scipy.sparse.linalg import cg as scipy_cg
from scipy.spatial.transform import Rotation

from spilegate.backend import to_host
from spilegate.evaluation.alignment import align
from spilegate.geometry import orientations
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.workers import Threads
from spilegate.settings import MergingOptions, PhasingOptions
from spilegate.stages import matching, merging, phasing, refining, slicing, starting


def turned_by(quaternions, degrees, rng):
    axis = rng.standard_normal((len(quaternions), 3))
    axis *= np.radians(degrees) / np.linalg.norm(axis, axis=1, keepdims=True)
    rotation = Rotation.from_quat(quaternions, scalar_first=True) * Rotation.from_rotvec(axis)
    return rotation.as_quat(canonical=True, scalar_first=True)


# --- slice -----------------------------------------------------------------------------------------------------------


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
    sampling = experiment.pixels(experiment.q_max)
    plan = experiment.plans[-1]
    model = slicing.slices(
        true_autocorrelation, plan.voxel_angstrom, true_rotations[:20], sampling.q, workers=Threads(2)
    )
    patterns = sampling.patterns(to_host(experiment.images)[:20])
    assert np.linalg.norm(model - patterns) < 2e-3 * np.linalg.norm(patterns)


# --- match -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("highest", [8, 5])
def test_correlations_are_sums_over_shifted_rings(highest):
    rng = np.random.default_rng(1)
    patterns, slices = rng.standard_normal((3, 4, 16)), rng.standard_normal((5, 4, 16))
    spectrum = np.fft.rfft(patterns)
    spectrum[..., highest + 1 :] = 0
    patterns = np.fft.irfft(spectrum, 16).astype(np.float32)
    slices = slices.astype(np.float32)
    correlator = Correlator(16, highest)
    views = view_harmonics(slices, correlator.order, tile=5, workers=Threads(2))
    harmonics = pattern_harmonics(patterns, correlator.order)
    full = correlator.full(harmonics, views.stack[0])
    for shift in range(16):
        expected = np.einsum("irp,vrp->iv", patterns, np.roll(slices, -shift, axis=-1))
        np.testing.assert_allclose(full[shift], expected, atol=1e-4)
    best = correlator.best(harmonics, views.stack[0])
    np.testing.assert_allclose(best, [full[:8].max(0), full[8:].max(0)], atol=1e-4)
    column, half = np.array([[0, 4], [2, 1], [3, 3]]), np.array([[0, 1], [1, 0], [0, 1]])
    shift = correlator.best_shift(harmonics, views.stack[0][:, :, column], half)
    tiled = view_harmonics(slices, correlator.order, tile=4, workers=Threads(2))
    np.testing.assert_array_equal(np.concatenate(list(tiled.stack), axis=2)[..., :5], views.stack[0])
    np.testing.assert_array_equal(tiled.norm.ravel()[:5], views.norm[0])
    assert np.isinf(tiled.norm.ravel()[5:]).all()
    for image in range(3):
        for c in range(2):
            part = full[:, image, column[image, c]].copy()
            part[np.arange(16) // 8 != half[image, c]] = -np.inf
            assert shift[image, c] == part.argmax()


def some(experiment, count):
    """The first patterns, where the experiment's workers want them."""
    return spread(to_host(experiment.images)[:count], experiment.workers)


def searched(experiment, volume, method, sampling, n_views=60, n_phi=48, count=60, n_candidates=2):
    plan = experiment.plans[-1]

    def slicer(rotations):
        return slicing.slices(volume, plan.voxel_angstrom, rotations, sampling.q, workers=Threads(2))[None]

    views = orientations.view_grid(n_views, np.random.default_rng(2))
    return method(
        some(experiment, count),
        sampling,
        slicer,
        views,
        n_phi,
        n_candidates=n_candidates,
        highest=n_phi // 2,
        workers=experiment.workers,
    )


def test_polar_and_gemm_agree_on_the_same_samples(experiment, true_autocorrelation):
    rings = experiment.rings(replace(experiment.plans[-1], n_phi=48))
    fast = searched(experiment, true_autocorrelation, matching.polar, rings)
    slow = searched(experiment, true_autocorrelation, matching.gemm, rings)
    np.testing.assert_allclose(fast.distance, slow.distance, atol=2e-4)
    angle = orientations.angle_between(fast.quaternions[:, 0], slow.quaternions[:, 0])
    assert ((angle < 1e-3) | (fast.distance[:, 0] > slow.distance[:, 0] - 1e-4)).all()
    assert (angle < 1e-3).mean() >= 0.97


def test_polar_on_rings_chooses_as_well_as_gemm_on_pixels(experiment, true_autocorrelation):
    plan = experiment.plans[-1]
    pixels = experiment.pixels(plan.q_match)
    rings = experiment.rings(replace(plan, n_phi=64))
    fast = searched(experiment, true_autocorrelation, matching.polar, rings, 500, 64, n_candidates=1)
    slow = searched(experiment, true_autocorrelation, matching.gemm, pixels, 500, 64, n_candidates=1)
    same = orientations.angle_between(fast.quaternions[:, 0], slow.quaternions[:, 0]) < 1e-3
    arguments = (some(experiment, 60), pixels, true_autocorrelation[None], plan.voxel_angstrom)
    keywords = {"iterations": 0, "largest_turn": 1.0, "workers": experiment.workers}
    of_fast = refining.refine(*arguments, alone(fast.quaternions[:, 0]), **keywords).distance
    of_slow = refining.refine(*arguments, alone(slow.quaternions[:, 0]), **keywords).distance
    assert (same | (of_fast <= 1.05 * of_slow)).mean() >= 0.98


def test_match_finds_the_true_orientations(experiment, true_autocorrelation, simulation):
    plan = experiment.plans[-1]
    found = searched(
        experiment, true_autocorrelation, matching.polar, experiment.rings(plan), plan.n_views, plan.n_phi, 100
    )
    error = orientations.angle_between(found.quaternions[:, 0], simulation.quaternions[:100])
    assert np.median(error) < np.degrees(plan.view_spacing)
    assert error.max() < 2.5 * np.degrees(plan.view_spacing)
    assert (np.diff(found.distance, axis=1) >= 0).all()


def test_matching_tells_states_apart(experiment, true_autocorrelation):
    plan = experiment.plans[-1]
    sampling = experiment.rings(plan)
    other = np.ascontiguousarray(true_autocorrelation[::-1].transpose(1, 0, 2)) * np.float32(0.7)

    def slicer(rotations):
        return np.stack(
            [
                slicing.slices(a, plan.voxel_angstrom, rotations, sampling.q, workers=Threads(2))
                for a in (other, true_autocorrelation)
            ]
        )

    views = orientations.view_grid(1200, np.random.default_rng(3))
    found = matching.polar(
        some(experiment, 40),
        sampling,
        slicer,
        views,
        plan.n_phi,
        n_candidates=1,
        highest=plan.highest,
        workers=experiment.workers,
    )
    assert (found.state[:, 0] == 1).all()


def alone(quaternions):
    """A shortlist with one candidate for each pattern."""
    count = len(quaternions)
    return refining.Shortlist(quaternions[:, None], np.zeros((count, 1), int), np.ones((count, 1), bool))


# --- refine ----------------------------------------------------------------------------------------------------------


def test_refinement_ends_at_the_truth(experiment, true_autocorrelation, simulation):
    plan = experiment.plans[-1]
    rng = np.random.default_rng(4)
    truth = simulation.quaternions[:80]
    result = refining.refine(
        some(experiment, 80),
        experiment.pixels(plan.q_match),
        true_autocorrelation[None],
        plan.voxel_angstrom,
        alone(turned_by(truth, 4.0, rng)),
        iterations=6,
        largest_turn=0.1,
        workers=experiment.workers,
    )
    error = orientations.angle_between(result.quaternions, truth)
    # The truth on a grid is cut at Nyquist, which shifts the best orientation by a hundredth of a view spacing.
    assert np.median(error) < 0.1
    assert error.max() < 0.5
    assert result.distance.max() < 1e-2


def test_refinement_never_makes_a_pattern_worse(experiment, true_autocorrelation):
    plan = experiment.plans[-1]
    start = orientations.random_quaternions(50, np.random.default_rng(5))
    arguments = (some(experiment, 50), experiment.pixels(plan.q_match), true_autocorrelation[None])
    keywords = {"largest_turn": 0.2, "workers": experiment.workers}
    before = refining.refine(*arguments, plan.voxel_angstrom, alone(start), iterations=0, **keywords)
    after = refining.refine(*arguments, plan.voxel_angstrom, alone(start), iterations=3, **keywords)
    np.testing.assert_array_equal(before.quaternions, start)
    assert (after.distance <= before.distance * (1 + 1e-5)).all()
    assert after.distance.mean() < 0.9 * before.distance.mean()


# --- merge -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def normal(experiment, true_rotations):
    plan = experiment.plans[-1]
    (normal,) = merging.normal_equations(
        experiment.images,
        experiment.pixels(plan.q_merge),
        np.zeros(len(true_rotations), int),
        true_rotations,
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
    found = merging.normal_equations_of_slices(patterns, weight, rotations, q, 5, 7.0)
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
    arguments = (experiment.images, experiment.pixels(plan.q_merge), labels, true_rotations)
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
    normal = merging.normal_equations_of_slices(patterns, np.ones(40, np.float32), rotations, q, size, voxel)
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


# --- phase -----------------------------------------------------------------------------------------------------------


def blob_density(size=27):
    rng = np.random.default_rng(8)
    axis = np.arange(size) - size // 2
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    centres = rng.uniform(-4, 4, (25, 3))
    density = sum(np.exp(-((grid - c) ** 2).sum(-1) / 3.0) for c in centres)
    # Nothing below the level at which shrink-wrap cuts.
    return np.maximum(density - 0.1 * density.max(), 0).astype(np.float32)


@pytest.mark.parametrize("method", ["hio", "raar"])
def test_phasing_recovers_a_density_from_its_autocorrelation(method):
    truth = blob_density()
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
    target = phasing.amplitudes(blob_density(9)[None], 2.0, q_min=0.1, q_max=0.2, threads=1)
    axis = np.fft.fftfreq(9, 2.0)
    q = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + np.fft.rfftfreq(9, 2.0) ** 2)
    np.testing.assert_array_equal(target.measured[0], (q >= 0.1 - 1e-7) & (q <= 0.2 + 1e-7))


# --- start -----------------------------------------------------------------------------------------------------------


def test_cold_expectation_gives_every_view_its_own_patterns(experiment, true_autocorrelation):
    """Patterns made of slices at grid orientations: at low temperature the expected pattern of a view is its slice."""
    plan = replace(experiment.plans[0], n_phi=32)
    sampling = experiment.rings(plan)
    voxel = experiment.plans[-1].voxel_angstrom
    views = orientations.view_grid(12, np.random.default_rng(10))
    slices = slicing.slices(true_autocorrelation, voxel, views, sampling.q, workers=Threads(2))
    shifted = np.concatenate([np.roll(slices, shift, axis=-1) for shift in (0, 5, 11)])
    images = shifted.reshape(len(shifted), -1)
    identity = replace(sampling, rings=replace(sampling.rings, resample=np.eye(images.shape[1], dtype=np.float32)))
    expected = starting.expect(images, identity, slices, 1e-4, workers=Threads(2))
    np.testing.assert_allclose(expected.weight, 3.0, atol=1e-3)
    np.testing.assert_allclose(expected.mean, slices, rtol=1e-3, atol=1e-4 * np.abs(slices).max())
    assert expected.mean_distance < 1e-4
    assert expected.entropy < 0.05
    warm = starting.expect(images, identity, slices, 1e3, workers=Threads(2))
    assert warm.entropy > 0.99
    assert warm.weight.sum() == pytest.approx(36, rel=1e-4)
