"""Zingers, pixels that are hot in single patterns (cosmic rays, flicker): found and mended before all else is measured.

`patterns.speckle` says which values those are, given what is expected. But what is sought spoils the means over shells
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
from spilegate.kernels.blocks import pattern_bytes
from spilegate.kernels.events import dense, events
from spilegate.kernels.exact import Output, Rows, Total
from spilegate.kernels.workers import Here, Workers
from spilegate.patterns.brightness import DARKEST
from spilegate.patterns.speckle import NEIGHBOURS, Expected, most_of, nearest
from spilegate.patterns.statistics import TILE, Added, Sums, Weighing, ring_of
from spilegate.records import Bool, Float32, Float64, Int64

# The central speckle ends about so many pixels from the beam. All patterns are alike there, which is not speckle.
INNERMOST_PIXELS = 4
# Searches at most, and the relative change of means and scales that still counts as none.
ROUNDS, CLOSE = 12, 0.01


@dataclass(frozen=True)
class Zingers:
    """What was found in patterns, and what belongs in its place.

    pattern, pixel : (n,) int64, where the values are, by pattern; value : (n,) float32, what is expected there
    broken : (N_PIX,) bool, pixels that are hot too often to be mended: to be left out of everything
    """

    pattern: Int64
    pixel: Int64
    value: Float32
    broken: Bool

    @staticmethod
    def none(n_pixel: int) -> Zingers:
        """Return that nothing was found in patterns of so many pixels."""
        where = np.zeros(0, np.int64)
        return Zingers(where, where, np.zeros(0, np.float32), np.zeros(n_pixel, np.bool_))

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return len(self.pattern) > 0 or bool(self.broken.any())


def innermost(detector: Detector, beyond: float | None, spacing: float) -> float:
    """Return the |q| outside of which pixels are judged: `beyond`, or a few pixels from the innermost one used."""
    first = float(np.linalg.norm(detector.q[detector.merged], axis=-1).min())
    return first + INNERMOST_PIXELS * spacing if beyond is None else beyond


def find(
    images: Any, detector: Detector, sums: Sums, weighing: Weighing, *, counts: bool, workers: Workers
) -> tuple[Zingers, Added | None]:
    """Return the zingers of patterns and what the pass that looks for them adds up of the patterns as they are.

    images : (N_IMG, N_PIX) float32, or lists of photons (N_IMG, N_EVENT) int32; sums : theirs
    weighing : how patterns are added up for their moments; without pixels to look at they are not
    counts : whether the values are whole numbers of photons; they stay whole
    """
    shells = sums.shells
    judged = shells.pixels(shells.judged)
    nothing = Zingers.none(len(judged))
    spacing = pixel_spacing(detector.q[detector.merged])
    search = _Search(images, detector, spacing, counts, workers)
    if judged.sum() <= NEIGHBOURS:
        return nothing, None
    expected, bound = search.first(sums, judged)
    found, of_all = search.look(expected, bound, weighing)
    if not found.number.any():
        return nothing, of_all
    expected = replace(expected, neighbours=nearest(detector))
    for _ in range(ROUNDS):
        before, (found, _) = found, search.look(expected, bound)
        broken = expected.judged & (found.times > most_of(len(images)))
        last, expected = expected, search.measured(found, replace(expected, judged=expected.judged & ~broken))
        if not broken.any() and np.array_equal(found.number, before.number) and alike(last, expected):
            break
    broken = judged & ~expected.judged
    if not found.number.any():
        return replace(nothing, broken=broken), of_all
    # With what is expected measured without them there may be a few more than at the last look.
    return replace(search.places(expected, int(search.look(expected, bound)[0].number.max())), broken=broken), of_all


def mended(images: Any, zingers: Zingers, n_pixel: int, *, workers: Workers, length: int | None = None) -> Any:
    """Return patterns, or lists of their photons, with what is expected in place of zingers: a copy, if there are any.

    What is expected says nothing of an orientation. length : of the lists, that of `images` if left out
    """
    if len(zingers.pattern) == 0:
        return images
    shape = images.shape[1:] if length is None else (length,)
    begin = np.searchsorted(zingers.pattern, np.arange(len(images) + 1))

    def put(here: Here, part: slice, block: Any) -> tuple[Any]:
        own = slice(begin[part.start], begin[part.stop])
        if own.start == own.stop and shape == images.shape[1:]:
            return (block,)
        xp = here.xp
        values = np.array(to_host(dense(block, n_pixel)))
        values[zingers.pattern[own] - part.start, zingers.pixel[own]] = zingers.value[own]
        if block.dtype in (xp.float32, xp.float64):
            return (here.array(values),)
        return (from_host(events(values, shape[0]), block),)

    outputs = [Rows(shape, images.dtype, split=True)]
    return workers.run(put, len(images), outputs, tile=TILE, split=[images], row_bytes=pattern_bytes(n_pixel))[0]


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
    shell = ring_of(q_length, spacing)
    part = np.bincount(shell, response)
    filled = part > 0
    middle, mean = (
        np.bincount(shell, values)[filled] / part[filled] for values in (response * q_length, signal[judged])
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

    def first(self, sums: Sums, judged: Bool) -> tuple[Expected, float]:
        """Return what is expected of pixels (N_PIX,) if nothing is hot, and an upper bound of any weighted sum."""
        # Photons may be counted in any unit, as floating point.
        quantum = 1.0 if self.counts else sums.quantum
        shells = sums.shells
        totals = sums.over(shells.judged)
        scale = scales(totals, float(self.detector.background[judged].sum()))
        weight = _weight(scale)
        level = (weight[:, None] * sums.values).sum(axis=0) / shells.number
        found = _Found(
            np.zeros_like(weight), np.zeros(len(judged)), totals, weight, np.where(judged, level[shells.of], 0.0)
        )
        nothing = Expected(None, self.detector.background, scale, judged, quantum)
        bound = 4.0 * float((weight * (sums.most + 1.0)).sum())
        return self.measured(found, nothing), bound

    def look(self, expected: Expected, bound: float, weighing: Weighing | None = None) -> tuple[_Found, Added | None]:
        """Look for what is hot; add all patterns up, as they are, on the way."""
        n_pixel, count = len(expected.judged), len(self.images)
        chosen, weight = expected.judged.astype(np.float32), _weight(expected.scale)

        def add(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
            xp = here.xp
            values = dense(block, n_pixel)
            hot, mean = expected.hot(here, part, values)
            left = xp.astype(xp.where(hot, mean, values) * here.array(chosen), xp.float64)
            found = xp.astype(hot, xp.float64)
            total = xp.matmul(here.array(weight[part]), left)
            more = () if weighing is None else weighing.added(here, part, xp.astype(values, xp.float64))
            return xp.sum(found, axis=1), xp.sum(found, axis=0), xp.sum(left, axis=1), total, *more

        one = Rows((), np.float64)
        outputs: list[Output] = [one, Total((n_pixel,), 2.0 * count), one, Total((n_pixel,), bound)]
        outputs += [] if weighing is None else weighing.outputs(n_pixel)
        number, times, totals, total, *more = self.workers.run(
            add, count, outputs, tile=TILE, split=[self.images], row_bytes=pattern_bytes(n_pixel)
        )
        return _Found(number, times, totals, weight, total), (more[0], more[1], more[2]) if more else None

    def measured(self, found: _Found, expected: Expected) -> Expected:
        """Return what is expected after a look, of the pixels that `expected` judges."""
        detector, judged = self.detector, expected.judged
        scale = scales(found.sums, float(detector.background[judged].sum()))
        signal = (found.total - found.weight.sum() * detector.background) / (found.weight * scale).sum()
        return replace(expected, signal=shell_means(signal, detector, judged, self.spacing), scale=scale)

    def places(self, expected: Expected, most: int) -> Zingers:
        """Return where patterns are hot, at most `most` times each, and what is expected there; nothing is broken."""
        n_pixel = len(expected.judged)

        def locate(here: Here, part: slice, block: Any) -> tuple[Any, Any]:
            hot, mean = (to_host(each) for each in expected.hot(here, part, dense(block, n_pixel)))
            row, pixel = np.nonzero(hot)
            place = np.arange(len(row)) - np.searchsorted(row, row)
            where, value = np.full((len(hot), most), -1, np.int64), np.zeros((len(hot), most), np.float32)
            where[row, place] = pixel
            value[row, place] = np.rint(mean[row, pixel]) if self.counts else mean[row, pixel]
            return here.array(where), here.array(value)

        outputs = [Rows((most,), np.int64), Rows((most,), np.float32)]
        where, value = self.workers.run(
            locate, len(self.images), outputs, tile=TILE, split=[self.images], row_bytes=pattern_bytes(n_pixel)
        )
        where, value = np.asarray(where), np.asarray(value)
        pattern, place = np.nonzero(where >= 0)
        found = where[pattern, place], value[pattern, place]
        return Zingers(pattern.astype(np.int64), *found, np.zeros(n_pixel, np.bool_))


def _weight(scale: Float64) -> Float64:
    """Return what patterns (N_IMG,) count for: one that is brighter than the usual one has no more to say than it."""
    weight: Float64 = 1 / np.maximum(scale, 1)
    return weight
