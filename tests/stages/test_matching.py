"""Matching and refinement against known answers: brute force and simulated truth."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from conftest import autocorrelation, intensity, spread
from photons import correlations
from scipy.spatial.transform import Rotation

from spilegate.backend import to_host
from spilegate.geometry import orientations
from spilegate.kernels.polar import Correlator, pattern_harmonics, tile_columns, view_harmonics
from spilegate.kernels.workers import Threads
from spilegate.stages import matching, refining, slicing


def some(experiment, count):
    """The first patterns, where the experiment's workers want them."""
    return spread(to_host(experiment.images)[:count], experiment.workers)


def searched(experiment, volume, method, likelihood, n_views=60, n_phi=48, count=60, n_candidates=2):
    plan, q = experiment.plans[-1], likelihood.sampling.q

    def slicer(rotations):
        return slicing.slices(volume, plan.voxel_angstrom, rotations, q, workers=Threads(2))[None]

    views = orientations.view_grid(n_views, np.random.default_rng(2))
    return method(
        some(experiment, count),
        likelihood,
        slicer,
        views,
        n_phi,
        n_candidates=n_candidates,
        highest=n_phi // 2,
        workers=experiment.workers,
    )


def alone(quaternions):
    """A shortlist with one candidate for each pattern."""
    count = len(quaternions)
    return refining.Shortlist(quaternions[:, None], np.zeros((count, 1), int), np.ones((count, 1), bool))


def turned_by(quaternions, degrees, rng):
    axis = rng.standard_normal((len(quaternions), 3))
    axis *= np.radians(degrees) / np.linalg.norm(axis, axis=1, keepdims=True)
    rotation = Rotation.from_quat(quaternions, scalar_first=True) * Rotation.from_rotvec(axis)
    return rotation.as_quat(canonical=True, scalar_first=True)


def difference(correlation, sums):
    """A score that any slip in the order of the sums would change."""
    return correlation - sums


