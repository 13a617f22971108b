"""Models: a density that is lost ends a run in a line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spilegate.errors import InputError
from spilegate.generation import models, start
from spilegate.patterns.experiment import Experiment
from spilegate.settings import Settings


@pytest.mark.parametrize("broken", [np.nan, 0.0], ids=["no number", "nothing"])
def test_a_density_that_is_lost_is_said(experiment: Experiment, broken: float) -> None:
    """Whatever made it so: slices of nothing fit nothing, and nothing that follows would tell."""
    plan, settings = experiment.plan(1), Settings()
    state = start.random_state(experiment, plan, settings, np.random.default_rng(0))
    phased, _ = models.phase(experiment, plan, state, settings.phasing, np.random.default_rng(0), last=False)
    assert phased.density.max() > 0
    lost = replace(state, autocorrelation=np.full_like(state.autocorrelation, broken))
    with pytest.raises(InputError, match=r"merging, generation 1: all voxels are 0, .*--diameter-angstrom"):
        models.phase(experiment, plan, lost, settings.phasing, np.random.default_rng(0), last=False)
