"""Rows of AGIPD that are twice as wide as others, where two of its chips meet: whether they count twice, values tell.

Corrections may have divided them by two, or masked them. (EXtra-geom's `agipd_asic_seams` has the same rows.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.records import Bool, Float64

# Rows and columns of a module, rows of a chip.
MODULE, CHIP = (512, 128), 64
# Rows that count so many times as much as their neighbours, at least and at most, count twice.
TWICE = (1.7, 2.3)
# That is known to so much: of so many seams, its standard error.
FEWEST_SEAMS, ERROR = 6, 0.1


def wide(panels: tuple[int, int, int]) -> Bool | None:
    """Return which pixels (panels, y, x) of modules of AGIPD are wide; None if panels have another shape."""
    if panels[1:] != MODULE:
        return None
    result = np.zeros(panels, np.bool_)
    result[:, CHIP::CHIP] = result[:, CHIP - 1 : -1 : CHIP] = True
    return result


def areas(sample: NDArray[Any], lost: Bool, used: Bool) -> tuple[Float64, float] | None:
    """Return what pixels (panels, y, x) count of what others do, and how many times wide ones do; None if all alike.

    sample : (n, panels, y, x), some patterns; lost : of its shape, values that are none; used : (panels, y, x)
    """
    pixels = wide((sample.shape[1], sample.shape[2], sample.shape[3]))
    if pixels is None:
        return None
    seams = np.arange(CHIP, MODULE[0], CHIP)
    mean = []
    for rows in (seams[:, None] + [-1, 0], seams[:, None] + [-2, 1]):
        good = used[:, rows] & ~lost[:, :, rows]
        total = np.where(good, sample[:, :, rows], 0).sum((0, 3, 4), dtype=np.float64)
        mean.append(total / np.maximum(good.sum((0, 3, 4)), 1))
    there = (mean[0] > 0) & (mean[1] > 0)
    if there.sum() < FEWEST_SEAMS:
        return None
    ratio = mean[0][there] / mean[1][there]
    middle = float(np.median(ratio))
    error = 1.4826 * float(np.median(np.abs(ratio - middle))) / np.sqrt(there.sum())
    if not TWICE[0] <= middle <= TWICE[1] or error > ERROR:
        return None
    return np.where(pixels, 2.0, 1.0), middle
