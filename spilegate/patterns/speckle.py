"""What speckle can show, and so which values of a pattern are no particle's.

Away from the beam the intensity of a particle is speckle: exponentially distributed about its mean, whatever the
particle (Goodman, Speckle Phenomena in Optics, 3.2), and its photon counts are thermal (Mandel, Proc. Phys. Soc.
74:233, 1959), `P(n' >= n) = (mu / (1 + mu))^n` for a mean mu. A count whose chance is below 1e-12 is hot if it stands
alone: speckles are two pixels wide or wider, so that the particles whose speckles are brighter than chance makes them
(of facets, of high symmetry, other ones than the rest) are told by the neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from spilegate.backend import to_host
from spilegate.geometry.detector import Detector
from spilegate.kernels.workers import Here
from spilegate.records import Bool, Float32, Float64, Int64

# Logarithm of one over the chance of a count that no particle gives.
UNLIKELY = 12 * float(np.log(10))
# A value is not hot if so many of its pixel's nearest neighbours reach this part of it. In the middle of a speckle
# two pixels wide all of them reach 0.4, on its flank five.
NEIGHBOURS, SUPPORTERS, SUPPORT = 8, 4, 0.25
# Hot pixels in a clump support each other: those at the rim are found first, then the next ones.
PEELS = 4
# A pixel hot in a larger part of the patterns is broken; a pattern with a larger part of its pixels hot shows something
# else. Neither can be mended. The least number that may be hot, for few patterns or pixels:
MOST, FEWEST = 0.05, 3
# Photons in a pixel, on average, below which it makes no difference how few they are.
FEWEST_PHOTONS = 1e-12


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
            return xp.zeros_like(values) > 0, values
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


def nearest(detector: Detector) -> Int64:
    """Return the nearest used pixels (N_PIX, NEIGHBOURS) of every used pixel; of other pixels, themselves."""
    index = np.flatnonzero(detector.merged)
    result = np.repeat(np.arange(len(detector.q))[:, None], NEIGHBOURS, axis=1)
    _, near = cKDTree(detector.q[index]).query(detector.q[index], k=NEIGHBOURS + 1)
    result[index] = index[near[:, 1:]]
    return result
