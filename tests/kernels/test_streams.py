"""Streams of random numbers are the same for the same purpose, and different for any other."""

from __future__ import annotations

from itertools import product

import numpy as np

from spilegate.streams import Purpose, seed_of, stream


def test_no_two_streams_are_alike() -> None:
    keys = [(), (0,), (0, 0), (0, 0, 0), (1,), (1, 0), (0, 1), (2**31,)]
    asked = list(product((0, 1, 2**40), Purpose, keys))
    first = [int(stream(seed, purpose, *key).integers(2**63)) for seed, purpose, key in asked]
    first += [int(np.random.default_rng(seed).integers(2**63)) for seed in (0, 1, 2**40)]
    first += [int(child.integers(2**63)) for seed in (0, 1, 2**40) for child in np.random.default_rng(seed).spawn(8)]
    assert len(set(first)) == len(first)


def test_a_stream_is_always_the_same() -> None:
    one, other = (stream(3, Purpose.HELD_OUT, 1, 0).integers(2**63, size=5) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert seed_of(3, Purpose.HALF, 0) == seed_of(3, Purpose.HALF, 0) != seed_of(3, Purpose.HALF, 1)
