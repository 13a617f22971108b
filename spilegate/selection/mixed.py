"""Whether patterns are of more than one thing, told at little cost from some of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spilegate.kernels.blocks import GROUP
from spilegate.patterns.experiment import Experiment
from spilegate.records import Dataset, Int64
from spilegate.selection import spheroids, trial
from spilegate.settings import Settings
from spilegate.streams import Purpose, stream

# Patterns that are looked at, and fewer than which tell nothing.
LOOKED_AT, FEWEST = 400, 200
# Patterns are unlike others if their size is off by this factor's logarithm, or their misfit is more than so many times
# what is usual and that much; more than this part of them are to be explained.
OFF, UNLIKE, UNLIKE_LEAST, PART = 0.35, 4.0, 0.2, 0.1
# One density explains them if nearly all misfits are no more than that.
EXPLAINED = 0.1


def mixed(experiment: Experiment, read: Callable[[Int64], Dataset], settings: Settings) -> str:
    """Return what tells that patterns are of more than one thing, "" if nothing does.

    read : returns the data set of some patterns, by their numbers (n,) ascending
    Where sizes or misfits differ, as those of a long particle do, one density that explains nearly all patterns settles
    it.
    """
    used = np.flatnonzero(experiment.weight > 0)
    if len(used) < FEWEST:
        return ""
    step = 1
    while 2 * step <= GROUP and len(used) >= 2 * step * LOOKED_AT:
        step *= 2
    some = experiment.every(step)
    good = some.weight > 0
    found = spheroids.of(experiment, some)
    size, misfit = np.log(found.diameter_angstrom[good]), found.misfit[good]
    off = np.abs(size - np.median(size)) > OFF
    unlike = misfit > UNLIKE * max(float(np.median(misfit)), 0.0) + UNLIKE_LEAST
    part = float((off | unlike).mean())
    if part <= PART:
        return ""
    rng = stream(settings.seed, Purpose.SELECTION, 1)
    tried = trial.attempt(
        read(trial.parts(used, trial.MOST, rng)), settings, float(np.exp(np.median(size))), rough=False
    )
    if tried is not None and float(np.mean(tried.misfit <= EXPLAINED)) >= 1 - PART:
        return ""
    return f"{part:.0%} of the patterns are of another size or shape than most: single particles are selected"
