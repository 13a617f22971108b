"""Conformations that a joint blind start has left behind, each started again from its own patterns.

A start tells conformations apart sooner than it orients the patterns of a rare one: they are few, so that the start as
a whole looks good without them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spilegate.generation.models import Figures
from spilegate.generation.start import COLD_ITERATIONS, anneal, best_of, mean_distance
from spilegate.patterns.experiment import Experiment
from spilegate.records import State
from spilegate.schedule import Plan
from spilegate.settings import Settings

# Fewer patterns are not enough to start from.
FEWEST_MEMBERS = 50
# Patterns as much worse explained than those of another conformation are taken for badly oriented. (Adenylate kinase,
# open and closed 80:20, ten seeds: 1.10 to 1.35 in the five starts where they were, up to 1.10 in the others.)
WORSE = 1.05


def restarted(
    experiment: Experiment, plan: Plan, state: State, settings: Settings, rng: np.random.Generator
) -> tuple[State, Figures]:
    """Return the state of a start after another try for conformations whose patterns are explained worse than others'.

    What explains them better is kept; if anything was, all patterns are assigned anew. Unlike conformations may be
    explained unlike well: then a try costs time and nothing else.
    """
    models, figures = state.autocorrelation.copy(), Figures()
    if len(models) == 1:
        return state, figures
    coldest, worst_first = settings.start.temperature_last, []
    for k in np.flatnonzero(state.members >= FEWEST_MEMBERS):
        own = replace(experiment, weight=experiment.weight * (state.state == k), started=None)
        alone = replace(state, autocorrelation=state.autocorrelation[k : k + 1], weight=own.weight)
        worst_first.append((mean_distance(anneal(own, plan, alone, coldest, rng)[0]), int(k), own))
    worst_first.sort(key=lambda found: -found[0])
    better = False
    for distance, number, own in worst_first[:-1]:
        if distance > WORSE * worst_first[-1][0]:
            again, _ = best_of(own, state.start, settings_of_one(settings), rng)
            figures["restarts"] = figures.get("restarts", 0) + 1
            if mean_distance(again) < distance:
                models[number], better = again.autocorrelation[0], True
    if better:
        state = replace(state, autocorrelation=models)
        for _ in range(COLD_ITERATIONS):
            state, last = anneal(experiment, plan, state, coldest, rng)
            figures |= last
    return state, figures


def settings_of_one(settings: Settings) -> Settings:
    """Return the settings for a conformation by itself."""
    return settings.model_copy(update={"matching": settings.matching.model_copy(update={"states": 1})})
