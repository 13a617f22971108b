"""Pixels that are broken in the whole file: persistently brighter than any pixel at their |q| has reason to be."""

from __future__ import annotations

import numpy as np

from spilegate.patterns.robust import middle_and_spread
from spilegate.records import Bool, Float64

# Pixels of like |q| that are compared: enough for a median and a spread, so few that even nearest to the beam
# they lie within one or two speckles.
NEIGHBOURS = 32
# Robust standard deviations above the median: of the means, and of their logarithms. Where the signal falls steeply
# from the beam outwards the former alone would take the innermost pixels for broken.
DEVIATIONS = 20.0
LOG_DEVIATIONS = 6.0
# Added before taking logarithms, so that few counts, whose logarithms scatter widely, do not spoil the spread.
FEW_COUNTS = 4


def hot_pixels(mean: Float64, q: Float64, usable: Bool, count: float | None = None) -> Bool:
    """Return which usable pixels are persistently hot, (N_PIX,) bool.

    Pixels are ordered by |q| and compared in groups: a hot one lies above the group's median by more than 20 robust
    standard deviations (median absolute deviation), but not less than that of photon counting, and by more than 6 of
    the logarithms.

    mean : (N_PIX,) float64 [counts per pattern], mean over all patterns; q : (N_PIX, 3) float64 [1/angstrom]
    usable : (N_PIX,) bool; other pixels may hold anything and are not reported
    count : what a single photon adds to a mean; the least difference between two means if left out
    """
    hot = np.zeros(len(mean), np.bool_)
    index = np.flatnonzero(usable)
    if len(index) == 0:
        return hot
    order = index[np.argsort(np.linalg.norm(q[index], axis=-1), kind="stable")]
    if count is None:
        count = _count(mean[index])
    for group in np.array_split(order, max(1, len(order) // NEIGHBOURS)):
        values = mean[group]
        middle, spread = middle_and_spread(values)
        # Of counts summed over all patterns, each worth one `count` of the mean.
        shot_noise = np.sqrt(max(middle, count) * count)
        logs = np.log(np.maximum(values, 0) + FEW_COUNTS * count) if count else np.zeros(len(values))
        log_middle, log_spread = middle_and_spread(logs)
        hot[group] = (values - middle > DEVIATIONS * max(spread, shot_noise)) & (
            logs - log_middle > LOG_DEVIATIONS * log_spread
        )
    return hot


def _count(mean: Float64) -> float:
    """Return what a single count adds to a mean: the least difference between two of them; 0 if all are the same.

    Means of counts over N patterns are multiples of 1 / N; of intensities without noise the result is next to nothing.
    """
    steps = np.diff(np.unique(mean))
    return float(steps.min()) if len(steps) else 0.0
