"""Blind start: soft assignment of low-resolution patterns to orientations, annealed.

Expectation-maximisation over all orientations (EMC; Loh and Elser, Phys. Rev. E 80:026705, 2009) in polar form:
`P(i, v, s) ~ exp(-(D - D_min) / T)`, then the expected pattern of every view, `sum_is P X_i(r, phi - s) / sum_is P`,
one GEMM per angular harmonic each way. With T = tau (mean D - D_min) of each pattern the annealing needs no unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from spilegate.geometry.sampling import Sampling
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.tiles import over_tiles
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


def expect(images: Float32, sampling: Sampling, slices: Float32, temperature: float, *, threads: int) -> Expectation:
    """Assign patterns softly to the views of all states and average them.

    images : (N_IMG, N_PIX) float32; sampling : rings
    slices : (N_VIEW, N_R, N_PHI) float32, model slices of the views, all states one after the other
    """
    n_view, _, n_phi = slices.shape
    correlator = Correlator(n_phi, n_phi // 2)
    order = correlator.order
    views = view_harmonics(sampling.weigh(slices), order, threads=threads)

    def expect_tile(part: slice) -> tuple[NDArray[np.complex64], Float32, Float32]:
        patterns = sampling.patterns(images[part])
        weighed = sampling.weigh(patterns)
        norm = np.einsum("irp,irp->i", weighed, weighed)
        distance = correlator.full(pattern_harmonics(weighed, order), views.stack)
        distance *= -2
        distance += views.norm + norm[:, None]
        least = distance.min(axis=(0, 2))
        scale = temperature * (distance.mean(axis=(0, 2)) - least)
        distance -= least[:, None]
        distance /= -np.maximum(scale, 1e-30)[:, None]
        np.exp(distance, out=distance)
        total = distance.sum(axis=(0, 2))
        distance /= total[:, None]
        surprise = np.einsum("siv,siv->i", distance, np.log(np.maximum(distance, 1e-30)))
        spectrum = scipy.fft.rfft(distance, axis=0)
        raw = scipy.fft.rfft(patterns, axis=-1).transpose(2, 1, 0)
        sums = np.matmul(raw, spectrum)
        return sums, distance.sum(axis=(0, 1)), np.stack([least, norm, surprise])

    spectrum = np.zeros((n_phi // 2 + 1, slices.shape[1], n_view), np.complex64)
    weight, numbers = np.zeros(n_view), np.zeros(3)
    for tile_spectrum, tile_weight, tile_numbers in over_tiles(
        expect_tile, len(images), TILE_PATTERNS, threads=threads
    ):
        spectrum += tile_spectrum
        weight += tile_weight
        numbers += tile_numbers.sum(axis=1)
    least, norm, surprise = numbers / len(images)
    spectrum /= np.maximum(weight, 1e-6).astype(np.float32)
    mean = scipy.fft.irfft(spectrum, n=n_phi, axis=0).transpose(2, 1, 0)
    return Expectation(
        np.ascontiguousarray(mean),
        weight,
        float(least / norm),
        float(-surprise / np.log(n_view * n_phi)),
    )
