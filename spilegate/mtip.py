"""M-TIP: from patterns at unknown orientations to the particle's density.

Donatelli, Sethian and Zwart, Proc. Natl. Acad. Sci. USA 114:7222 (2017). A generation matches the patterns to slices of
the model, merges them at their orientations and phases the merged intensities; the first generation is a blind start.
Every random number comes from the run's seed and the generation's number, so a resumed run repeats the whole one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spilegate.convergence import converged, finished, reason
from spilegate.generation import models, poses, restarts, soft, start
from spilegate.patterns.examples import with_examples
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.patterns.spared import spared
from spilegate.reconstruction import Reconstruction
from spilegate.records import Dataset, State, Watcher
from spilegate.resolution import certainty
from spilegate.schedule import Plan
from spilegate.settings import Settings
from spilegate.streams import Purpose, stream
from spilegate.watching import Recorder


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
    Raises InputError if the patterns cannot be reconstructed (see `patterns.prepare`).
    """
    experiment = experiment or prepare(dataset, settings)
    part = spared(experiment)
    if part is None:
        result = run(experiment, settings, watcher=watcher, state=state)
    else:
        own = part.of(state) if state else None
        result = run(part.experiment, settings, watcher=part.watched(watcher), state=own)
        result = replace(result, state=part.whole(result.state))
    return replace(
        result,
        findings=with_examples(experiment, result.state, poses.OUTLYING, poses.wide_limit(result.state.distance)),
    )


def run(
    experiment: Experiment, settings: Settings, *, watcher: Watcher | None = None, state: State | None = None
) -> Reconstruction:
    """Reconstruct the density from patterns that are prepared; see `reconstruct`."""
    record, q_max = Recorder(watcher), experiment.q_max
    state = march(experiment, settings, record, state)
    return Reconstruction(
        state=state,
        diameter_angstrom=experiment.diameter_angstrom,
        diameter_estimated=experiment.diameter_estimated,
        q_max=experiment.q_max,
        figures=record.figures,
        peak_memory_mib=experiment.workers.peak_memory_mib(),
        converged=converged(state.history, q_max, settings.convergence),
        convergence=reason(state.history, q_max, settings.convergence),
        findings=experiment.findings,
        certainty=certainty.measure(experiment, state, settings, run, watcher),
    )


def march(experiment: Experiment, settings: Settings, record: Recorder, state: State | None = None) -> State:
    """Return the last state: generation by generation outwards, until nothing changes."""
    q_max = experiment.q_max
    while state is None or not finished(state.history, q_max, settings.convergence):
        plan = experiment.plan(state.generation + 1, state.start) if state else experiment.plan(1)
        record.generations = experiment.fewest_generations(state.start if state else 0)
        rng = stream(settings.seed, Purpose.GENERATION, plan.number)
        if state is None:
            state = blind_start(experiment, plan, settings, rng, record)
        else:
            state = generation(experiment, plan, state, settings, rng, record)
        record.generation(state, last=finished(state.history, q_max, settings.convergence))
    return state


def blind_start(
    experiment: Experiment, plan: Plan, settings: Settings, rng: np.random.Generator, record: Recorder
) -> State:
    """Return the first state: the best of a few annealed soft assignments, each from random orientations.

    Where there are many patterns, some of them are annealed, and all of them assigned to what came out. A conformation
    that it explains worse than another is started again by itself.
    """
    with record.stage(plan.number, "start") as note:
        some = start.sample(experiment, settings)
        state = note(start.annealed(some, settings, rng))
        plan = experiment.plan(plan.number, state.start)
        state = note(restarts.restarted(some, plan, state, settings, rng))
        return note(start.for_all(experiment, plan, state, settings.start, rng))


def generation(
    experiment: Experiment, plan: Plan, state: State, settings: Settings, rng: np.random.Generator, record: Recorder
) -> State:
    """Return the next state: match, refine, merge, phase; or assign softly, merge, phase."""
    if experiment.soft:
        with record.stage(plan.number, "match") as note:
            assigned = note(soft.assign(experiment, plan, state, rng))
            state = note(soft.settle(experiment, plan, state, assigned, settings.matching))
        with record.stage(plan.number, "merge") as note:
            state = note(soft.average(experiment, plan, state, assigned, settings.merging))
    else:
        with record.stage(plan.number, "match") as note:
            candidates = note(poses.match(experiment, plan, state, settings.matching, rng))
        with record.stage(plan.number, "refine") as note:
            state = note(poses.refine(experiment, plan, state, candidates, settings.matching, rng))
        with record.stage(plan.number, "merge") as note:
            state = note(models.merge(experiment, plan, state, settings.merging))
    with record.stage(plan.number, "phase") as note:
        last = finished(state.history, experiment.q_max, settings.convergence)
        return note(models.phase(experiment, plan, state, settings.phasing, rng, last=last))
