"""Match: for every pattern, the orientations whose model slices come closest.

Two matchers with one signature. Both search the same grid, every view times every in-plane angle 2 pi s / N_PHI:
`R = R_z(-2 pi s / N_PHI) R_v`, and both minimise `D = |X|^2 + |Y|^2 - 2 X.Y` of weighed patterns and slices.

- `gemm`, the published way (Chang et al., SpiniFEL): slices of every orientation, one GEMM per block of orientations.
- `polar`: slices of the views only; all in-plane angles of a view at once as a correlation on rings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.backend import to_host
from spilegate.geometry import orientations
from spilegate.geometry.sampling import Sampling
from spilegate.kernels.algebra import largest, squared_norms
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.workers import GROUP, Here, Rows, Workers
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
    images: Any,
    sampling: Sampling,
    slicer: Slicer,
    views: Float64,
    n_phi: int,
    *,
    n_candidates: int,
    highest: int,  # noqa: ARG001 - the matchers share one signature; a GEMM has no harmonics
    workers: Workers,
) -> Candidates:
    """Match by brute force: a slice for every orientation. The reference for every faster matcher.

    images : (N_IMG, N_PIX) float32; views : (N_VIEW, 3, 3) float64
    The best shift of each half turn is kept for every view.
    """
    turns = orientations.about_beam(-2 * np.pi * np.arange(n_phi) / n_phi)
    best = _Best.empty(len(images), n_candidates)
    step = max(1, BLOCK_ORIENTATIONS // n_phi)
    for begin in range(0, len(views), step):
        block = views[begin : begin + step]
        rotations = np.matmul(turns[None], block[:, None]).reshape(-1, 3, 3)
        for state, slices in enumerate(slicer(rotations)):
            gain, shift = _gemm_block(images, sampling, slices, n_phi, workers)
            view, half = np.divmod(np.arange(2 * len(block)), 2)
            best = best.merged(gain, state * len(views) + begin + view, shift + half * (n_phi // 2))
    return best.candidates(views, n_phi, _norms(images, sampling, workers))


def _gemm_block(
    images: Any, sampling: Sampling, slices: Float32, n_phi: int, workers: Workers
) -> tuple[Float32, Int64]:
    """Return the largest gain of every half turn (N_IMG, 2 N_VIEW), and its shift, for slices (N_VIEW * N_PHI, ...)."""
    columns = 2 * len(slices) // n_phi

    def match_tile(here: Here, part: slice, block: Any) -> tuple[Any, Any]:  # noqa: ARG001 - as every body
        xp = here.xp
        patterns = sampling.weigh(sampling.patterns(block))
        model = xp.reshape(sampling.weigh(here.array(slices)), (len(slices), -1))
        product = xp.matmul(xp.reshape(patterns, (patterns.shape[0], -1)), xp.permute_dims(model, (1, 0)))
        gain = xp.reshape(2.0 * product - squared_norms(model), (-1, columns, n_phi // 2))
        return xp.max(gain, axis=2), xp.argmax(gain, axis=2)

    outputs = [Rows((columns,), np.float32), Rows((columns,), np.int64)]
    gain, shift = workers.run(match_tile, len(images), outputs, tile=GROUP, split=[images])
    return gain, shift


def _norms(images: Any, sampling: Sampling, workers: Workers) -> Float32:
    """Return the squared norm (N_IMG,) of every weighed pattern."""

    def norm_tile(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - as every body
        patterns = sampling.weigh(sampling.patterns(block))
        return (squared_norms(here.xp.reshape(patterns, (patterns.shape[0], -1))),)

    (norm,) = workers.run(norm_tile, len(images), [Rows((), np.float32)], tile=TILE_PATTERNS, split=[images])
    return np.asarray(norm)


def polar(
    images: Any,
    sampling: Sampling,
    slicer: Slicer,
    views: Float64,
    n_phi: int,
    *,
    n_candidates: int,
    highest: int,
    workers: Workers,
) -> Candidates:
    """Match by correlation over the in-plane angle on rings; `sampling` must have rings of N_PHI samples.

    images : (N_IMG, N_PIX) float32; views : (N_VIEW, 3, 3) float64
    highest : angular harmonics above this are left out; a particle of diameter d has none above 2 pi q d
    The best shift of each half turn is kept, as with `gemm`: at low q a pattern and its half turn look alike.
    """
    correlator = Correlator(n_phi, highest)
    sliced = slicer(views)
    n_view, n_candidates = sliced.shape[0] * len(views), min(n_candidates, 2 * sliced.shape[0] * len(views))
    slices = sampling.weigh(sliced).reshape(n_view, *sliced.shape[2:])
    harmonics = view_harmonics(slices, correlator.order, tile=TILE_VIEWS, workers=workers)
    n_column = harmonics.norm.size

    def match_tile(here: Here, part: slice, block: Any) -> tuple[Any, ...]:  # noqa: ARG001 - as every body
        xp = here.xp
        patterns = sampling.weigh(sampling.patterns(block))
        own, stack = pattern_harmonics(patterns, correlator.order), here.array(harmonics.stack)
        correlation = xp.concat([correlator.best(own, stack[tile, ...]) for tile in range(stack.shape[0])], axis=2)
        gain = 2.0 * correlation - here.array(harmonics.norm.ravel())
        gain = xp.reshape(xp.permute_dims(gain, (1, 0, 2)), (gain.shape[1], -1))
        best = largest(gain, n_candidates)
        half, view = best // n_column, best % n_column
        chosen = xp.stack(
            [
                xp.stack([stack[int(v) // TILE_VIEWS, :, :, int(v) % TILE_VIEWS] for v in row], axis=-1)
                for row in to_host(view)
            ],
            axis=2,
        )
        shift = correlator.best_shift(own, chosen, half)
        norm = squared_norms(xp.reshape(patterns, (patterns.shape[0], -1)))
        return xp.take_along_axis(gain, best, axis=1), view, shift, norm

    row = (n_candidates,)
    outputs = [Rows(row, np.float32), Rows(row, np.int64), Rows(row, np.int64), Rows((), np.float32)]
    gain, view, shift, norm = workers.run(match_tile, len(images), outputs, tile=TILE_PATTERNS, split=[images])
    return _Best(gain, view, shift).candidates(views, n_phi, norm)


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

    def merged(self, gain: Float32, view: Int64, shift: Int64) -> _Best:
        """Return the best of these and of further columns: gain and shift (n, columns), view (columns,)."""
        gains = np.concatenate([self.gain, gain], axis=1)
        views = np.concatenate([self.view, np.broadcast_to(view, gain.shape)], axis=1)
        shifts = np.concatenate([self.shift, shift], axis=1)
        order = largest(gains, self.gain.shape[1])
        return _Best(*(np.take_along_axis(array, order, axis=1) for array in (gains, views, shifts)))

    def candidates(self, views: Float64, n_phi: int, norm: Float32) -> Candidates:
        state, view = np.divmod(self.view, len(views))
        rotations = np.matmul(orientations.about_beam(-2 * np.pi * self.shift / n_phi), views[view])
        distance = 1 - self.gain / np.maximum(norm, np.finfo(np.float32).tiny)[:, None]
        return Candidates(orientations.quaternions(rotations), state, distance.astype(np.float32))
