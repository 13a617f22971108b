"""Sizes and beams that differ between patterns: found where they do, and left alone where they do not."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from photons import blind, measured, settings

from spilegate.generation import poses, seen
from spilegate.generation.models import merge
from spilegate.generation.start import random_state
from spilegate.geometry.detector import pixel_spacing
from spilegate.kernels.workers import Threads
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import State
from spilegate.settings import MergingOptions
from spilegate.simulation.experiment import Simulation
from spilegate.stages.matching import Candidates

GENERATION = 4
MERGING = MergingOptions(iterations=40)


@cache
def known(photons: float, size_spread: float, centre_jitter: float) -> tuple[Simulation, Experiment, State]:
    """Patterns, and the state after a few generations that has the true orientations, and what they merge to."""
    simulation = measured(images=300, photons=photons, size_spread=size_spread, centre_jitter=centre_jitter)
    options = settings(prepare={"diameter_angstrom": 60.4, "background": "none"})
    experiment = prepare(blind(simulation), options, Threads(2))
    plan = replace(experiment.plan(experiment.fewest_generations()), number=GENERATION + 1)
    state = random_state(experiment, plan, options, np.random.default_rng(0))
    there = replace(state, quaternions=simulation.quaternions, autocorrelation=np.zeros_like(state.autocorrelation))
    merged = merge(experiment, plan, there, MERGING)[0].autocorrelation
    return simulation, experiment, replace(there, autocorrelation=merged, generation=GENERATION)


def twice(experiment: Experiment, state: State) -> State:
    """The state after a refinement, a merge and another refinement."""
    plan = replace(experiment.plan(experiment.fewest_generations()), number=GENERATION + 1)
    once = merge(experiment, plan, refined(experiment, state), MERGING)[0]
    return refined(experiment, replace(once, generation=GENERATION))


def refined(experiment: Experiment, state: State) -> State:
    """The state after a refinement from where patterns are."""
    plan = replace(experiment.plan(experiment.fewest_generations()), number=GENERATION + 1)
    here = Candidates(state.quaternions[:, None], state.state[:, None], np.zeros((len(state.scale), 1), np.float32))
    options = settings().matching
    return poses.refine(experiment, plan, state, here, options, np.random.default_rng(1))[0]


def test_patterns_that_share_size_and_beam_are_left_alone() -> None:
    _, experiment, state = known(5000.0, 0.0, 0.0)
    found = refined(experiment, state)
    assert (found.size_spread, found.shift_spread) == (0.0, 0.0)
    assert len(found.size) == 0


def test_the_beam_of_every_pattern_is_found_to_a_tenth_of_a_pixel() -> None:
    simulation, experiment, state = known(5000.0, 0.0, 1.0)
    found = twice(experiment, state)
    pixel = pixel_spacing(experiment.detector.q)
    assert found.shift_spread / pixel == pytest.approx(1.0, rel=0.1)
    assert simulation.hidden is not None
    # Rows are along q_y.
    error = found.shift[:, ::-1] / pixel - simulation.hidden.centre
    assert np.sqrt((error**2).mean()) < 0.1
    assert found.size_spread == 0
    assert (found.size == 1).all()


def test_the_size_of_every_pattern_is_found() -> None:
    simulation, experiment, state = known(5000.0, 0.05, 0.0)
    found = twice(experiment, state)
    assert found.size_spread == pytest.approx(0.05, rel=0.15)
    assert found.shift_spread == 0
    assert simulation.hidden is not None
    assert np.corrcoef(np.log(found.size), np.log(simulation.hidden.size))[0, 1] > 0.9
    assert np.log(found.size).mean() == pytest.approx(0, abs=1e-9)


def test_a_model_is_sharper_that_knows_the_sizes() -> None:
    simulation, experiment, state = known(5000.0, 0.05, 0.0)
    assert simulation.hidden is not None
    plan = replace(experiment.plan(experiment.fewest_generations()), number=GENERATION + 1)
    *_, reference = known(5000.0, 0.0, 0.0)
    truth, size = reference.autocorrelation[0], simulation.hidden.size
    own = replace(state, size=size, shift=np.zeros((len(size), 2)))
    blank = replace(own, autocorrelation=np.zeros_like(state.autocorrelation))
    sharper = merge(experiment, plan, blank, MERGING)[0].autocorrelation[0]

    def agreement(merged: np.ndarray) -> float:
        return float((merged * truth).sum() / np.sqrt((merged**2).sum() * (truth**2).sum()))

    assert 1 - agreement(sharper) < 0.7 * (1 - agreement(state.autocorrelation[0]))


def test_deviations_are_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    variance = np.full(1000, 0.04**2)
    for true in (0.0, 0.05):
        own = rng.normal(0, true, 1000)
        # Errors are twice as large as they are said to be.
        first, second = (own + rng.normal(0, 0.08, 1000) for _ in range(2))
        shared, inflation = seen._shared((first, variance), (second, variance))
        assert shared == pytest.approx(true, rel=0.15)
        assert inflation == pytest.approx(4, rel=0.15)
        assert seen._deviation(first, inflation * variance) == pytest.approx(true, abs=0.015)
