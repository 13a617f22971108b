"""Refine: orientations between the points of the search grid, by Gauss-Newton on the detector's own pixels.

A small turn of the particle, `R' = R exp([delta]x)`, moves the points `p = R^T q` by `-delta x p`, so the model changes
by `-(p x grad I(p)) . delta`: three unknowns per pattern, solved by Levenberg-Marquardt for all patterns at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spilegate.backend import to_host
from spilegate.geometry import orientations
from spilegate.geometry.orientations import rotated_points
from spilegate.geometry.sampling import Sampling
from spilegate.kernels import nufft
from spilegate.kernels.algebra import squared_norms
from spilegate.kernels.workers import GROUP, Here, Rows, Workers, tiles
from spilegate.state import Bool, Float32, Float64, Int64

Complex64 = NDArray[np.complex64]

TOLERANCE = 1e-4
# Patterns reduced at once: 8 patterns of 3000 pixels are 0.1 MB an array.
TILE_PATTERNS = 8
# Steps below this turn [radians] change nothing that can be seen: 0.02 degrees.
SETTLED = 3.5e-4


@dataclass(frozen=True)
class Shortlist:
    """The candidates of every pattern that are worth refining.

    quaternions : (N_IMG, N_CAND, 4) float64; state : (N_IMG, N_CAND) int64; keep : (N_IMG, N_CAND) bool, which count;
    every pattern has at least one
    """

    quaternions: Float64
    state: Int64
    keep: Bool


@dataclass(frozen=True)
class Refined:
    """The best candidate of every pattern, refined.

    quaternions : (N_IMG, 4) float64; state : (N_IMG,) int64
    distance : (N_IMG,) float64, D over the squared norm of the weighed pattern
    """

    quaternions: Float64
    state: Int64
    distance: Float64


def refine(
    images: Any,
    sampling: Sampling,
    autocorrelations: Float32,
    voxel_angstrom: float,
    shortlist: Shortlist,
    *,
    iterations: int,
    largest_turn: float,
    workers: Workers,
) -> Refined:
    """Refine the orientations of all patterns against the autocorrelations of all states.

    images : (N_IMG, N_PIX) float32; autocorrelations : (K, M, M, M) float32
    iterations : most Gauss-Newton steps, 0 only measures the distance; largest_turn : of one step [radians]
    Where a pattern has several candidates, one step each decides which of them is refined to the end. A step that makes
    a pattern's distance larger is taken back and its damping raised (Levenberg-Marquardt).
    """
    volumes = [_value_and_gradient_volumes(volume) for volume in autocorrelations]
    q = (sampling.q * (2 * np.pi * voxel_angstrom)).astype(np.float32)
    step = max(1, nufft.block_points(autocorrelations.shape[-1]) // len(q))

    def refine_tile(here: Here, part: slice, block: Any) -> tuple[Any, Any, Any]:
        patterns = sampling.weigh(sampling.patterns(block))
        fit = _Fit(here, patterns, sampling, volumes, q, step, largest_turn)
        index, column = np.nonzero(shortlist.keep[part])
        start, state = shortlist.quaternions[part][index, column], shortlist.state[part][index, column]
        score = np.zeros(len(index))
        contested = np.bincount(index)[index] > 1
        start[contested], score[contested] = fit.improved(
            index[contested], start[contested], state[contested], min(1, iterations)
        )
        order = np.lexsort((score, index))
        chosen = order[np.unique(index[order], return_index=True)[1]]
        better, distance = fit.improved(index[chosen], start[chosen], state[chosen], iterations)
        return better, state[chosen], distance

    outputs = [Rows((4,), np.float64), Rows((), np.int64), Rows((), np.float64)]
    # Whole groups of patterns, so that two workers share them evenly.
    tile = max(1, round(step / GROUP)) * GROUP
    return Refined(*workers.run(refine_tile, len(images), outputs, tile=tile, split=[images]))


@dataclass(frozen=True)
class _Fit:
    """A tile of weighed patterns (n, N_PIX) and the models they are fitted to; q (N_PIX, 3) in radians per voxel."""

    here: Here
    patterns: Any
    sampling: Sampling
    volumes: list[Complex64]
    q: Float32
    step: int
    largest_turn: float

    def improved(self, index: Int64, start: Float64, state: Int64, iterations: int) -> tuple[Float64, Float64]:
        """Return quaternions (n, 4) and distances (n,) of patterns `index`, `step` of them at a time."""
        better, distance = start.copy(), np.empty(len(index))
        for k, volume in enumerate(self.volumes):
            mine = np.flatnonzero(state == k)
            for part in tiles(0, len(mine), self.step):
                own = mine[part]
                patterns = self.here.xp.take(self.patterns, self.here.array(index[own]), axis=0)
                better[own], distance[own] = self._refined(patterns, self.here.array(volume), start[own], iterations)
        return better, distance

    def _refined(self, patterns: Any, volumes: Any, start: Float64, iterations: int) -> tuple[Float64, Float64]:
        """Return refined orientations and distances of patterns (n, N_PIX), a candidate for each."""
        count = len(start)
        best, trial, cost = start.copy(), start.copy(), np.full(count, np.inf)
        damping = np.full(count, 1e-3)
        hessian, gradient = np.zeros((count, 3, 3)), np.zeros((count, 3))
        active = np.arange(count)
        for iteration in range(iterations + 1):
            trial_cost, trial_hessian, trial_gradient = self._linearised(
                patterns, active, volumes, trial[active], iteration < iterations
            )
            better = trial_cost < cost[active]
            won = active[better]
            best[won], cost[won] = trial[won], trial_cost[better]
            if iteration == iterations:
                break
            hessian[won], gradient[won] = trial_hessian[better], trial_gradient[better]
            damping[active] *= np.where(better, 0.2, 20.0)
            turn = _steps(hessian[active], gradient[active], damping[active], self.largest_turn)
            trial[active] = _turned(best[active], turn)
            active = active[np.linalg.norm(turn, axis=1) > SETTLED]
            if not len(active):
                break
        return best, cost / to_host(squared_norms(patterns))

    def _linearised(
        self, patterns: Any, active: Int64, volumes: Any, quaternions: Float64, with_gradient: bool
    ) -> tuple[Float64, Float64, Float64]:
        """Return cost (n,), normal matrices (n, 3, 3) and right-hand sides (n, 3); without gradient only the cost."""
        xp, array = self.here.xp, self.here.array
        count, n_pixel = len(active), len(self.q)
        points = rotated_points(array(orientations.matrices(quaternions), np.float32), array(self.q))
        spectra = nufft.forward(
            volumes if with_gradient else volumes[:1, ...],
            xp.reshape(points, (3, -1)),
            tolerance=TOLERANCE,
            threads=self.here.threads,
        )
        spectra = xp.reshape(spectra, (-1, count, n_pixel))
        cost, hessian, gradient = np.empty(count), np.empty((count, 3, 3)), np.empty((count, 3))
        for part in tiles(0, count, TILE_PATTERNS):
            own = xp.take(patterns, array(active[part]), axis=0)
            residual = own - self.sampling.weigh(xp.real(spectra[0, part, :]))
            cost[part] = to_host(squared_norms(residual))
            if not with_gradient:
                continue
            px, py, pz = (points[axis, part, :] for axis in range(3))
            # One copy out of the complex arrays, so that the products below run over contiguous memory.
            gradients = [xp.imag(spectra[0, part, :]), xp.real(spectra[1, part, :]), xp.imag(spectra[1, part, :])]
            stacked = xp.stack(gradients)
            gx, gy, gz = (stacked[axis, ...] for axis in range(3))
            jacobian = xp.stack([pz * gy - py * gz, px * gz - pz * gx, py * gx - px * gy], axis=1)
            jacobian *= array(self.sampling.root_weight)
            hessian[part] = to_host(xp.matmul(jacobian, xp.permute_dims(jacobian, (0, 2, 1))))
            gradient[part] = to_host(xp.matmul(jacobian, residual[..., None])[..., 0])
        return cost, hessian, gradient


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


def _steps(hessian: Float64, gradient: Float64, damping: Float64, largest_turn: float) -> Float64:
    """Return the damped Gauss-Newton turns (n, 3) [radians], cut to `largest_turn`."""
    diagonal = np.einsum("nii->ni", hessian)
    floor = 1e-6 * diagonal.sum(1) + np.finfo(np.float64).tiny
    damped = hessian + np.eye(3) * (damping[:, None] * diagonal + floor[:, None])[:, None, :]
    turn = np.linalg.solve(damped, gradient[..., None])[..., 0]
    length = np.linalg.norm(turn, axis=1, keepdims=True)
    result: Float64 = turn * np.minimum(1, largest_turn / np.maximum(length, 1e-300))
    return result


def _turned(quaternions: Float64, turn: Float64) -> Float64:
    """Return the quaternions of `R exp([turn]x)`."""
    rotation = Rotation.from_quat(quaternions, scalar_first=True) * Rotation.from_rotvec(turn)
    result: Float64 = rotation.as_quat(canonical=True, scalar_first=True)
    return result
