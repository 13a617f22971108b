"""Values in ADU that a saturated detector spoils, found in every pattern by itself.

Three things cannot be photons with readout noise: neighbours far brighter than the noise that are alike, where photon
noise would scatter them (the level at which a detector saturates), and whatever is brighter than such a level; and
patches of values far below zero, which readout leaves behind pixels that are too bright. A pattern that has neither
loses nothing. In one that has, charge spills along lines of pixels: ridges that start at what is saturated, narrower
than what lies on both sides of them, and short gaps between two patches of a line.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spilegate.formats.adu import Adu
from spilegate.records import Bool, Float64

# Values so many standard deviations of the readout below zero are none, in patches of so many of 3 x 3.
DEVIATIONS, PATCH = 8.0, 4
# Neighbours are alike that differ by less than this part of what photon noise lets them differ, which are 4 % of all.
# That so many pairs hang together is a chance of 1.5 in 10^9 for a bright pixel (counted in photon noise; the bond
# animals of a square lattice, 5.2^n of n pairs, say as much). A saturated pixel has more photons than the third.
ALIKE, PAIRS, BRIGHT = 0.05, 12, 100.0
# A ridge is brighter than the pixels from the first to the last of these away from it, on both sides, by so many
# standard deviations, and by this factor.
BESIDE, RIDGE, FACTOR = (3, 6), 6.0, 1.2
# A gap between two patches of a line is closed if it is shorter than so many times the shorter one.
GAP = 2


def bad(block: NDArray[Any], used: Bool, adu: Adu) -> Bool:
    """Return which values of patterns in ADU (n, panels, y, x) are spoilt by saturation.

    used : of the block's shape, values that may be looked at
    """
    result = np.zeros(block.shape, np.bool_)
    depth = DEVIATIONS * adu.noise + (adu.common if np.isfinite(adu.common) else 0.0)
    for found, pattern, own in zip(result, block, used, strict=True):
        # Comparing is quick, and mostly all there is to do.
        low = own & (pattern < -depth)
        bright = own & (pattern > BRIGHT * adu.gain)
        few = np.count_nonzero(low) < PATCH
        if few and np.count_nonzero(bright) < PAIRS // 2:
            continue
        values = np.where(own, pattern, 0).astype(np.float64)
        patches = np.zeros(low.shape, np.bool_) if few else _patches(low)
        level = _level(values, bright, adu.gain, whole=block.dtype.kind != "f")
        saturated = own & (values >= level)
        if not (patches.any() or saturated.any()):
            continue
        for panel in range(len(found)):
            seeds = _streaks(values[panel], own[panel], saturated[panel], adu) | _closed(patches[panel])
            found[panel] = ndimage.binary_dilation(seeds, np.ones((3, 3)))
    return result & used


def _patches(low: Bool) -> Bool:
    """Return which values (panels, y, x) far below zero lie in patches of such."""
    square = np.ones((1, 3, 3))
    number = ndimage.convolve(low.astype(np.uint8), square.astype(np.uint8), mode="constant")
    result: Bool = ndimage.binary_propagation(low & (number >= PATCH), np.ones((1, 3, 3)), mask=low)
    return result


def _level(values: Float64, bright: Bool, gain: float, *, whole: bool) -> float:
    """Return the least value (panels, y, x) [ADU] that is saturated; infinite if none is. whole : whether all are."""
    rounding = 0.5 if whole else 0.0
    number = np.cumsum(bright).reshape(bright.shape) - 1
    pairs = []
    for one, other in (
        ((..., slice(None, -1), slice(None)), (..., slice(1, None), slice(None))),
        ((..., slice(None, -1)), (..., slice(1, None))),
    ):
        both = bright[one] & bright[other]
        first, second = values[one][both], values[other][both]
        alike = np.abs(first - second) + rounding < ALIKE * np.sqrt(gain * (first + second))
        pairs.append(np.stack([number[one][both][alike], number[other][both][alike]]))
    begin, end = np.concatenate(pairs, axis=1)
    if len(begin) < PAIRS:
        return np.inf
    size = int(number[-1, -1, -1]) + 1
    _, group = connected_components(coo_matrix((np.ones(len(begin)), (begin, end)), (size, size)), directed=False)
    enough = np.bincount(group[begin], minlength=size) >= PAIRS
    level = float(values[bright][enough[group]].min(initial=np.inf))
    # What is less by its noise cannot be told from it.
    return level if np.isinf(level) else level - float(np.sqrt(gain * level))


def _streaks(values: Float64, used: Bool, saturated: Bool, adu: Adu) -> Bool:
    """Return saturated pixels of a panel (y, x) with the ridges that start there, along lines and across them."""
    result = saturated.copy()
    if not saturated.any():
        return result
    noise = 0.0 if np.isnan(adu.noise) else adu.noise
    for axis in (0, 1):
        sides = [_beside(values, used, sign, 1 - axis) for sign in (-1, 1)]
        most = np.maximum(*sides)
        above = RIDGE * np.sqrt(adu.gain * np.maximum(most, 0) + noise**2)
        ridge = used & (values > np.maximum(most + above, FACTOR * most))
        line = np.zeros((3, 3), np.bool_)
        line[:, 1] = True
        result |= ndimage.binary_propagation(saturated, line if axis == 0 else line.T, mask=ridge | saturated)
    return result


def _beside(values: Float64, used: Bool, sign: int, axis: int) -> Float64:
    """Return the mean of pixels a few away from each on one side (y, x); infinite where there is none of them."""
    total, number = np.zeros(values.shape), np.zeros(values.shape)
    for step in range(*BESIDE):
        there = np.roll(used, sign * step, axis)
        edge = [slice(None)] * 2
        edge[axis] = slice(0, step) if sign > 0 else slice(values.shape[axis] - step, None)
        there[tuple(edge)] = False
        total += np.where(there, np.roll(values, sign * step, axis), 0.0)
        number += there
    result: Float64 = np.where(number > 0, total / np.maximum(number, 1), np.inf)
    return result


def _closed(patches: Bool) -> Bool:
    """Return patches of a panel (y, x) with the short gaps between them along the lines of each axis."""
    result = patches.copy()
    for picture, lines in ((result, patches), (result.T, patches.T)):
        for column in np.flatnonzero(lines.any(0)):
            # A run begins and ends where this changes.
            ends = np.flatnonzero(np.diff(np.pad(lines[:, column].astype(np.int8), 1))).reshape(-1, 2)
            for (begin, last), (following, end) in pairwise(ends):
                if following - last <= GAP * min(last - begin, end - following):
                    picture[last:following, column] = True
    return result
