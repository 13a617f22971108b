"""A trial: whether some patterns are of one particle, told by a blind reconstruction of them, not far out.

Patterns of one particle fit slices of one density to within photon noise; those of many things do not, however much
they look alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from spilegate import mtip
from spilegate.errors import InputError
from spilegate.generation import poses
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset, Float64, Int64, State
from spilegate.schedule import Plan
from spilegate.selection import misfits
from spilegate.settings import Settings
from spilegate.stages.matching import Candidates
from spilegate.watching import Recorder

# Trials go so many speckles out, take so many patterns at most, and repeat no more than so many generations there.
SPECKLES, MOST, GENERATIONS = 5.0, 800, 2
# Patterns whose slices on the grid are off by more than this, and so many times what is usual after refinement, are not
# refined.
HOPELESS, MANY = 0.15, 3.0
# Fewer patterns than these are not worth it; and none is taken for darker than this part of the usual one.
FEWEST, DARKEST = 6, 1e-3
# A particle is no spheroid: its largest diameter is so many times that of the spheroid seen.
LARGER = 1.2


@dataclass(frozen=True)
class Trial:
    """What some patterns came to.

    experiment, state : of the patterns tried; misfit : (n,) float64, of each, by `misfits.measure`
    dispersion : of the counts, see `misfits.dispersion_of`
    """

    experiment: Experiment
    state: State
    misfit: Float64
    dispersion: float

    @property
    def usual(self) -> float:
        """Return the median misfit of the patterns that fit: what tells a good trial from a bad one."""
        return float(np.median(self.misfit))


def attempt(dataset: Dataset, settings: Settings, diameter_angstrom: float, *, rough: bool) -> Trial | None:
    """Return the trial of a data set; None if its patterns do not come to any model.

    diameter_angstrom : the largest of the spheroids seen; rough : whether patterns are too mixed to tell a better one
    """
    diameter = settings.prepare.diameter_angstrom or LARGER * diameter_angstrom
    limit = SPECKLES / diameter
    q_max = limit if settings.prepare.q_max is None else min(limit, settings.prepare.q_max)
    edge = float(np.linalg.norm(dataset.q[dataset.mask == 0], axis=1).max())
    own: dict[str, float | None] = {"diameter_angstrom": diameter} if rough else {}
    own |= {"q_max": q_max} if q_max < edge else {}
    settings = settings.model_copy(
        update={
            "prepare": settings.prepare.model_copy(update={**own, "use": None, "leave_out": None}),
            # Droplets of all sizes would be one particle, if that might be of any size.
            "matching": settings.matching.model_copy(update={"differ": False}),
            "convergence": settings.convergence.model_copy(update={"most_generations": GENERATIONS}),
            "resolution": settings.resolution.model_copy(update={"half_sets": False, "phasings": 0}),
        }
    )
    try:
        experiment = prepare(dataset, settings)
        state = mtip.march(experiment, settings, Recorder(None))
    except InputError:
        return None
    found = misfits.measure(experiment, state, experiment.q_max)
    return Trial(experiment, state, found.with_dispersion(found.dispersion), found.dispersion)


def judge(
    trial: Trial,
    everything: Experiment,
    among: Int64,
    read: Callable[[Int64], Dataset],
    settings: Settings,
    rng: np.random.Generator,
) -> Float64:
    """Return how far patterns (n,) are from the model of a trial, each at its best orientation and brightness.

    everything : all patterns, or those of `among` alone; among : (n,), numbers of those to compare in the file
    read : returns patterns by these numbers
    Patterns that are too far off where the search grid has the model are not refined.
    """
    own, plan = _as_tried(trial, everything)
    first = _anywhere(trial.state, everything.brightness)
    candidates, _ = poses.match(own, plan, first, settings.matching, rng)
    there = slice(None) if len(everything.images) == len(among) else among
    found = replace(first, quaternions=candidates.quaternions[:, 0], state=candidates.state[:, 0])
    misfit = misfits.measure(own, found, own.q_max).with_dispersion(trial.dispersion)[there]
    plausible = np.flatnonzero(misfit <= HOPELESS + MANY * max(trial.usual, 0.0))
    if len(plausible) < FEWEST:
        return misfit
    own, plan = _as_tried(trial, looked_at(read(among[plausible]), trial, settings))
    first = _anywhere(trial.state, own.brightness)
    some = np.arange(len(everything.images))[there][plausible]
    few = Candidates(candidates.quaternions[some], candidates.state[some], candidates.distance[some])
    refined, _ = poses.refine(own, plan, first, few, settings.matching, rng)
    misfit[plausible] = misfits.measure(own, refined, own.q_max).with_dispersion(trial.dispersion)
    return misfit


def looked_at(dataset: Dataset, trial: Trial, settings: Settings) -> Experiment:
    """Return other patterns, prepared with the diameter of a trial."""
    own = {"diameter_angstrom": trial.experiment.diameter_angstrom, "use": None, "leave_out": None}
    return prepare(dataset, settings.model_copy(update={"prepare": settings.prepare.model_copy(update=own)}))


def _as_tried(trial: Trial, experiment: Experiment) -> tuple[Experiment, Plan]:
    """Return patterns as those of a trial were looked at, and the plan of a search among all orientations."""
    tried = trial.experiment
    own = replace(
        experiment,
        detector=tried.detector,
        profile=tried.profile,
        statistics=tried.statistics,
        soft=False,
        plans=tried.plans,
        diameter_angstrom=tried.diameter_angstrom,
        q_min=tried.q_min,
        q_first=tried.q_first,
        q_max=tried.q_max,
        sums=None,
        laid={},
    )
    return own, replace(tried.plan(max(2, trial.state.generation), trial.state.start), search_every=1)


def _anywhere(state: State, brightness: Float64) -> State:
    """Return the model of a state with other patterns, of which nothing is known but their brightness (n,)."""
    count = len(brightness)
    return replace(
        state,
        generation=1,
        quaternions=np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        state=np.zeros(count, np.int64),
        scale=np.maximum(brightness, DARKEST),
        weight=np.ones(count),
        distance=np.ones(count),
        size=np.ones(count * bool(len(state.size))),
        shift=np.zeros((count * bool(len(state.shift)), 2)),
    )


def parts(numbers: Int64, most: int, rng: np.random.Generator) -> Int64:
    """Return at most so many of some numbers (n,), drawn, in ascending order."""
    if len(numbers) <= most:
        return numbers
    return np.sort(rng.choice(numbers, size=most, replace=False))
