"""Likeness: from how many sides a model looks alike, told by slices of the model itself."""

from __future__ import annotations

import numpy as np
import scipy.fft

from spilegate.records import Float32, Float64


def orientations_alike(slices: Float32, views: Float32, weight: Float32, temperature: float, *, least: float) -> float:
    """Return the mean entropy of the assignment of slices to all orientations of views: the logarithm of their number.

    slices : (n, N_R, N_PHI) float32, at any orientations; views : (N_VIEW, N_R, N_PHI), to be turned in the plane
    weight : (N_R, N_PHI), of every sample
    temperature : of the assignment, as a part of the mean distance; see `assigning.expect`
    least : what mean distances count as at least; where there is nothing to tell, they are those of rounding
    It has no noise, so that it tells what a particle is like, not what patterns are.
    """
    root = np.sqrt(weight).astype(np.float64)
    own, model = slices * root, views * root
    norm, norms = ((each * each).sum(axis=(1, 2)) for each in (own, model))
    spectra = [scipy.fft.rfft(each, axis=2) for each in (own, model)]
    # In one fixed order, whatever the number of threads.
    product = np.einsum("irm,vrm->ivm", spectra[0].conj(), spectra[1], optimize=False)
    along: Float64 = np.maximum(scipy.fft.irfft(product, weight.shape[1], axis=2), 0.0)
    distance = (norm[:, None, None] - along * along / norms[:, None]).reshape(len(own), -1)
    distance -= distance.min(axis=1, keepdims=True)
    spread = temperature * np.maximum(distance.mean(axis=1, keepdims=True), least)
    likely = np.exp(-distance / spread)
    likely /= likely.sum(axis=1, keepdims=True)
    # Probabilities that vanish count for nothing.
    return float(-(likely * np.log(np.maximum(likely, np.finfo(np.float64).tiny))).sum(axis=1).mean())
