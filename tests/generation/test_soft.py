"""Runs that assign patterns softly: when, in which generations, with which scales, and until when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import Diary, assert_same_state
from hypothesis import given
from hypothesis import strategies as st
from made_up import made_up_state
from photons import blind, measured, settings, true_autocorrelation

from spilegate.convergence import converged, reason
from spilegate.generation import soft, start
from spilegate.geometry import orientations
from spilegate.geometry.symmetry import group
from spilegate.kernels.events import events
from spilegate.mtip import reconstruct
from spilegate.patterns.experiment import SOFT_PHOTONS, Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset, State, Watcher
from spilegate.resolution import halves
from spilegate.schedule import SOFT_REPEATS, schedule
from spilegate.settings import ConvergenceOptions, Settings
from spilegate.simulation.experiment import Simulation
from spilegate.simulation.particle import built_in_particle, diameter_angstrom
from spilegate.stages import slicing

GIVEN = {"diameter_angstrom": 62.0}


@pytest.fixture(scope="module")
def dim() -> Simulation:
    """Few photons: the pulses differ a lot, and more photons are background than signal."""
    return measured(images=800, photons=150.0, scale_decades=1.0, background=40.0)


@given(st.floats(20, 2000), st.floats(2.1, 25), st.floats(0, 1))
def test_soft_schedules_repeat_every_radius_with_all_harmonics(diameter: float, speckles: float, inside: float) -> None:
    q_max = speckles / diameter
    plans = schedule(diameter, q_max, inside * q_max, soft=True)
    assert [plan.number for plan in plans] == list(range(1, len(plans) + 1))
    march = plans[1:]
    radii = [plan.q_match for plan in march]
    assert all(radii.count(radius) == SOFT_REPEATS for radius in set(radii))
    assert radii == sorted(radii)
    assert radii[0] == plans[0].q_match or len(set(radii)) == 1
    assert all(after <= 1.61 * before for before, after in pairwise([plans[0].q_match, *radii]))
    assert plans[-1].q_match == plans[-1].q_merge == q_max
    for plan in march:
        harmonics = np.ceil(2 * np.pi * plan.q_match * diameter) + 2
        assert plan.q_merge == plan.q_match
        assert plan.n_phi >= 2 * harmonics
        assert plan.highest == harmonics
        assert plan.n_phi % 8 == 0


def test_runs_announce_the_generations_they_need(dim: Simulation) -> None:
    kinds = [{"assignment": "soft"}, {"assignment": "hard"}]
    soft, hard = (prepare(blind(dim), settings(prepare=GIVEN, matching=kind)) for kind in kinds)
    # Two at the full radius are needed to see that nothing changes, and softly there are two in the schedule.
    for experiment in (soft, hard):
        full = sum(
            experiment.plan(n).q_match == experiment.q_max for n in range(2, experiment.fewest_generations() + 1)
        )
        assert full == 2
    assert (soft.fewest_generations(), hard.fewest_generations()) == (len(soft.plans), len(hard.plans) + 1)


def test_patterns_of_few_photons_are_assigned_softly_unless_told_otherwise() -> None:
    few, many = (blind(measured(images=60, photons=photons)) for photons in (0.7 * SOFT_PHOTONS, 1.4 * SOFT_PHOTONS))

    def soft(dataset: Dataset, **matching: Any) -> bool:
        return prepare(dataset, settings(prepare=GIVEN, matching=matching)).soft

    assert soft(few)
    assert not soft(many)
    assert not soft(few, assignment="hard")
    assert soft(many, assignment="soft")
    assert soft(many, assignment="soft", statistics="gaussian")
    assert soft(replace(few, images=events(few.images, int(few.images.sum(axis=1).max()))))
    # Intensities may have any unit.
    assert not soft(replace(few, counts=False))


def test_halves_go_the_way_of_the_whole() -> None:
    """Also where one half has more photons than the limit, and the other one less."""
    dataset, seen = blind(measured(images=120, photons=300.0)), []
    images = dataset.images.copy()
    images[::2] *= 2
    whole = prepare(replace(dataset, images=images), settings(prepare=GIVEN))

    def run(experiment: Experiment, options: Settings, *, watcher: Watcher | None) -> Any:
        assert not options.resolution.half_sets
        seen.append(experiment)
        if len(seen) == 2:
            raise StopIteration

    for softly, statistics in ((True, "poisson"), (False, "gaussian")):
        seen.clear()
        found = replace(whole, soft=softly, statistics=statistics)
        with pytest.raises(StopIteration):
            halves.half_sets(settings(prepare=GIVEN), found, made_up_state(), run)
        assert [(half.soft, half.statistics) for half in seen] == [(softly, statistics)] * 2
        assert [half.plans for half in seen] == [whole.plans] * 2


def test_the_diameter_is_found_from_few_photons() -> None:
    """Most of every pattern is noise, and whitened by it the rings would leave little but the inner speckles."""
    simulation = measured(images=4000, photons=180.0)
    experiment = prepare(blind(simulation), settings())
    assert experiment.soft
    assert experiment.diameter_estimated
    assert experiment.diameter_angstrom == pytest.approx(diameter_angstrom(built_in_particle("demo")), rel=0.2)


def known(simulation: Simulation, **options: Any) -> tuple[Experiment, State]:
    """An experiment, and the true model in the second generation."""
    chosen = settings(prepare=GIVEN, **options)
    experiment = prepare(blind(simulation), chosen)
    plan, rng = experiment.plans[1], np.random.default_rng(0)
    state = start.random_state(experiment, experiment.plans[0], chosen, rng)
    volume = true_autocorrelation(built_in_particle("demo"), plan.size, plan.voxel_angstrom)
    on = experiment.rings(plan).sampling
    views = orientations.view_grid(50, rng)
    slices = slicing.slices(volume, plan.voxel_angstrom, views, on.q, workers=experiment.workers)
    volume *= np.float32((on.mean * on.cell).sum() / (slices.mean(axis=0) * on.cell).sum())
    return experiment, replace(state, voxel_angstrom=plan.voxel_angstrom, autocorrelation=volume[None])


def test_soft_scales_are_those_of_the_pulses_not_of_the_background(dim: Simulation) -> None:
    """Else they draw together, and the line through counts over scales, which the background is from, is too steep."""
    assert dim.hidden is not None
    experiment, state = known(dim)
    assert experiment.soft
    assert experiment.findings.background_estimated
    plan, matching = experiment.plans[1], settings().matching
    for seed in range(2):
        assigned, _ = soft.assign(experiment, plan, state, np.random.default_rng(seed))
        state, _ = soft.settle(experiment, plan, state, assigned, matching)
    slope, _ = np.polyfit(dim.hidden.scale, state.scale, 1)
    assert slope > 0.8
    assert state.scale.min() > 0
    before, after = (where.background.sum() for where in (experiment.detector, state))
    assert after == pytest.approx(before, rel=0.06)


def test_equivalent_orientations_have_not_moved() -> None:
    """From one image of the asymmetric unit into another one is no way at all."""
    experiment, state = known(measured(images=40, photons=300.0), symmetry="C4", matching={"assignment": "soft"})
    plan, matching = experiment.plans[1], settings().matching
    assigned, _ = soft.assign(experiment, plan, state, np.random.default_rng(0))
    elements = group("C4").rotations[np.arange(40) % 4]
    there = orientations.matrices(assigned.state(state, plan.n_phi).quaternions) @ elements
    state = replace(state, quaternions=orientations.quaternions(there))
    _, figures = soft.settle(experiment, plan, state, assigned, matching)
    assert figures["moved"] == 0
    assert figures["median_turn_deg"] == pytest.approx(0, abs=1e-4)


def test_a_state_that_nothing_is_assigned_to_keeps_its_model() -> None:
    experiment, state = known(measured(images=40, photons=100.0))
    plan, both = experiment.plans[1], np.concatenate([state.autocorrelation, 0.5 * state.autocorrelation])
    state = replace(state, autocorrelation=both, density=np.zeros_like(both))
    assigned, _ = soft.assign(experiment, plan, state, np.random.default_rng(0))
    weight = assigned.expected.weight.copy()
    weight[len(weight) // 2 :] = 1e-9
    assigned = replace(assigned, expected=replace(assigned.expected, weight=weight))
    found, _ = soft.average(experiment, plan, state, assigned, settings().merging)
    np.testing.assert_allclose(found.autocorrelation[1], both[1], atol=1e-5 * both.max())
    assert np.abs(found.autocorrelation[0] - both[0]).max() > 1e-3 * both.max()


@pytest.mark.filterwarnings("error")
def test_a_pattern_may_have_no_photons_on_the_pixels_for_matching() -> None:
    dataset = blind(measured(images=300, photons=20.0, scale_decades=1.5))
    images = dataset.images.copy()
    images[:3] = 0
    for pattern in (images, events(images, int(images.sum(axis=1).max()))):
        experiment = prepare(replace(dataset, images=pattern), settings(prepare=GIVEN))
        assert experiment.weight[3:].mean() > 0.9
        assert experiment.scale.min() > 0
        plan = experiment.plans[0]
        state = start.random_state(experiment, plan, settings(), np.random.default_rng(0))
        state, _ = start.anneal(experiment, plan, state, 0.1, np.random.default_rng(1))
        assert np.isfinite(state.autocorrelation).all()


def history(*distances: float, moved: float = 0.5) -> np.ndarray:
    return np.array([[0.1, distance, moved] for distance in distances])


def test_what_few_photons_explain_has_to_stay() -> None:
    """Where 98 % of the distance is noise, a change by half a percent is a quarter of all that slices explain."""
    options = ConvergenceOptions(distance=0.005)
    assert not converged(history(0.980, 0.976), 0.1, options)
    assert converged(history(0.980, 0.97995), 0.1, options)
    assert "slices explain changed by +20.00%" in reason(history(0.980, 0.976), 0.1, options)
    # Of many photons the distance itself.
    assert not converged(history(0.020, 0.024), 0.1, options)
    assert converged(history(0.020, 0.02005), 0.1, options)
    assert "distance changed by +20.00%" in reason(history(0.020, 0.024), 0.1, options)
    # Without noise it goes up and down by a tenth of almost nothing.
    assert converged(history(0.0080, 0.0082), 0.1, options)
    assert not converged(history(0.0080, 0.0090), 0.1, options)
    assert "and 9.38% are allowed" in reason(history(0.0080, 0.0090), 0.1, options)
    for nothing in (0.0, 1.0):
        assert converged(history(nothing, nothing), 0.1, options)
        assert not converged(history(nothing, 0.5), 0.1, options)


def test_a_soft_run_that_is_resumed_ends_like_an_uninterrupted_one() -> None:
    """Resumed in the schedule, and beyond it; on any number of threads."""
    seen = measured(images=300, photons=80.0, scale_decades=0.5, background=0.5, mask=("cross",))
    options = settings(
        prepare=GIVEN | {"q_max": 0.05},
        start={"count": 1, "iterations": 4},
        phasing={"cycles": 2, "starts": 2},
        convergence={"most_generations": 4, "distance": 0.0},
    )
    dataset, diary = blind(seen), Diary()
    experiment = prepare(dataset, options)
    assert experiment.soft
    result = reconstruct(dataset, options, watcher=diary, experiment=experiment)
    assert len(diary.states) == len(experiment.plans) + 2
    assert diary.stages[0].generations == len(experiment.plans)
    for begin, threads in ((1, 2), (len(experiment.plans), 1)):
        compute = options.compute.model_copy(update={"threads": threads})
        resumed = reconstruct(dataset, options.model_copy(update={"compute": compute}), state=diary.states[begin])
        assert_same_state(resumed.state, result.state)
