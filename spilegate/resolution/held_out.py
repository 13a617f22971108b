"""Does the model made from one half of the patterns foresee the other half? A test that noise cannot pass.

Two reconstructions can agree without knowing anything: flat noise gives both the same point, patterns that are alike
but for their noise the same ball, and fitting orientations to noise the same lopsided one. So each model is asked about
patterns it was not made from: their inner rings alone give the orientations, and the slices at these orientations are
compared with the rings further out. Where patterns hold no more than noise about their mean, the expected agreement is
exactly zero, whatever the model and however much the matching overfits: the noise of different pixels is independent.

The rings compared begin a whole speckle outside of those matched. A speckle reaches across rings in any pattern, also
where every pattern is of another particle; only a structure that all patterns share ties one speckle to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spilegate.generation import poses
from spilegate.geometry import orientations
from spilegate.geometry.orientations import rotated_points
from spilegate.kernels import nufft
from spilegate.kernels.blocks import GROUP, pattern_bytes
from spilegate.kernels.exact import Output, Rows, Total
from spilegate.kernels.workers import Here
from spilegate.patterns.experiment import Experiment
from spilegate.records import Float64, Int64, State
from spilegate.schedule import GROWTH, plan
from spilegate.settings import MatchingOptions

# The first band compared begins at this many speckles, as many as the blind start uses.
FIRST_SPECKLES = 2.5
# Rings are interpolated between neighbouring pixels, so that much nearer a compared pixel was matched as well.
PIXELS_APART = 1.5
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Band:
    """Rings compared, q_first < |q| <= q_last, and the radius q_match of those matched [1/angstrom]."""

    q_match: float
    q_first: float
    q_last: float


def bands(diameter_angstrom: float, q_max: float, spacing: float, q_inner: float = 0.0) -> list[Band]:
    """Return the bands to compare, from the beam outwards; none where the detector ends before the first one.

    spacing : of the detector's pixels; q_inner : |q| of the first that patterns are matched on [1/angstrom]
    What patterns are matched on inside of a band is a whole speckle at least, also around a beam stop.
    """
    gap = max(1 / diameter_angstrom, PIXELS_APART * spacing)
    edges = [max(FIRST_SPECKLES / diameter_angstrom, q_inner + 1 / diameter_angstrom + gap)]
    while edges[-1] * GROWTH < q_max:
        edges.append(edges[-1] * GROWTH)
    # A remainder thinner than half a band widens the last one.
    if len(edges) > 1 and q_max < edges[-1] * GROWTH**0.5:
        edges.pop()
    if q_max < edges[0] + PIXELS_APART * spacing:
        return []
    return [Band(first - gap, first, last) for first, last in zip(edges, [*edges[1:], q_max], strict=True)]


def significance(
    experiment: Experiment, model: State, band: Band, options: MatchingOptions, rng: np.random.Generator
) -> float:
    """Return by how many standard deviations a model's slices agree with the rings of patterns it was not made from.

    experiment : the patterns; model : made from others. The statistic is the sum over patterns i and pixels p of
    `w_p (d_ip - <d_p>) (m_ip - <m_p>)`, means over the patterns, so that what all patterns share (background, shadows)
    has no say; patterns are independent of each other, and the spread of their parts gives the standard deviation.
    """
    # What patterns have in common is asked of these patterns, only the structure of the model.
    model = replace(model, background=experiment.detector.background)
    narrow = plan(experiment.diameter_angstrom, 0, band.q_match, band.q_match)
    candidates, _ = poses.match(experiment, narrow, model, options, rng)
    rotations = orientations.matrices(candidates.quaternions[:, 0])
    parts, data, slices = _products(experiment, band, model, candidates.state[:, 0], rotations)
    covariance = parts.sum() - data @ slices / experiment.weight.sum()
    deviation = np.sqrt(len(parts)) * parts.std()
    return float(covariance / deviation) if deviation > 0 else 0.0


def _products(
    experiment: Experiment, band: Band, model: State, state: Int64, rotations: Float64
) -> tuple[Float64, Float64, Float64]:
    """Return data times slice, summed over pixels (N_IMG,), and both summed over patterns (N_PIX,), all weighted.

    Every slice has its own mean over the pixels taken off, every pattern the mean at its scale: brightness says nothing
    about structure.
    """
    images, scale, weight, workers = experiment.images, experiment.scale, experiment.weight, experiment.workers
    sampling = experiment.pixels(band.q_last).sampling
    where = np.flatnonzero(np.linalg.norm(sampling.q, axis=-1) > band.q_first)
    root, mean = (sampling.variance**-0.5)[where], sampling.mean[where]
    flat = (sampling.q[where] * (2 * np.pi * model.voxel_angstrom)).astype(np.float32)
    transforms = [
        nufft.Transform(volume.astype(np.complex64), tolerance=TOLERANCE, threads=workers.threads)
        for volume in model.autocorrelation
    ]

    def compare_tile(here: Here, part: slice, block: Any) -> tuple[Any, Any, Any]:
        xp = here.xp
        pixels = here.array(where)
        counts = sampling.counts(block)
        data = xp.take(sampling.normalised(counts, xp.ones(counts.shape[0])), pixels, axis=1)
        good, bright = (here.array(values[part], np.float32)[:, None] for values in (weight, scale))
        data = (data - bright * here.array(mean)) * here.array(root) * good
        points = rotated_points(here.array(rotations[part], np.float32), here.array(flat))
        mine = here.array(state[part])
        slices = xp.zeros_like(data)
        for k, transform in enumerate(transforms):
            values = transform.on(here).at(xp.reshape(points, (3, -1)), threads=here.threads)
            slices = xp.where((mine == k)[:, None], xp.reshape(xp.real(values), data.shape), slices)
        slices = (slices - xp.mean(slices, axis=1, keepdims=True)) * here.array(root) * good
        data, slices = xp.astype(data, xp.float64), xp.astype(slices, xp.float64)
        return xp.sum(data * slices, axis=1), xp.sum(data, axis=0), xp.sum(slices, axis=0)

    largest = float(np.abs(model.autocorrelation).sum(axis=(1, 2, 3)).max() * root.max())
    # Of slices, and, at more than a thousand deviations, of data.
    bound = len(rotations) * max(1e3, 2 * largest)
    shape = (len(where),)
    outputs: list[Output] = [Rows((), np.float64), Total(shape, bound), Total(shape, bound)]
    tile = max(1, min(GROUP, nufft.block_points(model.autocorrelation.shape[-1]) // len(where)))
    parts, data, slices = workers.run(
        compare_tile,
        len(rotations),
        outputs,
        tile=2 ** int(np.log2(tile)),
        split=[images],
        row_bytes=pattern_bytes(sampling.n_pixel),
    )
    return parts, data, slices
