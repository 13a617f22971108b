"""Searches in turn: who is searched for, and what becomes of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from photons import settings

from spilegate.generation import poses
from spilegate.geometry import orientations
from spilegate.patterns.experiment import Experiment
from spilegate.records import Float32, State
from spilegate.schedule import AGAIN_SPACING, ROUGH, SEARCH_AGAIN, SEARCH_OUTWARDS, VIEW_SPACING, schedule
from spilegate.simulation.experiment import Simulation
from spilegate.stages import refining
from spilegate.stages.refining import Shortlist


def test_all_are_searched_for_while_models_are_rough_and_where_the_full_radius_is_reached(
    experiment: Experiment,
) -> None:
    experiment = replace(experiment, plans=schedule(experiment.diameter_angstrom, 30 / experiment.diameter_angstrom))
    last = len(experiment.plans)
    assert last > ROUGH + 2
    found = [experiment.plan(number).search_every for number in range(1, last + 3)]
    assert found == [1] * ROUGH + [SEARCH_OUTWARDS] * (last - ROUGH - 1) + [1] + [SEARCH_AGAIN] * 2
    for number in range(2, last + 3):
        plan = experiment.plan(number)
        assert plan.number == number
        speckles = plan.view_spacing * plan.q_match * experiment.diameter_angstrom
        assert speckles == pytest.approx(VIEW_SPACING if number <= ROUGH else AGAIN_SPACING)


@pytest.fixture
def state(experiment: Experiment, true_autocorrelation: Float32) -> State:
    """A state with the true model and random orientations."""
    plan, count = experiment.plans[-1], len(experiment.images)
    return State(
        generation=plan.number - 1,
        voxel_angstrom=plan.voxel_angstrom,
        history=np.empty((0, 3)),
        quaternions=orientations.random_quaternions(count, np.random.default_rng(3)),
        state=np.zeros(count, np.int64),
        scale=np.ones(count),
        background=experiment.detector.background,
        weight=np.ones(count),
        distance=np.ones(count),
        autocorrelation=true_autocorrelation[None],
        density=np.zeros((1, *true_autocorrelation.shape), np.float32),
        support=np.zeros((1, *true_autocorrelation.shape), bool),
    )


@pytest.mark.parametrize("number", [8, 9])
def test_those_whose_turn_it_is_not_are_refined_where_they_are(
    experiment: Experiment, state: State, number: int
) -> None:
    options = settings(matching={"outliers": False}).matching
    plan = replace(experiment.plans[-1], number=number, search_every=1)
    every, _ = poses.match(experiment, plan, state, options, np.random.default_rng(0))
    plan = replace(plan, search_every=2)
    some, figures = poses.match(experiment, plan, state, options, np.random.default_rng(0))
    assert figures["searched"] == 0.5
    mine = np.arange(len(state.state)) % 2 == number % 2
    np.testing.assert_array_equal(some.quaternions[mine], every.quaternions[mine])
    np.testing.assert_array_equal(some.state[mine], every.state[mine])
    for candidate in range(some.state.shape[1]):
        np.testing.assert_array_equal(some.quaternions[~mine, candidate], state.quaternions[~mine])
    after, figures = poses.refine(experiment, plan, state, some, options, np.random.default_rng(1))
    turned = orientations.angle_between(after.quaternions, state.quaternions)
    # Steps of refinement are small; who is found somewhere else has moved, in parts of those who might have.
    assert turned[~mine].max() < 4 * np.degrees(poses.LARGEST_TURN * plan.view_spacing) + 1e-6
    assert np.median(turned[mine]) > 45
    assert figures["moved"] > 0.9
    assert after.distance[mine].mean() < 0.1 < after.distance[~mine].mean()


def test_who_is_as_well_off_where_he_was_has_not_moved(
    experiment: Experiment, true_autocorrelation: Float32, simulation: Simulation
) -> None:
    """The candidate at hand is told from the others by its place, and by what it explains."""
    plan, count = experiment.plans[-1], 40
    truth = simulation.quaternions[:count]
    wrong = orientations.random_quaternions(count, np.random.default_rng(6))

    def equal(at_hand: int) -> np.ndarray:
        places = np.full(count, at_hand)
        candidates = np.stack([truth, truth, wrong], axis=1)
        shape = candidates.shape[:2]
        short = Shortlist(candidates, np.zeros(shape, int), np.ones(shape, bool), at_hand=places)
        refined = refining.refine(
            experiment.images[:count],
            experiment.pixels(plan.q_match),
            np.ones(count),
            true_autocorrelation[None],
            plan.voxel_angstrom,
            short,
            iterations=0,
            largest_turn=0.1,
            workers=experiment.workers,
        )
        return refined.equal

    assert equal(0).all()
    assert equal(1).all()
    assert not equal(2).any()
