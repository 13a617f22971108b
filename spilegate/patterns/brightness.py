"""How bright every pattern is, by its counts alone."""

from __future__ import annotations

import numpy as np

from spilegate.records import Bool, Float64

# A pattern is never taken for darker than this part of the usual one.
DARKEST = 1e-3
# Patterns of less signal than this part of the usual one's show no particle, nor do those whose signal is not so many
# standard deviations above the photons of the background, as long as those are no more than that part of the usual one.
DARK, DARK_DEVIATIONS, DARK_MOST = 0.01, 3.0, 0.3
# Patterns of fewer photons do not even tell how bright they are. (At 300 photons, where refinement finds the scales
# anew, starting from the sums as they are gives the better density.)
FEW_PHOTONS = 200
TINY = 1e-30


def scales(sums: Float64, background: float, weight: Float64) -> Float64:
    """Return the scales (N_IMG,), of mean 1 where the weight is not 0, from sums of patterns and of the background."""
    signal, good = sums - background, weight > 0
    relative: Float64 = np.maximum(signal / signal[good].mean(), DARKEST)
    relative /= relative[good].mean()
    return relative


def shrunken(scale: Float64, noise: Float64, weight: Float64) -> Float64:
    """Return scales (N_IMG,) drawn towards 1 as far as photon noise and not the pulses makes them differ.

    noise : (N_IMG,), variance of each that counting photons causes; weight : (N_IMG,), 0 for patterns that do not count
    The best linear estimate (James and Stein, Proc. 4th Berkeley Symp. 1:361, 1961); the pulses' own variance is what
    noise leaves of the scales' variance. Patterns of few photons, each given the scale that its photons suggest, would
    all be equally bright, and so would be the particle from all sides.
    """
    good = weight > 0
    own = max(0.0, float(np.var(scale[good]) - noise[good].mean()))
    result: Float64 = 1 + (scale - 1) * own / np.maximum(own + noise, TINY)
    result /= result[good].mean()
    return result


def brightness(sums: Float64, background: float, weight: Float64, *, counts: bool) -> Float64:
    """Return the scales (N_IMG,) of patterns from their sums and that of the background; shrunken, if of few photons.

    sums, weight : (N_IMG,), background : as `scales` takes them; counts : whether the values are numbers of photons
    """
    scale = scales(sums, background, weight)
    signal = float((sums - background)[weight > 0].mean())
    if not counts or signal >= FEW_PHOTONS:
        return scale
    return shrunken(scale, np.maximum(sums, 1) / max(signal, TINY) ** 2, weight)


def dark(sums: Float64, background: float, weight: Float64, *, counts: bool) -> Bool:
    """Return which patterns (N_IMG,) are too dark to show a particle.

    sums, weight : (N_IMG,), background : as `scales` takes them; counts : whether the values are numbers of photons
    The usual signal is that of the pattern from which the middle one of all photons is: most may be dark.
    """
    signal = sums - background
    order = np.sort(np.maximum(signal[weight > 0], 0))
    reached = np.cumsum(order)
    usual = float(order[np.searchsorted(reached, reached[-1] / 2)]) if len(order) and reached[-1] > 0 else 0.0
    noise = DARK_DEVIATIONS * float(np.sqrt(max(background, 0))) if counts else 0.0
    result: Bool = (signal < DARK * usual + noise * (noise <= DARK_MOST * usual)) | (sums <= 0)
    return result
