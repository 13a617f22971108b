"""Patterns that cannot be used, counted while they are read block by block."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spilegate.state import Bool, Float32

# Every fault and what to say about it, the worst first.
ADVICE = {
    "not finite": "with values that are not finite; expected numbers; set them to 0",
    "negative": "with negative values; expected photon counts or intensities; subtract less background",
    "all zero": "without any signal on the pixels used; expected at least one photon; leave them out",
}


@dataclass
class Faults:
    """For every kind of fault, the numbers of the patterns that have it."""

    patterns: dict[str, list[int]] = field(default_factory=dict)

    def add(self, start: int, images: Float32, usable: Bool) -> None:
        """Note the faults of patterns (n, N_PIX), the first of which has the number `start`."""
        with np.errstate(invalid="ignore"):
            # In double precision a sum of float32 values is finite if, and only if, all of them are.
            broken = ~np.isfinite(images.sum(1, dtype=np.float64))
            negative = images.min(1) < 0
        empty = ~images.any(1, where=usable)
        found = {"not finite": broken, "negative": negative, "all zero": empty}
        for fault, which in found.items():
            if which.any():
                self.patterns.setdefault(fault, []).extend((start + np.flatnonzero(which)).tolist())

    def count(self, fault: str) -> int:
        """Return how many patterns have a fault."""
        return len(self.patterns.get(fault, []))

    def problem(self) -> str | None:
        """Return the worst fault in words, None if there is none."""
        for fault, text in ADVICE.items():
            if which := self.patterns.get(fault):
                return f"{len(which)} of the patterns (the first: number {which[0]}, from 0) {text}"
        return None
