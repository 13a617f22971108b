"""Whether a checkpoint is one of the run that is to go on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spilegate import __version__
from spilegate.commands.configuration import differences
from spilegate.commands.job import Job
from spilegate.errors import InputError
from spilegate.findings import Findings
from spilegate.formats import record
from spilegate.patterns.experiment import Experiment
from spilegate.records import Dataset, State
from spilegate.report.files import SUMMARY
from spilegate.settings import Settings

# What may differ between a run and its resumption: it changes the time, not the result.
FREE = "compute."
# Radii and voxels follow from the same numbers in the same way, but for rounding.
SAME = 1e-9


def can_resume(job: Job) -> bool:
    """Tell whether there is a checkpoint; a run that was ended before its first one starts afresh.

    So a job that a scheduler starts again and again needs one command line.
    Raises InputError where that would overwrite the results of a run whose checkpoint is gone.
    """
    if job.checkpoint.is_file():
        return True
    if job.checkpoint.exists() or job.checkpoint.is_symlink():
        raise InputError(f"--resume: {job.checkpoint}: no file; expected a checkpoint; name another --output")
    there = [name for name in (SUMMARY, "density.mrc") if (job.folder / name).exists()]
    if there:
        raise InputError(
            f"--resume: {job.folder} has {there[0]} and no checkpoint; expected a checkpoint, or no results that a "
            "new start would overwrite; name another --output, or give --force in place of --resume"
        )
    return False


def resumed(job: Job, dataset: Dataset) -> tuple[State, dict[str, Any]]:
    """Load the checkpoint with what it says about its run, and make sure that it is the same run."""
    state, attributes = record.load_record(job.checkpoint, State)
    if attributes.get("digest") != dataset.digest:
        raise InputError(
            f"--resume: {job.checkpoint} belongs to other patterns than {job.data} (SHA-256 "
            f"{attributes.get('digest')!s:.12} and {dataset.digest:.12}); give the same file, or a new --output"
        )
    if changed := _changed(attributes, job, job.checkpoint):
        raise InputError(
            f"--resume: {job.checkpoint} was made with {'; '.join(changed)}; give the same settings, or a new --output"
        )
    return state, attributes


def known(job: Job, dataset: Dataset) -> Findings | None:
    """Return what the run to be resumed found out about its patterns; None if that is not to be had, or out of date."""
    try:
        findings, attributes = record.load_record(job.findings, Findings)
        changed = _changed(attributes, job, job.findings)
    except InputError:
        return None
    mine = job.attributes(dataset)
    same = (len(findings.scale), len(findings.mask)) == (len(dataset.images), len(dataset.mask))
    same &= all(attributes.get(name) == mine[name] for name in ("digest", "version"))
    return findings if same and not changed else None


def _changed(attributes: Mapping[str, Any], job: Job, path: Path) -> list[str]:
    """Return the settings that make another run of it, each with what it was and what it is."""
    old, new = record.settings_of(attributes, path), json.loads(job.settings.model_dump_json())
    return [f"{name} = {a!r}, now {b!r}" for name, a, b in differences(old, new) if not name.startswith(FREE)]


def check_state(state: State, experiment: Experiment, settings: Settings, path: Path) -> None:
    """Raise InputError unless a state, sound in itself, has the patterns, pixels, conformations and grid of a run.

    path : the checkpoint, for the message
    """
    plan = experiment.plan(state.generation, state.start)
    radii = [experiment.plan(number, state.start).q_match for number in range(2, state.generation + 1)]
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
