"""Patterns that are not used at all are spared: a run works on the others, and what it knows is laid out for all again.

Blank frames, or what a selection leaves out, may be nine patterns of ten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spilegate.patterns.experiment import Experiment
from spilegate.records import Float64, Int64, Progress, State, Watcher

# It is worth it if at least this part of the patterns is not used.
LEAST = 0.2
# What there is of every pattern, and what stands there for those that are not used.
UNUSED: dict[str, Any] = {"quaternions": (1.0, 0.0, 0.0, 0.0), "state": 0, "scale": 1.0, "weight": 0.0, "distance": 1.0}
UNUSED_IF_ANY: dict[str, Any] = {"size": 1.0, "shift": (0.0, 0.0)}


@dataclass(frozen=True)
class Spared:
    """The patterns of an experiment that are used: `index` (n,) among `count`."""

    experiment: Experiment
    index: Int64
    count: int

    def of(self, state: State) -> State:
        """Return a state of all patterns as one of those used."""
        own: dict[str, Any] = {name: getattr(state, name)[self.index] for name in _known(state)}
        return replace(state, **own)

    def whole(self, state: State) -> State:
        """Return a state of the patterns used as one of all."""
        laid: dict[str, Any] = {}
        for name, value in _known(state).items():
            own = getattr(state, name)
            all_ = np.broadcast_to(np.asarray(value, own.dtype), (self.count, *own.shape[1:])).copy()
            all_[self.index] = own
            laid[name] = all_
        return replace(state, **laid)

    def watched(self, watcher: Watcher | None) -> Watcher | None:
        """Return a watcher that is told of states of all patterns."""
        return None if watcher is None else _Told(self, watcher)


def spared(experiment: Experiment) -> Spared | None:
    """Return what is left of an experiment without the patterns that are not used; None if these are few."""
    index = np.flatnonzero(experiment.weight > 0)
    count = len(experiment.weight)
    if len(index) > (1 - LEAST) * count:
        return None
    return Spared(experiment.some(index), index, count)


def places(weight: Float64) -> Int64:
    """Return the number (N_IMG,) of every pattern among those that a run works on; weight : (N_IMG,), as it begins."""
    used = weight > 0
    if used.sum() > (1 - LEAST) * len(used):
        return np.arange(len(used))
    result: Int64 = np.maximum(np.cumsum(used) - 1, 0)
    return result


def _known(state: State) -> dict[str, Any]:
    """Return the fields that are of every pattern, with what stands for one that is not used."""
    some = {name: value for name, value in UNUSED_IF_ANY.items() if len(getattr(state, name))}
    return {**UNUSED, **some}


@dataclass(frozen=True)
class _Told:
    """Passes on what a run of some patterns tells, as of all."""

    spared: Spared
    watcher: Watcher

    def begin(self, generation: int, generations: int, stage: str) -> None:
        self.watcher.begin(generation, generations, stage)

    def stage(self, progress: Progress) -> None:
        self.watcher.stage(progress)

    def generation(self, state: State, *, last: bool) -> None:
        self.watcher.generation(self.spared.whole(state), last=last)

    def half(self, number: int) -> Watcher | None:
        return self.watcher.half(number)
