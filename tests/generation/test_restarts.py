"""Conformations started again: those that a joint start has left behind gain, and none loses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from photons import blind, heap, measured, settings

from spilegate.evaluation.orientations import orientation_error
from spilegate.generation import models, restarts, start
from spilegate.geometry import orientations
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import State
from spilegate.settings import Settings
from spilegate.simulation.experiment import Simulation

TWO = {"matching": {"states": 2}}


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    """80 of 400 patterns show another form."""
    return measured(
        heap(1.8, "long"), images=400, photons=None, others=(heap(0.6, "flat"),), populations=(0.8, 0.2), seed=2
    )


@pytest.fixture(scope="module")
def experiment(simulation: Simulation) -> Experiment:
    return prepare(blind(simulation), settings(**TWO))


@pytest.fixture(scope="module")
def good(simulation: Simulation, experiment: Experiment) -> State:
    """A start in which both forms are found."""
    return restarted(experiment, start.annealed(experiment, chosen(), generator())[0])


def chosen() -> Settings:
    return settings(**TWO, start={"count": 2})


def generator() -> np.random.Generator:
    return np.random.default_rng(4)


def restarted(experiment: Experiment, state: State, figures: dict[str, float] | None = None) -> State:
    state, found = restarts.restarted(experiment, experiment.plans[0], state, chosen(), generator())
    if figures is not None:
        figures.update(found)
    return state


def errors(simulation: Simulation, state: State) -> list[float]:
    """Median error of the orientations of the patterns of each form [degrees], as the truth numbers them."""
    assert simulation.hidden is not None
    members = [simulation.hidden.state == k for k in (0, 1)]
    return [orientation_error(state.quaternions[m], simulation.quaternions[m]).median_deg for m in members]


def right(simulation: Simulation, state: State) -> float:
    assert simulation.hidden is not None
    same = float((state.state == simulation.hidden.state).mean())
    return max(same, 1 - same)


def rarer(state: State) -> int:
    return int(state.members.argmin())


def test_a_conformation_with_bad_orientations_is_started_again(
    simulation: Simulation, experiment: Experiment, good: State
) -> None:
    wrong = replace(good, quaternions=orientations.random_quaternions(400, generator()))
    random, _ = models.merge(experiment, experiment.plans[0], wrong, chosen().merging)
    volumes, k = good.autocorrelation.copy(), rarer(good)
    volumes[k] = random.autocorrelation[k]
    figures: dict[str, float] = {}
    found = restarted(experiment, replace(good, autocorrelation=volumes), figures)
    assert figures["restarts"] == 1
    np.testing.assert_array_equal(np.bincount(found.state).argmin(), k)
    assert right(simulation, found) > 0.95
    assert max(errors(simulation, found)) < 14


def test_another_try_leaves_a_good_start_as_good(simulation: Simulation, experiment: Experiment, good: State) -> None:
    """Unlike forms may be explained unlike well: then a try costs time and nothing else."""
    again = restarted(experiment, good)
    for state in (good, again):
        assert right(simulation, state) > 0.95
        assert max(errors(simulation, state)) < 14
    assert start.mean_distance(again) <= 1.05 * start.mean_distance(good)


def test_a_single_conformation_is_left_as_it_is(experiment: Experiment, good: State) -> None:
    one = replace(good, autocorrelation=good.autocorrelation[:1], density=good.density[:1], support=good.support[:1])
    assert restarted(experiment, replace(one, state=np.zeros_like(one.state))).autocorrelation is one.autocorrelation


def test_a_conformation_without_patterns_is_not_started_again(experiment: Experiment, good: State) -> None:
    figures: dict[str, float] = {}
    none = replace(good, state=np.zeros_like(good.state))
    assert restarted(experiment, none, figures) is none
    assert not figures
