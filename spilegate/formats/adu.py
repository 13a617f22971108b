"""What a photon is in values with readout noise, in ADU: found from the peaks of their histogram.

Pixels that saw 0, 1, 2 ... photons make peaks at these multiples of the gain, as wide as the readout noise. The phase
of the values' Fourier component at the period of the peaks tells how far each pattern is off zero (common mode); what
is left of it around the peaks of one and of two photons, less what lies as far below zero, tells whether there are
peaks. Peaks wider than 0.25 of the gain, of few photons, or one alone, tell nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from spilegate.errors import InputError
from spilegate.records import Bool, Float32, Float64

Given = float | Literal["auto", "none"]
# Of a first photon a value has to reach the part where it is likelier one than none, within these; if that is not known
# the latter.
FIRST = (0.5, 0.7)
# Readout noise beyond this part of the gain leaves no peaks to be told.
MOST_NOISE = 0.25
# Contrast of the peaks of one and of two photons that tells them: that of noise of 0.26 of the gain; and less where
# values between them, of photons that two pixels share, are as many. By chance it is so many standard deviations.
LEAST_CONTRAST, DEVIATIONS = (0.25, 0.08), 5.0
# Of each there have to be so many values.
FEWEST_VALUES = 200
# Peaks below this number of photons are fitted, to values whose neighbours are below this part of the gain.
PHOTONS, ALONE = 3, 0.25
# A gain is sought between these multiples of the usual size of negative values, in steps that spoil no contrast.
GAINS, STEP = (4.0, 100.0), 0.02
# The fit confirms one that is so close to its own.
CLOSE = 0.1
# Rounded to whole numbers, values alias: a gain smaller than this could be another one.
LEAST_WHOLE = 3.4
# Bins of the histogram in the usual size of negative values; in a gain while it is sought, each level of bins so much
# wider than the one before it; in a gain when it is fitted. Gains that it reaches to.
BINS, LEAST_BINS, MOST_BINS, LEVEL, FINE, REACH = 8, 30, 60, 2, 50, 4.0
# Rounds of the fit; so many with the same common mode. A difference of logarithms of likelihoods that is no chance.
ROUNDS, TURN, LIKELIER = 240, 60, 3.0


@dataclass(frozen=True)
class Adu:
    """How ADU become photons.

    gain : ADU a photon; found : whether from the peaks, or it was given
    noise : standard deviation of the readout [ADU]; common : most that a pattern is off zero [ADU]; NaN if not known
    first : part of a photon from which a value is likelier one than none
    """

    gain: float
    found: bool
    noise: float = float("nan")
    common: float = float("nan")
    first: float = FIRST[1]

    @property
    def said(self) -> str:
        """Return what values are taken for, in words."""
        how = "found from the peaks of the histogram" if self.found else "given"
        text = f"photons; ADU, {self.gain:.4g} a photon ({how})"
        if np.isfinite(self.noise):
            text += f", readout noise {self.noise / self.gain:.2f} photons, common mode up to {self.common:.2g} ADU"
        return text


def photons(block: NDArray[Any], adu: Adu) -> Float32:
    """Return the photons of values in ADU (...): whole numbers, none negative."""
    number = block.astype(np.float64) / adu.gain
    result: Float32 = np.where(number < adu.first, 0.0, np.floor(number + 0.5)).astype(np.float32)
    return result


def decided(sample: NDArray[Any], used: Bool, given: float | Literal["auto"], *, where: str) -> Adu | None:
    """Return how some patterns (n, panels, y, x) in ADU become photons, None if no gain can be told.

    used : (n, panels, y, x), values that may be used; given : the gain, if known; where : the patterns are, for errors
    Raises InputError if the gain is given and all values are above half a photon: they are on a pedestal.
    """
    if given == "auto":
        return found(sample, used)
    values = sample[used]
    if values.size and float(values.min()) > given / 2:
        raise InputError(
            f"{where}: no value below {float(values.min()):g}; expected ADU about 0 where there is no photon, "
            f"prepare.adu_per_photon being {given:g}; take the pedestal off first, or leave the setting out"
        )
    measured = found(sample, used, given)
    return Adu(given, found=False) if measured is None else replace(measured, found=False)


def found(sample: NDArray[Any], used: Bool, gain: float | None = None) -> Adu | None:
    """Return the gain that peaks of the histogram of patterns (n, ...) show, None if none can be told.

    used : of the sample's shape, values that may be used; gain : it, if it is known; then it is not sought
    """
    negative = sample[used & (sample < 0)].astype(np.float64)
    if not negative.size:
        return None
    size, whole = float(np.median(-negative)), sample.dtype.kind != "f"
    first, last = (GAINS[0] * size, GAINS[1] * size) if gain is None else (gain, gain)
    if whole and gain is None:
        first, last = max(first, LEAST_WHOLE), max(last, LEAST_WHOLE)
    width = max(1.0, np.rint(size / BINS)) if whole else size / BINS
    histogram = _Histogram.of(sample, used, width, REACH * last)
    levels = [histogram]
    while levels[-1].width * MOST_BINS < last:
        levels.append(levels[-1].coarser(LEVEL * levels[-1].width))

    def level(gain: float) -> _Histogram:
        return max(
            (each for each in levels if each.width * LEAST_BINS <= gain), key=lambda each: each.width, default=histogram
        )

    tried = np.geomspace(first, last, 1 + int(np.ceil(np.log(last / first) / np.log1p(STEP))))
    scores = np.array([level(each).contrast(each) for each in tried.tolist()])
    around = np.pad(scores, 1)
    likely = (scores > 0) & (scores >= around[:-2]) & (scores >= around[2:])
    for best in tried[likely][np.argsort(-scores[likely])].tolist():
        clear = used & _alone(sample, used, level(best).offsets(best) + ALONE * best)
        alone = _Histogram.of(sample, clear, max(width, best / MOST_BINS), REACH * best)
        clearer = alone if alone.contrast(best) > 0 else level(best)
        result = clearer.fitted(best, given=gain is not None)
        if result.noise <= MOST_NOISE * result.gain and abs(result.gain / best - 1) < CLOSE:
            return result
    return None


def _alone(sample: NDArray[Any], used: Bool, most: Float64) -> Bool:
    """Return which values (n, panels, y, x) have no neighbour above a limit (n,): none shares a photon's charge."""
    own = (used & (sample > most.reshape(-1, *[1] * (sample.ndim - 1)))).astype(np.uint8)
    bright = own
    for axis in (-2, -1):
        # Edges see the opposite ones: a few values less.
        bright = bright + np.roll(bright, 1, axis) + np.roll(bright, -1, axis)
    result: Bool = bright == own
    return result


