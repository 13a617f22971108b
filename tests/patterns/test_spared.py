"""Patterns that are not used cost nothing, and are there again in what a run comes to."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import Diary, as_dataset, assert_same_state

from spilegate.mtip import reconstruct
from spilegate.patterns.prepare import prepare
from spilegate.patterns.spared import places, spared
from spilegate.settings import Settings
from spilegate.simulation.experiment import Simulation

COUNT, USED = 80, 40


def settings(**prepare: object) -> Settings:
    return Settings.model_validate(
        {
            "prepare": {"diameter_angstrom": 62.0, "q_max": 0.05, **prepare},
            "start": {"count": 1, "iterations": 4},
            "resolution": {"half_sets": False, "phasings": 0},
            "compute": {"threads": 1},
        }
    )


def test_a_run_works_on_the_patterns_used_and_tells_of_all(simulation: Simulation) -> None:
    whole = as_dataset(simulation)
    every = replace(whole, images=whole.images[:COUNT])
    # Every second pattern; the same numbers are drawn for as many patterns in a file of their own.
    use = ",".join(str(number) for number in range(0, COUNT, 2))
    diary, alone_diary = Diary(), Diary()
    some = reconstruct(every, settings(use=use), watcher=diary).state
    alone = reconstruct(replace(whole, images=whole.images[:COUNT:2]), settings(), watcher=alone_diary).state
    assert len(some.quaternions) == COUNT
    np.testing.assert_allclose(some.quaternions[::2], alone.quaternions, atol=1e-9)
    np.testing.assert_allclose(some.density, alone.density, rtol=1e-4, atol=1e-4 * float(alone.density.max()))
    assert (some.weight[1::2] == 0).all()
    assert (some.quaternions[1::2] == [1, 0, 0, 0]).all()
    # What a checkpoint is made of has all patterns too, and a run goes on from it.
    assert all(len(state.quaternions) == COUNT for state in diary.states)
    resumed = reconstruct(every, settings(use=use), state=diary.states[1]).state
    assert_same_state(resumed, some)


def test_few_that_are_not_used_are_left_where_they_are(simulation: Simulation) -> None:
    whole = as_dataset(simulation)
    every = replace(whole, images=whole.images[:COUNT])
    assert spared(prepare(every, settings(leave_out="3:8"))) is None
    part = spared(prepare(every, settings(leave_out=f"0:{USED}")))
    assert part is not None
    np.testing.assert_array_equal(part.index, np.arange(USED, COUNT))
    np.testing.assert_array_equal(part.experiment.images, every.images[USED:])


@pytest.mark.parametrize(
    ("weight", "expected"), [([1, 1, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5]), ([0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 2])]
)
def test_places_of_the_patterns_used(weight: list[float], expected: list[int]) -> None:
    np.testing.assert_array_equal(places(np.array(weight, float)), expected)