@pytest.mark.parametrize("highest", [8, 5])
def test_correlations_are_sums_over_shifted_rings(highest):
    rng = np.random.default_rng(1)
    patterns, slices = rng.standard_normal((3, 4, 16)), rng.standard_normal((5, 4, 16))
    spectrum = np.fft.rfft(patterns)
    spectrum[..., highest + 1 :] = 0
    patterns = np.fft.irfft(spectrum, 16).astype(np.float32)
    slices = slices.astype(np.float32)
    correlator = Correlator(16, highest)
    squares, everywhere = slices**2, np.ones((4, 16), np.float32)
    views = view_harmonics(slices, squares, everywhere, correlator.order, tile=5, workers=Threads(2))
    harmonics = pattern_harmonics(patterns, correlator.order)
    full = correlations(correlator, harmonics, views.stack[0])
    for shift in range(16):
        expected = np.einsum("irp,vrp->iv", patterns, np.roll(slices, -shift, axis=-1))
        np.testing.assert_allclose(full[shift], expected, atol=1e-4)
    np.testing.assert_allclose(views.sums[0], squares.sum(axis=(1, 2))[None], rtol=1e-5)
    best = correlator.best(harmonics, views.stack[0], views.sums[0], difference)
    np.testing.assert_allclose(best, [full[:8].max(0) - views.sums[0], full[8:].max(0) - views.sums[0]], atol=1e-4)
    column, half = np.array([[0, 4], [2, 1], [3, 3]]), np.array([[0, 1], [1, 0], [0, 1]])
    chosen = views.stack[0][:, :, column], views.sums[0][:, column]
    shift = correlator.best_shift(harmonics, *chosen, half, difference)
    tiled = view_harmonics(slices, squares, everywhere, correlator.order, tile=4, workers=Threads(2))
    np.testing.assert_array_equal(np.concatenate(list(tiled.stack), axis=2)[..., :5], views.stack[0])
    np.testing.assert_array_equal(np.concatenate(list(tiled.sums), axis=1)[:, :5], views.sums[0])
    assert not tiled.stack[1][..., 1:].any()
    assert (tiled.sums[1][:, 1:] == 1).all()
    np.testing.assert_array_equal(tile_columns(tiled.stack, column), chosen[0])
    np.testing.assert_array_equal(tile_columns(tiled.sums, column), chosen[1])
    for image in range(3):
        for c in range(2):
            part = full[:, image, column[image, c]].copy()
            part[np.arange(16) // 8 != half[image, c]] = -np.inf
            assert shift[image, c] == part.argmax()


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
    arguments = (some(experiment, 60), pixels, np.ones(60), true_autocorrelation[None], plan.voxel_angstrom)
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


def test_matching_tells_states_apart(experiment, true_autocorrelation, particle):
    plan = experiment.plans[-1]
    likelihood = experiment.rings(plan)
    stretched = replace(particle, positions=particle.positions * [0.7, 0.9, 1.25])
    other = autocorrelation(intensity(stretched, plan))

    def slicer(rotations):
        return np.stack(
            [
                slicing.slices(a, plan.voxel_angstrom, rotations, likelihood.sampling.q, workers=Threads(2))
                for a in (other, true_autocorrelation)
            ]
        )

    views = orientations.view_grid(1200, np.random.default_rng(3))
    found = matching.polar(
        some(experiment, 40),
        likelihood,
        slicer,
        views,
        plan.n_phi,
        n_candidates=1,
        highest=plan.highest,
        workers=experiment.workers,
    )
    assert (found.state[:, 0] == 1).all()


def test_refinement_ends_at_the_truth(experiment, true_autocorrelation, simulation):
    plan = experiment.plans[-1]
    rng = np.random.default_rng(4)
    truth = simulation.quaternions[:80]
    result = refining.refine(
        some(experiment, 80),
        experiment.pixels(plan.q_match),
        np.ones(80),
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
    arguments = (some(experiment, 50), experiment.pixels(plan.q_match), np.ones(50), true_autocorrelation[None])
    keywords = {"largest_turn": 0.2, "workers": experiment.workers}
    before = refining.refine(*arguments, plan.voxel_angstrom, alone(start), iterations=0, **keywords)
    after = refining.refine(*arguments, plan.voxel_angstrom, alone(start), iterations=3, **keywords)
    np.testing.assert_array_equal(before.quaternions, start)
    assert (after.distance <= before.distance * (1 + 1e-5)).all()
    assert after.distance.mean() < 0.9 * before.distance.mean()


@pytest.mark.parametrize("other", ["equal", "worse", "half turn", "another state"])
def test_of_candidates_that_fit_alike_one_is_drawn(experiment, true_autocorrelation, simulation, other):
    plan, count = experiment.plans[-1], 40
    truth = simulation.quaternions[:count]
    second = {
        "equal": truth,
        "worse": orientations.random_quaternions(count, np.random.default_rng(6)),
        "half turn": orientations.half_turned(truth),
        "another state": truth,
    }[other]
    state = np.zeros((count, 2), int)
    state[:, 1] = other == "another state"
    lot = np.random.default_rng(7).random((count, 2))
    short = refining.Shortlist(np.stack([truth, second], axis=1), state, np.ones((count, 2), bool), lot)

    def drawn(alike):
        return refining.refine(
            some(experiment, count),
            experiment.pixels(plan.q_match),
            np.ones(count),
            np.stack([true_autocorrelation] * 2),
            plan.voxel_angstrom,
            short,
            iterations=0,
            largest_turn=0.1,
            alike=alike,
            workers=experiment.workers,
        )

    assert not drawn(1.0).equal.any()
    assert drawn(1.5).equal.all() == drawn(1.5).equal.any() == (other == "equal")
    # Whatever the misfit.
    result = drawn(1e9)
    assert result.equal.all() == (other in ("equal", "worse"))
    chosen = second if other in ("equal", "worse") else truth
    assert orientations.angle_between(result.quaternions, chosen).max() < 1e-5
    assert not result.state.any()


def blockwise(experiment, monkeypatch, block_bytes, n_views, count=40):
    """Candidates of a search of two equal models, so that the best views of one tie with those of the other."""
    monkeypatch.setattr(matching, "BLOCK_BYTES", block_bytes)
    plan, n_phi = experiment.plans[2], 48
    likelihood = experiment.rings(replace(plan, n_phi=n_phi))
    volume = np.random.default_rng(3).standard_normal((plan.size,) * 3).astype(np.float32)
    volume += volume[::-1, ::-1, ::-1]
    model = slicing.transform(volume, workers=Threads(2))

    def slicer(rotations):
        q = likelihood.sampling.q
        return np.stack([slicing.slices(model, plan.voxel_angstrom, rotations, q, workers=Threads(2))] * 2)

    return matching.polar(
        to_host(experiment.images)[:count],
        likelihood,
        slicer,
        orientations.view_grid(n_views, np.random.default_rng(2)),
        n_phi,
        n_candidates=4,
        highest=n_phi // 2,
        workers=Threads(2),
    )


def test_a_search_by_blocks_of_views_finds_the_same_bits_and_the_same_of_equals(experiment, monkeypatch):
    whole, blocks = (blockwise(experiment, monkeypatch, size, 700) for size in (1 << 26, 0))
    assert (whole.state[:, 0] == 0).all()
    assert (whole.distance[:, 0] == whole.distance[:, 1]).mean() > 0.9
    for name in ("quaternions", "state", "distance"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name), err_msg=name)


def test_the_memory_of_a_search_does_not_grow_with_the_views(experiment, monkeypatch):
    peaks = []
    for n_views in (192, 3000, 12_000):
        tracemalloc.start()
        blockwise(experiment, monkeypatch, 0, n_views, count=4)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The views themselves: a rotation and a quaternion each.
    assert peaks[2] < 1.5 * peaks[1] < 2.5 * peaks[0]