@dataclass(frozen=True)
class _Histogram:
    """How many values of each pattern lie in each bin: middle (N_BIN,) [ADU], one of them 0, number (n, N_BIN)."""

    middle: Float64
    number: Float64

    @staticmethod
    def of(sample: NDArray[Any], used: Bool, width: float, last: float) -> _Histogram:
        """Return that of values up to a size."""
        most = int(np.ceil(last / width))
        number = np.zeros((len(sample), 2 * most + 1))
        for row, pattern, chosen in zip(number, sample, used, strict=True):
            bins = np.rint(pattern[chosen].astype(np.float64) / width)
            row += np.bincount(bins[np.abs(bins) <= most].astype(np.int64) + most, minlength=len(row))
        return _Histogram(width * np.arange(-most, most + 1, dtype=np.float64), number)

    @property
    def width(self) -> float:
        """Return that of a bin [ADU]."""
        return float(self.middle[1] - self.middle[0])

    def coarser(self, width: float) -> _Histogram:
        """Return it in wider bins."""
        bins = np.rint(self.middle / width).astype(np.int64)
        number = np.stack([np.bincount(bins - bins[0], row) for row in self.number])
        return _Histogram(width * np.arange(bins[0], bins[-1] + 1, dtype=np.float64), number.astype(np.float64))

    def offsets(self, gain: float) -> Float64:
        """Return how far patterns (n,) are off zero [ADU], less than half the gain: by the phase of their peaks."""
        near = np.abs(self.middle) < (PHOTONS - 0.5) * gain
        angle, number = 2 * np.pi * self.middle[near] / gain, self.number[:, near]
        # Sums over an axis, which unlike products of matrices are the same for any number of threads.
        sine, cosine = ((number * wave).sum(1) for wave in (np.sin(angle), np.cos(angle)))
        result: Float64 = np.arctan2(sine, cosine) * gain / (2 * np.pi)
        return result

    def contrast(self, gain: float) -> float:
        """Return the mean contrast of the peaks of no, one and two photons at a gain; 0 if the latter are not told.

        It is the Fourier component of the values about a peak: 1 if that is sharp, `exp(-2 (pi s)^2)` for noise of s
        photons, 0 for anything flat, negative for what falls off steadily. What lies as far below zero is taken off:
        the flank of the peak of no photon.
        """
        near = np.abs(self.middle) < (PHOTONS + 0.5) * gain
        number = (self.middle[near] - self.offsets(gain)[:, None]) / gain
        wave, weight = np.cos(2 * np.pi * number), self.number[:, near]
        zero = weight * (np.abs(number) < 0.5)
        found = [float((zero * wave).sum() / max(1.0, zero.sum()))]
        for photons, enough in enumerate(LEAST_CONTRAST, 1):
            own = weight * ((np.abs(number - photons) < 0.5) * 1.0 - (np.abs(number + photons) < 0.5))
            total = float(own.sum())
            if total < FEWEST_VALUES:
                return 0.0
            found.append(float((own * wave).sum()) / total)
            if found[-1] < max(enough, DEVIATIONS * float(np.sqrt(np.abs(own).sum() / 2)) / total):
                return 0.0
        return float(np.mean(found))

    def fitted(self, gain: float, *, given: bool) -> Adu:
        """Return gain, noise and common mode by maximum likelihood; given : whether the gain is.

        For Gaussian peaks of any heights on flat ground; where that is likelier by far each but the first with a shelf
        of any height down to the one before it, of photons whose charge two pixels share.
        """
        (plain, likely), (shelved, likelier) = (self._fitted(gain, given, shelves) for shelves in (0.0, 1.0))
        return shelved if likelier > likely + LIKELIER else plain

    def _fitted(self, gain: float, given: bool, shelved: float) -> tuple[Adu, float]:
        """Return what a fit of peaks with shelves, or of bare ones, finds, and the logarithm of its likelihood.

        Expectation maximisation (Dempster et al., J. R. Stat. Soc. B 39:1, 1977).
        """
        peak, noise = np.arange(PHOTONS + 1), gain * MOST_NOISE / 2
        height = np.ones(2 * len(peak))
        height[-PHOTONS:] = shelved
        for turn in range(ROUNDS):
            if turn % TURN == 0:
                offsets, zero = self.offsets(gain), 0.0
                value, number = self._together(offsets, gain)
            from_peak = (value[:, None] - zero - gain * peak) / noise
            bells = np.exp(-(from_peak**2) / 2) / (noise * np.sqrt(2 * np.pi))
            shelves = (ndtr(from_peak + gain / noise) - ndtr(from_peak)) / gain
            shelves[:, 0] = 1 / (value[-1] - value[0])
            chance = height * np.hstack([bells, shelves])
            part = chance * (number / chance.sum(1))[:, None]
            height = part.sum(0) / number.sum()
            # The last peak is cut off.
            part = part[:, :PHOTONS]
            total, reached = part.sum(0), (part * value[:, None]).sum(0)
            first, second = ((total * peak[:-1] ** power).sum() for power in (1, 2))
            if not given:
                slope = total.sum() * (reached * peak[:-1]).sum() - first * reached.sum()
                gain = float(slope / (total.sum() * second - first**2))
            zero = float((reached.sum() - gain * first) / total.sum())
            square = (value[:, None] - zero - gain * peak[:-1]) ** 2
            noise = float(np.sqrt((part * square).sum() / total.sum()))
        likelihood = float((number * np.log(chance.sum(1))).sum())
        common = float(np.abs(offsets + zero).max())
        part_of_one = np.linspace(*FIRST, FINE)
        none, one = (
            height[photon] * np.exp(-(((part_of_one - photon) * gain / noise) ** 2) / 2) / (noise * np.sqrt(2 * np.pi))
            for photon in (0, 1)
        )
        # A pixel that got more than half of a photon's charge counts it.
        likelier = one + height[len(peak) + 1] / gain >= none
        first = float(part_of_one[int(np.argmax(likelier))]) if likelier.any() else FIRST[1]
        return Adu(gain, found=not given, noise=noise, common=common, first=first), likelihood

    def _together(self, offsets: Float64, gain: float) -> tuple[Float64, Float64]:
        """Return values [ADU] less the offsets (n,) of their patterns, in bins, and how many there are of each."""
        width = gain / FINE
        bins = np.rint((self.middle - offsets[:, None]) / width).astype(np.int64)
        near = (bins > -1.5 * FINE) & (bins < (PHOTONS + 0.5) * FINE)
        low = int(bins[near].min())
        number = np.bincount(bins[near] - low, self.number[near])
        return width * np.arange(low, low + len(number), dtype=np.float64), number.astype(np.float64)
