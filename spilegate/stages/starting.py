"""Blind start: soft assignment of patterns to orientations, annealed.

Expectation-maximisation over all orientations (EMC; Loh and Elser, Phys. Rev. E 80:026705, 2009) in polar form:
`P(i, v, s) ~ exp(-L / T)` with a likelihood's loss L, then the expected intensity of every view,
`sum_is P (d_i - b)(r, phi - s) / sum_is P s_i`, one GEMM per angular harmonic each way. A temperature relative to the
spread of each pattern's losses needs no unit; at T = 1 the assignment is what the statistics of photons say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from spilegate.geometry import orientations
from spilegate.geometry.likelihood import Likelihood
from spilegate.kernels import fft
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.workers import GROUP, Here, Rows, Total, Workers, tiles
from spilegate.state import Float32, Float64, Int64

# Probabilities held at once by a worker: as many as its share of the cache, or the sums over patterns cost too much.
BLOCK_PROBABILITIES = 1 << 21


@dataclass(frozen=True)
class Expectation:
    """What a soft assignment gives; slices of all states one after the other.

    mean : (N_SLICE, N_R, N_PHI) float32, expected intensity of every slice
    weight : (N_SLICE, N_R, N_PHI) float32, sum of the scales of the patterns assigned to every sample
    view, shift : (N_IMG,) int64, most probable slice of every pattern and its in-plane shift
    distance : (N_IMG,) float64, to that slice: 0 is perfect, 1 no better than the mean pattern
    mean_distance : the same over all patterns together
    entropy : mean entropy of the assignments over the logarithm of the number of orientations, 0 = hard, 1 = uniform
    """

    mean: Float32
    weight: Float32
    view: Int64
    shift: Int64
    distance: Float64
    mean_distance: float
    entropy: float

    def quaternions(self, views: Float64, n_phi: int) -> Float64:
        """Return the most probable orientations (N_IMG, 4) on the grid of views (N_VIEW, 3, 3)."""
        turns = orientations.about_beam(-2 * np.pi * self.shift / n_phi)
        return orientations.quaternions(np.matmul(turns, views[self.view % len(views)]))


def expect(
    images: Any,
    likelihood: Likelihood,
    slices: Float32,
    scale: Float64,
    weight: Float64,
    temperature: float,
    *,
    workers: Workers,
) -> Expectation:
    """Assign patterns softly to the views of all states and average them.

    images : (N_IMG, N_PIX), patterns or lists of their photons; likelihood : on rings
    slices : (N_SLICE, N_R, N_PHI) float32, model slices of the views, all states one after the other
    scale, weight : (N_IMG,) of every pattern; temperature : relative; never below 1 in units of the likelihood
    """
    count, sampling = len(images), likelihood.sampling
    n_slice, n_ring, n_phi = slices.shape
    correlator = Correlator(n_phi, n_phi // 2)
    order = correlator.order
    model = view_harmonics(*likelihood.expected(slices), sampling.coverage, order, tile=n_slice, workers=workers)
    step = min(GROUP, 2 ** max(2, (BLOCK_PROBABILITIES // (n_slice * n_phi)).bit_length() - 1))

    def expect_few(here: Here, part: slice, counts: Any) -> tuple[Any, ...]:
        xp = here.xp
        observed = likelihood.observed(counts)
        score = correlator.full(pattern_harmonics(observed.values, order), here.array(model.stack[0]))
        score = likelihood.score(score, here.array(model.sums[0])[:, None, :])
        best = xp.max(score, axis=0)
        view = xp.argmax(best, axis=1)
        shift = xp.argmax(xp.take_along_axis(score, view[None, :, None], axis=2)[..., 0], axis=0)
        loss = likelihood.loss(score, observed.amount[:, None])
        least = xp.min(loss, axis=(0, 2))
        spread = xp.maximum(temperature * (xp.mean(loss, axis=(0, 2)) - least), 1.0)
        loss -= least[:, None]
        loss *= -1.0 / spread[:, None]
        probability = xp.exp(loss)
        total = xp.sum(probability, axis=(0, 2))
        probability /= total[:, None]
        # The logarithm of the probability without a logarithm for each.
        surprise = xp.sum(probability * loss, axis=(0, 2)) - xp.log(total)
        own = xp.astype(here.array(weight[part]), xp.float32)
        intensity = sampling.normalised(counts, xp.ones(counts.shape[0])) * own[:, None, None]
        sums = xp.matmul(xp.permute_dims(fft.rfft(intensity), (2, 1, 0)), fft.rfft(probability, axis=0))
        own = own * xp.astype(here.array(scale[part]), xp.float32)
        scales = xp.matmul(own, probability)
        numbers = xp.stack(
            [xp.sum(least - observed.perfect), xp.sum(observed.mean - observed.perfect), xp.sum(surprise)]
        )
        distance = observed.distance(least[:, None])[:, 0]
        return (view, shift, distance), (xp.real(sums), xp.imag(sums), scales, numbers)

    def expect_tile(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
        xp = here.xp
        rows: list[tuple[Any, ...]] = []
        sums: tuple[Any, ...] | None = None
        counts = sampling.counts(block)
        for few in tiles(0, counts.shape[0], step):
            absolute = slice(part.start + few.start, part.start + few.stop)
            found, added = expect_few(here, absolute, counts[few, ...])
            rows.append(found)
            added = tuple(xp.astype(array, xp.float64) for array in added)
            sums = added if sums is None else tuple(a + b for a, b in zip(sums, added, strict=True))
        assert sums is not None  # noqa: S101 - a tile has patterns
        return *(xp.concat(column) for column in zip(*rows, strict=True)), *sums

    # No harmonic of a mean exceeds the patterns' own: 16 times their mean at every sample, and ten times that to spare.
    brightest = 160.0 * float(np.abs(sampling.mean).max()) * n_phi * float(scale.sum())
    spectrum = (n_phi // 2 + 1, n_ring, n_slice)
    outputs = [Rows((), np.int64), Rows((), np.int64), Rows((), np.float64)]
    totals = [Total(spectrum, brightest), Total(spectrum, brightest), Total((n_phi, n_slice), float(scale.sum()))]
    totals.append(Total((3,), 1e9 * count))
    view, shift, distance, real, imaginary, scales, numbers = workers.run(
        expect_tile, count, [*outputs, *totals], tile=GROUP, split=[images]
    )
    weights = _weights(scales, sampling.coverage)
    mean = scipy.fft.irfft(real + 1j * imaginary, n=n_phi, axis=0).transpose(2, 1, 0) / np.maximum(weights, 1e-6)
    least, of_mean, surprise = numbers / count
    return Expectation(
        np.ascontiguousarray(mean, np.float32),
        weights.astype(np.float32),
        view,
        shift,
        distance,
        float(least / of_mean),
        float(-surprise / np.log(n_slice * n_phi)),
    )


def _weights(scales: Float64, coverage: Float32) -> Float64:
    """Return what of the scales (N_PHI, N_SLICE) assigned to every shift reaches each sample: (N_SLICE, N_R, N_PHI)."""
    if coverage.all():
        return np.broadcast_to(scales.sum(axis=0)[:, None, None], (scales.shape[1], *coverage.shape))
    spectrum = scipy.fft.rfft(scales, axis=0).T[:, None, :] * scipy.fft.rfft(coverage.astype(np.float64))
    weights: Float64 = np.maximum(scipy.fft.irfft(spectrum, n=coverage.shape[1]), 0.0)
    return weights
