"""The loop: schedule, blind convergence, reproducibility, resumption, states, half-sets."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import Diary, as_dataset, assert_same_state
from hypothesis import given
from hypothesis import strategies as st

from spilegate.errors import InputError
from spilegate.evaluation.comparison import compare
from spilegate.generation import poses, start
from spilegate.generation import start as starts
from spilegate.mtip import reconstruct
from spilegate.patterns.prepare import prepare
from spilegate.schedule import schedule
from spilegate.settings import Settings
from spilegate.simulation.experiment import simulate
from spilegate.stages.matching import Candidates


def settings(**options: object) -> Settings:
    return Settings.model_validate(
        {"compute": {"threads": 2}, "resolution": {"half_sets": False, "phasings": 0}} | options
    )


@pytest.fixture(scope="module")
def run(simulation):
    diary = Diary()
    return reconstruct(as_dataset(simulation), settings(seed=3), watcher=diary), diary


def test_blind_reconstruction_finds_density_and_orientations(run, simulation):
    result, _ = run
    comparison, _ = compare(
        result.state.density[0],
        result.state.voxel_angstrom,
        simulation.volume,
        simulation.voxel_angstrom,
        q_max=result.q_max,
        quaternions=result.state.quaternions,
        true_quaternions=simulation.quaternions,
        threads=2,
    )
    assert comparison.correlation > 0.97
    assert comparison.resolution_angstrom < 1.1 * 12.0
    assert comparison.orientation_error_deg["median"] < 1.0
    assert result.diameter_estimated
    assert result.diameter_angstrom == pytest.approx(60.4, rel=0.2)


def test_the_watcher_sees_every_stage_and_generation(run):
    result, diary = run
    count = len(diary.states)
    assert [state.generation for state in diary.states] == list(range(1, count + 1))
    assert [p.stage for p in diary.stages] == ["start"] + ["match", "refine", "merge", "phase"] * (count - 1)
    # How many there will be is known at the end only.
    assert all(p.generation <= p.generations <= count and p.seconds >= 0 for p in diary.stages)
    assert diary.stages[-1].generations == count
    assert len(result.state.history) == count - 1
    assert result.converged
    assert {"mean_distance", "moved", "cg_iterations", "merge_residual", "phasing_r"} <= set(result.figures)
    assert all(np.isfinite(value) for p in diary.stages for value in p.figures.values())
    extents = {round(state.voxel_angstrom * state.density.shape[-1], 6) for state in diary.states}
    assert len(extents) == 1


def test_states_hold_what_they_promise(run):
    state = run[0].state
    size = state.density.shape[-1]
    assert size % 2 == 1
    assert state.autocorrelation.shape == state.density.shape == state.support.shape == (1, size, size, size)
    assert state.autocorrelation.dtype == state.density.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(state.quaternions, axis=1), 1)
    assert (state.density >= 0).all()
    scale = np.abs(state.autocorrelation).max()
    np.testing.assert_allclose(state.autocorrelation, state.autocorrelation[:, ::-1, ::-1, ::-1], atol=1e-4 * scale)
    assert state.autocorrelation[0].argmax() == size**3 // 2


def test_a_resumed_run_ends_like_an_uninterrupted_one(run, simulation):
    result, diary = run
    resumed = reconstruct(as_dataset(simulation), settings(seed=3), state=diary.states[2])
    assert_same_state(resumed.state, result.state)


def test_threads_change_nothing_but_the_time(run, simulation):
    result, _ = run
    alone = reconstruct(as_dataset(simulation), settings(seed=3, compute={"threads": 1}))
    assert_same_state(alone.state, result.state)


def test_a_finished_run_resumes_to_itself(run, simulation):
    result, _ = run
    assert_same_state(reconstruct(as_dataset(simulation), settings(seed=3), state=result.state).state, result.state)


def test_the_seed_decides_the_start(experiment):
    first, again, other = (
        start.random_state(experiment, experiment.plans[0], settings(), np.random.default_rng([seed, 1]))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.quaternions, again.quaternions)
    assert np.abs(first.quaternions - other.quaternions).max() > 0.1


def test_two_states_tell_two_particles_apart(simulation, particle):
    """Patterns of the particle and of the same particle stretched, half each, from a blind start with K = 2."""
    other = replace(particle, positions=particle.positions * [0.7, 0.9, 1.25])
    arguments = {
        "images": 150,
        "pixels": 40,
        "resolution_angstrom": 12.0,
        "wavelength_angstrom": 1.0,
        "photons": None,
        "threads": 2,
    }
    sets = [simulate(p, seed=s, **arguments) for s, p in enumerate((particle, other))]
    dataset = as_dataset(sets[0])
    images = np.concatenate([s.intensities.reshape(150, -1) for s in sets])
    quick = {"prepare": {"diameter_angstrom": 70.0, "q_max": 0.06}, "start": {"count": 2}, "phasing": {"starts": 2}}
    result = reconstruct(replace(dataset, images=images), settings(matching={"states": 2}, **quick))
    assert result.state.density.shape[0] == 2
    truth = np.repeat([0, 1], 150)
    right = (result.state.state == truth).mean()
    assert max(right, 1 - right) > 0.9


def test_half_sets_give_a_curve(simulation):
    options = settings(resolution={}, prepare={"diameter_angstrom": 62.0, "q_max": 0.06})
    diary = Diary()
    result = reconstruct(as_dataset(simulation), options, watcher=diary)
    # Each half stops when it has converged, as the whole does; the march to the full radius is the same.
    assert sorted(diary.halves) == [1, 2]
    radii = {number: [row[0] for row in half.states[-1].history] for number, half in diary.halves.items()}
    for number, half in diary.halves.items():
        assert [state.generation for state in half.states] == list(range(1, len(half.states) + 1))
        assert radii[number][-2:] == [pytest.approx(0.06)] * 2
        assert radii[number][:3] == [row[0] for row in diary.states[-1].history][:3]
    assert [len(half.states[0].scale) for half in diary.halves.values()] == [150, 150]
    assert len(diary.states[0].scale) == 300
    assert not any(half.halves for half in diary.halves.values())
    certainty = result.certainty
    assert certainty.patterns == (150, 150)
    assert certainty.half_set_fsc.shape == certainty.prtf.shape == (1, len(certainty.q))
    assert len(certainty.q) > 5
    assert certainty.q[-1] <= 0.06
    low = certainty.q < 0.045
    assert certainty.half_set_fsc[0, low].min() > 0.9
    assert certainty.prtf[0, low].min() > 0.8
    assert certainty.held_out.deviations.min() > 10


def test_gemm_takes_the_place_of_polar(simulation):
    dataset = as_dataset(simulation)
    dataset = replace(dataset, images=dataset.images[:60])
    common = {"prepare": {"diameter_angstrom": 62.0, "q_max": 0.045}}
    distances = [
        reconstruct(dataset, settings(matching={"method": method}, **common)).figures["mean_distance"]
        for method in ("polar", "gemm")
    ]
    assert distances[1] == pytest.approx(distances[0], rel=0.5)


def test_too_few_speckles_are_refused(simulation):
    with pytest.raises(InputError, match="speckles"):
        prepare(as_dataset(simulation), settings(prepare={"diameter_angstrom": 10.0}))


def test_a_start_reaches_beyond_pixels_that_are_for_merging_only(simulation):
    """As in masks of experiments, where the innermost speckles do not tell orientations."""
    dataset = as_dataset(simulation)
    length = np.linalg.norm(dataset.q, axis=1)
    first = 3.2 / 60.0
    given = {"diameter_angstrom": 60.0}
    inner = replace(dataset, mask=np.where(length < first, 1, 0).astype(np.uint8))
    experiment = prepare(inner, settings(prepare=given))
    assert experiment.q_min < 0.1 * first
    assert experiment.q_first == pytest.approx(first, rel=0.05)
    plan = experiment.plan(1)
    coverage = experiment.rings(plan).sampling.coverage
    assert plan.q_match > experiment.q_first + 1.5 / 60.0
    assert (coverage.max(axis=1) > 0).all()
    everywhere = prepare(dataset, settings(prepare=given))
    assert everywhere.q_first == everywhere.q_min


@given(st.floats(20, 2000), st.floats(2.1, 25))
def test_schedules_march_outwards(diameter, speckles):
    q_max = speckles / diameter
    plans = schedule(diameter, q_max)
    assert [p.number for p in plans] == list(range(1, len(plans) + 1))
    assert plans[-1].q_match == plans[-1].q_merge == pytest.approx(q_max)
    for before, after in pairwise(plans):
        assert after.q_match == pytest.approx(before.q_merge)
        assert after.q_merge <= 1.61 * after.q_match
        assert after.size >= before.size
    for plan in plans:
        assert 1 / (2 * plan.voxel_angstrom) >= plan.q_merge * (1 - 1e-9)
        assert plan.highest <= plan.n_phi // 2
        assert plan.size % 2 == 1


def test_temperatures_fall():
    values = starts.temperatures(settings().start)
    assert len(values) == settings().start.iterations
    assert (np.diff(values) <= 0).all()
    assert values[0] == pytest.approx(0.3)
    assert values[-1] == pytest.approx(0.015)


def test_one_candidate_stands_for_its_basin(run):
    """A candidate near the best one is dropped; the orientation at hand replaces the one whose basin it is in."""
    state = replace(run[0].state, generation=5)
    count, spacing = 4, 5.0
    best = state.quaternions[:count]

    def turned(angle):
        turn = np.array([np.cos(np.radians(angle) / 2), np.sin(np.radians(angle) / 2), 0, 0])
        w, x, y, z = best.T
        a, b = turn[0], turn[1]
        return np.stack([w * a - x * b, x * a + w * b, y * a + z * b, z * a - y * b], axis=1)

    candidates = Candidates(
        quaternions=np.stack([turned(1.0), turned(5.0), turned(90.0)], axis=1),
        state=np.zeros((count, 3), int),
        distance=np.tile(np.float32([0.1, 0.12, 0.2]), (count, 1)),
    )
    short = replace(state, quaternions=best, state=state.state[:count])
    short_list = poses.shortlist(short, candidates, spacing, np.random.default_rng(0))
    assert (short_list.keep.sum(axis=1) == 2).all()
    for i in range(count):
        mine = short_list.quaternions[i, short_list.keep[i]]
        assert (np.abs(mine @ best[i]) > 1 - 1e-12).any()
        assert (np.abs(mine @ turned(90.0)[i]) > 1 - 1e-9).any()
    assert (short_list.state == 0).all()


def test_a_half_begins_where_the_whole_had_to_and_stops_at_a_start_as_good(simulation):
    options, one = (
        settings(prepare={"diameter_angstrom": 60.0}, start={"count": count, "iterations": 8}) for count in (3, 1)
    )
    experiment = prepare(as_dataset(simulation), options)
    whole, figures = starts.annealed(experiment, options, np.random.default_rng(2))
    assert figures["starts"] >= 2
    assert whole.started == pytest.approx(whole.distance.mean())
    for outwards in (0, 1):
        half = experiment.half(0, replace(whole, start=outwards, started=2.0))
        _, figures = starts.annealed(half, options, np.random.default_rng(3))
        assert figures["starts"] >= 2
        first, _ = starts.annealed(half, one, np.random.default_rng(3))
        as_good = replace(half, started=replace(half.started, distance=first.started))
        _, figures = starts.annealed(as_good, options, np.random.default_rng(3))
        assert figures["starts"] == 1
        assert figures["steps_outwards"] == outwards


def test_starts_end_when_the_two_best_agree(run):
    def start(distance):
        return replace(run[0].state, distance=np.full(3, distance))

    assert not starts.agree([])
    assert not starts.agree([start(0.05)])
    assert not starts.agree([start(0.05), start(0.09)])
    assert not starts.agree([start(0.05), start(0.09), start(0.091)])
    assert starts.agree([start(0.05), start(0.09), start(0.054)])
    # A half of the patterns is told how well all of them were explained.
    assert not starts.agree([], 0.05)
    assert not starts.agree([start(0.05)], 0.09)
    assert starts.agree([start(0.05)], 0.054)
