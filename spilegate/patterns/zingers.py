"""Zingers, pixels that are hot in single patterns (cosmic rays, flicker): found and mended before all else is measured.

`geometry.speckle` says which values those are, given what is expected. But what is sought spoils the means over shells
of |q| and the brightness of patterns, so they are measured again without what was found, until nothing changes. A hot
pixel lifts its own limit by 28 times the part that pixels at its |q| have in a pattern, far less than itself: where the
first search finds nothing there is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spilegate.backend import from_host, to_host
from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.kernels.events import dense, events
from spilegate.kernels.workers import GROUP, Here, Output, Rows, Total, Workers, pattern_bytes
from spilegate.patterns.speckle import NEIGHBOURS, Expected, most_of, nearest
from spilegate.records import Bool, Float64

# The central speckle ends about so many pixels from the beam. All patterns are alike there, which is not speckle.
INNERMOST_PIXELS = 4
# Searches at most, and the relative change of means and scales that still counts as none.
ROUNDS, CLOSE = 12, 0.01
# A pattern is never taken for darker than this part of the usual one.
DARKEST = 1e-3
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
        sums, most, least = self.workers.run(
            add, len(self.images), outputs, tile=TILE, split=[self.images], row_bytes=pattern_bytes(n_pixel)
        )
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
        number, times, sums, total = self.workers.run(
            add, count, outputs, tile=TILE, split=[self.images], row_bytes=pattern_bytes(n_pixel)
        )
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
        images, number = self.workers.run(
            put, len(self.images), outputs, tile=TILE, split=[self.images], row_bytes=pattern_bytes(n_pixel)
        )
        return images, number


def _weight(scale: Float64) -> Float64:
    """Return what patterns (N_IMG,) count for: one that is brighter than the usual one has no more to say than it."""
    weight: Float64 = 1 / np.maximum(scale, 1)
    return weight
