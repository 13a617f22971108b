"""Match: for every pattern, the orientations whose model slices come closest.

Two matchers with one signature. Both search the same grid, every view times every in-plane angle 2 pi s / N_PHI:
`R = R_z(-2 pi s / N_PHI) R_v`, for the largest score of a likelihood, which finds the pattern's scale on the way.

- `gemm`, the published way (Chang et al., SpiniFEL): slices of every orientation, one GEMM per block of orientations.
- `polar`: slices of the views only; all in-plane angles of a view at once as a correlation on rings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from spilegate.backend import to_host
from spilegate.geometry import orientations
from spilegate.kernels.algebra import largest
from spilegate.kernels.blocks import GROUP, pattern_bytes, tiles
from spilegate.kernels.exact import Rows
from spilegate.kernels.polar import Correlator, pattern_harmonics, tile_columns, view_harmonics
from spilegate.kernels.workers import Here, Workers
from spilegate.likelihood.statistics import Likelihood
from spilegate.records import Float32, Float64, Int64

# Model slices (K, N, ...) float32 of all states for rotations (N, 3, 3).
Slicer = Callable[[Float64], Float32]

# A tile's products and correlations stay in the cache of its core: 98 parts x 32 x 128 x 4 bytes are 1.6 MiB.
TILE_PATTERNS = 32
TILE_VIEWS = 128
# Orientations sliced at once by `gemm`.
BLOCK_ORIENTATIONS = 512
# Memory of the slices of one state that `polar` searches at once, and float32 arrays as large as they are at that time.
# Patterns are resampled for every such block of views, which is little beside the search of it.
BLOCK_BYTES, COPIES = 1 << 26, 5


@dataclass(frozen=True)
class Candidates:
    """The best orientations of every pattern, best first.

    quaternions : (N_IMG, N_CAND, 4) float64; state : (N_IMG, N_CAND) int64
    distance : (N_IMG, N_CAND) float32, 0 for a perfect slice, 1 for one no better than the mean pattern
    searched : which patterns were searched for; all candidates of the others are where they are
    size : (N_IMG,) float64, the particle's size that each pattern was searched for with; empty for that of the model
    """

    quaternions: Float64
    state: Int64
    distance: Float32
    searched: slice = field(default_factory=lambda: slice(None))
    size: Float64 = field(default_factory=lambda: np.zeros(0))


def gemm(
    images: Any,
    likelihood: Likelihood,
    slicer: Slicer,
    views: Float64,
    n_phi: int,
    *,
    n_candidates: int,
    highest: int,  # noqa: ARG001 - the matchers share one signature; a GEMM has no harmonics
    workers: Workers,
) -> Candidates:
    """Match by brute force: a slice for every orientation. The reference for every faster matcher.

    images : (N_IMG, N_PIX), patterns or lists of their photons; views : (N_VIEW, 3, 3) float64
    The best shift of each half turn is kept for every view.
    """
    turns = orientations.about_beam(-2 * np.pi * np.arange(n_phi) / n_phi)
    best = _Best.empty(len(images), n_candidates)
    step = max(1, BLOCK_ORIENTATIONS // n_phi)
    for begin in range(0, len(views), step):
        block = views[begin : begin + step]
        rotations = np.matmul(turns[None], block[:, None]).reshape(-1, 3, 3)
        for state, slices in enumerate(slicer(rotations)):
            score, shift = _gemm_block(images, likelihood, slices, n_phi, workers)
            view, half = np.divmod(np.arange(2 * len(block)), 2)
            best = best.merged(score, state * len(views) + begin + view, shift + half * (n_phi // 2))
    return best.candidates(views, n_phi, _distances(images, likelihood, best.score, workers))


def _gemm_block(
    images: Any, likelihood: Likelihood, slices: Float32, n_phi: int, workers: Workers
) -> tuple[Float32, Int64]:
    """Return the largest score of every half turn (N_IMG, 2 N_VIEW) and its shift; slices (N_VIEW * N_PHI, ...)."""
    columns = 2 * len(slices) // n_phi

    def match_tile(here: Here, part: slice, block: Any) -> tuple[Any, Any]:  # noqa: ARG001 - as every body
        xp = here.xp
        patterns = likelihood.observed(likelihood.sampling.counts(block)).values
        model, summed = likelihood.expected(here.array(slices))
        model, summed = (xp.reshape(array, (len(slices), -1)) for array in (model, summed))
        product = xp.matmul(xp.reshape(patterns, (patterns.shape[0], -1)), xp.permute_dims(model, (1, 0)))
        score = likelihood.score(product, xp.matmul(summed, here.array(likelihood.sampling.coverage.ravel())))
        score = xp.reshape(score, (-1, columns, n_phi // 2))
        return xp.max(score, axis=2), xp.argmax(score, axis=2)

    outputs = [Rows((columns,), np.float32), Rows((columns,), np.int64)]
    row_bytes = pattern_bytes(likelihood.sampling.n_pixel) + 12.0 * len(slices)
    score, shift = workers.run(match_tile, len(images), outputs, tile=GROUP, split=[images], row_bytes=row_bytes)
    return score, shift


def _distances(images: Any, likelihood: Likelihood, score: Float32, workers: Workers) -> Float32:
    """Return the distances (N_IMG, N_CAND) that belong to scores."""

    def measure_tile(here: Here, part: slice, block: Any) -> tuple[Any]:
        observed = likelihood.observed(likelihood.sampling.counts(block))
        return (observed.distance(likelihood.loss(here.array(score[part]), observed.amount[:, None])),)

    outputs = [Rows((score.shape[1],), np.float32)]
    row_bytes = pattern_bytes(likelihood.sampling.n_pixel)
    (distance,) = workers.run(
        measure_tile, len(images), outputs, tile=TILE_PATTERNS, split=[images], row_bytes=row_bytes
    )
    return np.asarray(distance)


def polar(
    images: Any,
    likelihood: Likelihood,
    slicer: Slicer,
    views: Float64,
    n_phi: int,
    *,
    n_candidates: int,
    highest: int,
    workers: Workers,
) -> Candidates:
    """Match by correlation over the in-plane angle; the likelihood's sampling must have rings of N_PHI samples.

    images : (N_IMG, N_PIX), patterns or lists of their photons; views : (N_VIEW, 3, 3) float64
    highest : angular harmonics above this are left out; a particle of diameter d has none above 2 pi q d
    The best shift of each half turn is kept, as with `gemm`: at low q a pattern and its half turn look alike.
    """
    correlator, found = Correlator(n_phi, highest), _Found.nothing(len(images))
    row_bytes = 4.0 * likelihood.sampling.coverage.size
    rows = workers.here.rows(int(BLOCK_BYTES / (TILE_VIEWS * row_bytes)), COPIES * TILE_VIEWS * row_bytes)
    for part in tiles(0, len(views), max(1, rows) * TILE_VIEWS):
        sliced = slicer(views[part])
        number = part.start + np.arange(sliced.shape[1]) + len(views) * np.arange(sliced.shape[0])[:, None]
        best = _search(images, likelihood, correlator, sliced, n_candidates, workers)
        best = replace(best, view=number.ravel()[best.view])
        found = found.merged(best, n_candidates, n_phi // 2, sliced.shape[0] * len(views))
    return _Best(found.score, found.view, found.shift).candidates(views, n_phi, found.distance)


@dataclass(frozen=True)
class _Found:
    """The best of every pattern, best first: score, view of all states, shift and distance, each (N_IMG, n)."""

    score: Float32
    view: Int64
    shift: Int64
    distance: Float32

    @staticmethod
    def nothing(count: int) -> _Found:
        return _Found(*(np.empty((count, 0), dtype) for dtype in (np.float32, np.int64, np.int64, np.float32)))

    def merged(self, other: _Found, count: int, half: int, n_column: int) -> _Found:
        """Return the best `count` of both; of equals, those of the first half turn, there those of the first view."""
        score, view, shift, distance = (
            np.concatenate([getattr(found, name) for found in (self, other)], axis=1)
            for name in ("score", "view", "shift", "distance")
        )
        order = np.lexsort((shift // half * n_column + view, -score), axis=1)[:, :count]
        return _Found(*(np.take_along_axis(array, order, axis=1) for array in (score, view, shift, distance)))


def _search(
    images: Any, likelihood: Likelihood, correlator: Correlator, sliced: Any, n_candidates: int, workers: Workers
) -> _Found:
    """Return the best of every pattern among slices (K, N_VIEW, N_R, N_PHI), counted through all states."""
    sampling, n_phi = likelihood.sampling, correlator.n_phi
    n_column = sliced.shape[0] * sliced.shape[1]
    n_candidates = min(n_candidates, 2 * n_column)
    model, summed = likelihood.expected(sliced.reshape(n_column, *sliced.shape[2:]))
    harmonics = view_harmonics(model, summed, sampling.coverage, correlator.order, tile=TILE_VIEWS, workers=workers)

    def match_tile(here: Here, part: slice, block: Any) -> tuple[Any, ...]:  # noqa: ARG001 - as every body
        xp = here.xp
        observed = likelihood.observed(sampling.counts(block))
        own = pattern_harmonics(observed.values, correlator.order)
        stack, sums = here.array(harmonics.stack), here.array(harmonics.sums)
        tiled = [
            correlator.best(own, stack[tile, ...], sums[tile, ...], likelihood.score) for tile in range(stack.shape[0])
        ]
        score = xp.concat(tiled, axis=2)[:, :, :n_column]
        score = xp.reshape(xp.permute_dims(score, (1, 0, 2)), (score.shape[1], -1))
        best = largest(score, n_candidates)
        half, view = best // n_column, best % n_column
        shift = correlator.best_shift(own, tile_columns(stack, view), tile_columns(sums, view), half, likelihood.score)
        score = xp.take_along_axis(score, best, axis=1)
        return score, view, shift, observed.distance(likelihood.loss(score, observed.amount[:, None]))

    row = (n_candidates,)
    outputs = [Rows(row, np.float32), Rows(row, np.int64), Rows(row, np.int64), Rows(row, np.float32)]
    # The products of a tile of views and, twice, the correlations; and the scores of all views.
    row_bytes = 4.0 * (TILE_VIEWS * (2 * len(correlator.order) + 2 * n_phi) + 6 * n_column)
    found = workers.run(
        match_tile,
        len(images),
        outputs,
        tile=TILE_PATTERNS,
        split=[images],
        row_bytes=row_bytes + pattern_bytes(sampling.n_pixel),
    )
    return _Found(*(to_host(array) for array in found))


@dataclass(frozen=True)
class _Best:
    """Running best of every pattern: score (n, N_CAND), best first, with view and shift."""

    score: Float32
    view: Int64
    shift: Int64

    @staticmethod
    def empty(count: int, n_candidates: int) -> _Best:
        shape = (count, n_candidates)
        return _Best(np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    def merged(self, score: Float32, view: Int64, shift: Int64) -> _Best:
        """Return the best of these and of further columns: score and shift (n, columns), view (columns,)."""
        scores = np.concatenate([self.score, score], axis=1)
        views = np.concatenate([self.view, np.broadcast_to(view, score.shape)], axis=1)
        shifts = np.concatenate([self.shift, shift], axis=1)
        order = largest(scores, self.score.shape[1])
        return _Best(*(np.take_along_axis(array, order, axis=1) for array in (scores, views, shifts)))

    def candidates(self, views: Float64, n_phi: int, distance: Float32) -> Candidates:
        state, view = np.divmod(self.view, len(views))
        rotations = np.matmul(orientations.about_beam(-2 * np.pi * self.shift / n_phi), views[view])
        return Candidates(orientations.quaternions(rotations), state, distance)
