"""The number of phasings that a transfer function is stated to be of, and states that have lost all patterns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from photons import blind, run_simulation

from spilegate import mtip
from spilegate.generation import models
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import State
from spilegate.resolution import certainty
from spilegate.settings import Settings


@pytest.mark.parametrize(("times", "number"), [(1.0, 2), (1e9, 4)])
def test_only_phasings_that_enter_are_counted(
    experiment: Experiment,
    true_autocorrelation: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    times: float,
    number: int,
) -> None:
    plan = experiment.plans[-1]
    volumes = true_autocorrelation[None]
    state = State(1, plan.voxel_angstrom, *np.empty((7, 0)), volumes, np.zeros_like(volumes), volumes > 0)
    options = Settings.model_validate({"resolution": {"phasings": 4}, "phasing": {"cycles": 1}})
    monkeypatch.setattr(models, "SOUND_PHASING", times)
    curves, found = certainty.transfer_function(replace(experiment, plans=[plan]), state, options)
    assert found == number
    assert curves.shape[0] == 1


def test_a_half_that_cannot_be_reconstructed_does_not_end_the_run() -> None:
    """All even patterns but a few are left out."""
    quick = {
        "compute": {"threads": 1},
        "start": {"count": 1, "iterations": 3},
        "convergence": {"most_generations": 2},
        "phasing": {"cycles": 1, "starts": 1},
        "resolution": {"half_sets": True, "phasings": 0},
        "prepare": {"leave_out": ",".join(str(number) for number in range(0, 50, 2)), "diameter_angstrom": 50.0},
    }
    settings = Settings.model_validate(quick)
    # `reconstruct` would make halves of those that are used.
    result = mtip.run(prepare(blind(run_simulation()), settings), settings)
    assert "half of the patterns cannot be reconstructed" in result.certainty.missing
    assert "patterns left" in result.certainty.missing
    assert result.state.density.any()
