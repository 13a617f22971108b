"""Spreads that a few values far off do not change."""

from __future__ import annotations

import numpy as np

from spilegate.records import Float64

# The standard deviation of a normal distribution over its median absolute deviation.
NORMAL = 1.4826


def middle_and_spread(values: Float64) -> tuple[float, float]:
    """Return the median of values (n,) and their standard deviation, from the median distance to it."""
    middle = np.median(values)
    return float(middle), float(NORMAL * np.median(np.abs(values - middle)))
