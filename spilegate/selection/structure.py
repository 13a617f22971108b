"""Whether a pattern shows more than a spheroid: what is left is alike at q and -q, by Friedel's law, or it is noise.

A droplet as large as the particle scatters near the beam as the particle does; further out it shows rings, the particle
speckles. Few photons tell of neither, and then that is what is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from spilegate.kernels.blocks import pattern_bytes
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here, Workers
from spilegate.likelihood.sampling import Sampling
from spilegate.records import Float32, Float64, Int64
from spilegate.selection.spheroids import MODEL_PART, TINY, Spheroids, form_factor, seen

# A pixel's mate is no further from where it should be than this part of the distance of neighbours.
MATE = 0.75
# Rings of the same width [speckles of the smallest particle] on which a spheroid is made as bright as the pattern.
RING_PIXELS = 2.0
# Where a sphere's form factor is 0 for the first time, q times its diameter.
MINIMUM = 1.43
# Patterns worked on at once, and arrays of single precision for every pixel of each.
TILE, ARRAYS = 128, 16


def significance(images: Any, sampling: Sampling, found: Spheroids, spacing: float, *, workers: Workers) -> Float64:
    """Return by how many standard deviations (N_IMG,) patterns are alike at q and -q beyond their spheroids.

    images : (N_IMG, N_PIX), patterns or lists of their photons; sampling : on pixels, as far out as they show anything
    found : the spheroid of every pattern; spacing : distance of neighbouring pixels [1/angstrom]
    """
    middle = np.median(found.centre, axis=0)
    first, second = mates(sampling.q[:, :2] - middle, MATE * spacing)
    if not len(first):
        return np.zeros(len(images))
    rings = ring_means(np.linalg.norm(sampling.q, axis=1), RING_PIXELS * spacing)
    number = (rings > 0).astype(np.float32)
    across = sampling.q[:, :2].astype(np.float32)
    centres = found.centre.astype(np.float32)
    shape = np.stack(found.logarithms(), axis=1).astype(np.float32)

    def measure(here: Here, part: slice, block: Any) -> tuple[Any]:
        xp = here.xp
        counts = sampling.counts(block)
        centre = here.array(centres[part])
        x, y = (here.array(across[:, axis]) - centre[:, axis, None] for axis in range(2))
        own = here.array(shape[part])
        ground = here.array(sampling.background)
        model = form_factor(seen(xp, x, y, *(own[:, k, None] for k in range(3)))[0])[0]
        model = model * model * here.array(sampling.response)
        of_rings, members = here.array(rings), here.array(number)
        ratio = xp.matmul(counts - ground, of_rings.T) / xp.maximum(xp.matmul(model, of_rings.T), TINY)
        expected = xp.maximum(model * xp.matmul(xp.maximum(ratio, 0.0), members) + ground, 1e-3)
        # Inside a sphere's first minimum everything is like a spheroid.
        outside = xp.astype(xp.sqrt(x * x + y * y) * xp.exp(own[:, :1]) > MINIMUM, xp.float32)
        damping = outside / (1 + MODEL_PART**2 * expected)
        rest, spread = (counts - expected) * damping, expected * damping**2
        here_, there = here.array(first), here.array(second)
        product = xp.take(rest, here_, axis=1) * xp.take(rest, there, axis=1)
        variance = xp.take(spread, here_, axis=1) * xp.take(spread, there, axis=1)
        alike = xp.sum(product, axis=1) / xp.sqrt(xp.maximum(xp.sum(variance, axis=1), TINY))
        return (xp.astype(alike, xp.float64),)

    row_bytes = pattern_bytes(sampling.n_pixel) + 4.0 * ARRAYS * len(across)
    (result,) = workers.run(
        measure, len(images), [Rows((), np.float64)], tile=TILE, split=[images], row_bytes=row_bytes
    )
    return np.asarray(result)


def mates(q: Float64, reach: float) -> tuple[Int64, Int64]:
    """Return pairs (n,), (n,) of points (N, 2) that lie opposite each other across the beam, every pair once."""
    distance, index = cKDTree(q).query(-q)
    first = np.flatnonzero((distance <= reach) & (np.arange(len(q)) < index))
    return first, index[first]


def ring_means(q_length: Float64, width: float) -> Float32:
    """Return the matrix (N_RING, N) that takes means over rings of that width of points at q_length (N,)."""
    _, ring = np.unique((q_length / width).astype(int), return_inverse=True)
    matrix = np.zeros((ring.max() + 1, len(q_length)), np.float32)
    matrix[ring, np.arange(len(q_length))] = 1
    result: Float32 = matrix / matrix.sum(axis=1, keepdims=True)
    return result
