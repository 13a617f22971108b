"""Whether a checkpoint is one of the run that is to go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spilegate import __version__
from spilegate.errors import InputError
from spilegate.preparation import Experiment
from spilegate.settings import Settings
from spilegate.state import State

# Radii and voxels follow from the same numbers in the same way, but for rounding.
SAME = 1e-9


def check_state(state: State, experiment: Experiment, settings: Settings, path: Path) -> None:
    """Raise InputError unless a state, sound in itself, has the patterns, pixels, conformations and grid of a run.

    path : the checkpoint, for the message
    """
    plan = experiment.plan(state.generation)
    radii = [experiment.plan(number).q_match for number in range(2, state.generation + 1)]
    for field, found, expected in (
        ("quaternions", f"{len(state.quaternions)} patterns", f"{len(experiment.images)} patterns"),
        ("background", f"{len(state.background)} pixels", f"{len(experiment.detector.q)} pixels"),
        ("density", f"{len(state.density)} conformations", f"{settings.matching.states} conformations"),
        ("density", f"{state.density.shape[-1]} voxels along an edge", f"{plan.size} voxels along an edge"),
    ):
        if found != expected:
            raise _of_another_run(path, field, found, expected)
    if not np.isclose(state.voxel_angstrom, plan.voxel_angstrom, rtol=SAME):
        raise _of_another_run(path, "voxel_angstrom", f"{state.voxel_angstrom:g}", f"{plan.voxel_angstrom:g}")
    if not np.allclose(state.history[:, 0], radii, rtol=SAME):
        raise _of_another_run(path, "history", "other radii", "those of the run's generations")


def _of_another_run(path: Path, field: str, found: str, expected: str) -> InputError:
    """Return the error for a field that another run has written, or nobody."""
    return InputError(
        f"--resume: {path}: field {field!r}: {found}; expected {expected}; start the run again (--force in place of "
        "--resume)"
    )


def other_version(attributes: Mapping[str, Any], path: Path) -> str:
    """Return a line that says so if a checkpoint is another version's of the program, "" if it is this one's."""
    version = attributes.get("version")
    if version == __version__:
        return ""
    return (
        f"warning: {path} is of spilegate {version or 'of unknown version'}, this is {__version__}: what comes out may "
        "differ from what either alone comes to"
    )
