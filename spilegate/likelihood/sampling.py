"""How patterns are compared: the points used, and the weight and offset of each, taken from the data themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spilegate.backend import array_module, from_host
from spilegate.geometry.detector import Detector, Rings
from spilegate.kernels.events import dense
from spilegate.records import Float32, Float64

# Near the beam all patterns are alike, and their variance falls below what a model gets right: this part of the mean.
MODEL_ERROR = 0.05
# A background that differs on rings by less than this part of it differs by how it was interpolated.
EVEN = 0.05


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
    """The points a pattern is compared on: usable detector pixels within a radius, or rings.

    All but `q` are (...) float32, one value for each point:
    q : (..., 3) float64 [1/angstrom], laboratory frame
    mean, variance : of the patterns at scale 1 at that |q|
    response : counts for each unit of intensity, from polarisation and solid angle
    background : counts that every pattern has there, whatever its scale
    cell : area of the detector that the point stands for [pixels]; coverage : 1 where there are pixels, else 0
    n_pixel : pixels of a whole pattern
    pixels : (n,) int64, the pixels used; None for rings
    rings : the rings; None for pixels
    uneven : of rings, what the background has there more than on the ring's mean, which `background` is then; None
        where it is no more than rounding
    trust : of pixels, their weight over that of others at their |q|; None where it is the same
    """

    q: Float64
    mean: Float32
    variance: Float32
    response: Float32
    background: Float32
    cell: Float32
    coverage: Float32
    n_pixel: int
    pixels: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
    rings: Rings | None = None
    uneven: Float32 | None = None
    trust: Float32 | None = None

    def counts(self, images: Any) -> Any:
        """Return patterns, or lists of their photons, at the points: (N, ...) float32 as they were measured.

        On rings their background is what it is on the mean over a ring: a slice that turns in the plane knows no other.
        """
        images = dense(images, self.n_pixel)
        if self.rings is not None:
            patterns = self.rings.patterns(images)
            return patterns if self.uneven is None else patterns - from_host(self.uneven, patterns)
        return array_module(images).take(images, from_host(self.pixels, images), axis=1)

    def normalised(self, counts: Any, scale: Any) -> Any:
        """Return what counts (N, ...) of patterns with scales (N,) say about the intensity."""
        return normalised(counts, scale, self.background, self.response)

    def in_plane_mean(self, values: Float32) -> Float32:
        """Return values (...) of the points as slices want them: on rings, the mean of each over what is covered.

        A slice meets other points when it is turned in the plane, gaps among them, of which nothing is known.
        """
        if self.rings is None:
            return values
        number = self.coverage.sum(axis=-1, keepdims=True)
        mean = (values * self.coverage).sum(axis=-1, keepdims=True) / np.maximum(number, 1)
        result: Float32 = np.where(number > 0, mean, values).astype(np.float32)
        return np.broadcast_to(result, values.shape)

    def level(self, intensities: Any) -> Any:
        """Return intensities (N, ...) as counts per unit response at scale 1: positive, with background and error."""
        xp = array_module(intensities)
        ground = MODEL_ERROR * np.abs(self.mean) + self.in_plane_mean(self.background / self.response)
        return xp.maximum(intensities, 0.0) + from_host(ground.astype(np.float32), intensities)


def normalised(counts: Any, scale: Any, background: Any, response: Any) -> Any:
    """Return (d - b) / (c s) of counts d (N, ...), scales s (N,), background b and response c (...), as d's dtype."""
    xp = array_module(counts)
    intensity = counts - xp.astype(from_host(background, counts), counts.dtype, copy=False)
    intensity *= xp.astype(from_host(1 / response, counts), counts.dtype, copy=False)
    intensity /= xp.reshape(xp.astype(scale, counts.dtype), (-1, *(1,) * (counts.ndim - 1)))
    return intensity


def on_pixels(detector: Detector, profile: Profile, *, q_first: float, q_last: float, matching: bool) -> Sampling:
    """Compare on the detector pixels with q_first <= |q| <= q_last: those for matching, or all that are merged."""
    q_length = np.linalg.norm(detector.q, axis=-1)
    usable = detector.matched if matching else detector.merged
    pixels = np.flatnonzero(usable & (q_length >= q_first) & (q_length <= q_last))
    mean, variance = profile.at(q_length[pixels])
    one = np.ones(len(pixels), np.float32)
    return Sampling(
        q=detector.q[pixels],
        mean=mean.astype(np.float32),
        variance=variance.astype(np.float32),
        response=detector.response[pixels].astype(np.float32),
        background=detector.background[pixels].astype(np.float32),
        cell=one,
        coverage=one,
        n_pixel=len(detector.q),
        pixels=pixels,
        trust=None if detector.trust is None else detector.trust[pixels].astype(np.float32),
    )


def on_rings(rings: Rings, detector: Detector, profile: Profile) -> Sampling:
    """Compare on rings; a sample counts as much as the detector area it stands for."""
    mean, variance = profile.at(np.linalg.norm(rings.q, axis=-1))
    response, background = (
        rings.patterns(values[None].astype(np.float32))[0] for values in (detector.response, detector.background)
    )
    sampling = Sampling(
        q=rings.q,
        mean=mean.astype(np.float32),
        variance=variance.astype(np.float32),
        response=np.where(rings.coverage > 0, response, 1.0).astype(np.float32),
        background=background.astype(np.float32),
        cell=np.broadcast_to(rings.cell[:, None], mean.shape).astype(np.float32),
        coverage=rings.coverage.astype(np.float32),
        n_pixel=len(detector.q),
        rings=rings,
    )
    even = sampling.in_plane_mean(sampling.background)
    uneven = (sampling.background - even) * sampling.coverage
    if np.abs(uneven).mean() <= EVEN * np.abs(even * sampling.coverage).mean():
        return sampling
    return replace(sampling, background=even, uneven=uneven)
