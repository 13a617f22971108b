"""The size of every pattern's particle: a spheroid fitted to what it scatters near the beam.

A uniform spheroid scatters `I(q) = B (3 j1(s) / s)^2`, `s = pi sqrt(q^T E q)`, of which a pattern shows the ellipse E
in which the spheroid is seen (its square root has the seen diameters as eigenvalues). Single particles of one kind are
seen in like ellipses, whatever they are made of; doublets, aggregates and droplets are not (Daurer et al., IUCrJ 4:251,
2017; Assalauova et al., IUCrJ 7:1102, 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.backend import array_module
from spilegate.geometry.detector import pixel_spacing
from spilegate.kernels.blocks import pattern_bytes
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here, Workers
from spilegate.likelihood.sampling import Sampling
from spilegate.patterns.diameter.pair_distances import longest
from spilegate.patterns.experiment import Experiment
from spilegate.records import Float32, Float64
from spilegate.selection import misfits

# Ratio of one diameter that is tried to the one before; aspects (larger over smaller diameter seen) and directions.
STEP = 1.04
ASPECTS, DIRECTIONS = (1.25, 1.7), 8
# Rounds of Fisher scoring, and the longest step of a logarithm in one.
ROUNDS, LONGEST = 10, 0.3
# Patterns fitted at once: a pixel of each takes 4 bytes in some thirty arrays.
TILE, ARRAYS = 128, 30
# A particle is no uniform spheroid: what it scatters is off by this part of itself, so that of many photons no more is
# made than they tell.
MODEL_PART = 0.1
# How far the logarithm of an aspect is from 0 before anything is measured, as a standard deviation.
USUAL_ASPECT = 0.7
# Nor the beam from where it should be [pixels].
USUAL_CENTRE = 1.0
# Below this the sphere's form factor is taken from its series.
SERIES = 0.6
# The smallest diameter that is looked for, in speckles to the edge.
FEWEST_SPECKLES = 1.5
# How far out spheroids are fitted, in speckles: to the second minimum of a sphere.
SPECKLES = 2.5
# Level of what no spheroid explains, of the mean level of a pattern, to begin with.
FLOOR = 0.02
TINY = 1e-20
# Patterns of fewer photons tell nothing of how counts scatter.
FEWEST_PHOTONS = 100


@dataclass(frozen=True)
class Spheroids:
    """What the patterns show of spheroids, one of each pattern; all (N_IMG,) float64.

    diameter_angstrom : of the sphere of equal area seen; aspect : larger over smaller diameter seen, at least 1
    angle : of the larger one [rad], in [0, pi)
    brightness : counts of a pixel at q = 0
    misfit : mean squared deviation of a pattern from its spheroid over its square, weighed by photons, less what photon
        noise adds: about 0 for a spheroid
    centre : (N_IMG, 2), where q = 0 is [1/angstrom], by what is fitted
    misfit_error, diameter_error : standard deviations of the misfit and of the diameter's logarithm, by photons alone
    """

    diameter_angstrom: Float64
    aspect: Float64
    angle: Float64
    brightness: Float64
    misfit: Float64
    centre: Float64
    misfit_error: Float64
    diameter_error: Float64

    def logarithms(self) -> tuple[Float64, Float64, Float64]:
        """Return what `seen` takes, (N_IMG,) each."""
        half = np.log(self.aspect) / 2
        return np.log(self.diameter_angstrom), half * np.cos(2 * self.angle), half * np.sin(2 * self.angle)


def form_factor(s: Any) -> tuple[Any, Any]:
    """Return the sphere's amplitude `3 (sin s - s cos s) / s^3` (1 at 0) and its derivative over s, for s >= 0."""
    xp = array_module(s)
    safe = xp.maximum(s, SERIES)
    inverse = 1 / safe
    sine = xp.sin(safe)
    far = 3 * (sine * inverse - xp.cos(safe)) * inverse * inverse
    slope = 3 * inverse * (sine * inverse - far)
    square = s * s
    near = 1 - square * (0.1 - square * (1 / 280 - square / 15120))
    near_slope = -s * (0.2 - square * (1 / 70 - square / 2520))
    return xp.where(s < SERIES, near, far), xp.where(s < SERIES, near_slope, slope)


def of(experiment: Experiment, some: Experiment) -> Spheroids:
    """Return the spheroids of some of an experiment's patterns, fitted as far out as its mean pattern says."""
    detector, profile = experiment.detector, experiment.profile
    smallest, largest = FEWEST_SPECKLES / experiment.q_max, longest(detector)
    q_last = min(radius_of_fit(profile.q, profile.mean, smallest, largest), experiment.q_max)
    sampling, spacing = experiment.pixels(q_last).sampling, pixel_spacing(detector.q[detector.matched])
    return fit(some.images, sampling, smallest, largest, spacing, workers=experiment.workers)


