"""What the values of patterns are taken for: photons or intensities, in which unit, and which of them are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spilegate.formats import adu as readout
from spilegate.formats.adu import Adu, Given
from spilegate.records import Bool

# What is wrong with a pattern, by number: 0 for nothing, the worst the largest.
EMPTY, BROKEN = 1, 2
# A unit other than 1 is believed of so many values above 0, of so many sizes, and no fewer.
FEWEST_VALUES, FEWEST_SIZES = 1000, 3
# More values tell nothing more of a unit.
MOST_VALUES = 2_000_000
# Multiples of a unit that are stored as floating point differ from it by rounding: so many times the type's precision.
ROUNDINGS = 16
# Where rounding is this part of a unit, multiples of it cannot be told from other numbers; nor whole ones from halves.
TOLD, HALF = 0.05, 0.5
# Where most pixels have so many photons or more, whose variance is this part of their number or less, they are none;
# so many values tell.
MANY_PHOTONS, EVEN, FEW_VALUES = 10.0, 0.1, 200_000
# Negative values up to this part of all are accidents, and values without them photons.
RARE = 1e-3
# Numbers that stand for no value where a pixel has one and the same in all patterns, beside negative whole numbers.
LARGEST = (2**8 - 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
# Which pixels that lack values are never used: those that do in more than half of the patterns, in all, or in any.
Broken = Literal["mend", "always", "ever"]
# Fewer patterns do not tell a number that stands for no value from a chance; more such numbers are no code.
FEWEST_ALIKE, MOST_CODES, FEWEST_CODES_SEEN = 10, 8, 20


@dataclass(frozen=True)
class Rule:
    """How the values of a file are read.

    codes : numbers that stand for no value, beside those that are not finite and the largest of the type
    broken : (panels, y, x) bool, pixels never used because they lack values
    unit : what a photon is in the file; 1 where that is not known
    counts : whether the values are whole numbers of that unit; others are intensities
    length : of the lists of photons; None for patterns as they are
    adu : how values with readout noise become photons, `unit` each; None if they are taken as they are
    scatter : of the values of a pixel over patterns, as a part of what photons would, where that is too little
    """

    codes: tuple[float, ...]
    broken: Bool
    unit: float
    counts: bool
    length: int | None = None
    adu: Adu | None = None
    scatter: float | None = None


def missing(block: NDArray[Any], codes: tuple[float, ...]) -> Bool:
    """Return which values of any type stand for none: not finite, the type's largest, or one of some numbers."""
    if block.dtype.kind == "f":
        # Beyond single precision nothing can be computed with.
        largest = min(np.finfo(block.dtype).max, np.finfo(np.float32).max)
        lost = np.asarray(~((block < largest) & (block > -largest)))
    else:
        lost = np.asarray(block == np.iinfo(block.dtype).max)
    for code in codes:
        lost |= block == (code if block.dtype.kind == "f" else int(code))
    return lost


def none_of(dtype: np.dtype[Any]) -> float | int:
    """Return what stands for no value in values of a type: not a number, or the largest whole one."""
    return np.nan if dtype.kind == "f" else int(np.iinfo(dtype).max)


def broken_of(times: NDArray[Any], count: int, how: Broken) -> Bool:
    """Return which pixels are never used that lack a value so many times (...) in `count` patterns."""
    if how == "mend":
        return np.asarray(2 * times > count)
    return np.asarray(times > 0 if how == "ever" else times == count)


def codes_of(sample: NDArray[Any], used: Bool) -> tuple[float, ...]:
    """Return the numbers, negative or a largest one, that stand for no value in patterns (n, panels, y, x).

    A pixel that has one of them in all patterns tells them, or that no other negative numbers occur than at most two
    whole ones, always at the same few pixels: readout noise would have many, everywhere.
    """
    if len(sample) < FEWEST_ALIKE:
        return ()
    with np.errstate(invalid="ignore"):
        alike = sample[0][(sample == sample[0]).all(0)]
        found = np.unique(alike[((alike < 0) & (alike % 1 == 0)) | np.isin(alike, LARGEST)])
        below = (sample < 0) & used
        if sample.dtype.kind == "f":
            below &= sample > -np.inf
        values = sample[below]
        own = ~np.isin(values, found)
        below[below] = own
        other, times = np.unique(values[own]), below.sum(0)[used]
        few = 0 < len(other) <= 2 and bool((other % 1 == 0).all())
        hit = int((times > 0).sum())
        if few and times.sum() >= FEWEST_CODES_SEEN and times.sum() >= 2 * hit and 2 * hit <= len(times):
            found = np.concatenate([found, other])
    return tuple(float(code) for code in found) if len(found) <= MOST_CODES else ()


def precision(dtype: np.dtype[Any]) -> float:
    """Return the relative precision of values of a type that were computed in single precision at best; 0 if whole."""
    return max(float(np.finfo(dtype).eps), float(np.finfo(np.float32).eps)) if dtype.kind == "f" else 0.0


