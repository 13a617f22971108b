"""What all patterns hold together: sums over shells of |q|, moments of every pixel; each in one pass over the patterns.

Whatever is asked of the patterns before there is a model (scales, background, strangers, what is hot, the profile, the
diameter of few photons) follows from these. The sums over shells are kept for every pattern: next to its pixels they
are little, and give the background of any scales and weights without another pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from spilegate.geometry.detector import Detector
from spilegate.kernels.blocks import GROUP, pattern_bytes
from spilegate.kernels.events import dense
from spilegate.kernels.exact import Output, Rows, Total
from spilegate.kernels.resample import resampled
from spilegate.kernels.workers import Here, Workers
from spilegate.likelihood.sampling import MODEL_ERROR, Profile
from spilegate.records import Bool, Float32, Float64, Int64

# A divisor of GROUP; the arrays of a tile are to fit into a core's cache.
TILE = GROUP // 4
# So many pixels from the innermost one the mean falls steeply, and a shell is this part of a pixel wide.
STEEP, PARTS = 12, 4
# Of a profile, for anything to be interpolated.
FEWEST_SHELLS = 3
# Of so many photons in one pixel, as many as it has are no chance.
MANY = 30.0


@dataclass(frozen=True)
class Shells:
    """Pixels that are summed together: alike in what they are for and, to a pixel's width, in |q|.

    of : (N_PIX,) int64, the shell of every pixel, -1 for those never used
    q : (N_SHELL,) mean |q| [1/angstrom]; number : (N_SHELL,) pixels
    matched, inside, judged : (N_SHELL,) bool, whether their pixels are for matching, within the radius used, and far
        enough from the beam to be judged by what speckle can show
    """

    of: Int64
    q: Float64
    number: Float64
    matched: Bool
    inside: Bool
    judged: Bool

    @property
    def compared(self) -> Bool:
        """Return which shells (N_SHELL,) tell how bright patterns are: those for matching, within the radius used."""
        return self.matched & self.inside

    def pixels(self, chosen: Bool) -> Bool:
        """Return which pixels (N_PIX,) are in some of the shells (N_SHELL,)."""
        return (self.of >= 0) & chosen[self.of]


def shells(detector: Detector, spacing: float, *, q_max: float, beyond: float) -> Shells:
    """Return the shells, `spacing` wide [1/angstrom], of a detector's pixels.

    q_max : radius used; beyond : radius outside of which pixels are judged, where a shell begins [1/angstrom]
    """
    used = np.flatnonzero(detector.merged)
    q = np.linalg.norm(detector.q[used], axis=-1)
    judged = q > beyond
    ring = np.where(judged, 0, -1 - ((beyond - q) / spacing).astype(np.int64))
    ring[judged] = ring_of(q[judged], spacing)
    part = np.where(q - q.min() < STEEP * spacing, (q / spacing * PARTS).astype(np.int64) % PARTS, 0)
    kinds = np.stack([ring, part, detector.matched[used], q <= q_max, judged], axis=1).astype(np.int64)
    kinds, own = np.unique(kinds, axis=0, return_inverse=True)
    number = np.bincount(own.ravel(), minlength=len(kinds)).astype(np.float64)
    of = np.full(len(detector.q), -1)
    of[used] = own.ravel()
    return Shells(of, np.bincount(own.ravel(), q) / number, number, *(kinds[:, 2:].T > 0))


def ring_of(q: Float64, spacing: float, fewest: int = 1) -> Int64:
    """Return the number of the ring, about `spacing` wide, in which each radius (n,) lies, from the innermost one.

    fewest : rings there are at least, the width being less
    """
    if len(q) == 0:
        return np.zeros(0, np.int64)
    first, last = q.min(), q.max()
    count = max(fewest, int((last - first) / spacing))
    ring: Int64 = np.minimum(((q - first) / max(last - first, spacing) * count).astype(np.int64), count - 1)
    return ring


@dataclass(frozen=True)
class Sums:
    """What every pattern holds in every shell.

    values, squares : (N_IMG, N_SHELL) float64, sums of counts and of their squares over the shell's pixels
    most, least : (N_IMG,) float32, the largest value and the smallest one above 0 (infinite if there is none)
    lead : (N_IMG,) float32, the largest value of the pixels used over the next one; 1 where photons are few
    """

    shells: Shells
    values: Float64
    squares: Float64
    most: Float32
    least: Float32
    lead: Float32

    def over(self, chosen: Bool) -> Float64:
        """Return the sums (N_IMG,) over some of the shells (N_SHELL,)."""
        result: Float64 = self.values[:, chosen].sum(axis=1)
        return result

    @property
    def quantum(self) -> float:
        """Return what one photon counts, in whatever unit: no value lies between 0 and that; 0 if there are none."""
        least = self.least[np.isfinite(self.least)]
        return float(np.median(least)) if len(least) else 0.0

    def every(self, first: int, step: int) -> Sums:
        """Return those of every step-th pattern."""
        return self.some(slice(first, None, step))

    def some(self, which: Int64 | slice) -> Sums:
        """Return those of some patterns."""
        some = {name: getattr(self, name)[which] for name in ("values", "squares", "most", "least", "lead")}
        return replace(self, **some)


def shell_sums(images: Any, shells: Shells, *, workers: Workers) -> Sums:
    """Return the sums of patterns (N_IMG, N_PIX), or of lists of their photons, over shells."""
    n_pixel, n_shell = len(shells.of), len(shells.q)
    pixel = np.flatnonzero(shells.of >= 0)
    matrix = csr_matrix((np.ones(len(pixel)), (shells.of[pixel], pixel)), (n_shell, n_pixel))
    used = (shells.of >= 0).astype(np.float32)

    def add(here: Here, part: slice, block: Any) -> tuple[Any, ...]:  # noqa: ARG001 - the signature of every body
        xp = here.xp
        values = dense(block, n_pixel)
        most, seen = xp.max(values, axis=1), values * here.array(used)
        least = xp.min(xp.where(seen > 0, seen, here.array(np.inf, np.float32)), axis=1)
        top = xp.max(seen, axis=1)
        second = xp.max(xp.where(seen < top[:, None], seen, here.array(0, np.float32)), axis=1)
        lead = xp.where(top > MANY * least, top / xp.maximum(second, xp.where(top > 0, least, 1.0)), 1.0)
        counts = xp.astype(values, xp.float64)
        return resampled(matrix, counts), resampled(matrix, counts * counts), most, least, xp.astype(lead, xp.float32)

    rows, one = Rows((n_shell,), np.float64), Rows((), np.float32)
    found = workers.run(
        add, len(images), [rows, rows, one, one, one], tile=TILE, split=[images], row_bytes=pattern_bytes(n_pixel)
    )
    return Sums(shells, *(np.asarray(each) for each in found))


@dataclass(frozen=True)
class Moments:
    """Mean and mean square (N_PIX,) over the patterns, at scale 1, less the background, weighed by their scales."""

    mean: Float64
    square: Float64


# Sums (N_PIX,) over patterns, see `Weighing`.
Added = tuple[Float64, Float64, Float64]


@dataclass(frozen=True)
class Weighing:
    """How patterns are added up for their moments.

    scale, weight : (N_IMG,); bound : largest value of every pattern (N_IMG,)
    Brighter patterns say more: the moments are those of `(d - b) / (c s)` weighed by s, so that sums of d with the
    weight, and of d and its square with the weight over the scale, are all that is needed, whatever b and c.
    """

    scale: Float64
    weight: Float64
    bound: Float32

    def outputs(self, n_pixel: int) -> list[Output]:
        """Return what `added` returns: sums (N_PIX,) of d / s, d and d^2 / s, each times the weight."""
        light, most = self.weight / self.scale, np.maximum(self.bound.astype(np.float64), 1.0)
        bounds = [(light * most).sum(), (self.weight * most).sum(), (light * most**2).sum()]
        return [Total((n_pixel,), 2.0 * float(bound) + 1.0) for bound in bounds]

    def added(self, here: Here, part: slice, counts: Any) -> tuple[Any, Any, Any]:
        """Return the sums over a tile of patterns (n, N_PIX) float64."""
        xp = here.xp
        weight = here.array(self.weight[part])
        light = weight / here.array(self.scale[part])
        return xp.matmul(light, counts), xp.matmul(weight, counts), xp.matmul(light, counts * counts)

    def moments(self, sums: Added, detector: Detector) -> Moments:
        """Return the moments that follow from the sums."""
        light, total, square = sums
        dark, strength = detector.background, (self.scale * self.weight).sum()
        mean = (total - dark * self.weight.sum()) / detector.response
        second = square - 2 * dark * light + dark**2 * (self.weight / self.scale).sum()
        return Moments(mean / strength, np.maximum(second / detector.response**2, 0) / strength)


def moments(
    images: Any,
    detector: Detector,
    scale: Float64,
    weight: Float64,
    *,
    workers: Workers,
    bound: Float32 | None = None,
) -> Moments:
    """Return the moments of patterns (N_IMG, N_PIX), or of lists of their photons.

    scale, weight : (N_IMG,) float64; bound : the largest value of every pattern, looked for if left out
    """
    n_pixel, count = len(detector.q), len(images)
    options: dict[str, Any] = {"tile": TILE, "split": [images], "row_bytes": pattern_bytes(n_pixel)}

    def greatest(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        return (here.xp.max(dense(block, n_pixel), axis=1),)

    if bound is None:
        bound = np.asarray(workers.run(greatest, count, [Rows((), np.float32)], **options)[0])
    weighing = Weighing(scale, weight, bound)

    def add(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
        return weighing.added(here, part, here.xp.astype(dense(block, n_pixel), here.xp.float64))

    first, second, third = workers.run(add, count, weighing.outputs(n_pixel), **options)
    return weighing.moments((first, second, third), detector)


def radial_profile(moments: Moments, detector: Detector, spacing: float) -> Profile:
    """Return mean and variance of the patterns over shells of |q| about `spacing` wide."""
    usable = detector.merged
    q_length = np.linalg.norm(detector.q[usable], axis=-1)
    shell = ring_of(q_length, spacing, FEWEST_SHELLS)
    number = np.bincount(shell)
    filled = number > 0
    number = number[filled]
    mean, square, centre = (
        np.bincount(shell, values)[filled] / number
        for values in (moments.mean[usable], moments.square[usable], q_length)
    )
    variance = square - mean**2
    return Profile(centre, mean, np.maximum(variance, np.maximum((MODEL_ERROR * mean) ** 2, 1e-12 * variance.max())))


def mean_pattern(
    images: Any, detector: Detector, weight: Float64, *, workers: Workers, bound: Float32 | None = None
) -> Float64:
    """Return the mean (N_PIX,) [counts] of patterns as measured; those of weight (N_IMG,) 0 have no say."""
    raw = replace(detector, background=np.zeros_like(detector.background), response=np.ones_like(detector.response))
    return moments(images, raw, np.ones(len(images)), weight, workers=workers, bound=bound).mean
