"""Zingers, pixels that are hot in single patterns (cosmic rays, flicker): found and mended before all else is measured.

Away from the beam the intensity of a particle is speckle: exponentially distributed about its mean, whatever the
particle (Goodman, Speckle Phenomena in Optics, 3.2), and its photon counts are thermal (Mandel, Proc. Phys. Soc.
74:233, 1959), `P(n' >= n) = (mu / (1 + mu))^n` for a mean mu. A count whose chance is below 1e-12 is a zinger if it
stands alone: speckles are two pixels wide or wider, so that the particles whose speckles are brighter than chance makes
them (of facets, of high symmetry, other ones than the rest) are told by the neighbours.

What is sought spoils the means and the brightness of patterns, so they are measured again without what was found, until
nothing changes. A pixel lifts its own limit by 28 times the part it has in its pattern's mean pixels, far less than
itself: where the first search finds nothing there is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from spilegate.backend import from_host, to_host
from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.kernels.events import dense, events
from spilegate.kernels.workers import GROUP, Here, Output, Rows, Total, Workers
from spilegate.state import Bool, Float32, Float64, Int64

# Logarithm of one over the chance of a count that no particle gives.
UNLIKELY = 12 * float(np.log(10))
# A value is no zinger if so many of its pixel's nearest neighbours reach this part of it. In the middle of a speckle
# two pixels wide all of them reach 0.4, on its flank five.
NEIGHBOURS, SUPPORTERS, SUPPORT = 8, 4, 0.25
# Hot pixels in a clump support each other: those at the rim are found first, then the next ones.
PEELS = 4
# The central speckle ends about so many pixels from the beam. All patterns are alike there, which is not speckle.
INNERMOST_PIXELS = 4
# A pixel hot in a larger part of the patterns is broken; a pattern with a larger part of its pixels hot shows something
# else. Neither can be mended. The least number that may be hot, for few patterns or pixels:
MOST, FEWEST = 0.05, 3
# Searches at most, and the relative change of means and scales that still counts as none.
ROUNDS, CLOSE = 12, 0.01
# A pattern is never taken for darker than this part of the usual one.
DARKEST = 1e-3
# Photons in a pixel, on average, below which it makes no difference how few they are.
FEWEST_PHOTONS = 1e-12
# A divisor of GROUP; the dozen arrays of a tile are to fit into a core's cache.
TILE = GROUP // 4


@dataclass(frozen=True)
class Mended:
    """Patterns without zingers.

    images : as given, those very ones if nothing was found; else a copy, spread as they are
    broken : (N_PIX,) bool, pixels that are hot too often to be mended: to be left out of everything
    values : how many values were replaced
    """

    images: Any
    broken: Bool
    values: int


@dataclass(frozen=True)
class Expected:
    """What patterns show on average, and so which of their values are hot.

    signal : (N_PIX,) [counts], mean at every pixel's |q| at scale 1, times the response; None: nothing is hot
    background : (N_PIX,) [counts]; scale : (N_IMG,), of mean about 1
    judged : (N_PIX,) bool, pixels looked at; the others may hold anything
    quantum : what one photon counts; 0 for intensities without noise
    neighbours : (N_PIX, NEIGHBOURS) int64, nearest pixels of every pixel; None: every value above the limit is hot
    """

    signal: Float64 | None
    background: Float64
    scale: Float64
    judged: Bool
    quantum: float
    neighbours: Int64 | None = None

    def hot(self, here: Here, part: slice, values: Any) -> tuple[Any, Any]:
        """Return which values (n, N_PIX) of a tile of patterns are hot, and what is expected there, float32."""
        xp = here.xp
        if self.signal is None:
            return xp.zeros_like(values, dtype=xp.bool), values
        scale = here.array(self.scale[part], np.float32)
        expected = scale[:, None] * here.array(self.signal, np.float32) + here.array(self.background, np.float32)
        over = (values > limit(here, expected, self.quantum)) & here.array(self.judged)
        # Most tiles have none or a few, which are looked at where that is easiest.
        place = np.flatnonzero(to_host(over))
        if self.neighbours is None or len(place) == 0:
            return over, expected
        row, pixel = np.divmod(place, values.shape[1])
        near = row[:, None] * values.shape[1] + self.neighbours[pixel]
        flat = xp.reshape(values, (-1,))
        own, others = (to_host(xp.take(flat, here.array(index))) for index in (place, near.ravel()))
        alone = unsupported(place, near, own, others.reshape(near.shape))
        alone &= (np.bincount(row, alone) <= most_of(int(self.judged.sum())))[row]
        hot = np.zeros(over.shape, np.bool_)
        hot[row[alone], pixel[alone]] = True
        return here.array(hot), expected


def unsupported(place: Int64, near: Int64, own: Float32, others: Float32) -> Bool:
    """Return which of the values above the limit (n,) stand alone among their neighbours' (n, NEIGHBOURS).

    place : (n,), where the values are, ascending; near : (n, NEIGHBOURS), where the neighbours' are, in the same terms
    Clumps are peeled: what is hot supports nothing.
    """
    index = np.minimum(np.searchsorted(place, near), len(place) - 1)
    suspect = place[index] == near
    reached = others >= SUPPORT * own[:, None]
    alone = np.zeros(len(place), np.bool_)
    for _ in range(PEELS):
        alone = (reached & ~(suspect & alone[index])).sum(axis=1) < SUPPORTERS
    return alone


def limit(here: Here, mean: Any, quantum: float) -> Any:
    """Return the values that speckle of the means (...) exceeds with a chance of 1e-12, in the same unit.

    quantum : what one photon counts; 0 for intensities without noise
    """
    xp = here.xp
    if quantum == 0:
        return UNLIKELY * mean
    photons = xp.maximum(mean / quantum, FEWEST_PHOTONS)
    return quantum * UNLIKELY / xp.log1p(1 / photons)


def most_of(number: int) -> float:
    """Return how many of so many patterns, or pixels, may be hot at most."""
    return max(MOST * number, FEWEST)


def mend(images: Any, detector: Detector, beyond: float | None, *, counts: bool, workers: Workers) -> Mended:
    """Find the zingers of patterns and put what is expected in their place, which says nothing of an orientation.

    images : (N_IMG, N_PIX) float32, or lists of photons (N_IMG, N_EVENT) int32
    beyond : |q| [1/angstrom] up to which pixels are not looked at; None for a few pixels from the innermost one used
    counts : whether the values are whole numbers of photons; they stay whole
    """
    q_length, spacing = np.linalg.norm(detector.q, axis=-1), pixel_spacing(detector.q[detector.merged])
    if beyond is None:
        beyond = float(q_length[detector.merged].min()) + INNERMOST_PIXELS * spacing
    judged = detector.merged & (q_length > beyond)
    nothing = Mended(images, np.zeros(len(judged), np.bool_), 0)
    if judged.sum() <= NEIGHBOURS:
        return nothing
    search = _Search(images, detector, spacing, counts, workers)
    expected, bound = search.first(judged)
    found = search.look(expected, bound)
    if not found.number.any():
        return nothing
    expected = replace(expected, neighbours=nearest(detector))
    for _ in range(ROUNDS):
        before, found = found, search.look(expected, bound)
        broken = expected.judged & (found.times > most_of(len(images)))
        last, expected = expected, search.measured(found, replace(expected, judged=expected.judged & ~broken))
        if not broken.any() and np.array_equal(found.number, before.number) and alike(last, expected):
            break
    broken = judged & ~expected.judged
    if not found.number.any():
        return replace(nothing, broken=broken)
    mended, number = search.mended(expected)
    return Mended(mended, broken, int(number.sum()))


def alike(first: Expected, second: Expected) -> bool:
    """Tell whether two expectations hardly differ, in signal and scales."""
    pairs = ((first.scale, second.scale), (first.signal, second.signal))
    return all(a is not None and b is not None and np.allclose(a, b, rtol=CLOSE, atol=0) for a, b in pairs)


def nearest(detector: Detector) -> Int64:
    """Return the nearest used pixels (N_PIX, NEIGHBOURS) of every used pixel; of other pixels, themselves."""
    index = np.flatnonzero(detector.merged)
    result = np.repeat(np.arange(len(detector.q))[:, None], NEIGHBOURS, axis=1)
    _, near = cKDTree(detector.q[index]).query(detector.q[index], k=NEIGHBOURS + 1)
    result[index] = index[near[:, 1:]]
    return result


def scales(sums: Float64, background: float) -> Float64:
    """Return the scales (N_IMG,) of patterns, 1 for the usual one, from their sums and that of the background."""
    signal = sums - background
    usual = float(np.median(signal[signal > 0])) if (signal > 0).any() else 1.0
    scale: Float64 = np.maximum(signal / usual, DARKEST)
    return scale


def shell_means(signal: Float64, detector: Detector, judged: Bool, spacing: float) -> Float64:
    """Return the mean over shells of |q| as wide as a pixel, times the response, at all pixels (N_PIX,); 0 elsewhere.

    signal : (N_PIX,) [counts], what patterns show on average; judged : (N_PIX,) bool, where that is to be trusted
    """
    q_length, response = np.linalg.norm(detector.q[judged], axis=-1), detector.response[judged]
    first, last = q_length.min(), q_length.max()
    count = max(1, int((last - first) / spacing))
    shell = np.minimum(((q_length - first) / max(last - first, spacing) * count).astype(int), count - 1)
    part = np.bincount(shell, response, count)
    filled = part > 0
    middle, mean = (
        np.bincount(shell, values, count)[filled] / part[filled] for values in (response * q_length, signal[judged])
    )
    result = np.zeros(len(judged))
    result[judged] = response * np.interp(q_length, middle, np.maximum(mean, 0))
    return result


@dataclass(frozen=True)
class _Found:
    """What a look at all patterns found.

    number : (N_IMG,) values hot in every pattern; times : (N_PIX,) patterns in which every pixel is hot
    sums : (N_IMG,) [counts], of every pattern without what is hot
    weight : (N_IMG,); total : (N_PIX,) [counts], weighted sum of the patterns without what is hot
    """

    number: Float64
    times: Float64
    sums: Float64
    weight: Float64
    total: Float64


@dataclass(frozen=True)
class _Search:
    """Patterns, their detector, whose pixels are `spacing` apart [1/angstrom], and who looks at them."""

    images: Any
    detector: Detector
    spacing: float
    counts: bool
    workers: Workers

    def first(self, judged: Bool) -> tuple[Expected, float]:
        """Return what is expected of pixels (N_PIX,) if nothing is hot, and an upper bound of any weighted sum."""
        n_pixel, chosen = len(judged), judged.astype(np.float32)

        def add(here: Here, part: slice, block: Any) -> tuple[Any, ...]:  # noqa: ARG001 - the signature of every body
            xp = here.xp
            values = dense(block, n_pixel) * here.array(chosen)
            least = xp.min(xp.where(values > 0, values, here.array(np.inf, np.float32)), axis=1)
            return xp.sum(values, axis=1, dtype=xp.float64), xp.max(values, axis=1), least

        outputs = [Rows((), np.float64), Rows((), np.float32), Rows((), np.float32)]
        sums, most, least = self.workers.run(add, len(self.images), outputs, tile=TILE, split=[self.images])
        # Photons may be counted in any unit, as floating point: no value then lies between 0 and that of one.
        least = least[np.isfinite(least)]
        quantum = 1.0 if self.counts else float(np.median(least)) if len(least) else 0.0
        scale = scales(sums, float(self.detector.background[judged].sum()))
        nothing = Expected(None, self.detector.background, scale, judged, quantum)
        bound = 4.0 * float((_weight(scale) * (most + 1.0)).sum())
        return self.measured(self.look(nothing, bound), nothing), bound

    def look(self, expected: Expected, bound: float) -> _Found:
        """Look for what is hot."""
        n_pixel, count = len(expected.judged), len(self.images)
        chosen, weight = expected.judged.astype(np.float32), _weight(expected.scale)

        def add(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
            xp = here.xp
            values = dense(block, n_pixel)
            hot, mean = expected.hot(here, part, values)
            left = xp.astype(xp.where(hot, mean, values) * here.array(chosen), xp.float64)
            found = xp.astype(hot, xp.float64)
            total = xp.matmul(here.array(weight[part]), left)
            return xp.sum(found, axis=1), xp.sum(found, axis=0), xp.sum(left, axis=1), total

        one = Rows((), np.float64)
        outputs: list[Output] = [one, Total((n_pixel,), 2.0 * count), one, Total((n_pixel,), bound)]
        number, times, sums, total = self.workers.run(add, count, outputs, tile=TILE, split=[self.images])
        return _Found(number, times, sums, weight, total)

    def measured(self, found: _Found, expected: Expected) -> Expected:
        """Return what is expected after a look, of the pixels that `expected` judges."""
        detector, judged = self.detector, expected.judged
        scale = scales(found.sums, float(detector.background[judged].sum()))
        signal = (found.total - found.weight.sum() * detector.background) / (found.weight * scale).sum()
        return replace(expected, signal=shell_means(signal, detector, judged, self.spacing), scale=scale)

    def mended(self, expected: Expected) -> tuple[Any, Float64]:
        """Return the patterns with what is expected in place of what is hot, and how often (N_IMG,) that was done."""
        n_pixel, shape = len(expected.judged), self.images.shape[1:]

        def put(here: Here, part: slice, block: Any) -> tuple[Any, Any]:
            xp = here.xp
            values = dense(block, n_pixel)
            hot, mean = expected.hot(here, part, values)
            left = xp.where(hot, xp.round(mean) if self.counts else mean, values)
            number = xp.sum(xp.astype(hot, xp.float64), axis=1)
            if block.dtype in (xp.float32, xp.float64):
                return xp.astype(left, block.dtype), number
            return from_host(events(to_host(left), shape[0]), block), number

        outputs = [Rows(shape, self.images.dtype, split=True), Rows((), np.float64)]
        images, number = self.workers.run(put, len(self.images), outputs, tile=TILE, split=[self.images])
        return images, number


def _weight(scale: Float64) -> Float64:
    """Return what patterns (N_IMG,) count for: one that is brighter than the usual one has no more to say than it."""
    weight: Float64 = 1 / np.maximum(scale, 1)
    return weight
