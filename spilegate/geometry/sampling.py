"""How patterns are compared: the points used, and the weight and offset of each, taken from the data themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spilegate.backend import array_module, from_host
from spilegate.geometry.detector import Detector, Rings
from spilegate.kernels.events import dense
from spilegate.kernels.workers import GROUP, Here, Rows, Total, Workers, pattern_bytes
from spilegate.state import Float32, Float64

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

    def counts(self, images: Any) -> Any:
        """Return patterns, or lists of their photons, at the points: (N, ...) float32 as they were measured."""
        images = dense(images, self.n_pixel)
        if self.rings is not None:
            return self.rings.patterns(images)
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


def radial_profile(
    images: Any,
    detector: Detector,
    scale: Float64,
    weight: Float64,
    spacing: float,
    *,
    found: tuple[Float64, Float64] | None = None,
    workers: Workers,
) -> Profile:
    """Return mean and variance of patterns (N_IMG, N_PIX) at scale 1 over shells of |q| about `spacing` wide.

    Patterns count as much as their scale (N_IMG,) says: the brighter, the less noise; those of weight 0 not at all.
    found : their moments, where they are known
    """
    usable = detector.merged
    q_length = np.linalg.norm(detector.q[usable], axis=-1)
    first, last = q_length.min(), q_length.max()
    count = max(3, int((last - first) / spacing))
    shell = np.minimum(((q_length - first) / (last - first) * count).astype(int), count - 1)
    found = moments(images, detector, scale, weight, workers) if found is None else found
    mean_pixel, square_pixel = (moment[usable] for moment in found)
    number = np.bincount(shell, minlength=count)
    filled = number > 0
    number = number[filled]
    mean = np.bincount(shell, mean_pixel, count)[filled] / number
    variance = np.bincount(shell, square_pixel, count)[filled] / number - mean**2
    centre = np.bincount(shell, q_length, count)[filled] / number
    return Profile(centre, mean, np.maximum(variance, np.maximum((MODEL_ERROR * mean) ** 2, 1e-12 * variance.max())))


def moments(
    images: Any, detector: Detector, scale: Float64, weight: Float64, workers: Workers
) -> tuple[Float64, Float64]:
    """Return the mean and the mean square (N_PIX,) of normalised patterns at every pixel, weighed by their scales."""
    count, n_pixel = len(images), len(detector.q)
    background, response, strength = detector.background, detector.response, scale * weight

    def greatest(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        return (here.xp.max(dense(block, n_pixel), axis=1),)

    def add(here: Here, part: slice, block: Any) -> tuple[Any, Any]:
        xp = here.xp
        root = xp.sqrt(here.array(strength[part]))
        counts = xp.astype(dense(block, n_pixel), xp.float64)
        values = normalised(counts, here.array(scale[part]), background, response)
        values *= root[:, None]
        return xp.matmul(root, values), xp.sum(values * values, axis=0)

    options: dict[str, Any] = {"tile": GROUP, "split": [images], "row_bytes": pattern_bytes(n_pixel)}
    (most,) = workers.run(greatest, count, [Rows((), np.float32)], **options)
    bound = 4.0 * count * (float((most / scale).max()) + float(np.abs(detector.background).max()) / scale.min())
    bound /= detector.response.min()
    outputs = [Total((n_pixel,), bound * scale.max()), Total((n_pixel,), bound**2 / count * scale.max())]
    total, square = workers.run(add, count, outputs, **options)
    return total / strength.sum(), square / strength.sum()


def mean_pattern(images: Any, detector: Detector, weight: Float64, *, workers: Workers) -> Float64:
    """Return the mean (N_PIX,) [counts] of patterns as measured; those of weight (N_IMG,) 0 have no say."""
    raw = replace(detector, background=np.zeros_like(detector.background), response=np.ones_like(detector.response))
    mean, _ = moments(images, raw, np.ones(len(images)), weight, workers)
    return mean


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
    )


def on_rings(rings: Rings, detector: Detector, profile: Profile) -> Sampling:
    """Compare on rings; a sample counts as much as the detector area it stands for."""
    mean, variance = profile.at(np.linalg.norm(rings.q, axis=-1))
    response, background = (
        rings.patterns(values[None].astype(np.float32))[0] for values in (detector.response, detector.background)
    )
    return Sampling(
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
