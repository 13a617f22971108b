"""Outliers: patterns that fit no orientation (multiple hits, water, another particle), told by how badly they fit.

A pattern of the particle is as far from its best slice as others of its brightness are, photon noise being what sets
them apart: its share falls as one over the brightness. Distances are compared with that line, in units of their scatter
below it: outliers lie above.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from spilegate.patterns.robust import NORMAL
from spilegate.records import Bool, Float64

# The line goes through the medians of patterns of like brightness; a bin that outliers own has little say.
BINS = 12
# Distances that scatter by more than this part of themselves, those of patterns without noise, are like lognormal ones:
# the logarithm's scatter tells, less that.
WIDE = 0.05
# Where all patterns are the same, nothing is divided by less than this.
LEAST = 1e-12


def inliers(distance: Float64, brightness: Float64, *, limit: float, least: float = 0.0, wide: float = 0.0) -> Bool:
    """Return which patterns (N_IMG,) are like the others.

    distance : (N_IMG,) >= 0, e.g. to the best slice; brightness : (N_IMG,) > 0, from the counts alone, not from a fit
    limit : standard deviations above the line at which a pattern counts as an outlier
    wide : the same of their logarithms, which the further one of both counts for
    least : distance above the line that is none to speak of, however little others scatter
    """
    usual, most = expected(distance, brightness, limit=limit, wide=wide)
    result: Bool = (distance / usual <= most) | (distance - usual <= least)
    return result


def expected(distance: Float64, brightness: Float64, *, limit: float, wide: float = 0.0) -> tuple[Float64, float]:
    """Return the distance (N_IMG,) usual at each pattern's brightness, and how many times as large an inlier's may be.

    distance, brightness, limit, wide : as `inliers` takes them
    """
    usual = _line(distance, np.median(brightness) / brightness)
    ratio = distance / usual
    below = ratio[ratio < 1]
    if not len(below):
        return usual, 1 + limit * 1e-9
    most = 1 + limit * max(NORMAL * float(np.median(1 - below)), 1e-9)
    if wide:
        scatter = -NORMAL * float(np.log(max(np.median(below), LEAST)))
        most = max(most, float(np.exp(wide * (scatter - WIDE))))
    return usual, most


def _line(distance: Float64, dimness: Float64) -> Float64:
    """Return a robust line through distances (n,) over dimness (n,), never below half of the smallest median, or 0."""
    parts = np.array_split(np.argsort(dimness, kind="stable"), min(BINS, max(2, len(distance) // 10)))
    x = np.array([np.median(dimness[part]) for part in parts])
    y = np.array([np.median(distance[part]) for part in parts])
    unit = max(1e-3 * abs(float(np.median(y))), float(np.median(np.abs(y - np.median(y)))), 1e-300)
    fit = least_squares(lambda c: (c[0] + c[1] * x - y) / unit, [np.median(y), 0.0], loss="cauchy")
    line: Float64 = np.maximum(fit.x[0] + fit.x[1] * dimness, max(0.5 * float(y.min()), LEAST))
    return line
