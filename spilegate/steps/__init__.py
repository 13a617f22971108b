"""The steps of a generation: the stages applied to a `State`, state by state, with a generation's plan."""

from spilegate.steps.assignments import assign, average, settle
from spilegate.steps.models import SOUND_PHASING, merge, phase, phasings
from spilegate.steps.poses import OUTLYING, match, refine, shortlist
from spilegate.steps.restarts import restarted
from spilegate.steps.starts import anneal, annealed, for_all, mean_distance, random_state, sample
from spilegate.steps.surrogates import surrogate

__all__ = [
    "OUTLYING",
    "SOUND_PHASING",
    "anneal",
    "annealed",
    "assign",
    "average",
    "for_all",
    "match",
    "mean_distance",
    "merge",
    "phase",
    "phasings",
    "random_state",
    "refine",
    "restarted",
    "sample",
    "settle",
    "shortlist",
    "surrogate",
]
