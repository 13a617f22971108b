"""The particle's largest diameter from the patterns alone.

The 2-D transform of a pattern is a projection of the particle's autocorrelation (but for the Ewald sphere's curvature),
zero beyond the largest diameter. Whitening the pattern, ring by ring, leaves the autocorrelation's texture, whose mean
power at displacement x follows the volume in which the particle overlaps itself displaced by x. A mask smears that
power over all displacements; its share is known and divided out, as in power spectra of the masked sky (Hivon et al.,
Astrophys. J. 567:2, 2002).

The mean of all patterns tells more (`pair_distances`): of few photons, of which there is little texture, and of shapes
whose overlap does not end as a ball's does. So texture serves where a beam stop hides what the mean tells.
(Cage, ring, rod, two lobes, 285 to 302 angstrom: 302, 295, 300, 277 by the mean; 293, 316, 250, 316 by texture.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.kernels import nufft
from spilegate.kernels.blocks import GROUP, pattern_bytes, tiles
from spilegate.kernels.exact import Total
from spilegate.kernels.workers import Here, Workers
from spilegate.likelihood.sampling import Profile, on_pixels
from spilegate.patterns.diameter.pair_distances import centre_seen, largest_distance, longest
from spilegate.patterns.robust import middle_and_spread
from spilegate.patterns.statistics import Moments
from spilegate.records import Float32, Float64

# Towards its end the overlap's projection falls like (d - x)^2.5, so power^0.4 is a line that meets zero at d. The line
# is fitted where the power, relative to its maximum, is between these bounds: above the noise, near the end.
EXPONENT = 0.4
FIT_BOUNDS = (0.03, 0.2)
# The line ends 0.9 of the displacements' range beyond those it is fitted to; noise makes that 2.
FURTHEST = 4.0
# The window of `texture_power` blurs the end outwards by about the half width of its power at half maximum [1 / q_max].
BLUR = 0.32
# Displacements beyond the maximum that a line can be fitted to.
FEWEST_SAMPLES = 6
# Rings are whitened by their standard deviation. Of few photons that is noise, which leaves little but inner speckles,
# whose overlap ends sooner. Then the mean to the first of these powers, and the deviation to the rest, takes its place:
# the first that lets in no more noise, as a part of the maximum, than that.
PARTS_OF_MEAN = (0.75, 0.5, 0.25, 0.0)
MOST_NOISE = 0.006
# What is left of that bias: without it the estimates for three particles at 60 to 300 photons are 0 to 20 % too small.
BIAS_LEFT = 1.08
# The noise is seen beyond this part of the largest displacement.
NOISE_ONLY = 0.7
# Lags that a mask leaves with less than this part of their pairs of pixels are not corrected for it.
LEAST_OVERLAP = 0.05
# Where the mean is next to nothing, this part of the standard deviation stands for it.
LEAST_MEAN = 0.05
# Memory of a point of a picture: itself and the finer grid it comes from, in complex single precision.
PICTURE_BYTES = 64.0
# Pictures at once, each of two patterns.
FEW_PICTURES = 8


def estimate_diameter(
    images: Any,
    detector: Detector,
    scale: Float64,
    weight: Float64,
    moments: Moments,
    profile: Profile,
    *,
    q_max: float,
    noisy: bool = False,
    ground: float = 0.0,
    workers: Workers,
) -> float:
    """Return the largest diameter [angstrom].

    images : (N_IMG, N_PIX), patterns or lists of their photons; scale, weight : (N_IMG,) float64
    moments, profile : of the patterns
    noisy : whether there are so few photons that most of the profile's variance is their noise
    ground : how well the background is known, relative
    Diameters above 0.4 / (pixel spacing) cannot be told from the noise floor.
    """
    if centre_seen(detector):
        return largest_distance(moments, detector, scale, weight, q_max=q_max, ground=ground)
    largest = longest(detector)
    # Two at a time: the second pair is seldom needed.
    for parts in (PARTS_OF_MEAN[:2], PARTS_OF_MEAN[2:]) if noisy else (PARTS_OF_MEAN[-1:],):
        displacement, powers = texture_power(
            images, detector, scale, weight, profile, q_max=q_max, parts_of_mean=parts, workers=workers
        )
        inside = displacement <= largest
        displacement = displacement[inside]
        if len(displacement) < FEWEST_SAMPLES:
            # Not two speckles, whatever the particle.
            return largest
        flat = [power[inside] - np.median(power[inside][displacement > 0.85 * largest]) for power in powers]
        still = [
            middle_and_spread(each[displacement > NOISE_ONLY * largest])[1] <= MOST_NOISE * each.max() for each in flat
        ]
        power = flat[still.index(True)] if any(still) else flat[-1]
        if any(still):
            break
    # Outwards from the maximum: scaling patterns to one brightness takes power away at the smallest displacements.
    peak = int(np.argmax(power))
    if power[peak] <= 0 or len(power) - peak < FEWEST_SAMPLES:
        return float(displacement[peak])
    # From the end inwards: what a mask leaves of a plateau before the end does not belong to the line.
    relative = np.maximum.accumulate(np.maximum(power[peak:] / power[peak], 0)[::-1])[::-1]
    displacement = displacement[peak:]
    low, high = FIT_BOUNDS
    first = int(np.argmax(relative < high))
    last = min(max(int(np.argmax(relative < low)), first + 3), len(displacement))
    if not relative[first] > 0:
        return float(displacement[first])
    line = _line(displacement[first:last], relative[first:last])
    # Where nothing but a shallow tail lies between the bounds, the fall before it has to tell.
    while first and -line[1] / line[0] - displacement[last - 1] > FURTHEST * np.ptp(displacement[first:last]):
        first, last = first - 1, min(first + 2, len(displacement))
        line = _line(displacement[first:last], relative[first:last])
    end = (-line[1] / line[0] - BLUR / q_max) * (BIAS_LEFT if noisy else 1)
    return float(np.clip(end, displacement[first], largest))


def texture_power(
    images: Any,
    detector: Detector,
    scale: Float64,
    weight: Float64,
    profile: Profile,
    *,
    q_max: float,
    parts_of_mean: tuple[float, ...] = (0.0,),
    workers: Workers,
) -> tuple[Float64, list[Float64]]:
    """Return displacements (n,) [angstrom] and mean powers (n,) there of the whitened patterns' 2-D transforms.

    parts_of_mean : for each a power of the mean in what whitens, the rest is the standard deviation's
    """
    q = detector.q
    sampling = on_pixels(detector, profile, q_first=0.0, q_last=q_max, matching=True)
    q_length, pixels = np.linalg.norm(q, axis=-1), np.flatnonzero(detector.matched)
    pixels = pixels[q_length[pixels] <= q_max]
    step = 1 / (4 * q_max)
    half = int(np.ceil(0.5 / pixel_spacing(q[pixels]) / step))
    points = _points(q[pixels], step)
    spread = np.sqrt(sampling.variance)
    bright = np.maximum(sampling.mean, LEAST_MEAN * spread)
    levels = [bright**part * spread ** (1 - part) for part in parts_of_mean]
    taper = np.cos(np.pi / 2 * q_length[pixels] / q_max)
    windows = [(taper / level).astype(np.float32) for level in levels]
    side = 2 * half + 1

    def add(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
        xp = here.xp
        own = here.array(scale[part])
        white = sampling.normalised(sampling.counts(block), own) - here.array(sampling.mean)
        # A pattern counts as much as its scale.
        white *= xp.astype(xp.sqrt(own * here.array(weight[part])), white.dtype)[:, None]
        return tuple(_power(here, white * here.array(window), points, side) for window in windows)

    # A pixel's mean square is its variance over the level's square, its power in a picture at most the pixels' number.
    most = 16.0 * (scale * weight).sum() * len(pixels) ** 2
    outputs = [Total((side, side), most * float((sampling.variance / level**2).max())) for level in levels]
    totals = workers.run(
        add,
        len(images),
        outputs,
        tile=GROUP,
        split=[images],
        row_bytes=pattern_bytes(sampling.n_pixel),
        tile_bytes=FEW_PICTURES * PICTURE_BYTES * side**2,
    )
    everywhere = np.flatnonzero(q_length <= q_max)
    if len(pixels) < len(everywhere):
        whole = np.cos(np.pi / 2 * q_length[everywhere] / q_max).astype(np.float32)
        known = whole[np.isin(everywhere, pixels)]
        here = Here(np, workers.threads)
        masked = _power(here, known[None], points, side)
        of_whole = _power(here, whole[None], _points(q[everywhere], step), side)
        totals = [_unmasked(total, masked, of_whole) for total in totals]
    axis = np.arange(-half, half + 1)
    ring = np.rint(np.sqrt(axis[:, None] ** 2 + axis**2)).astype(int).ravel()
    share = np.bincount(ring) * (scale * weight).sum()
    powers = [(np.bincount(ring, total.ravel()) / share)[: half + 1] for total in totals]
    return np.arange(half + 1, dtype=np.float64) * step, powers


def _line(displacement: Float64, relative: Float64) -> Float64:
    """Return slope and offset of the line that the overlap's end is found by."""
    line: Float64 = np.polyfit(displacement, relative**EXPONENT, 1)
    return line


