"""Assign: every pattern softly to all orientations, and what every view should look like by that.

Expectation-maximisation over all orientations (EMC; Loh and Elser, Phys. Rev. E 80:026705, 2009) in polar form:
`P(i, v, s) ~ exp(-L / T)` with a likelihood's loss L, then the expected intensity of every view,
`sum_is P (d_i - b)(r, phi - s) / sum_is P s_i`, one GEMM per angular harmonic each way. A temperature relative to the
spread of each pattern's losses needs no unit; at T = 1 the assignment is what the statistics of photons say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from spilegate.backend import array_module
from spilegate.geometry import orientations
from spilegate.kernels.blocks import GROUP, pattern_bytes, tile_rows, tiles
from spilegate.kernels.elementwise import joined
from spilegate.kernels.exact import Rows, Total
from spilegate.kernels.polar import Correlator, pattern_harmonics, view_harmonics
from spilegate.kernels.workers import Here, Workers
from spilegate.likelihood.statistics import Likelihood
from spilegate.records import Float32, Float64, Int64

# Probabilities held at once by a worker: as many as its share of the cache, or the sums over patterns cost too much.
BLOCK_PROBABILITIES = 1 << 21
# Probabilities of a few shifts, which the cache of a core holds with what is made of them.
BLOCK_SHIFTS = 1 << 17
# Patterns whose probabilities are summed up by one product, as far as their harmonics take no more memory than this.
SUMMED_AT_ONCE, SUMMED_BYTES = 64, 1 << 26
# Tiles that keep many threads busy to the end, each with sums of its own.
FEWEST_TILES = 16
# Memory of a tile for every element of its sums: twice in double precision, a product, and the sum rounded.
SUM_BYTES = 32.0
# Logarithms of probabilities, relative to the most likely one, are taken for at least this.
LEAST_LOGARITHM = -60.0
# What is assigned less than this has no mean.
LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Expectation:
    """What a soft assignment gives; slices of all states one after the other.

    mean : (N_SLICE, N_R, N_PHI) float32, expected intensity of every slice
    weight : (N_SLICE, N_R, N_PHI) float32, sum of the scales of the patterns assigned to every sample
    view, shift : (N_IMG,) int64, most probable slice of every pattern and its in-plane shift
    distance : (N_IMG,) float64, to that slice: 0 is perfect, 1 no better than the mean pattern
    amount, sums : (N_IMG,) float64, of every pattern and, expected, of its slice: see `Likelihood`
    mean_distance : the same over all patterns of weight 1 together
    entropy : mean entropy of their assignments over the logarithm of the number of orientations, 0 = hard, 1 = uniform
    """

    mean: Float32
    weight: Float32
    view: Int64
    shift: Int64
    distance: Float64
    amount: Float64
    sums: Float64
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
    few = min(GROUP, 2 ** max(2, (BLOCK_PROBABILITIES // (n_slice * n_phi)).bit_length() - 1))
    some = max(few, min(SUMMED_AT_ONCE, 2 ** ((SUMMED_BYTES // (8 * n_slice * len(order))).bit_length() - 1)))

    def expect_few(
        here: Here, part: slice, counts: Any, views: tuple[Any, Any]
    ) -> tuple[tuple[Any, ...], Any, tuple[Any, ...]]:
        """Return the rows of a few patterns, their probabilities' harmonics (N_M, 2, n, N_SLICE), and sums."""
        xp, (stack, sums) = here.xp, views
        observed = likelihood.observed(counts)
        product = xp.matmul(pattern_harmonics(observed.values, order), stack)
        found = _probabilities(here, correlator, likelihood, product, sums, observed.amount, temperature)
        scaled, counted = (xp.astype(here.array(each[part]), xp.float32) for each in (scale * weight, weight))
        scaled = scaled / found.total
        along, across = (xp.matmul(scaled, each) for each in (found.along, found.across))
        scales = 0.5 * xp.concat([along + across, along - across])
        spectra = correlator.harmonics(found.along, found.across)
        distance = observed.distance(found.least[:, None])[:, 0]
        numbers = [found.least - observed.perfect, observed.mean - observed.perfect, found.surprise]
        rows = (found.view, found.shift, distance, observed.amount, found.sums, found.total)
        return rows, spectra, (scales, xp.stack([xp.sum(number * counted) for number in numbers]))

    def expect_some(
        here: Here, part: slice, counts: Any, views: tuple[Any, Any]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the rows of some patterns, and what they add to the sums."""
        xp = here.xp
        # The correlations, the probabilities, and what is made of them a few shifts at a time.
        step = here.rows(few, 4.0 * 8 * n_slice * n_phi)
        found = [
            expect_few(here, slice(part.start + own.start, part.start + own.stop), counts[own, ...], views)
            for own in tiles(0, counts.shape[0], step)
        ]
        *rows, total = (xp.concat(column) for column in zip(*(rows for rows, _, _ in found), strict=True))
        spectra = xp.concat([spectra for _, spectra, _ in found], axis=2)
        own = xp.astype(here.array(weight[part]), xp.float32) / total
        intensity = sampling.normalised(counts, xp.ones(counts.shape[0])) * own[:, None, None]
        lines = xp.permute_dims(pattern_harmonics(intensity, order), (0, 2, 1))
        product = xp.matmul(lines, xp.reshape(spectra, (len(order), -1, n_slice)))
        added = (sum(column) for column in zip(*(added for _, _, added in found), strict=True))
        return tuple(rows), (product, *added)

    def expect_tile(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
        xp = here.xp
        views = here.array(model.stack[0]), here.array(model.sums[0])
        rows: list[tuple[Any, ...]] = []
        sums: tuple[Any, ...] | None = None
        together = here.rows(some, 4.0 * 8 * n_slice * len(order))
        for own in tiles(part.start, part.stop, together):
            counts = sampling.counts(block[own.start - part.start : own.stop - part.start, ...])
            found, added = expect_some(here, own, counts, views)
            rows.append(found)
            if sums is None:
                sums = tuple(xp.astype(array, xp.float64) for array in added)
            else:
                # In place, whatever their type: the sums are most of the memory there is.
                for array, more in zip(sums, added, strict=True):
                    array += more
        assert sums is not None  # noqa: S101 - a tile has patterns
        return *(xp.concat(column) for column in zip(*rows, strict=True)), *sums

    # No harmonic of a mean exceeds the patterns' own: 16 times their mean at every sample, and ten times that to spare.
    brightest = 160.0 * float(np.abs(sampling.mean).max()) * n_phi * float(scale.sum())
    outputs = [Rows((), np.int64), Rows((), np.int64), *(Rows((), np.float64) for _ in range(3))]
    totals = [Total((len(order), 2 * n_ring, n_slice), brightest), Total((n_phi, n_slice), float(scale.sum()))]
    totals.append(Total((3,), 1e9 * count))
    tile = tile_rows(count, math.prod(images.shape[1:]), count / FEWEST_TILES)
    view, shift, distance, amount, summed, spectrum, scales, numbers = workers.run(
        expect_tile,
        count,
        [*outputs, *totals],
        tile=tile,
        split=[images],
        row_bytes=pattern_bytes(sampling.n_pixel),
        tile_bytes=SUM_BYTES * math.prod(totals[0].shape),
    )
    weights = _weights(scales, sampling.coverage)
    in_order = np.empty((len(order), n_ring, n_slice), np.complex128)
    in_order[order] = spectrum[:, :n_ring] + 1j * spectrum[:, n_ring:]
    mean = scipy.fft.irfft(in_order, n=n_phi, axis=0).transpose(2, 1, 0) / np.maximum(weights, LEAST_WEIGHT)
    least, of_mean, surprise = numbers / weight.sum()
    return Expectation(
        np.ascontiguousarray(mean, np.float32),
        weights.astype(np.float32),
        view,
        shift,
        distance,
        amount,
        summed,
        float(least / of_mean),
        float(-surprise / np.log(n_slice * n_phi)),
    )


@dataclass(frozen=True)
class _Probabilities:
    """Probabilities of n patterns, not yet divided by their total, and what they say.

    along, across : (N_PHI / 2, n, N_SLICE), of every shift in [0, pi) plus, and less, that of half a turn further
    total : (n,), by which both are to be divided
    view, shift, least : (n,), most probable slice and shift, and its loss
    sums : (n,), expected sum of the slice; surprise : (n,), expected logarithm of the probability
    """

    along: Any
    across: Any
    total: Any
    view: Any
    shift: Any
    least: Any
    sums: Any
    surprise: Any


def _probabilities(
    here: Here, correlator: Correlator, likelihood: Likelihood, product: Any, sums: Any, amount: Any, temperature: float
) -> _Probabilities:
    """Return the probabilities that belong to correlations, a few shifts at a time, so that the cache holds them.

    product : (N_M, 2 n, N_SLICE), see `Correlator.halves`; sums : (N_PHI, N_SLICE), or (1, N_SLICE); amount : (n,)
    """
    xp, middle, count, n_slice = here.xp, correlator.n_phi // 2, amount.shape[0], product.shape[-1]
    even, odd = (
        xp.reshape(part, (middle, count, n_slice))
        for part in correlator.halves(xp.reshape(product, (len(correlator.order), 2, -1)))
    )
    shifts = list(tiles(0, middle, max(1, here.width**2 * BLOCK_SHIFTS // (count * n_slice))))
    weight = amount[:, None]

    def losses(own: slice) -> tuple[Any, Any]:
        """Return the losses of some shifts and of those half a turn further."""
        first = sums[None, :, :] if sums.shape[0] == 1 else sums[own, None, :]
        second = first if sums.shape[0] == 1 else sums[own.start + middle : own.stop + middle, None, :]
        return (
            joined(likelihood.loss_of, even[own, ...] + odd[own, ...], first, weight),
            joined(likelihood.loss_of, even[own, ...] - odd[own, ...], second, weight),
        )

    least, mean = xp.full((count, n_slice), xp.inf, dtype=xp.float32), xp.zeros(count, dtype=xp.float32)
    for own in shifts:
        for loss in losses(own):
            least = xp.minimum(least, xp.min(loss, axis=0))
            if temperature > 0:
                mean += xp.sum(xp.mean(loss, axis=2), axis=0)
    view, lowest = xp.argmin(least, axis=1), xp.min(least, axis=1)
    shift = _shift(likelihood, even, odd, sums, view, amount)
    spread = xp.maximum(temperature * (mean / correlator.n_phi - lowest), 1.0)[:, None]
    total, surprise = xp.zeros_like(lowest), xp.zeros_like(lowest)
    for own in shifts:
        pair = []
        for loss in losses(own):
            loss -= lowest[:, None]
            loss /= -spread
            # Less counts for nothing, and what a float holds as a subnormal number takes processors ten times as long.
            likely = xp.exp(xp.maximum(loss, LEAST_LOGARITHM))
            total += xp.sum(likely, axis=(0, 2))
            loss *= likely
            surprise += xp.sum(loss, axis=(0, 2))
            pair.append(likely)
        even[own, ...] = pair[0] + pair[1]
        odd[own, ...] = pair[0] - pair[1]
    first, second = (sums, sums) if sums.shape[0] == 1 else (sums[:middle, :], sums[middle:, :])
    expected = xp.matmul(even, 0.5 * (first + second)[..., None]) + xp.matmul(odd, 0.5 * (first - second)[..., None])
    expected = xp.sum(expected[..., 0], axis=0) / total
    return _Probabilities(even, odd, total, view, shift, lowest, expected, surprise / total - xp.log(total))


def _shift(likelihood: Likelihood, even: Any, odd: Any, sums: Any, view: Any, amount: Any) -> Any:
    """Return the most likely shift (n,) of the view (n,) of every pattern; arguments as for `_probabilities`."""
    xp = array_module(even)
    along, across = (xp.take_along_axis(part, view[None, :, None], axis=2)[..., 0] for part in (even, odd))
    score = likelihood.score(xp.concat([along + across, along - across]), xp.take(sums, view, axis=1))
    return xp.argmin(likelihood.loss(score, amount), axis=0)


def _weights(scales: Float64, coverage: Float32) -> Float64:
    """Return what of the scales (N_PHI, N_SLICE) assigned to every shift reaches each sample: (N_SLICE, N_R, N_PHI)."""
    if coverage.all():
        return np.broadcast_to(scales.sum(axis=0)[:, None, None], (scales.shape[1], *coverage.shape))
    spectrum = scipy.fft.rfft(scales, axis=0).T[:, None, :] * scipy.fft.rfft(coverage.astype(np.float64))
    weights: Float64 = np.maximum(scipy.fft.irfft(spectrum, n=coverage.shape[1]), 0.0)
    return weights
