"""Match: for every pattern, the orientations whose model slices come closest.

Two matchers with one signature. Both search the same grid, every view times every in-plane angle 2 pi s / N_PHI:
`R = R_z(-2 pi s / N_PHI) R_v`, and both minimise `D = |X|^2 + |Y|^2 - 2 X.Y` of weighed patterns and slices.

- `gemm`, the published way (Chang et al., SpiniFEL): slices of every orientation, one GEMM per block of orientations.
- `polar`: slices of the views only; all in-plane angles of a view at once as a correlation on rings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spilegate.geometry import orientations
from spilegate.geometry.sampling import Sampling
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.tiles import over_tiles
from spilegate.state import Float32, Float64, Int64

# Model slices (K, N, ...) float32 of all states for rotations (N, 3, 3).
Slicer = Callable[[Float64], Float32]

# A tile's products and correlations stay in the cache of its core: 98 parts x 32 x 128 x 4 bytes are 1.6 MiB.
TILE_PATTERNS = 32
TILE_VIEWS = 128
# Orientations sliced at once by `gemm`.
BLOCK_ORIENTATIONS = 512


@dataclass(frozen=True)
class Candidates:
    """The best orientations of every pattern, best first.

    quaternions : (N_IMG, N_CAND, 4) float64; state : (N_IMG, N_CAND) int64
    distance : (N_IMG, N_CAND) float32, D over |X|^2, the part of the pattern that the slice leaves unexplained
    """

    quaternions: Float64
    state: Int64
    distance: Float32


def gemm(
    images: Float32,
    sampling: Sampling,
    slicer: Slicer,
    views: Float64,
    n_phi: int,
    *,
    n_candidates: int,
    highest: int,  # noqa: ARG001 - the matchers share one signature; a GEMM has no harmonics
    threads: int,  # noqa: ARG001 - likewise; BLAS has threads of its own
) -> Candidates:
    """Match by brute force: a slice for every orientation. The reference for every faster matcher.

    images : (N_IMG, N_PIX) float32; views : (N_VIEW, 3, 3) float64
    The best shift of each half turn is kept for every view.
    """
    patterns = sampling.weigh(sampling.patterns(images)).reshape(len(images), -1)
    norm = np.einsum("ip,ip->i", patterns, patterns)
    turns = orientations.about_beam(-2 * np.pi * np.arange(n_phi) / n_phi)
    best = _Best.empty(len(images), n_candidates)
    step = max(1, BLOCK_ORIENTATIONS // n_phi)
    for begin in range(0, len(views), step):
        block = views[begin : begin + step]
        rotations = np.matmul(turns[None], block[:, None]).reshape(-1, 3, 3)
        for state, slices in enumerate(slicer(rotations)):
            model = sampling.weigh(slices).reshape(len(rotations), -1)
            gain = 2 * patterns @ model.T - np.einsum("op,op->o", model, model)
            halves = gain.reshape(len(images), 2 * len(block), n_phi // 2)
            shift = halves.argmax(axis=2)
            gain = np.take_along_axis(halves, shift[..., None], axis=2)[..., 0]
            view, half = np.divmod(np.arange(2 * len(block)), 2)
            best = best.merged(gain, state * len(views) + begin + view, shift + half * (n_phi // 2))
    return best.candidates(views, n_phi, norm)


def polar(
    images: Float32,
    sampling: Sampling,
    slicer: Slicer,
    views: Float64,
    n_phi: int,
    *,
    n_candidates: int,
    highest: int,
    threads: int,
) -> Candidates:
    """Match by correlation over the in-plane angle on rings; `sampling` must have rings of N_PHI samples.

    images : (N_IMG, N_PIX) float32; views : (N_VIEW, 3, 3) float64
    highest : angular harmonics above this are left out; a particle of diameter d has none above 2 pi q d
    The best shift of each half turn is kept, as with `gemm`: at low q a pattern and its half turn look alike.
    """
    correlator = Correlator(n_phi, highest)
    parts = [view_harmonics(sampling.weigh(block), correlator.order, threads=threads) for block in slicer(views)]
    stack = parts[0].stack if len(parts) == 1 else np.concatenate([part.stack for part in parts], axis=2)
    norm_of_views = np.concatenate([part.norm for part in parts])

    def match_tile(part: slice) -> tuple[_Best, Float32]:
        patterns = sampling.weigh(sampling.patterns(images[part]))
        harmonics = pattern_harmonics(patterns, correlator.order)
        gain = np.empty((2, len(patterns), len(norm_of_views)), np.float32)
        for begin in range(0, len(norm_of_views), TILE_VIEWS):
            tile = slice(begin, begin + TILE_VIEWS)
            gain[..., tile] = correlator.best(harmonics, stack[..., tile])
        gain *= 2
        gain -= norm_of_views
        best = _Best.of(gain.transpose(1, 0, 2).reshape(len(patterns), -1), n_candidates)
        half, view = np.divmod(best.view, len(norm_of_views))
        shift = correlator.best_shift(harmonics, stack, view, half)
        return _Best(best.gain, view, shift), np.einsum("irp,irp->i", patterns, patterns)

    tiles = list(over_tiles(match_tile, len(images), TILE_PATTERNS, threads=threads))
    norm = np.concatenate([norm for _, norm in tiles])
    gathered = [np.concatenate([getattr(best, name) for best, _ in tiles]) for name in ("gain", "view", "shift")]
    return _Best(*gathered).candidates(views, n_phi, norm)


@dataclass(frozen=True)
class _Best:
    """Running best of every pattern: gain = |X|^2 - D (n, N_CAND), best first, with view and shift."""

    gain: Float32
    view: Int64
    shift: Int64

    @staticmethod
    def empty(count: int, n_candidates: int) -> _Best:
        shape = (count, n_candidates)
        return _Best(np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    @staticmethod
    def of(gain: Float32, n_candidates: int) -> _Best:
        """Return the best columns of gain (n, columns)."""
        n_candidates = min(n_candidates, gain.shape[1])
        order = np.argpartition(-gain, n_candidates - 1, axis=1)[:, :n_candidates]
        order = np.take_along_axis(order, np.argsort(-np.take_along_axis(gain, order, axis=1), axis=1), axis=1)
        return _Best(np.take_along_axis(gain, order, axis=1), order, np.zeros_like(order))

    def merged(self, gain: Float32, view: Int64, shift: Int64) -> _Best:
        """Return the best of these and of further columns: gain and shift (n, columns), view (columns,)."""
        gains = np.concatenate([self.gain, gain], axis=1)
        views = np.concatenate([self.view, np.broadcast_to(view, gain.shape)], axis=1)
        shifts = np.concatenate([self.shift, shift], axis=1)
        order = _Best.of(gains, self.gain.shape[1]).view
        return _Best(*(np.take_along_axis(array, order, axis=1) for array in (gains, views, shifts)))

    def candidates(self, views: Float64, n_phi: int, norm: Float32) -> Candidates:
        state, view = np.divmod(self.view, len(views))
        rotations = np.matmul(orientations.about_beam(-2 * np.pi * self.shift / n_phi), views[view])
        distance = 1 - self.gain / np.maximum(norm, np.finfo(np.float32).tiny)[:, None]
        return Candidates(orientations.quaternions(rotations), state, distance.astype(np.float32))
