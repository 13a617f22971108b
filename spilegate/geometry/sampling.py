"""How patterns are compared: the points used, and the weight and offset of each, taken from the data themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.backend import array_module, from_host
from spilegate.geometry.detector import Rings
from spilegate.kernels.workers import GROUP, Here, Rows, Total, Workers
from spilegate.state import Bool, Float32, Float64

# Near the beam all patterns are alike, and their variance falls below what a model gets right: this part of the mean.
MODEL_ERROR = 0.05


@dataclass(frozen=True)
class Profile:
    """Mean and variance of the patterns over shells of |q|.

    q : (N_SHELL,) shell radii [1/angstrom]; mean, variance : (N_SHELL,) over all patterns and pixels of a shell
    """

    q: Float64
    mean: Float64
    variance: Float64

    def at(self, q_length: Float64) -> tuple[Float64, Float64]:
        """Return mean and variance at the distances `q_length` (...) from the origin."""
        variance = np.exp(np.interp(q_length, self.q, np.log(self.variance)))
        return np.interp(q_length, self.q, self.mean), variance


@dataclass(frozen=True)
class Sampling:
    """The points a pattern is compared on: all usable detector pixels within a radius, or rings.

    q : (..., 3) float64 [1/angstrom], laboratory frame
    offset : (...) float32, subtracted before comparing, so that what all slices share does not drown the rest
    root_weight : (...) float32, square root of the weight: 1 / variance of the patterns at that |q|, times the area
    pixels : (n,) int64, the pixels used; None for rings
    rings : the rings; None for pixels
    """

    q: Float64
    offset: Float32
    root_weight: Float32
    pixels: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
    rings: Rings | None = None

    def patterns(self, images: Any) -> Any:
        """Return patterns (N, N_PIX) at the points, (N, ...) float32, not yet weighed."""
        if self.rings is not None:
            return self.rings.patterns(images)
        return array_module(images).take(images, from_host(self.pixels, images), axis=1)

    def weigh(self, intensities: Any) -> Any:
        """Return intensities (N, ...), patterns or slices, less the offset and times the root of the weight."""
        weighed = intensities - from_host(self.offset, intensities)
        weighed *= from_host(self.root_weight, intensities)
        return weighed


def radial_profile(images: Any, q: Float64, usable: Bool, spacing: float, *, workers: Workers) -> Profile:
    """Return mean and variance of patterns (N_IMG, N_PIX) over shells of |q| about `spacing` wide."""
    q_length = np.linalg.norm(q[usable], axis=-1)
    first, last = q_length.min(), q_length.max()
    count = max(3, int((last - first) / spacing))
    shell = np.minimum(((q_length - first) / (last - first) * count).astype(int), count - 1)
    mean_pixel, square_pixel = (moment[usable] for moment in _moments(images, workers))
    number = np.bincount(shell, minlength=count)
    filled = number > 0
    number = number[filled]
    mean = np.bincount(shell, mean_pixel, count)[filled] / number
    variance = np.bincount(shell, square_pixel, count)[filled] / number - mean**2
    centre = np.bincount(shell, q_length, count)[filled] / number
    return Profile(centre, mean, np.maximum(variance, np.maximum((MODEL_ERROR * mean) ** 2, 1e-12 * variance.max())))


def _moments(images: Any, workers: Workers) -> tuple[Float64, Float64]:
    """Return the mean and the mean square (N_PIX,) of patterns (N_IMG, N_PIX) at every pixel."""
    count, n_pixel = images.shape

    def greatest(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        return (here.xp.max(block, axis=1),)

    def moments(here: Here, part: slice, block: Any) -> tuple[Any, Any]:  # noqa: ARG001
        xp = here.xp
        values = xp.astype(block, xp.float64)
        return xp.sum(values, axis=0), xp.sum(values * values, axis=0)

    (most,) = workers.run(greatest, count, [Rows((), np.float32)], tile=GROUP, split=[images])
    bound = float(most.max())
    outputs = [Total((n_pixel,), count * bound), Total((n_pixel,), count * bound**2)]
    total, square = workers.run(moments, count, outputs, tile=GROUP, split=[images])
    return total / count, square / count


def on_pixels(q: Float64, usable: Bool, profile: Profile, *, q_first: float, q_last: float) -> Sampling:
    """Compare on the usable detector pixels with q_first <= |q| <= q_last."""
    q_length = np.linalg.norm(q, axis=-1)
    pixels = np.flatnonzero(usable & (q_length >= q_first) & (q_length <= q_last))
    mean, variance = profile.at(q_length[pixels])
    return Sampling(q[pixels], mean.astype(np.float32), (variance**-0.5).astype(np.float32), pixels=pixels)


def on_rings(rings: Rings, profile: Profile) -> Sampling:
    """Compare on rings; a sample counts as much as the detector area it stands for."""
    mean, variance = profile.at(np.linalg.norm(rings.q, axis=-1))
    root = np.sqrt(rings.area[:, None] / variance)
    return Sampling(rings.q, mean.astype(np.float32), root.astype(np.float32), rings=rings)
