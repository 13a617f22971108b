"""Streams of random numbers: one for every purpose, all from the run's seed and none of them another one's."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What random numbers are for; a number never changes its meaning, or old seeds would give other results."""

    GENERATION = 16
    HALF = 17
    SURROGATE = 18
    HELD_OUT = 19
    TRANSFER = 20
    SELECTION = 21


def stream(seed: int, purpose: Purpose, *numbers: int) -> np.random.Generator:
    """Return the random numbers of a purpose, and of which of several by its numbers.

    Seeds that are lists are filled up with zeros, so that [seed], [seed, 0] and [seed, 0, 0] make the same stream; keys
    of children are not.
    """
    return np.random.default_rng(_sequence(seed, purpose, numbers))


def seed_of(seed: int, purpose: Purpose, *numbers: int) -> int:
    """Return a seed for a run of its own."""
    return int(_sequence(seed, purpose, numbers).generate_state(1)[0])


def _sequence(seed: int, purpose: Purpose, numbers: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *numbers))
