"""Correlation of polar patterns over every in-plane angle, as GEMMs over angular harmonics.

With X^ and Y^ the harmonics of pattern and slice, the correlation at shift s is the Fourier sum
`C(s) = sum_m g_m Re(P_m exp(2 pi i m s / N_PHI))`, `P_m = sum_r conj(X^(r, m)) Y^(r, m)`, `g_0 = 1 / N_PHI` and
`g_m = 2 / N_PHI`. P is one real GEMM per harmonic. The Fourier sum is a GEMM too: even and odd harmonics give
`C(s) = E(s) + O(s)` and `C(s + N_PHI / 2) = E(s) - O(s)`, so half the shifts suffice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from spilegate.kernels.tiles import over_tiles
from spilegate.state import Float32, Int64

# Views whose harmonics are made at once by a core.
TILE_VIEWS = 64


@dataclass(frozen=True)
class ViewHarmonics:
    """Harmonics of weighed slices.

    stack : (N_M, 2 N_R, N_VIEW) float32, real above imaginary parts, even harmonics first
    norm : (N_VIEW,) float32, squared norm of every slice
    """

    stack: Float32
    norm: Float32


def harmonic_order(n_phi: int, highest: int) -> tuple[list[int], int]:
    """Return the harmonics 0..highest used, even ones first, and how many are even."""
    last = min(highest, n_phi // 2)
    even, odd = list(range(0, last + 1, 2)), list(range(1, last + 1, 2))
    return even + odd, len(even)


def view_harmonics(slices: Float32, order: list[int], *, threads: int) -> ViewHarmonics:
    """Transform weighed slices (N_VIEW, N_R, N_PHI) float32 along the rings."""
    n_view, n_ring, _ = slices.shape
    stack = np.empty((len(order), 2 * n_ring, n_view), np.float32)
    norm = np.empty(n_view, np.float32)

    def transform_tile(part: slice) -> None:
        spectrum = scipy.fft.rfft(slices[part], axis=-1)[..., order].transpose(2, 1, 0)
        stack[:, :n_ring, part] = spectrum.real
        stack[:, n_ring:, part] = spectrum.imag
        norm[part] = np.einsum("vrp,vrp->v", slices[part], slices[part])

    for _ in over_tiles(transform_tile, n_view, TILE_VIEWS, threads=threads):
        pass
    return ViewHarmonics(stack, norm)


def pattern_harmonics(patterns: Float32, order: list[int]) -> Float32:
    """Transform weighed patterns (n, N_R, N_PHI): (N_M, 2 n, 2 N_R), rows that give Re P above those that give Im P."""
    spectrum = scipy.fft.rfft(patterns, axis=-1)[..., order].transpose(2, 0, 1)
    real = np.concatenate([spectrum.real, spectrum.imag], axis=2)
    imaginary = np.concatenate([-spectrum.imag, spectrum.real], axis=2)
    return np.concatenate([real, imaginary], axis=1)


def fourier_sum(n_phi: int, harmonics: list[int]) -> Float32:
    """Return the (n_phi / 2, 2 len(harmonics)) matrix of the Fourier sum over real and imaginary parts, interleaved."""
    angle = 2 * np.pi * np.outer(np.arange(n_phi // 2), harmonics) / n_phi
    weight = np.where(np.isin(harmonics, [0, n_phi // 2]), 1.0, 2.0) / n_phi
    both = np.stack([np.cos(angle) * weight, -np.sin(angle) * weight], axis=-1)
    return both.reshape(n_phi // 2, -1).astype(np.float32)


class Correlator:
    """Correlations of tiles of patterns and views for one ring geometry; holds the two Fourier-sum matrices."""

    def __init__(self, n_phi: int, highest: int) -> None:
        if n_phi % 2:
            raise ValueError(f"n_phi must be even, got {n_phi}")
        self.n_phi = n_phi
        self.order, self.n_even = harmonic_order(n_phi, highest)
        self._even = fourier_sum(n_phi, self.order[: self.n_even])
        self._odd = fourier_sum(n_phi, self.order[self.n_even :])

    def halves(self, product: Float32) -> tuple[Float32, Float32]:
        """Return the even and odd parts E, O : (N_PHI / 2, columns) of the correlations.

        product : (N_M, 2, columns) float32, Re P and Im P of every harmonic
        """
        rows = product.reshape(2 * len(self.order), -1)
        even, odd = np.dot(self._even, rows[: 2 * self.n_even]), np.dot(self._odd, rows[2 * self.n_even :])
        return even, odd

    def best(self, patterns: Float32, views: Float32) -> Float32:
        """Return (2, n, n_view) float32: the largest correlation over the shifts [0, pi) and over [pi, 2 pi)."""
        even, odd = self.halves(np.matmul(patterns, views))
        result = np.empty((2, even.shape[1]), np.float32)
        (even + odd).max(axis=0, out=result[0])
        np.subtract(even, odd, out=even).max(axis=0, out=result[1])
        return result.reshape(2, -1, views.shape[2])

    def best_shift(self, patterns: Float32, views: Float32, column: Int64, half: Int64) -> Int64:
        """Return the best shift (n, N_CAND) in the given half turn for chosen views `column` (n, N_CAND)."""
        count, n_cand = column.shape
        chosen = views[:, :, column.ravel()].reshape(*views.shape[:2], count, n_cand).transpose(0, 2, 1, 3)
        rows = patterns.reshape(len(patterns), 2, count, 1, -1)
        product = np.matmul(rows, chosen[:, None])[..., 0, :]
        even, odd = self.halves(np.ascontiguousarray(product).reshape(len(patterns), 2, -1))
        sign = np.where(half.ravel() == 0, 1, -1).astype(np.float32)
        shift: Int64 = (even + sign * odd).argmax(axis=0).reshape(column.shape) + half * (self.n_phi // 2)
        return shift

    def full(self, patterns: Float32, views: Float32) -> Float32:
        """Return the correlations (N_PHI, n, n_view) float32 at every shift."""
        even, odd = self.halves(np.matmul(patterns, views))
        return np.concatenate([even + odd, even - odd]).reshape(self.n_phi, -1, views.shape[2])
