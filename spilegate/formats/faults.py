"""Patterns that cannot be used, found while they are read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spilegate.state import Bool, Float32

# What is wrong with a pattern, by number: 0 for nothing, the worst the largest.
EMPTY, NEGATIVE, BROKEN = 1, 2, 3
ADVICE = {
    BROKEN: "with values that are not finite; expected numbers; set them to 0",
    NEGATIVE: "with negative values; expected photon counts or intensities; subtract less background",
    EMPTY: "without any signal on the pixels used; expected photons; check the mask, prepare.q_min, prepare.q_max",
}


def faults_of(images: Float32, usable: Bool) -> NDArray[np.uint8]:
    """Return the worst fault (n,) of every pattern (n, N_PIX); only usable (N_PIX,) pixels need to have a signal."""
    faults = np.where(images.any(1, where=usable), 0, EMPTY).astype(np.uint8)
    with np.errstate(invalid="ignore"):
        faults[images.min(1) < 0] = NEGATIVE
        # In double precision a sum of float32 values is finite if, and only if, all of them are.
        faults[~np.isfinite(images.sum(1, dtype=np.float64))] = BROKEN
    return faults


def problem_of(faults: NDArray[np.uint8]) -> str | None:
    """Return the worst of all faults in words, None if there is none."""
    for fault, text in ADVICE.items():
        which = np.flatnonzero(faults == fault)
        # Some frames without any signal are nothing to worry about: they are not used.
        if len(which) and (fault != EMPTY or len(which) == len(faults)):
            return f"{len(which)} of the patterns (the first: number {which[0]}, from 0) {text}"
    return None
