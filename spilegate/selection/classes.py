"""2-D classes: patterns that look alike once each is turned about the beam, without any 3-D model.

Expectation maximisation over classes and one angle (Ayyer et al., Optica 8:15, 2021), annealed: the soft assignment of
the blind start with classes in place of views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from spilegate.likelihood.sampling import Sampling
from spilegate.patterns.experiment import Experiment
from spilegate.records import Float32, Float64, Int64
from spilegate.schedule import plan as plan_of
from spilegate.stages import assigning

# A class for so many patterns, at most MOST; those that keep less than FEWEST are given up.
PATTERNS, MOST, FEWEST = 40, 48, 3.0
TEMPERATURES = (0.2, 0.1, 0.06, 0.03, 0.02, 0.01, 0.01)
# How far out classes look [speckles].
SPECKLES = 5.0
# Pixels of a side of a mean pattern.
SIDE = 64
# A class begins as the mean of all patterns, and this part of it changed at random.
UNLIKE = 0.3


@dataclass(frozen=True)
class Classes:
    """Patterns that look alike.

    label : (N_IMG,) int64; means : (K, SIDE, SIDE) float32, 0 to 1; extent : q at their sides' middles [1/angstrom]
    """

    label: Int64
    means: Float32
    extent: float


def classify(experiment: Experiment, rng: np.random.Generator) -> Classes:
    """Return the 2-D classes of the patterns of an experiment; those of weight 0 belong to the one they fit best."""
    count = int((experiment.weight > 0).sum())
    number = int(np.clip(count / PATTERNS, 2, MOST))
    q_last = min(experiment.q_max, SPECKLES / experiment.diameter_angstrom)
    likelihood = experiment.rings(plan_of(experiment.diameter_angstrom, 1, q_last, q_last))
    sampling = likelihood.sampling
    slices = _beginnings(sampling, number, rng)
    for temperature in TEMPERATURES:
        found = assigning.expect(
            experiment.images, likelihood, slices, experiment.brightness, experiment.weight, temperature,
            workers=experiment.workers,
        )  # fmt: skip
        slices = _known(found.mean, found.weight)
    members = np.bincount(found.view[experiment.weight > 0], minlength=len(slices))
    order = np.argsort(-members, kind="stable")
    order = order[members[order] >= FEWEST]
    place = np.full(len(slices), -1)
    place[order] = np.arange(len(order))
    return Classes(place[found.view], _pictures(slices[order], sampling), q_last)


def _beginnings(sampling: Sampling, number: int, rng: np.random.Generator) -> Float32:
    """Return first means (number, N_R, N_PHI): that of all patterns, with a pattern of few harmonics on it."""
    n_ring, n_phi = sampling.mean.shape
    spectrum = np.zeros((number, n_ring, n_phi // 2 + 1), np.complex128)
    last = min(7, n_phi // 2)
    shape = (number, n_ring, last)
    spectrum[:, :, 1 : last + 1] = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    texture = np.fft.irfft(spectrum, n=n_phi, axis=2)
    texture *= UNLIKE / texture.std()
    result: Float32 = (np.maximum(sampling.mean, 0) * np.maximum(1 + texture, 0)).astype(np.float32)
    return result


def _known(mean: Float32, weight: Float32) -> Float32:
    """Return means (K, N_R, N_PHI) with their own ring's mean where nothing was measured."""
    there = weight > assigning.LEAST_WEIGHT
    number = np.maximum(there.sum(axis=2, keepdims=True), 1)
    usual = np.where(there, mean, 0).sum(axis=2, keepdims=True) / number
    result: Float32 = np.maximum(np.where(there, mean, usual), 0).astype(np.float32)
    return result


def _pictures(slices: Float32, sampling: Sampling) -> Float32:
    """Return means (K, N_R, N_PHI) on rings as pictures (K, SIDE, SIDE), from 0 to 1 in their logarithms."""
    radius: Float64 = np.linalg.norm(sampling.q[:, 0], axis=-1)
    line = (np.arange(SIDE) - (SIDE - 1) / 2) / ((SIDE - 1) / 2) * radius[-1]
    x, y = np.meshgrid(line, line, indexing="ij")
    ring = np.interp(np.hypot(x, y), radius, np.arange(len(radius)), right=np.nan)
    turn = np.mod(np.arctan2(y, x), 2 * np.pi) / (2 * np.pi) * slices.shape[2]
    result = np.empty((len(slices), SIDE, SIDE), np.float32)
    for k, each in enumerate(slices):
        wrapped = np.concatenate([each, each[:, :1]], axis=1).astype(np.float64)
        logarithm = np.log(np.maximum(wrapped, 1e-4 * wrapped.max()) + 1e-12)
        picture = map_coordinates(logarithm, [np.nan_to_num(ring), turn], order=1, mode="nearest")
        low, high = float(logarithm.min()), float(logarithm.max())
        result[k] = np.where(np.isnan(ring), 0.0, (picture - low) / max(high - low, 1e-12))
    return result
