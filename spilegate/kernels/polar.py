"""Correlation of polar patterns over every in-plane angle, as GEMMs over angular harmonics.

With X^ and Y^ the harmonics of pattern and slice, the correlation at shift s is the Fourier sum
`C(s) = sum_m g_m Re(P_m exp(2 pi i m s / N_PHI))`, `P_m = sum_r conj(X^(r, m)) Y^(r, m)`, `g_0 = 1 / N_PHI` and
`g_m = 2 / N_PHI`. P is one real GEMM per harmonic. The Fourier sum is a GEMM too: even and odd harmonics give
`C(s) = E(s) + O(s)` and `C(s + N_PHI / 2) = E(s) - O(s)`, so half the shifts suffice.

What a correlation is worth depends on the slice, and on the shift where a mask is not round: a score joins the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.backend import array_module, from_host
from spilegate.kernels import fft
from spilegate.kernels.blocks import SCRATCH
from spilegate.kernels.exact import Rows
from spilegate.kernels.shifts import Score, largest_scores
from spilegate.kernels.workers import Here, Workers
from spilegate.records import Float32, Float64


@dataclass(frozen=True)
class ViewHarmonics:
    """Harmonics of slices as a likelihood wants them, in tiles of views; the last tile is filled up with zeros.

    stack : (N_TILE, N_M, 2 N_R, TILE) float32, real above imaginary parts, even harmonics first
    sums : (N_TILE, N_S, TILE) float32, what a score joins with the correlations at every shift: N_S = N_PHI, or 1 if
        it is the same at every shift; 1 where there is no view
    """

    stack: Float32
    sums: Float32


def harmonic_order(n_phi: int, highest: int) -> tuple[list[int], int]:
    """Return the harmonics 0..highest used, even ones first, and how many are even."""
    last = min(highest, n_phi // 2)
    even, odd = list(range(0, last + 1, 2)), list(range(1, last + 1, 2))
    return even + odd, len(even)


def view_harmonics(
    slices: Float32, summands: Float32, coverage: Float32, order: list[int], *, tile: int, workers: Workers
) -> ViewHarmonics:
    """Transform slices (N_VIEW, N_R, N_PHI) float32 along the rings, in tiles of `tile` views.

    summands : of the same shape, summed over the samples that the detector covers once the slice is turned
    coverage : (N_R, N_PHI) float32, 1 where the detector has pixels, 0 elsewhere
    """
    n_view, n_ring, n_phi = slices.shape
    everywhere = bool(coverage.all())
    n_sum = 1 if everywhere else n_phi

    def transform(here: Here, part: slice) -> tuple[Any, Any]:
        xp, n_tile = here.xp, part.stop - part.start
        own = here.array(slices[part.start * tile : part.stop * tile])
        summed = here.array(summands[part.start * tile : part.stop * tile])
        harmonics = _harmonics(own, order)
        if everywhere:
            sums = xp.sum(summed, axis=(1, 2))[:, None]
        else:
            spectrum = xp.sum(fft.rfft(summed) * xp.conj(fft.rfft(here.array(coverage))), axis=1)
            sums = fft.irfft(spectrum, n_phi)
        missing = n_tile * tile - own.shape[0]
        if missing:
            zeros = xp.zeros((missing, *harmonics.shape[1:]), dtype=harmonics.dtype)
            harmonics = xp.concat([harmonics, zeros], axis=0)
            sums = xp.concat([sums, xp.ones((missing, n_sum), dtype=sums.dtype)], axis=0)
        harmonics = xp.permute_dims(xp.reshape(harmonics, (n_tile, tile, n_ring, -1)), (0, 3, 2, 1))
        stack = xp.concat([xp.real(harmonics), xp.imag(harmonics)], axis=2)
        return stack, xp.permute_dims(xp.reshape(sums, (n_tile, tile, n_sum)), (0, 2, 1))

    shapes = (len(order), 2 * n_ring, tile), (n_sum, tile)
    outputs = [Rows(shape, np.float32, shared=True) for shape in shapes]
    row_bytes = 4.0 * SCRATCH * tile * n_ring * n_phi
    return ViewHarmonics(*workers.run(transform, -(-n_view // tile), outputs, tile=1, row_bytes=row_bytes))


def tile_columns(tiled: Any, column: Any) -> Any:
    """Return columns (..., n, m) of an array (N_TILE, ..., TILE); column : (n, m) int64, counted through all tiles."""
    xp = array_module(tiled)
    tile, rest = tiled.shape[-1], tiled.shape[1:-1]
    size = math.prod(rest)
    first = column // tile * (size * tile) + column % tile
    index = first[None, ...] + xp.arange(0, size * tile, tile)[:, None, None]
    return xp.reshape(xp.take(xp.reshape(tiled, (-1,)), xp.reshape(index, (-1,))), (*rest, *column.shape))


def pattern_harmonics(patterns: Any, order: list[int]) -> Any:
    """Transform weighed patterns (n, N_R, N_PHI): (N_M, 2 n, 2 N_R), rows that give Re P above those that give Im P."""
    xp = array_module(patterns)
    spectrum = xp.permute_dims(_harmonics(patterns, order), (2, 0, 1))
    real, imaginary = xp.real(spectrum), xp.imag(spectrum)
    above = xp.concat([real, imaginary], axis=2)
    return xp.concat([above, xp.concat([-imaginary, real], axis=2)], axis=1)


def _harmonics(rings: Any, order: list[int]) -> Any:
    """Return the angular harmonics (..., N_M) of rings (..., N_PHI) in the order given."""
    index = from_host(np.asarray(order), rings)
    return array_module(rings).take(fft.rfft(rings), index, axis=-1)


def fourier_sum(n_phi: int, harmonics: list[int]) -> Float32:
    """Return the (n_phi / 2, 2 len(harmonics)) matrix of the Fourier sum over real and imaginary parts, interleaved."""
    weight = np.where(np.isin(harmonics, [0, n_phi // 2]), 1.0, 2.0) / n_phi
    return (_waves(n_phi, harmonics) * weight[:, None]).reshape(n_phi // 2, -1).astype(np.float32)


def fourier_transform(n_phi: int, harmonics: list[int]) -> Float32:
    """Return the (2 len(harmonics), n_phi / 2) matrix that makes real and imaginary parts, interleaved, of samples."""
    return np.ascontiguousarray(_waves(n_phi, harmonics).reshape(n_phi // 2, -1).T, np.float32)


def _waves(n_phi: int, harmonics: list[int]) -> Float64:
    """Return cos and -sin (n_phi / 2, len(harmonics), 2) of half a turn."""
    angle = 2 * np.pi * np.outer(np.arange(n_phi // 2), harmonics) / n_phi
    return np.stack([np.cos(angle), -np.sin(angle)], axis=-1)


class Correlator:
    """Correlations of tiles of patterns and views for one ring geometry; holds the Fourier-sum matrices."""

    def __init__(self, n_phi: int, highest: int) -> None:
        if n_phi % 2:
            raise ValueError(f"n_phi must be even, got {n_phi}")
        self.n_phi = n_phi
        self.order, self.n_even = harmonic_order(n_phi, highest)
        self._even = fourier_sum(n_phi, self.order[: self.n_even])
        self._odd = fourier_sum(n_phi, self.order[self.n_even :])
        self._to_even = fourier_transform(n_phi, self.order[: self.n_even])
        self._to_odd = fourier_transform(n_phi, self.order[self.n_even :])

    def halves(self, product: Any) -> tuple[Any, Any]:
        """Return the even and odd parts E, O : (N_PHI / 2, columns) of the correlations.

        product : (N_M, 2, columns) float32, Re P and Im P of every harmonic
        """
        xp = array_module(product)
        rows = xp.reshape(product, (2 * len(self.order), -1))
        even = xp.matmul(from_host(self._even, rows), rows[: 2 * self.n_even, :])
        return even, xp.matmul(from_host(self._odd, rows), rows[2 * self.n_even :, :])

    def best(self, patterns: Any, views: Any, sums: Any, score: Score) -> Any:
        """Return (2, n, TILE) float32: the largest score over the shifts [0, pi) and over [pi, 2 pi).

        patterns : (N_M, 2 n, 2 N_R), from `pattern_harmonics`
        views, sums : (N_M, 2 N_R, TILE) and (N_S, TILE), one tile of `ViewHarmonics`
        """
        xp = array_module(patterns)
        even, odd = self.halves(xp.matmul(patterns, views))
        return largest_scores(even, odd, sums, score)

    def best_shift(self, patterns: Any, views: Any, sums: Any, half: Any, score: Score) -> Any:
        """Return the best shift (n, N_CAND) in the given half turn (n, N_CAND).

        views : (N_M, 2 N_R, n, N_CAND), sums : (N_S, n, N_CAND), those of each pattern's chosen views
        """
        xp = array_module(patterns)
        count, n_cand = half.shape
        chosen = xp.permute_dims(views, (0, 2, 1, 3))[:, None, ...]
        product = xp.matmul(xp.reshape(patterns, (len(self.order), 2, count, 1, -1)), chosen)
        even, odd = self.halves(xp.reshape(product, (len(self.order), 2, -1)))
        flat = xp.reshape(half, (-1,))
        gain = xp.reshape(xp.where(flat == 0, even + odd, even - odd), (-1, count, n_cand))
        if sums.shape[0] > 1:
            middle = self.n_phi // 2
            sums = xp.where(half == 0, sums[:middle, ...], sums[middle:, ...])
            gain = score(gain, sums)
        return xp.argmax(gain, axis=0) + half * (self.n_phi // 2)

    def harmonics(self, along: Any, across: Any) -> Any:
        """Return the harmonics (N_M, 2, ...) of functions p of the shift, real and imaginary parts.

        along, across : (N_PHI / 2, ...) float32, `p(s) + p(s + N_PHI / 2)` and `p(s) - p(s + N_PHI / 2)`
        """
        xp = array_module(along)
        even, odd = (
            xp.matmul(from_host(matrix, part), xp.reshape(part, (self.n_phi // 2, -1)))
            for matrix, part in ((self._to_even, along), (self._to_odd, across))
        )
        return xp.reshape(xp.concat([even, odd]), (len(self.order), 2, *along.shape[1:]))
