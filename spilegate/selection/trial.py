"""A trial: whether some patterns are of one particle, told by a blind reconstruction of them, not far out.

Patterns of one particle fit slices of one density to within photon noise; those of many things do not, however much
they look alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spilegate import mtip
from spilegate.errors import InputError
from spilegate.generation import poses
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import Bool, Dataset, Float64, Int64, State
from spilegate.selection import misfits
from spilegate.settings import Settings

# Trials go so many speckles out, take so many patterns at most, and repeat no more than so many generations there.
SPECKLES, MOST, GENERATIONS = 5.0, 800, 2
# A particle is no spheroid: its largest diameter is so many times that of the spheroid seen.
LARGER = 1.2


@dataclass(frozen=True)
class Trial:
    """What some patterns came to.

    experiment, state : of the patterns tried; misfit : (n,) float64, of each, by `misfits.measure`
    """

    experiment: Experiment
    state: State
    misfit: Float64

    @property
    def usual(self) -> float:
        """Return the median misfit of the patterns that fit: what tells a good trial from a bad one."""
        return float(np.median(self.misfit))


def attempt(dataset: Dataset, settings: Settings, diameter_angstrom: float) -> Trial | None:
    """Return the trial of a data set; None if its patterns do not come to any model.

    diameter_angstrom : the largest of the spheroids seen
    """
    diameter = settings.prepare.diameter_angstrom or LARGER * diameter_angstrom
    limit = SPECKLES / diameter
    q_max = limit if settings.prepare.q_max is None else min(limit, settings.prepare.q_max)
    edge = float(np.linalg.norm(dataset.q[dataset.mask == 0], axis=1).max())
    own = {"diameter_angstrom": diameter} | ({"q_max": q_max} if q_max < edge else {})
    settings = settings.model_copy(
        update={
            "prepare": settings.prepare.model_copy(update={**own, "use": None, "leave_out": None}),
            "convergence": settings.convergence.model_copy(update={"most_generations": GENERATIONS}),
            "resolution": settings.resolution.model_copy(update={"half_sets": False, "phasings": 0}),
        }
    )
    try:
        experiment = prepare(dataset, settings)
        state = mtip.run(experiment, settings).state
    except InputError:
        return None
    return Trial(experiment, state, misfits.measure(experiment, state, experiment.q_max).misfit)


def judge(trial: Trial, everything: Experiment, among: Bool, settings: Settings, rng: np.random.Generator) -> Float64:
    """Return how far all patterns (N_IMG,) are from the model of a trial, each at its best orientation and brightness.

    everything : all patterns; among : (N_IMG,), those to compare, others get no number
    """
    experiment, state = trial.experiment, trial.state
    count = len(everything.images)
    own = replace(
        everything,
        detector=experiment.detector,
        profile=experiment.profile,
        statistics=experiment.statistics,
        plans=experiment.plans,
        diameter_angstrom=experiment.diameter_angstrom,
        q_min=experiment.q_min,
        q_first=experiment.q_first,
        q_max=experiment.q_max,
        sums=None,
        laid={},
    )
    number = max(2, state.generation)
    plan = replace(experiment.plan(number, state.start), search_every=1)
    first = replace(
        state,
        generation=1,
        quaternions=np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        state=np.zeros(count, np.int64),
        scale=everything.brightness,
        weight=among.astype(np.float64),
        distance=np.ones(count),
    )
    candidates, _ = poses.match(own, plan, first, settings.matching, rng)
    found, _ = poses.refine(own, plan, first, candidates, settings.matching, rng)
    misfit = misfits.measure(own, found, own.q_max).misfit
    return np.where(among, misfit, np.nan)


def parts(numbers: Int64, most: int, rng: np.random.Generator) -> Int64:
    """Return at most so many of some numbers (n,), drawn, in ascending order."""
    if len(numbers) <= most:
        return numbers
    return np.sort(rng.choice(numbers, size=most, replace=False))