def unit_of(values: NDArray[Any]) -> float | None:
    """Return what one photon is among values (n,), none negative: the least step between them; None if there is none.

    1 for whole numbers unless there are many of them, of several sizes, and all are multiples of a larger number, most
    of whose multiples occur.
    """
    eps = precision(values.dtype)
    values = values[values > 0].astype(np.float64)
    sizes = np.unique(values)
    enough = len(values) >= FEWEST_VALUES and len(sizes) >= FEWEST_SIZES
    if len(values) and np.median(values) * eps > HALF:
        # Floating point of that size is always whole.
        return None
    if not eps or (sizes % 1 == 0).all():
        exact = sizes[sizes < 2.0**53].astype(np.int64)
        step = float(np.gcd.reduce(exact)) if enough and len(exact) == len(sizes) else 1.0
        return step if step > 1 and _dense(values, step) else 1.0
    if not enough:
        return None
    step = _step(sizes, eps)
    told = values < TOLD / (ROUNDINGS * eps) * step
    if told.mean() < 0.5 or len(np.unique(values[told])) < FEWEST_SIZES or not _dense(values, step):
        return None
    return step if whole(values / step, eps).all() else None


def _dense(values: NDArray[np.float64], step: float) -> bool:
    """Tell whether most multiples of a step up to the usual value occur, as they do if they are numbers of photons."""
    number = np.rint(values / step)
    first, usual = number.min(), np.median(number)
    return bool(len(np.unique(number[number <= usual])) >= (usual - first + 1) / 2)


def _step(sizes: NDArray[np.float64], eps: float) -> float:
    """Return the least step between values (n,), sorted, that differ by more than rounding."""
    steps = np.diff(sizes, prepend=0.0)
    step = float(steps[steps > ROUNDINGS * eps * sizes].min(initial=sizes[0]))
    # The larger a multiple the more exactly it tells the step, once it is known which multiple it is.
    for most in (2.0**power for power in range(2, 16)):
        near = sizes[sizes < most * step]
        number = np.rint(near / step)
        if number.any():
            step = float((near * number).sum() / (number * number).sum())
    return step


def whole(number: NDArray[np.float64], eps: float) -> Bool:
    """Return which of these are whole numbers, but for rounding; eps : relative precision of the type they came in."""
    result: Bool = np.abs(number - np.rint(number)) <= ROUNDINGS * eps * np.abs(number)
    return result


def guess(
    sample: NDArray[Any],
    used: Bool,
    photon_unit: float | None,
    *,
    broken_pixels: Broken,
    adu_per_photon: Given = "none",
    where: str = "patterns",
) -> Rule:
    """Return how values are read, by some of the patterns (n, panels, y, x).

    used : (panels, y, x), pixels that the mask lets use; photon_unit : what a photon is, if that is given
    broken_pixels : which pixels are broken by the values that they lack
    adu_per_photon : what `adu.decided` is given; where : the patterns are, for messages
    Raises InputError if ADU are on a pedestal.
    """
    codes = codes_of(sample, used)
    lost = missing(sample, codes)
    broken = broken_of(lost.sum(0), len(lost), broken_pixels)
    chosen = used & ~broken
    # Of large detectors some pixels of each pattern will do.
    index = np.flatnonzero(chosen)
    index = index[:: 1 + len(index) * len(sample) // MOST_VALUES]
    values = sample.reshape(len(sample), -1)[:, index]
    values = values[~lost.reshape(len(sample), -1)[:, index]]
    negative = float((values < 0).mean()) if values.size else 0.0
    unit = unit_of(values[values >= 0]) if negative <= RARE else None
    if photon_unit is not None:
        eps = precision(values.dtype)
        number = values[values >= 0].astype(np.float64) / photon_unit
        return Rule(codes, broken, photon_unit, negative <= RARE and bool(whole(number, eps).all()))
    adu = None
    if adu_per_photon != "none" and (adu_per_photon != "auto" or negative > RARE):
        adu = readout.decided(sample, chosen & ~lost, adu_per_photon, where=where)
    if adu is not None:
        return Rule(codes, broken, adu.gain, counts=True, adu=adu)
    scatter = None if unit is None else _too_even(sample, lost, index, unit)
    return Rule(codes, broken, 1.0 if unit is None else unit, unit is not None, scatter=scatter)


def _too_even(sample: NDArray[Any], lost: Bool, index: NDArray[np.intp], unit: float) -> float | None:
    """Return by which part of photon noise the values of pixels scatter, None if that may be photons.

    sample, lost : (n, panels, y, x); index : the pixels to look at; unit : what a photon would be
    The variance of photons is their mean, that of unlike patterns more. On a pedestal it is far less, at most pixels.
    """
    if len(sample) < FEWEST_ALIKE:
        return None
    index = index[:: 1 + len(index) * len(sample) // FEW_VALUES]
    values = sample.reshape(len(sample), -1)[:, index].astype(np.float64) / unit
    whole = ~lost.reshape(len(sample), -1)[:, index].any(0)
    mean = values[:, whole].mean(0)
    many = mean >= MANY_PHOTONS
    if not many.any() or 2 * many.sum() <= len(mean):
        return None
    part = float(np.median(values[:, whole][:, many].var(0, ddof=1) / mean[many]))
    return part if part < EVEN else None
