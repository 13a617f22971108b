"""The particle's largest diameter from the mean of all patterns: what small-angle scattering tells of it.

Over all orientations the intensity is I(q) = int P(r) sinc(2 q r) dr, and P, the density's pairs of points at distance
r, is zero beyond the largest diameter D. P is a series of sines on 0 <= r <= D (Moore, J. Appl. Cryst. 13:168, 1980),
whose coefficients are normally distributed a priori and fall off with their order; the evidence of every D, the
coefficients integrated out, says how probable it is (Hansen, J. Appl. Cryst. 33:1415, 2000). P may end softly, as most
particles' does, or abruptly, as that of a hollow one: each counts as far as it is probable. All photons of all patterns
are in this one curve, so that it is known where no pattern shows any speckle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.patterns.statistics import Moments
from spilegate.records import Float64

# A distance r is seen where q r is small: nothing tells of distances much longer than 1 over the innermost q.
INNERMOST = 1.0
# A ring is as wide as a pixel: its pixels are taken at so many radii, and its mean is known to no less than this part.
PARTS = 4
RING_ERROR = 0.003
# Ratio of one diameter that is tried to the one before.
STEP = 1.02
# Points at which a series is integrated.
POINTS = 200
# The coefficient of order k is of the first one's size over k to this power: P is smooth.
SMOOTHNESS = 2
# Sizes of the first coefficient that are tried, over that which makes the curve as high as it is: of these the most
# probable counts, for the series may well have to cancel.
SIZES = 10 ** np.linspace(-1.0, 2.5, 8)


@dataclass(frozen=True)
class Curve:
    """The mean of patterns over rings one pixel wide.

    q : (n, PARTS) float64, radii of a ring's pixels [1/angstrom]; mean : (n,), their mean counts at scale 1
    photons : (n,), variance of the mean that counting makes; speckle : (n,), that of a pattern at one point
    ground : (n,), how well its background is known; number : (n,), pixels of a ring
    patterns : how many patterns of equal brightness there would be
    spacing : distance of neighbouring pixels [1/angstrom]
    """

    q: Float64
    mean: Float64
    photons: Float64
    speckle: Float64
    number: Float64
    patterns: float
    spacing: float
    ground: Float64 | float = 0.0

    def variance(self, diameter: float) -> Float64:
        """Return the variance (n,) of the mean: of photons, and of orientations, pixels of a speckle being alike."""
        alike = np.minimum(self.number, 1 / (diameter * self.spacing) ** 2)
        return (
            self.photons
            + (RING_ERROR * self.mean) ** 2
            + self.ground**2
            + self.speckle * alike / (self.number * self.patterns)
        )

    def evidence(self, diameter: float) -> float:
        """Return the logarithm of the probability of this curve for that diameter, but for a constant."""
        order = np.arange(1, int(np.ceil(2 * self.q.max() * diameter)) + 3)
        r = (np.arange(POINTS) + 0.5) / POINTS
        # Near its end P falls like (D - r)^2, as few directions are as long as the longest; or all of them are.
        soft = np.sin(np.pi * order[:, None] * r) * (1 - r)
        abrupt = np.sin(np.pi * (order[:, None] - 0.5) * r)
        seen = np.sinc(2 * diameter * self.q[..., None] * r).mean(axis=1) / POINTS
        deviation = np.sqrt(self.variance(diameter))
        measured = self.mean / deviation
        highest = np.abs(measured).max()
        # What is left of a background, the same everywhere: of any size.
        flat = highest * deviation.min() / deviation

        def of(series: Float64) -> float:
            curves = seen @ (series / np.sqrt(np.mean(series**2, axis=1, keepdims=True))).T / deviation[:, None]
            sizes = highest / np.abs(curves[:, 0]).max() * SIZES
            return float(_evidence(curves / order**SMOOTHNESS, sizes, flat, measured).max())

        return float(np.logaddexp(of(soft), of(abrupt)))


def longest(detector: Detector) -> float:
    """Return the largest diameter [angstrom] whose speckles pixels resolve."""
    return 0.5 / pixel_spacing(detector.q[detector.matched])


def centre_seen(detector: Detector) -> bool:
    """Tell whether the pixels begin so near to the beam that the mean of the patterns tells of any diameter."""
    first = float(np.linalg.norm(detector.q[detector.merged], axis=-1).min())
    return first * longest(detector) <= INNERMOST


def largest_distance(
    moments: Moments, detector: Detector, scale: Float64, weight: Float64, *, q_max: float, ground: float = 0.0
) -> float:
    """Return the largest diameter [angstrom], the mean over what is probable, at most `longest`; see `centre_seen`.

    moments : of numbers of photons; scale, weight : (N_IMG,) float64, of the patterns
    ground : how well the background's mean over a ring is known, relative
    """
    curve = mean_curve(moments, detector, scale, weight, q_max=q_max, ground=ground)
    shortest, largest = 1 / q_max, longest(detector)
    count = max(2, int(np.log(largest / shortest) / np.log(STEP)) + 2)
    diameters = np.geomspace(shortest, largest, count)
    evidence = np.array([curve.evidence(diameter) for diameter in diameters])
    return float(np.exp(np.average(np.log(diameters), weights=np.exp(evidence - evidence.max()))))


def mean_curve(
    moments: Moments, detector: Detector, scale: Float64, weight: Float64, *, q_max: float, ground: float = 0.0
) -> Curve:
    """Return the mean over rings up to q_max of patterns as `largest_distance` takes them, and the background."""
    q = np.linalg.norm(detector.q, axis=-1)
    used = np.flatnonzero(detector.merged & (q <= q_max))
    spacing = pixel_spacing(detector.q[detector.matched])
    _, ring = np.unique((q[used] / spacing).astype(int), return_inverse=True)
    number = np.bincount(ring).astype(np.float64)
    mean, square = moments.mean[used], moments.square[used]
    dark = (detector.background / detector.response)[used]
    mean, square, dark = (np.bincount(ring, values) / number for values in (mean, square, dark))
    strength = scale * weight
    total, bright = strength.sum(), np.maximum(mean + dark, 0)
    # One photon more than were counted: rings without any are not known for certain to be dark.
    photons = bright / (number * total) + 1 / (number * total) ** 2
    speckle = np.maximum(square - mean**2 - bright, 0)
    patterns = float(total**2 / (strength**2).sum())
    return Curve(radii(q[used], ring), mean, photons, speckle, number, patterns, spacing, ground * dark)


def radii(q: Float64, ring: NDArray[np.intp]) -> Float64:
    """Return the radii (n, PARTS) that stand for the pixels (N_PIX,) of n rings: means of parts of them, by radius."""
    parts = []
    for number in range(int(ring.max()) + 1):
        own = np.sort(q[ring == number])
        # Fewer pixels than parts are repeated.
        parts.append([part.mean() for part in np.array_split(np.repeat(own, PARTS), PARTS)])
    return np.array(parts)


def _evidence(curves: Float64, sizes: Float64, flat: Float64, measured: Float64) -> Float64:
    """Return logarithms (n_size,) of normal densities at `measured` (n,) with noise of 1, but for a constant.

    curves : (n, m) times a size, and flat : (n,), each times a standard normal number make what is measured
    One decomposition serves all sizes: `1 + f f^T` is divided out, the singular values of what is left of the curves
    say how much each size adds to the variance along their vectors.
    """
    squared = float(flat @ flat)
    off = (1 - 1 / np.sqrt(1 + squared)) / max(squared, 1e-300)
    white, other = measured - off * flat * (flat @ measured), curves - off * np.outer(flat, flat @ curves)
    vectors, values, _ = np.linalg.svd(other, full_matrices=False)
    added = (sizes[:, None] * values) ** 2
    explained = ((vectors.T @ white) ** 2 * added / (1 + added)).sum(axis=1)
    result: Float64 = (explained - white @ white - np.log1p(added).sum(axis=1) - np.log1p(squared)) / 2
    return result
