"""Refine: orientations between the points of the search grid, by Gauss-Newton on the detector's own pixels.

A small turn of the particle, `R' = R exp([delta]x)`, moves the points `p = R^T q` by `-delta x p`, so the model changes
by `-(p x grad I(p)) . delta`. With the scale that is four unknowns per pattern, solved by Levenberg-Marquardt for all
patterns at once; for photon statistics the normal matrix is the Fisher information.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.backend import to_host
from spilegate.geometry import orientations
from spilegate.geometry.orientations import rotated_points
from spilegate.geometry.pose import Pose, seeing_of, steps
from spilegate.geometry.seeing import UNKNOWNS, Seeing, Spread, shifted
from spilegate.kernels import nufft
from spilegate.kernels.blocks import GROUP, pattern_bytes, tiles
from spilegate.kernels.exact import Rows
from spilegate.kernels.gauss_newton import normal_matrices
from spilegate.kernels.workers import Here, Workers
from spilegate.likelihood.statistics import Likelihood
from spilegate.records import Bool, Float32, Float64, Int64

Complex64 = NDArray[np.complex64]

TOLERANCE = 1e-4
# Memory of a point, with its coordinates, two transforms and what they are reduced to.
POINT_BYTES = 96
# Patterns reduced at once: 8 patterns of 3000 pixels are 0.1 MB an array.
TILE_PATTERNS = 8
# Candidates nearer to the half turn of the best one than so many of the largest steps are that half turn.
HALF_TURN = 6.0
# An orientation that explains this part of what the best one does is as good.
NEARLY = 0.98
# Steps below this turn [radians] change nothing that can be seen: 0.02 degrees.
SETTLED = 3.5e-4
# Changes of a scale by less than this part change nothing either.
SETTLED_SCALE = 1e-3
# Patterns that have nothing of their own.
ALL_ALIKE = Spread()


@dataclass(frozen=True)
class Shortlist:
    """The candidates of every pattern that are worth refining.

    quaternions : (N_IMG, N_CAND, 4) float64; state : (N_IMG, N_CAND) int64; keep : (N_IMG, N_CAND) bool, which count;
    every pattern has at least one
    lot : (N_IMG, N_CAND) float64, random numbers, by which one is drawn of those that fit alike, if one is to be
    at_hand : (N_IMG,) int64, which of them is the orientation at hand
    size : (N_IMG, N_CAND) float64, of the particle, that each begins with; the pattern's if left out
    """

    quaternions: Float64
    state: Int64
    keep: Bool
    lot: Float64 | None = None
    at_hand: Int64 | None = None
    size: Float64 | None = None


@dataclass(frozen=True)
class Refined:
    """The best candidate of every pattern, refined.

    quaternions : (N_IMG, 4) float64; state : (N_IMG,) int64
    factor : (N_IMG,) float64, what the patterns' scales are to be multiplied by
    distance : (N_IMG,) float64, cost over that of the mean pattern: 0 is perfect, 1 no better than the mean
    cost : (N_IMG,) float64, cost for each point compared: about 1 where photon noise is all that is left (Poisson)
    equal : (N_IMG,) bool, whether another one is as good: it was drawn, or the one at hand explains nearly as much
    seeing : what patterns have of their own, nominal if nothing of it was free
    variance : (N_IMG, UNKNOWNS) float64, of its unknowns, as the patterns alone have it, shifts squared in 1/angstrom
    """

    quaternions: Float64
    state: Int64
    factor: Float64
    distance: Float64
    cost: Float64
    equal: Bool
    seeing: Seeing
    variance: Float64


def refine(
    images: Any,
    likelihood: Likelihood,
    scale: Float64,
    autocorrelations: Float32,
    voxel_angstrom: float,
    shortlist: Shortlist,
    *,
    iterations: int,
    largest_turn: float,
    alike: float = 1.0,
    seeing: Seeing | None = None,
    spread: Spread = ALL_ALIKE,
    workers: Workers,
) -> Refined:
    """Refine the orientations of all patterns against the autocorrelations of all states.

    images : (N_IMG, N_PIX), patterns or lists of their photons; scale : (N_IMG,) float64
    likelihood : on pixels; autocorrelations : (K, M, M, M) float32
    iterations : most Gauss-Newton steps, 0 only measures the distance; largest_turn : of one step [radians]
    alike : another candidate, drawn by the shortlist's lot, takes the place of the best one if its cost is at most this
        many times as large; not of another state, nor its half turn about the beam, which only the curvature of Ewald's
        sphere tells apart
    seeing : what patterns have of their own, shifts in 1/angstrom; where refinement of it starts
    spread : how much they differ in that; what does not differ stays as it is. Nothing is known better than by chance:
        the unknowns have normal priors of these deviations about the nominal values
    Where a pattern has several candidates, one step each decides which of them is refined to the end. A step that makes
    a pattern's distance larger is taken back and its damping raised (Levenberg-Marquardt).
    """
    transforms = [
        nufft.Transform(_value_and_gradient_volumes(volume), tolerance=TOLERANCE, threads=workers.threads)
        for volume in autocorrelations
    ]
    sampling = likelihood.sampling
    unit = 2 * np.pi * voxel_angstrom
    q = (sampling.q * unit).astype(np.float32)
    prior = spread.precision(unit) if spread.any else None
    step = max(1, nufft.block_points(autocorrelations.shape[-1]) // len(q))

    def refine_tile(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
        target = likelihood.target(sampling.counts(block), here.array(scale[part]))
        fit = _Fit(here, target, likelihood, transforms, q, here.rows(step, POINT_BYTES * len(q)), largest_turn, prior)
        index, column = np.nonzero(shortlist.keep[part])
        start = Pose(shortlist.quaternions[part][index, column], np.ones(len(index)))
        if prior is not None:
            seen = (seeing or Seeing.nominal(len(images)))[part][index].times(unit)
            start = start.seen(seen if shortlist.size is None else seen.sized(shortlist.size[part][index, column]))
        state = shortlist.state[part][index, column]
        score = np.zeros(len(index))
        contested = np.flatnonzero(np.bincount(index)[index] > 1)
        first, score[contested] = fit.improved(
            index[contested], start.of(contested), state[contested], min(1, iterations)
        )
        start.put(contested, first)
        chosen = _least(score, index)
        mean = np.asarray(to_host(likelihood.mean_cost(target)), np.float64)
        equal = np.zeros(len(chosen), np.bool_)
        if shortlist.at_hand is not None:
            held = np.flatnonzero(column == shortlist.at_hand[part][index])
            known, told = index[held], mean[index[held]]
            equal[known] = told - score[held] >= NEARLY * (told - score[chosen[known]])
        better, cost = fit.improved(index[chosen], start.of(chosen), state[chosen], iterations)
        label = state[chosen]
        if shortlist.lot is not None and alike > 1 and len(contested):
            own = start.quaternions[chosen][index]
            turned = orientations.half_turned(own)
            barred = orientations.angle_between(start.quaternions, turned) < np.degrees(HALF_TURN * largest_turn)
            barred |= state != state[chosen][index]
            lot = np.where(barred, np.inf, shortlist.lot[part][index, column])
            lot[chosen] = np.inf
            other = _least(lot, index)
            rivals = np.flatnonzero(np.isfinite(lot[other]))
            other = other[rivals]
            pose, its_cost = fit.improved(index[other], start.of(other), state[other], iterations)
            good = np.flatnonzero(its_cost <= alike * cost[rivals])
            won = rivals[good]
            better.put(won, pose.of(good))
            cost[won], label[won], equal[won] = its_cost[good], state[other[good]], True
        result: tuple[Any, ...] = (
            better.quaternions,
            label,
            better.factor,
            cost / np.maximum(mean, 1e-30),
            cost / len(q),
            equal,
        )
        if prior is None:
            return result
        variance = fit.informed(index[chosen], better, label) * fit.misfit(cost)[:, None]
        return (*result, better.own, variance)

    outputs = [Rows((4,), np.float64), Rows((), np.int64), *(Rows((), np.float64) for _ in range(3))]
    outputs.append(Rows((), np.bool_))
    outputs += [Rows((UNKNOWNS,), np.float64) for _ in range(2)] if prior is not None else []
    # Whole groups of patterns, so that two workers share them evenly.
    tile = max(1, round(step / GROUP)) * GROUP
    row_bytes = pattern_bytes(sampling.n_pixel + len(q))
    found = workers.run(
        refine_tile,
        len(images),
        outputs,
        tile=tile,
        split=[images],
        row_bytes=row_bytes,
        tile_bytes=nufft.evaluation_bytes(autocorrelations.shape[-1]),
    )
    if prior is None:
        found += [np.zeros((len(images), UNKNOWNS)), np.full((len(images), UNKNOWNS), np.inf)]
    *told, own, variance = found
    return Refined(*[*told, seeing_of(own).times(1 / unit), variance / np.array([1, unit**2, unit**2])])


def _least(values: Float64, index: Int64) -> Int64:
    """Return where the least of the values (n,) of every pattern is; index : (n,), the pattern of each."""
    order = np.lexsort((values, index))
    found: Int64 = order[np.unique(index[order], return_index=True)[1]]
    return found


@dataclass(frozen=True)
class _Fit:
    """A tile of patterns and the models they are fitted to; q (N_PIX, 3) in radians per voxel.

    prior : (UNKNOWNS,) inverse variances of what patterns have of their own, None where that is nothing
    """

    here: Here
    target: tuple[Any, ...]
    likelihood: Likelihood
    transforms: list[nufft.Transform]
    q: Float32
    step: int
    largest_turn: float
    prior: Float64 | None = None

    def misfit(self, cost: Float64) -> Float64:
        """Return what a point costs (n,) where all that is left is noise: what a prior is to be weighed with."""
        result: Float64 = np.maximum(cost / len(self.q), self.likelihood.noise)
        return result

    def informed(self, index: Int64, pose: Pose, state: Int64) -> Float64:
        """Return the variances (n, UNKNOWNS) of unknowns of their own that patterns leave, for a cost of 1 a point."""
        unknowns = 4 + pose.own.shape[1]
        hessian = np.zeros((len(index), unknowns, unknowns))
        for k, transform in enumerate(self.transforms):
            mine = np.flatnonzero(state == k)
            for part in tiles(0, len(mine), self.step):
                own = mine[part]
                there = transform.on(self.here)
                _, hessian[own], _ = self._linearised(self.target, index[own], there, pose.of(own), True)
        ridge = 1e-9 * np.einsum("nii->ni", hessian) + np.finfo(np.float64).tiny
        inverse = np.linalg.inv(hessian + np.eye(unknowns) * ridge[:, None, :])
        result: Float64 = np.einsum("nii->ni", inverse)[:, 4:]
        return result

    def improved(self, index: Int64, start: Pose, state: Int64, iterations: int) -> tuple[Pose, Float64]:
        """Return poses and costs (n,) of patterns `index`, `step` of them at a time."""
        better, cost = start.of(np.arange(len(index))), np.empty(len(index))
        for k, transform in enumerate(self.transforms):
            mine = np.flatnonzero(state == k)
            for part in tiles(0, len(mine), self.step):
                own = mine[part]
                target = self._taken(self.target, index[own])
                pose, cost[own] = self._refined(target, transform.on(self.here), start.of(own), iterations)
                better.put(own, pose)
        return better, cost

    def _taken(self, target: tuple[Any, ...], index: Int64) -> tuple[Any, ...]:
        """Return some of the patterns."""
        return tuple(self.here.xp.take(array, self.here.array(index), axis=0) for array in target)

    def _refined(
        self, target: tuple[Any, ...], transform: nufft.Transform, start: Pose, iterations: int
    ) -> tuple[Pose, Float64]:
        """Return refined poses and costs of patterns, a candidate for each."""
        count, unknowns = len(start.factor), 4 + start.own.shape[1]
        best, trial, cost = start, start.of(np.arange(count)), np.full(count, np.inf)
        damping = np.full(count, 1e-3)
        hessian, gradient = np.zeros((count, unknowns, unknowns)), np.zeros((count, unknowns))
        active = np.arange(count)
        for iteration in range(iterations + 1):
            trial_cost, trial_hessian, trial_gradient = self._linearised(
                target, active, transform, trial.of(active), iteration < iterations
            )
            if self.prior is not None:
                self._believe(self.prior, trial.own[active], trial_cost, trial_hessian, trial_gradient)
            better = trial_cost < cost[active]
            won = active[better]
            best.put(won, trial.of(won))
            cost[won] = trial_cost[better]
            if iteration == iterations:
                break
            hessian[won], gradient[won] = trial_hessian[better], trial_gradient[better]
            damping[active] *= np.where(better, 0.2, 20.0)
            step = steps(hessian[active], gradient[active], damping[active], self.largest_turn)
            trial.put(active, best.of(active).moved(step))
            active = active[(np.linalg.norm(step[:, :3], axis=1) > SETTLED) | (np.abs(step[:, 3]) > SETTLED_SCALE)]
            if not len(active):
                break
        return best, cost

    def _linearised(
        self, target: tuple[Any, ...], active: Int64, transform: nufft.Transform, pose: Pose, with_gradient: bool
    ) -> tuple[Float64, Float64, Float64]:
        """Return cost (n,), normal matrices (n, 4, 4) and right-hand sides (n, 4); without gradient only the cost.

        Unknowns that patterns have of their own come after these four.
        """
        xp, array = self.here.xp, self.here.array
        count, n_pixel, unknowns = len(active), len(self.q), 4 + pose.own.shape[1]
        rotations, lateral = orientations.matrices(pose.quaternions), None
        if pose.free:
            seeing = seeing_of(pose.own)
            points = rotated_points(array(seeing.matrices(rotations), np.float32), array(self.q))
            points = shifted(points, array(seeing.offsets(rotations), np.float32))
            lateral = array(-seeing.matrices(rotations)[:, :2], np.float32)
        else:
            points = rotated_points(array(rotations, np.float32), array(self.q))
        spectra = transform.at(
            xp.reshape(points, (3, -1)), threads=self.here.threads, first=None if with_gradient else 1
        )
        spectra = xp.reshape(spectra, (-1, count, n_pixel))
        cost = np.empty(count)
        hessian, gradient = np.empty((count, unknowns, unknowns)), np.empty((count, unknowns))
        for part in tiles(0, count, self.here.rows(TILE_PATTERNS, POINT_BYTES * n_pixel)):
            own = self._taken(target, active[part])
            intensity = xp.real(spectra[0, part, :])
            factor = array(pose.factor[part], np.float32)
            residual, root, few = self.likelihood.residuals(own, intensity, factor)
            cost[part] = to_host(few)
            if not with_gradient:
                continue
            hessian[part], gradient[part] = normal_matrices(
                points[:, part, :],
                spectra[:, part, :],
                factor,
                root,
                residual,
                None if lateral is None else lateral[part, ...],
            )
        return cost, hessian, gradient

    def _believe(self, prior: Float64, own: Float64, cost: Float64, hessian: Float64, gradient: Float64) -> None:
        """Add to costs, matrices and right-hand sides, in place, what the priors of unknowns (n, UNKNOWNS) say."""
        precision = prior * self.misfit(cost)[:, None]
        cost += (precision * own**2).sum(axis=1)
        gradient[:, 4:] -= precision * own
        hessian[:, range(4, 4 + UNKNOWNS), range(4, 4 + UNKNOWNS)] += precision


def _value_and_gradient_volumes(autocorrelation: Float32) -> Complex64:
    """Return (2, M, M, M) complex64 whose transforms are `I + i dI/dx` and `dI/dy + i dI/dz`.

    I and its gradient are real because A is even, so two complex transforms carry all four.
    """
    size = autocorrelation.shape[-1]
    axis = np.arange(size, dtype=np.float32) - size // 2
    x, y, z = axis[:, None, None], axis[:, None], axis
    value_x = autocorrelation * (1 + x)
    y_z = autocorrelation * (z - 1j * y)
    return np.stack([value_x, y_z]).astype(np.complex64)
