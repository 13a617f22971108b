"""What all patterns have in common that is not signal, before any model.

The signal of a pixel grows with the pulse, a common background does not. So over patterns of different scale s the
counts of a pixel lie about a line, `d = s I + b`, whatever the orientations: its slope is the mean intensity, its
intercept the background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.geometry.detector import Detector
from spilegate.patterns.brightness import brightness, scales
from spilegate.patterns.statistics import Sums
from spilegate.records import Float64

# Relative spread of the scales below which patterns are too alike to tell signal from background.
LEAST_SPREAD = 0.2
# The background is a polynomial in |q| of this degree; pixels of their own would need more photons than there are.
DEGREE = 2
ROUNDS = 4


def alike(scale: Float64, weight: Float64) -> bool:
    """Tell whether scales (N_IMG,), those of weight 0 left out, differ too little to tell signal from background."""
    good = weight > 0
    return bool(np.std(scale[good]) < LEAST_SPREAD * np.mean(scale[good]))


@dataclass(frozen=True)
class Brightness:
    """Scales (N_IMG,) of all patterns and the background (N_PIX,) [counts] they have in common."""

    scale: Float64
    background: Float64


def calibrated(sums: Sums, detector: Detector, weight: Float64, *, estimate: bool, counts: bool = False) -> Brightness:
    """Return how bright patterns are, and their background.

    weight : (N_IMG,), 0 for patterns that are not to be trusted
    estimate : find the background from the patterns; else it is what the detector has
    counts : whether the values are numbers of photons
    """
    used = sums.shells.compared
    pixels, totals, background = sums.shells.pixels(used), sums.over(used), detector.background
    scale = scales(totals, float(background[pixels].sum()), weight)
    for _ in range(ROUNDS if estimate else 0):
        found = background_of(sums, detector, scale, weight)
        if found is None:
            break
        background = found
        scale = scales(totals, float(background[pixels].sum()), weight)
    return Brightness(brightness(totals, float(background[pixels].sum()), weight, counts=counts), background)


def background_of(sums: Sums, detector: Detector, scale: Float64, weight: Float64) -> Float64 | None:
    """Return the background (N_PIX,) [counts], smooth in |q|, from the lines through the counts of every shell.

    scale, weight : (N_IMG,); patterns of weight 0 are left out
    None if the patterns are too alike in brightness to tell.
    """
    if alike(scale, weight):
        return None
    good, shells = weight > 0, sums.shells
    # Bright patterns scatter more: with the weight 1 / s the line is fitted with the same care everywhere.
    light = good / scale
    # Sums over an axis, which unlike products of matrices are the same for any number of threads.
    zeroth, first, square = (
        (own[:, None] * values).sum(axis=0) / shells.number
        for own, values in ((light, sums.values), (1.0 * good, sums.values), (light, sums.squares))
    )
    w0, w1, w2 = float(light.sum()), float(good.sum()), float(scale[good].sum())
    determinant = w0 * w2 - w1**2
    intercept = (w2 * zeroth - w1 * first) / determinant
    slope = (w0 * first - w1 * zeroth) / determinant
    scatter = np.maximum(square - intercept * zeroth - slope * first, 0) / w1
    told = scatter > 0
    if told.sum() <= DEGREE:
        return None
    error = np.sqrt(scatter * w2 / determinant / shells.number)
    shape = np.polynomial.Polynomial.fit(shells.q[told], intercept[told], DEGREE, w=1 / error[told])
    q_length = np.linalg.norm(detector.q, axis=-1)
    seen = q_length[detector.merged]
    background: Float64 = np.maximum(shape(np.clip(q_length, seen.min(), seen.max())), 0.0)
    return background
