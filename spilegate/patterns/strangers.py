"""Strangers: patterns that fall off with |q| like nothing else in the file, told before there is any model."""

from __future__ import annotations

import numpy as np

from spilegate.patterns.brightness import DARKEST
from spilegate.patterns.outliers import expected
from spilegate.patterns.robust import NORMAL
from spilegate.patterns.statistics import Sums
from spilegate.records import Bool, Float64

# Rings compared, and standard deviations beyond which a pattern is not worth a closer look.
FALL_OFF_SHELLS, STRANGE = 8, 20.0
# The same of the logarithms of their distances, as a long particle falls off in as many ways as it can be seen; and how
# many times as far as is usual the one that counts may be at most.
STRANGE_WIDE, STRANGEST = 4.5, 25.0
# Nor is a ring known to less than this part of the brightest one.
LEAST_SCATTER = 1e-3
# A pixel so many times as bright as any other stands alone: beside the middle of a speckle two pixels wide there is
# 0.4 of it.
ALONE = 3.0
# Part of the patterns that may be strangers, however bright, and still be something else than the particle.
FEW_STRANGERS = 0.2


def strangers(sums: Sums, among: Bool | None = None) -> Float64:
    """Return the weights (N_IMG,): 0 for patterns whose mean over rings is nothing like that of the others, else 1.

    Whatever its orientation, a pattern of the particle falls off with |q| like all others.
    among : (N_IMG,), those that are compared, all if left out; others get 0
    """
    result = np.ones(len(sums.most)) if among is None else among.astype(np.float64)
    shells = sums.shells
    used = np.flatnonzero(shells.compared)
    edges = np.linspace(shells.q[used].min(), shells.q[used].max(), FALL_OFF_SHELLS + 1)
    ring = np.minimum(np.searchsorted(edges, shells.q[used], side="right") - 1, FALL_OFF_SHELLS - 1)
    rings = np.stack([sums.over(used[ring == number]) for number in range(FALL_OFF_SHELLS)], axis=1)
    rings = rings[result > 0]
    rings = rings[:, rings.sum(axis=0) > 0]
    total = rings.sum(axis=1, keepdims=True)
    # Of few photons there may be none on these pixels.
    total = np.maximum(total, DARKEST * total.mean())
    # The square root evens the scatter of photons out.
    # Of a background that was taken off less than nothing may be left.
    parts = np.sqrt(np.maximum(rings, 0) / total)
    usual = np.median(parts, axis=0)
    scatter = np.median(np.abs(parts - usual), axis=0)
    # Where most patterns have no photon at all, or one, the scatter is not told: that of their roots is half of one's.
    least = max(LEAST_SCATTER * usual.max(), 0.5 / NORMAL * np.sqrt(sums.quantum / np.median(total)))
    distance = ((parts - usual) ** 2 / np.maximum(scatter, least) ** 2).mean(axis=1)
    line, most = expected(distance, total[:, 0], limit=STRANGE)
    _, wide = expected(distance, total[:, 0], limit=0, wide=STRANGE_WIDE)
    alike = distance / line <= max(most, min(wide, STRANGEST))
    # Where most frames show but the background, strangers are what most photons are in: the particle.
    if (~alike).mean() > FEW_STRANGERS and total[~alike].sum() > total[alike].sum():
        alike = ~alike
    result[result > 0] = alike
    # A hot pixel near the beam, which nothing has mended, spoils what is known of its ring in all patterns.
    alone = (sums.lead > ALONE) & (result > 0)
    # One that is hot in many patterns is left out by itself.
    if alone.sum() <= FEW_STRANGERS * (result > 0).sum():
        result[alone] = 0
    return result
