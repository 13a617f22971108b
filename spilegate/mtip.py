"""M-TIP: from patterns at unknown orientations to the particle's density.

Donatelli, Sethian and Zwart, Proc. Natl. Acad. Sci. USA 114:7222 (2017). A generation matches the patterns to slices of
the model, merges them at their orientations and phases the merged intensities; the first generation is a blind start.
Every random number comes from the run's seed and the generation's number, so a resumed run repeats the whole one.
"""

from __future__ import annotations

import numpy as np

from spilegate import certainty, steps
from spilegate.convergence import converged, finished, reason
from spilegate.geometry.sampling import mean_pattern
from spilegate.preparation import Experiment, prepare
from spilegate.recording import Recorder
from spilegate.schedule import Plan
from spilegate.settings import Settings
from spilegate.state import Dataset, Reconstruction, State, Watcher
from spilegate.streams import Purpose, stream


def reconstruct(
    dataset: Dataset,
    settings: Settings,
    *,
    watcher: Watcher | None = None,
    state: State | None = None,
    experiment: Experiment | None = None,
) -> Reconstruction:
    """Reconstruct the density of a particle from its patterns, blind.

    dataset : the patterns; settings : all options
    watcher : told of every stage and generation; state : where to go on, from a checkpoint of the same run
    experiment : what `prepare` made of the same data set and settings, if it is there already
    Raises InputError if the patterns cannot be reconstructed (see `preparation.prepare`).
    """
    experiment = experiment or prepare(dataset, settings)
    record, q_max = Recorder(watcher, experiment.fewest_generations), experiment.q_max
    while state is None or not finished(state.history, q_max, settings.convergence):
        plan = experiment.plan(state.generation + 1 if state else 1)
        rng = stream(settings.seed, Purpose.GENERATION, plan.number)
        if state is None:
            state = blind_start(experiment, plan, settings, rng, record)
        else:
            state = generation(experiment, plan, state, settings, rng, record)
        record.generation(state)
    return Reconstruction(
        state=state,
        diameter_angstrom=experiment.diameter_angstrom,
        diameter_estimated=experiment.diameter_estimated,
        q_max=experiment.q_max,
        figures=record.figures,
        peak_memory_mib=experiment.workers.peak_memory_mib(),
        converged=converged(state.history, q_max, settings.convergence),
        convergence=reason(state.history, q_max, settings.convergence),
        mean_pattern=mean_pattern(experiment.images, experiment.detector, state.weight, workers=experiment.workers),
        certainty=certainty.measure(dataset, experiment, state, settings, _reconstruct_half, watcher),
    )


def _reconstruct_half(
    dataset: Dataset, settings: Settings, experiment: Experiment, watcher: Watcher | None
) -> Reconstruction:
    """Reconstruct a half of the patterns like any others."""
    return reconstruct(dataset, settings, experiment=experiment, watcher=watcher)


def blind_start(
    experiment: Experiment, plan: Plan, settings: Settings, rng: np.random.Generator, record: Recorder
) -> State:
    """Return the first state: the best of a few annealed soft assignments, each from random orientations.

    Where there are many patterns, some of them are annealed, and all of them assigned to what came out. A conformation
    that it explains worse than another is started again by itself.
    """
    with record.stage(plan.number, "start") as figures:
        some = steps.sample(experiment, settings)
        state = steps.annealed(some, plan, settings, rng, figures)
        state = steps.restarted(some, plan, state, settings, rng, figures)
        return steps.for_all(experiment, plan, state, settings.start, rng, figures)


def generation(
    experiment: Experiment, plan: Plan, state: State, settings: Settings, rng: np.random.Generator, record: Recorder
) -> State:
    """Return the next state: match, refine, merge, phase; or assign softly, merge, phase."""
    if experiment.soft:
        with record.stage(plan.number, "match") as figures:
            assigned = steps.assign(experiment, plan, state, rng, figures)
            state = steps.settle(experiment, plan, state, assigned, settings.matching, figures)
        with record.stage(plan.number, "merge") as figures:
            state = steps.average(experiment, plan, state, assigned, settings.merging, figures)
    else:
        with record.stage(plan.number, "match") as figures:
            candidates = steps.match(experiment, plan, state, settings.matching, rng, figures)
        with record.stage(plan.number, "refine") as figures:
            state = steps.refine(experiment, plan, state, candidates, settings.matching, figures)
        with record.stage(plan.number, "merge") as figures:
            state = steps.merge(experiment, plan, state, settings.merging, figures)
    with record.stage(plan.number, "phase") as figures:
        last = finished(state.history, experiment.q_max, settings.convergence)
        return steps.phase(experiment, plan, state, settings.phasing, rng, figures, last=last)
