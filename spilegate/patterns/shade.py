"""A background that is no function of |q|, as bright as it may be, with an amplitude of its own in every pattern.

Whatever the particle, the mean over all orientations depends on |q| alone: what else the mean pattern shows is no
signal. How much of that a pattern holds says how strong its background is, and how the counts of a ring go with that
how much of the ring's mean is background, too.

    d_ij = s_i c_j I_i(q_j) + a_i b_j,    <d_j> = c_j S(|q_j|) + b_j,    mean a = 1
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from spilegate.formats import masks
from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.kernels.blocks import pattern_bytes
from spilegate.kernels.events import dense
from spilegate.kernels.exact import Rows
from spilegate.kernels.resample import resampled
from spilegate.kernels.workers import Here, Workers
from spilegate.patterns.statistics import TILE, moments, ring_of
from spilegate.records import Bool, Dataset, Float64, Int64

# A mean pattern that differs from its rings' means by less than that part of them, or by so few deviations squared,
# shows no such background.
LEAST_PART, LEAST_CHI = 0.05, 3.0
# Amplitudes that differ by less, or by so few deviations, are all the same.
LEAST_SPREAD, SURE = 0.05, 5.0
# Amplitudes are between these.
AMPLITUDES = (0.0, 6.0)
# Where amplitudes do not tell the background's mean over a ring, its least pixels have none: this part of them.
DARK = 0.05
# Rings this many pixels wide; the mean over a ring is smoothed over so many to both sides.
SMOOTH = 2
# Where the background is brighter than its ring's mean by so many times the signal, nothing else is seen; but of that
# part of the pixels the orientations have to be told.
DROWNED, LEAST_SEEN = 1.0, 0.5
# How well the mean over a ring is known, relative.
ERROR = 0.1
# No pixel counts for more than so many others.
MOST_TRUST = 4.0
# Where nothing was ever counted, a pixel's variance is this part of the usual one.
LEAST_VARIANCE = 1e-3


@dataclass(frozen=True)
class Shade:
    """A background and how it varies.

    background : (N_PIX,) float64 [counts per pattern]; amplitude : (N_IMG,) float64, of mean 1
    drowned : (N_PIX,) bool, pixels where it is so much brighter than elsewhere at their |q| that they tell no
        orientation
    """

    background: Float64
    amplitude: Float64
    drowned: Bool

    @property
    def varies(self) -> bool:
        """Whether amplitudes differ."""
        return bool((self.amplitude != 1).any())


def background_in(path: Path, dataset: Dataset) -> Float64:
    """Return the background (N_PIX,) [counts per pattern] in a file of its own, for the pixels of a data set.

    Raises InputError if it cannot be read, or is of another shape.
    """
    panels, rows, columns = dataset.panel_shape
    binning = dataset.binning
    shape = (panels, rows * binning, columns * binning)
    return masks.bin_background(masks.read_picture(path, shape), binning).ravel()


def evened(images: Any, shade: Shade, n_pixel: int, *, workers: Workers) -> Any:
    """Return patterns (N_IMG, N_PIX) float32 that all have the background at amplitude 1, a copy if they have not yet.

    images : patterns, or lists of their photons
    """
    if not shade.varies:
        return images

    def even(here: Here, part: slice, block: Any) -> tuple[Any]:
        more = here.array(shade.amplitude[part] - 1, np.float32)[:, None] * here.array(shade.background, np.float32)
        return (dense(block, n_pixel) - more,)

    outputs = [Rows((n_pixel,), np.float32, split=True)]
    return workers.run(even, len(images), outputs, tile=TILE, split=[images], row_bytes=pattern_bytes(n_pixel))[0]


def shows(mean: Float64, variance: Float64, detector: Detector, count: float, *, known: Float64 | None) -> bool:
    """Tell whether patterns have a background that is no function of |q|.

    mean : (N_PIX,) [counts per pattern], of the patterns, less nothing but functions of |q|
    variance : (N_PIX,), of a pixel of a pattern; count : how many patterns there are
    known : (N_PIX,) [counts], the background if that was measured
    """
    used = np.flatnonzero(detector.merged)
    rings = _Rings.of(detector, used, pixel_spacing(detector.q[used]))
    error = np.maximum(variance[used], LEAST_VARIANCE * float(variance[used].mean())) / count
    uneven = rings.uneven(mean[used] if known is None else known[used])
    chance = 0.0 if known is not None else float(error.sum())
    part = (uneven**2).sum() - chance > LEAST_PART**2 * (mean[used] ** 2).sum()
    return bool(part and (known is not None or (uneven**2 / error).mean() > LEAST_CHI))


def find(images: Any, detector: Detector, weight: Float64, *, known: Float64 | None, workers: Workers) -> Shade:
    """Return the background that is no function of |q|, where there is one.

    images : (N_IMG, N_PIX), patterns or lists of their photons; weight : (N_IMG,), 0 for those that do not count
    known : (N_PIX,) its shape [counts], as it was measured without the particle; None to find it
    """
    used = np.flatnonzero(detector.merged)
    of_all = moments(images, _raw(detector), np.ones(len(weight)), weight, workers=workers)
    mean = of_all.mean[used]
    variance = np.maximum(of_all.square[used] - mean**2, 0)
    variance = np.maximum(variance, LEAST_VARIANCE * float(variance.mean()))
    rings = _Rings.of(detector, used, pixel_spacing(detector.q[used]))
    uneven = rings.uneven(mean if known is None else known[used])
    sides = [rings.side(number) for number in range(2)]
    projections = [rings.orthogonal(np.where(side, uneven / variance, 0.0)) for side in sides]
    amplitudes, sums = _projected(images, used, projections, sides, rings, len(detector.q), workers)
    gains = np.array([float(projection @ uneven) for projection in projections])
    amplitudes = amplitudes / gains
    good = weight > 0
    level = float((amplitudes[good] @ gains).mean() / gains.sum())
    together = (amplitudes @ gains) / gains.sum() / level
    first, second = (amplitudes[good] / level).T
    shared = float(np.cov(first, second)[0, 1])
    chance = float(first.std() * second.std() / np.sqrt(good.sum()))
    sure = shared > SURE * chance and shared > LEAST_SPREAD**2
    result = np.zeros(len(detector.q))
    amplitude = np.ones(len(weight))
    if sure:
        amplitude = 1 + min(1.0, shared / float(together[good].var())) * (together - 1)
        amplitude = np.clip(amplitude, *AMPLITUDES)
        amplitude /= amplitude[good].mean()
    if known is not None:
        result[used] = known[used] * level
        return Shade(result, amplitude, rings.drowned(result, used, mean))
    if sure:
        slopes = [
            ((other - other.mean()) @ (own[good] - own[good].mean(0))) / good.sum() / shared
            for own, other in zip(sums, (second, first), strict=True)
        ]
        radial = rings.smoothed(slopes[0] + slopes[1], mean)
    else:
        radial = rings.least(uneven)
    result[used] = np.clip(radial + uneven, 0, None)
    return Shade(result, amplitude, rings.drowned(result, used, mean))


def trust(background: Float64, detector: Detector, signal: Float64) -> Float64:
    """Return the weights (N_PIX,) of pixels by the noise that a background gives them, over others at their |q|.

    background : (N_PIX,) [counts]; signal : (N_PIX,) mean of the patterns there, less the background
    """
    result = np.ones(len(background))
    used = np.flatnonzero(detector.merged)
    rings = _Rings.of(detector, used, pixel_spacing(detector.q[used]))
    noise = np.maximum(signal, 0)[used] + background[used]
    usual = rings.mean(noise)
    result[used] = usual / np.maximum(noise, LEAST_VARIANCE * float(noise.mean()))
    return np.clip(result, None, MOST_TRUST)


def _raw(detector: Detector) -> Detector:
    """Return a detector that makes nothing of counts."""
    return Detector(detector.q, detector.matched, detector.merged, np.ones(len(detector.q)), np.zeros(len(detector.q)))


def _projected(
    images: Any,
    used: Int64,
    projections: list[Float64],
    sides: list[Bool],
    rings: _Rings,
    n_pixel: int,
    workers: Workers,
) -> tuple[Float64, list[Float64]]:
    """Return products of patterns with the projections (N_IMG, 2), and their sums over rings of each side."""
    weights = np.zeros((2, n_pixel))
    for row, projection in zip(weights, projections, strict=True):
        row[used] = projection
    count = len(rings.number)
    ring = np.concatenate([rings.ring[side] + count * k for k, side in enumerate(sides)])
    pixel = np.concatenate([used[side] for side in sides])
    matrix = csr_matrix((np.ones(len(pixel)), (ring, pixel)), (2 * count, n_pixel))

    def add(here: Here, part: slice, block: Any) -> tuple[Any, Any]:  # noqa: ARG001 - the signature of every body
        counts = here.xp.astype(dense(block, n_pixel), here.xp.float64)
        return here.xp.matmul(counts, here.array(weights.T)), resampled(matrix, counts)

    outputs = [Rows((2,), np.float64), Rows((2 * count,), np.float64)]
    options: dict[str, Any] = {"tile": TILE, "split": [images], "row_bytes": pattern_bytes(n_pixel)}
    products, sums = (np.asarray(each) for each in workers.run(add, len(images), outputs, **options))
    return products, [sums[:, :count], sums[:, count:]]


@dataclass(frozen=True)
class _Rings:
    """Rings of used pixels (n,), as wide as a pixel.

    ring : (n,) which one each is in; response : (n,); radius : (n,) |q| in pixels
    corner : (n,) whether a pixel is in the first or third quadrant, so that it is there with its opposite
    number : (N_RING,) pixels of each
    """

    ring: Int64
    response: Float64
    radius: Float64
    corner: Bool
    number: Float64

    @staticmethod
    def of(detector: Detector, used: Int64, spacing: float) -> _Rings:
        """Return the rings of a detector's used pixels."""
        q = detector.q[used]
        length = np.linalg.norm(q, axis=-1)
        ring = ring_of(length, spacing)
        number = np.maximum(np.bincount(ring), 1).astype(np.float64)
        return _Rings(ring, detector.response[used], length / spacing, q[:, 0] * q[:, 1] > 0, number)

    def side(self, number: int) -> Bool:
        """Return the pixels (n,) of two quadrants that face each other; by Friedel's law the others are independent."""
        return self.corner if number == 0 else ~self.corner

    def uneven(self, values: Float64) -> Float64:
        """Return values (n,) less what of them depends on |q| alone, times the response.

        That is a parabola over every three rings.
        """
        usual = np.empty(len(values))
        relative = values / self.response
        order = np.argsort(self.ring, kind="stable")
        begin = np.searchsorted(self.ring[order], np.arange(len(self.number) + 1))
        for number in np.unique(self.ring):
            own = order[begin[number] : begin[number + 1]]
            around = order[begin[max(number - 1, 0)] : begin[min(number + 2, len(self.number))]]
            middle = self.radius[own].mean()
            basis = np.vander(self.radius[around] - middle, 3, increasing=True)
            terms = np.linalg.lstsq(basis, relative[around], rcond=None)[0]
            usual[own] = np.vander(self.radius[own] - middle, 3, increasing=True) @ terms
        result: Float64 = values - usual * self.response
        return result

    def orthogonal(self, projection: Float64) -> Float64:
        """Return a projection (n,) that what depends on |q| alone has no part in, 0 where it was 0."""
        there = projection != 0
        along = np.bincount(self.ring, projection * self.response, len(self.number))
        square = np.bincount(self.ring, there * self.response**2, len(self.number))
        result: Float64 = projection - there * self.response * (along / np.maximum(square, 1e-30))[self.ring]
        return result

    def mean(self, values: Float64) -> Float64:
        """Return the mean of values (n,) over the ring of each."""
        result: Float64 = (np.bincount(self.ring, values, len(self.number)) / self.number)[self.ring]
        return result

    def drowned(self, background: Float64, used: Int64, mean: Float64) -> Bool:
        """Return which pixels (N_PIX,) show little but background. mean : (n,), of the patterns as measured."""
        own = background[used]
        excess = (own - self.mean(own)) / np.maximum(self.mean(mean - own), LEAST_VARIANCE * float(mean.mean()))
        result = np.zeros(len(background), np.bool_)
        result[used] = excess > max(DROWNED, float(np.quantile(excess, LEAST_SEEN)))
        return result

    def smoothed(self, sums: Float64, mean: Float64) -> Float64:
        """Return means at pixels (n,) of sums over rings (N_RING,); mean : (n,), of which they are a smooth part."""
        window = np.ones(2 * SMOOTH + 1)
        total = np.maximum(np.bincount(self.ring, mean, len(self.number)), 1e-30)
        part = np.convolve(sums / total * self.number, window, "same") / np.convolve(self.number, window, "same")
        result: Float64 = (part * total / self.number)[self.ring]
        return result

    def least(self, uneven: Float64) -> Float64:
        """Return what has to be added to values (n,) so that a ring's least ones are 0."""
        low = np.array(
            [
                np.quantile(uneven[self.ring == k], DARK) if (self.ring == k).any() else 0.0
                for k in range(len(self.number))
            ]
        )
        result: Float64 = -np.minimum(low, 0)[self.ring]
        return result