def radius_of_fit(q: Float64, mean: Float64, smallest: float, largest: float) -> float:
    """Return how far out to fit [1/angstrom]: by the sphere most like the mean pattern.

    q : (n,) float64 [1/angstrom], mean : (n,) counts on them; smallest, largest : diameters that are tried
    """
    sizes = np.geomspace(smallest, largest, 2 + int(np.log(largest / smallest) / np.log(STEP)))
    curves = form_factor(np.pi * sizes[:, None] * q)[0] ** 2
    level = np.maximum(mean, 0)
    floor = FLOOR * level.mean()
    # The logarithms of positive numbers, so that the brightest rings are not all that counts.
    best, least = sizes[0], np.inf
    for size, curve in zip(sizes, curves, strict=True):
        scale = (level * curve).sum() / (curve**2).sum()
        off = float(((np.log(level + floor) - np.log(scale * curve + floor)) ** 2 * level**0.5).sum())
        if off < least:
            best, least = size, off
    return SPECKLES / float(best)


def fit(
    images: Any, sampling: Sampling, smallest: float, largest: float, spacing: float, *, workers: Workers
) -> Spheroids:
    """Fit a spheroid to every pattern.

    images : (N_IMG, N_PIX), patterns or lists of their photons; sampling : the pixels near the beam to fit on
    smallest, largest : diameters [angstrom] to begin with; spacing : distance of neighbouring pixels [1/angstrom]
    """
    # In pixels, and diameters in their inverse, so that all that is fitted is of the order of 1.
    smallest, largest = smallest * spacing, largest * spacing
    templates, starts = _dictionary(sampling, smallest, largest, spacing)
    across = (sampling.q[:, :2] / spacing).astype(np.float32)
    lowest, highest = np.log(smallest / 2), np.log(2 * largest)

    def fit_tile(here: Here, part: slice, block: Any) -> tuple[Any, ...]:  # noqa: ARG001 - as every body
        xp = here.xp
        counts = sampling.counts(block)
        x, y = (here.array(across[:, axis]) for axis in range(2))
        response, ground = here.array(sampling.response), here.array(sampling.background)
        level = xp.mean(counts, axis=1)
        scores = xp.matmul(counts, here.array(templates)) - 0.0
        begin = xp.take(here.array(starts), xp.argmax(scores, axis=1), axis=0)
        # Size, two of shape, brightness, floor, centre.
        u = [begin[:, k] for k in range(3)]
        near = form_factor(seen(xp, x, y, *(v[:, None] for v in u))[0])[0]
        near = near * near * response
        bright = xp.log(xp.maximum(xp.sum(counts - ground, axis=1) / xp.maximum(xp.sum(near, axis=1), TINY), TINY))
        u += [bright, xp.log(FLOOR * xp.maximum(level, TINY)), 0 * bright, 0 * bright]
        for _ in range(ROUNDS):
            mu, jacobian = _model(xp, x, y, response, ground, u)
            weight = 1 / (mu * (1 + MODEL_PART**2 * mu))
            weighed = jacobian * weight[:, None, :]
            normal = xp.matmul(weighed, xp.permute_dims(jacobian, (0, 2, 1)))
            right = xp.sum(weighed * (counts - mu)[:, None, :], axis=2)
            step = _solved(xp, normal, right, u)
            u = [value + xp.clip(step[:, k], -LONGEST, LONGEST) for k, value in enumerate(u)]
            u[0] = xp.clip(u[0], lowest, highest)
        mu, jacobian = _model(xp, x, y, response, ground, u)
        total = xp.maximum(xp.sum(mu, axis=1), TINY)
        misfit = xp.sum((counts - mu) ** 2 / mu - 1, axis=1) / total
        error = xp.sqrt(xp.sum(2 + 1 / mu, axis=1)) / total
        weighed = jacobian / mu[:, None, :]
        normal = xp.matmul(weighed, xp.permute_dims(jacobian, (0, 2, 1))) + here.array(_PRIOR)
        variance = xp.linalg.inv(xp.astype(normal, xp.float64))[:, 0, 0]
        rows = [*u[:4], misfit, error, total, xp.sqrt(xp.maximum(variance, 0)), xp.stack(u[5:], axis=1)]
        return tuple(xp.astype(row, xp.float64) for row in rows)

    outputs = [*(Rows((), np.float64) for _ in range(8)), Rows((2,), np.float64)]
    row_bytes = pattern_bytes(sampling.n_pixel) + 4.0 * ARRAYS * len(across)
    size, first, second, bright, misfit, error, photons, spread, centre = workers.run(
        fit_tile, len(images), outputs, tile=TILE, split=[images], row_bytes=row_bytes
    )
    elongation = np.hypot(first, second)
    shows = photons > FEWEST_PHOTONS
    if shows.any():
        usual = misfits.dispersion_of(misfit[shows], photons[shows], len(across))
        misfit = misfits.corrected(misfit, photons, len(across), usual)
    return Spheroids(
        np.exp(size) / spacing, np.exp(2 * elongation), np.mod(np.arctan2(second, first) / 2, np.pi), np.exp(bright),
        misfit, centre * spacing, error, spread,
    )  # fmt: skip


