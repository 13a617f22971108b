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
from spilegate.records import Bool, Float64

# Relative spread of the scales below which patterns are too alike to tell signal from background.
LEAST_SPREAD = 0.2
# A signal differs between the pixels of a shell by about itself. Where patterns get brighter by less than that, not the
# pulse makes them bright, but how the particle lies: a rod, or a ring seen from the edge. (In the outer quarter of all
# shells it is 0 to 0.7 of it for these, 0.85 with fluences over a third of a decade; with pulses that differ by more,
# with and without a background, 1.3 to 2, for compact particles and rings.)
LEAST_SIGNAL, OUTER = 1.0, 0.75
# The background is a polynomial in |q| of this degree; pixels of their own would need more photons than there are.
DEGREE = 2
ROUNDS = 4
# Shells of fewer pixels say too little about how these differ.
FEWEST_PIXELS = 8


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
        found = background_of(sums, detector, scale, weight, counts=counts)
        if found is None:
            break
        background = found
        scale = scales(totals, float(background[pixels].sum()), weight)
    return Brightness(brightness(totals, float(background[pixels].sum()), weight, counts=counts), background)


def background_of(
    sums: Sums, detector: Detector, scale: Float64, weight: Float64, *, counts: bool = False
) -> Float64 | None:
    """Return the background (N_PIX,) [counts], smooth in |q|, from the lines through the counts of every shell.

    scale, weight : (N_IMG,); patterns of weight 0 are left out
    counts : whether the values are numbers of photons, of which it is known how they scatter
    None if the patterns are too alike in brightness to tell, or not all of it is brighter in a bright one.
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
    if counts and not of_pulses(sums, slope * w2 / w1, good):
        return None
    told = scatter > 0
    if told.sum() <= DEGREE:
        return None
    error = np.sqrt(scatter * w2 / determinant / shells.number)
    shape = np.polynomial.Polynomial.fit(shells.q[told], intercept[told], DEGREE, w=1 / error[told])
    q_length = np.linalg.norm(detector.q, axis=-1)
    seen = q_length[detector.merged]
    background: Float64 = np.maximum(shape(np.clip(q_length, seen.min(), seen.max())), 0.0)
    return background


def of_pulses(sums: Sums, signal: Float64, good: Bool) -> bool:
    """Tell whether numbers of photons grow with brightness by as much as there is signal, in the outer shells.

    signal : (N_SHELL,), what grows, at mean brightness; good : (N_IMG,), patterns that count
    What differs between pixels by more than photons do is no background, which is smooth. In a few shells, or patterns,
    it may be hot pixels: medians.
    """
    shells = sums.shells
    some = shells.compared & (shells.number >= FEWEST_PIXELS)
    some &= shells.q >= np.quantile(shells.q[some], OUTER) if some.any() else some
    if not some.any():
        return True
    number = shells.number[some]
    own = np.ix_(good, some)
    mean = sums.values[own] / number
    variance = (sums.squares[own] / number - mean**2) * number / (number - 1)
    speckle = np.sqrt(np.maximum(np.median(variance - mean, axis=0), 0))
    return bool(np.median(signal[some] - LEAST_SIGNAL * speckle) >= 0)
