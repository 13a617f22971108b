"""How far a finished reconstruction can be trusted: what it measures of itself, without any truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spilegate.errors import InputError
from spilegate.evaluation.fsc import shells
from spilegate.generation import models
from spilegate.patterns.experiment import Experiment
from spilegate.reconstruction import Certainty, HeldOut, PointGroup
from spilegate.records import Float64, State, Watcher
from spilegate.resolution.halves import Run, half_sets
from spilegate.resolution.point_group import point_group
from spilegate.resolution.transfer import phase_retrieval_transfer
from spilegate.settings import Settings
from spilegate.streams import Purpose, stream

# A half of fewer patterns says nothing.
FEWEST_OF_A_HALF = 20


def measure(
    experiment: Experiment,
    state: State,
    settings: Settings,
    run: Run,
    watcher: Watcher | None = None,
) -> Certainty:
    """Measure half-set agreement and the phase retrieval transfer function, as far as the settings ask for them.

    state : the last one of the reconstruction; run : how a half of the patterns is reconstructed
    """
    size, edge = state.density.shape[-1], state.density.shape[-1] * state.voxel_angstrom
    _, voxels = shells(size)
    q = np.arange(1, len(voxels) - 1) / edge
    # Beyond the radius merged there are no data.
    reached = slice(max(1, int(np.searchsorted(q, experiment.q_max * (1 + 1e-6)))))
    halves, missing = None, "not asked for"
    if settings.resolution.half_sets:
        missing = f"{len(experiment.images)} patterns, at least {2 * FEWEST_OF_A_HALF} needed"
        if len(experiment.images) >= 2 * FEWEST_OF_A_HALF:
            try:
                halves = half_sets(settings, experiment, state, run, watcher)
            except InputError as error:
                # What all patterns are enough for may be too much to ask of half of them: the run is not lost for it.
                missing = f"half of the patterns cannot be reconstructed: {error}"
    none = np.empty((0, len(q)))
    transfer, sound = none, settings.resolution.phasings
    if sound > 1:
        transfer, sound = transfer_function(experiment, state, settings)
    return Certainty(
        members=state.members,
        q=q[reached],
        voxels=voxels[1:-1][reached],
        half_set_fsc=(halves.corrected if halves else none)[:, reached],
        half_set_fsc_plain=(halves.plain if halves else none)[:, reached],
        patterns=halves.patterns if halves else (0, 0),
        missing="" if halves else missing,
        half_maps=halves.maps if halves else None,
        held_out=halves.held_out if halves else HeldOut(*np.empty((3, 0))),
        prtf=transfer[:, reached],
        phasings=sound,
        looks=looks(experiment, state) if experiment.symmetry.trivial and not experiment.started else (),
    )


def looks(experiment: Experiment, state: State) -> tuple[PointGroup | None, ...]:
    """Return the point group that the merged intensity of each state shows; None for a state without patterns."""
    return tuple(
        point_group(
            merged, density, state.voxel_angstrom, experiment.diameter_angstrom, experiment.q_max,
            threads=experiment.workers.threads,
        )
        if members
        else None
        for merged, density, members in zip(state.autocorrelation, state.density, state.members, strict=True)
    )  # fmt: skip


def transfer_function(experiment: Experiment, state: State, settings: Settings) -> tuple[Float64, int]:
    """Return the phase retrieval transfer function (K, N_SHELL) of the last state's autocorrelations.

    And of how many phasings it is, of the conformation that has the fewest.

    Its phasings all start from random densities: those of the run go on from each other and are not independent. Only
    sound ones count, as in the density.
    """
    plan = experiment.plans[-1]
    blank = replace(state, density=np.zeros_like(state.density), support=np.zeros_like(state.support))
    rng = stream(settings.seed, Purpose.TRANSFER)
    phased = models.phasings(experiment, plan, blank, settings.resolution.phasings, settings.phasing, rng)
    curves, fewest = [], settings.resolution.phasings
    for densities, misfit, measured in zip(phased.density, phased.r_factor, state.autocorrelation, strict=True):
        order = np.argsort(misfit)
        sound = order[: max(2, int((misfit <= models.SOUND_PHASING * misfit.min()).sum()))]
        fewest = min(fewest, len(sound))
        curves.append(phase_retrieval_transfer(densities[sound], measured, threads=experiment.workers.threads))
    return np.stack(curves), fewest
