"""Blind start: soft assignment of low-resolution patterns to orientations, annealed.

Expectation-maximisation over all orientations (EMC; Loh and Elser, Phys. Rev. E 80:026705, 2009) in polar form:
`P(i, v, s) ~ exp(-(D - D_min) / T)`, then the expected pattern of every view, `sum_is P X_i(r, phi - s) / sum_is P`,
one GEMM per angular harmonic each way. With T = tau (mean D - D_min) of each pattern the annealing needs no unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from spilegate.geometry.sampling import Sampling
from spilegate.kernels import fft
from spilegate.kernels.algebra import squared_norms
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.workers import Here, Total, Workers
from spilegate.state import Float32, Float64

TILE_PATTERNS = 32


@dataclass(frozen=True)
class Expectation:
    """What a soft assignment gives.

    mean : (N_VIEW, N_R, N_PHI) float32, expected pattern of every view, in the patterns' own units
    weight : (N_VIEW,) float64, patterns assigned to every view
    mean_distance : mean over patterns of D_min over the mean squared norm of a weighed pattern
    entropy : mean entropy of the assignments over the logarithm of the number of orientations, 0 = hard, 1 = uniform
    """

    mean: Float32
    weight: Float64
    mean_distance: float
    entropy: float


def expect(images: Any, sampling: Sampling, slices: Float32, temperature: float, *, workers: Workers) -> Expectation:
    """Assign patterns softly to the views of all states and average them.

    images : (N_IMG, N_PIX) float32; sampling : rings
    slices : (N_VIEW, N_R, N_PHI) float32, model slices of the views, all states one after the other
    """
    count = len(images)
    n_view, n_ring, n_phi = slices.shape
    correlator = Correlator(n_phi, n_phi // 2)
    order = correlator.order
    views = view_harmonics(sampling.weigh(slices), order, tile=n_view, workers=workers)

    def expect_tile(here: Here, part: slice, block: Any) -> tuple[Any, ...]:  # noqa: ARG001 - as every body
        xp = here.xp
        patterns = sampling.patterns(block)
        weighed = sampling.weigh(patterns)
        norm = squared_norms(xp.reshape(weighed, (weighed.shape[0], -1)))
        distance = correlator.full(pattern_harmonics(weighed, order), here.array(views.stack[0]))
        distance *= -2.0
        distance += here.array(views.norm[0]) + norm[:, None]
        least = xp.min(distance, axis=(0, 2))
        scale = temperature * (xp.mean(distance, axis=(0, 2)) - least)
        distance -= least[:, None]
        distance *= -1.0 / xp.clip(scale, min=1e-30)[:, None]
        probability = xp.exp(distance)
        total = xp.sum(probability, axis=(0, 2))
        probability /= total[:, None]
        # The logarithm of the probability without a logarithm for each.
        surprise = xp.sum(probability * distance, axis=(0, 2)) - xp.log(total)
        raw = xp.permute_dims(fft.rfft(patterns), (2, 1, 0))
        sums = xp.matmul(raw, fft.rfft(probability, axis=0))
        weight = xp.sum(probability, axis=(0, 1))
        return xp.real(sums), xp.imag(sums), weight, xp.stack([xp.sum(least), xp.sum(norm), xp.sum(surprise)])

    # No harmonic of a mean exceeds the patterns' own: 16 times their mean at every sample, and ten times that to spare.
    brightest = 16.0 * float(np.abs(sampling.offset).max()) * n_phi
    spectrum = (n_phi // 2 + 1, n_ring, n_view)
    outputs = [Total(spectrum, 10 * count * brightest), Total(spectrum, 10 * count * brightest)]
    outputs += [Total((n_view,), count), Total((3,), 1e3 * count * sampling.root_weight.size)]
    real, imaginary, weight, numbers = workers.run(expect_tile, count, outputs, tile=TILE_PATTERNS, split=[images])
    least, norm, surprise = numbers / count
    mean = scipy.fft.irfft((real + 1j * imaginary) / np.maximum(weight, 1e-6), n=n_phi, axis=0).transpose(2, 1, 0)
    return Expectation(
        np.ascontiguousarray(mean, np.float32),
        weight,
        float(least / norm),
        float(-surprise / np.log(n_view * n_phi)),
    )