# Half the logarithm of the aspect is the length of the two numbers of shape.
_PRIOR = np.diag([1e-2, *2 * [4 / USUAL_ASPECT**2], 1e-3, 1e-1, *2 * [1 / USUAL_CENTRE**2]]).astype(np.float32)


def _solved(xp: Any, normal: Any, right: Any, u: list[Any]) -> Any:
    """Return Gauss-Newton steps (n, 7) with what is known beforehand of shapes and centres."""
    prior = xp.asarray(_PRIOR)
    known = [float(_PRIOR[k, k]) if k in (1, 2, 5, 6) else 0.0 for k in range(len(u))]
    pulled = right - xp.stack([value * weight for value, weight in zip(u, known, strict=True)], axis=1)
    matrix = xp.astype(normal + prior, xp.float64)
    diagonal = xp.sum(matrix * xp.eye(len(u)), axis=2)
    root = 1 / xp.sqrt(diagonal)
    scaled = matrix * root[:, :, None] * root[:, None, :] + 1e-3 * xp.eye(len(u))
    step = xp.linalg.solve(scaled, (pulled * root)[..., None])[..., 0] * root
    return xp.astype(step, xp.float32)


def seen(xp: Any, x: Any, y: Any, size: Any, first: Any, second: Any) -> tuple[Any, ...]:
    """Return s (n, N_PIX) of spheroids and its derivatives over the two numbers of their shape, and over x and y.

    x, y : (N_PIX,) or (n, N_PIX) [1/length], for a size in that length
    size, first, second : (n, 1), m, a and b of the ellipse's square root exp [[m + a, b], [b, m - a]]
    """
    length = xp.sqrt(first * first + second * second + 1e-12)
    even, odd = xp.cosh(2 * length), xp.sinh(2 * length) / length
    round_, along = x * x + y * y, first * (x * x - y * y) + 2 * second * x * y
    square = even * round_ + odd * along
    s = np.pi * xp.exp(size) * xp.sqrt(xp.maximum(square, TINY))
    # d even / da = 2 a odd; d odd / da = a (2 even - odd) / length^2.
    scale = np.pi**2 * xp.exp(2 * size)
    common = 2 * odd * round_ + (2 * even - odd) / (length * length) * along
    half = 0.5 * scale / xp.maximum(s, TINY)
    return (
        s,
        half * (first * common + odd * (x * x - y * y)),
        half * (second * common + odd * 2 * x * y),
        half * 2 * ((even + odd * first) * x + odd * second * y),
        half * 2 * ((even - odd * first) * y + odd * second * x),
    )


def _model(xp: Any, x: Any, y: Any, response: Any, ground: Any, u: list[Any]) -> tuple[Any, Any]:
    """Return expected counts (n, N_PIX) and their derivatives (n, 7, N_PIX) over what is fitted, (n,) each."""
    size, first, second, bright, floor, right, up = (value[:, None] for value in u)
    x, y = x - right, y - up
    s, over_first, over_second, over_x, over_y = seen(xp, x, y, size, first, second)
    amplitude, slope = form_factor(s)
    height = xp.exp(bright) * response
    signal, rest = height * amplitude * amplitude, xp.exp(floor) * response
    change = 2 * height * amplitude * slope
    slopes = [change * s, change * over_first, change * over_second, signal, rest + 0 * signal]
    jacobian = xp.stack([*slopes, -change * over_x, -change * over_y], axis=1)
    return xp.maximum(signal + rest + ground, TINY), jacobian


def _dictionary(sampling: Sampling, smallest: float, largest: float, spacing: float) -> tuple[Float32, Float32]:
    """Return what patterns are multiplied by (N_PIX, n) to tell which of n spheroids is most likely, and those (n, 3).

    The logarithm of the probability of every photon to be where it is.
    """
    x, y = sampling.q[:, 0] / spacing, sampling.q[:, 1] / spacing
    sizes = np.log(np.geomspace(smallest, largest, 2 + int(np.log(largest / smallest) / np.log(STEP))))
    shapes = [(0.0, 0.0)]
    for aspect in ASPECTS:
        angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        shapes += [(0.5 * np.log(aspect) * np.cos(a), 0.5 * np.log(aspect) * np.sin(a)) for a in angles]
    starts = np.array([(size, *shape) for size in sizes for shape in shapes])
    columns = []
    for start in starts:
        curve = form_factor(seen(np, x, y, *start)[0])[0] ** 2 * sampling.response + TINY
        curve = curve / curve.sum() + FLOOR / len(x)
        columns.append(np.log(curve / curve.sum()))
    return np.stack(columns, axis=1).astype(np.float32), starts.astype(np.float32)
