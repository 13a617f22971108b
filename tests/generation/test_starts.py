"""The blind start from a part of the patterns: from how many, and what the rest of them gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from photons import blind, measured, settings

from spilegate.evaluation.orientations import orientation_error
from spilegate.generation import start
from spilegate.kernels.events import events
from spilegate.mtip import blind_start, reconstruct
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import State
from spilegate.simulation.experiment import Simulation
from spilegate.watching import Recorder

GIVEN = {"diameter_angstrom": 62.0}


@pytest.fixture(scope="module")
def many() -> Simulation:
    """Bright patterns, of pulses that differ."""
    return measured(images=1600, scale_decades=1.0)


@pytest.fixture(scope="module")
def experiment(many: Simulation) -> Experiment:
    return prepare(blind(many), settings(prepare=GIVEN))


def started(experiment: Experiment, **start: Any) -> State:
    chosen = settings(start={"count": 1, **start})
    plan, rng = experiment.plans[0], np.random.default_rng(2)
    return blind_start(experiment, plan, chosen, rng, Recorder(None))


@pytest.mark.parametrize(
    ("patterns", "expected"), [(None, 1600), (300, 400), (800, 800), (801, 1600), (1, 25), (10**9, 1600)]
)
def test_a_start_takes_at_least_as_many_patterns_as_it_is_told(
    experiment: Experiment, patterns: int | None, expected: int
) -> None:
    some = start.sample(experiment, settings(start={"count": 1, "patterns": patterns}))
    assert len(some.images) == len(some.scale) == len(some.weight) == expected
    step = 1600 // expected
    np.testing.assert_array_equal(some.images, experiment.images[::step])
    np.testing.assert_array_equal(some.scale, experiment.scale[::step])


@pytest.mark.parametrize(
    ("photons", "states", "expected"),
    [(20_000, 1, 1000), (20_000, 2, 2000), (2000, 1, 1000), (1000, 1, 2000), (300, 1, 8000), (100, 1, 32_000)],
)
def test_a_start_takes_more_patterns_where_they_have_few_photons(
    experiment: Experiment, photons: float, states: int, expected: int
) -> None:
    count = 32_000
    many = replace(
        experiment,
        images=np.zeros((count, 1), np.float32),
        scale=np.ones(count),
        weight=np.ones(count),
        photons=float(photons),
    )
    assert len(start.sample(many, settings(matching={"states": states})).images) == expected


def test_photons_of_a_pattern_are_counted_on_pixels_that_are_used(many: Simulation) -> None:
    dataset = blind(many)
    assert prepare(replace(dataset, counts=False), settings(prepare=GIVEN)).photons == np.inf
    near = prepare(dataset, settings(prepare={**GIVEN, "q_max": 0.04})).photons
    assert near == pytest.approx(dataset.images[:, np.linalg.norm(dataset.q, axis=1) <= 0.04].sum(axis=1).mean(), 0.05)


def test_all_patterns_are_oriented_by_a_start_from_some(many: Simulation, experiment: Experiment) -> None:
    some, all_of_them = started(experiment, patterns=400), started(experiment)
    assert len(some.quaternions) == len(some.distance) == len(some.scale) == 1600
    errors = [orientation_error(state.quaternions, many.quaternions).median_deg for state in (some, all_of_them)]
    # A start reaches 2.5 speckles: the spacing of its views is 14 degrees.
    assert max(errors) < 14
    # Both on one grid: that of a start is coarser.
    ours, theirs = (
        start.anneal(experiment, experiment.plans[0], state, 0.01, np.random.default_rng(0))[0].distance.mean()
        for state in (some, all_of_them)
    )
    assert ours == pytest.approx(theirs, rel=0.1)


def test_a_start_from_some_repeats_itself(experiment: Experiment) -> None:
    first, again = (started(experiment, patterns=400) for _ in range(2))
    np.testing.assert_array_equal(first.quaternions, again.quaternions)
    np.testing.assert_array_equal(first.autocorrelation, again.autocorrelation)


def test_lists_of_photons_start_from_some_of_them() -> None:
    faint = measured(images=800, photons=300.0)
    dataset = blind(faint)
    listed = replace(dataset, images=events(dataset.images, int(dataset.images.sum(axis=1).max())))
    dense, sparse = (started(prepare(each, settings(prepare=GIVEN)), patterns=200) for each in (dataset, listed))
    np.testing.assert_array_equal(dense.quaternions, sparse.quaternions)


def test_a_run_from_a_start_from_some_converges(many: Simulation) -> None:
    dataset = blind(many)
    chosen = settings(prepare=GIVEN, start={"patterns": 400})
    result = reconstruct(dataset, chosen)
    assert result.converged
    assert orientation_error(result.state.quaternions, many.quaternions).median_deg < 1.5