def _points(q: Float64, step: float) -> Float32:
    """Return pixels (n, 3) as points (2, n) of a transform with that step of displacement [radians per step]."""
    return np.ascontiguousarray((2 * np.pi * step * q[:, :2].T).astype(np.float32))


def _power(here: Here, values: Any, points: Float32, side: int) -> Any:
    """Return the summed power (side, side) of the transforms of real values (n, N_POINT)."""
    xp = here.xp
    # Two real patterns in one complex transform: its power, averaged over x and -x, is the sum of theirs.
    if values.shape[0] % 2:
        values = xp.concat([values, xp.zeros((1, values.shape[1]), dtype=values.dtype)])
    middle = values.shape[0] // 2
    total = xp.zeros((side, side), dtype=xp.float64)
    # A few pictures at a time: each has more points than the pattern.
    for own in tiles(0, middle, here.rows(FEW_PICTURES, PICTURE_BYTES * side**2)):
        first, second = values[own, :], values[own.start + middle : own.stop + middle, :]
        pairs = xp.astype(first, xp.complex64) + 1j * xp.astype(second, xp.complex64)
        pictures = nufft.adjoint_pictures(pairs, here.array(points), side, tolerance=1e-4, threads=here.threads)
        power = xp.astype(xp.real(pictures), xp.float64) ** 2 + xp.astype(xp.imag(pictures), xp.float64) ** 2
        total = total + xp.sum(power, axis=0)
    return total


def _unmasked(power: Float64, masked: Float64, whole: Float64) -> Float64:
    """Return the power (side, side) that a detector without mask would show.

    masked, whole : power of the window with the mask and without it
    The transform of the power is the autocorrelation of what was transformed: the texture's times the window's.
    """
    lags, of_masked, of_whole = (np.fft.fft2(np.fft.ifftshift(array)) for array in (power, masked, whole))
    floor = LEAST_OVERLAP * np.abs(of_whole)
    ratio = np.where(
        np.abs(of_masked) > floor, of_whole * np.conj(of_masked) / np.maximum(np.abs(of_masked) ** 2, 1e-300), 1.0
    )
    result: Float64 = np.fft.fftshift(np.fft.ifft2(lags * ratio).real)
    return result
