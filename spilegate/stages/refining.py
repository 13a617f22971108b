"""Refine: orientations between the points of the search grid, by Gauss-Newton on the detector's own pixels.

A small turn of the particle, `R' = R exp([delta]x)`, moves the points `p = R^T q` by `-delta x p`, so the model changes
by `-(p x grad I(p)) . delta`: three unknowns per pattern, solved by Levenberg-Marquardt for all patterns at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spilegate.geometry import orientations
from spilegate.geometry.sampling import Sampling
from spilegate.kernels import nufft
from spilegate.kernels.tiles import over_tiles
from spilegate.state import Float32, Float64, Int64

Complex64 = NDArray[np.complex64]

TOLERANCE = 1e-4
# Patterns reduced at once: 8 patterns of 3000 pixels are 0.1 MB an array.
TILE_PATTERNS = 8
# Steps below this turn [radians] change nothing that can be seen: 0.02 degrees.
SETTLED = 3.5e-4


@dataclass(frozen=True)
class Refined:
    """quaternions (n, 4) float64 and distance (n,) float64, D over the squared norm of the weighed pattern."""

    quaternions: Float64
    distance: Float64


def refine(
    images: Float32,
    index: Int64,
    sampling: Sampling,
    autocorrelation: Float32,
    voxel_angstrom: float,
    quaternions: Float64,
    *,
    iterations: int,
    largest_turn: float,
    threads: int,
) -> Refined:
    """Refine orientations of patterns `images[index]` against one state's autocorrelation.

    images : (N_IMG, N_PIX) float32; index : (n,) int64, a pattern may occur more than once
    autocorrelation : (M, M, M) float32; quaternions : (n, 4) float64, where to start
    iterations : most Gauss-Newton steps, 0 only measures the distance; largest_turn : of one step [radians]
    A step that makes a pattern's distance larger is taken back and its damping raised (Levenberg-Marquardt).
    """
    volumes = _value_and_gradient_volumes(autocorrelation)
    q = (sampling.q * (2 * np.pi * voxel_angstrom)).astype(np.float32)

    def refine_block(part: slice) -> Refined:
        patterns = sampling.weigh(sampling.patterns(images[index[part]]))
        return _refine_block(patterns, sampling, volumes, q, quaternions[part], iterations, largest_turn)

    step = max(1, nufft.block_points(autocorrelation.shape[-1]) // len(q))
    parts = list(over_tiles(refine_block, len(index), step, threads=threads))
    if not parts:
        return Refined(quaternions, np.empty(0))
    return Refined(np.concatenate([p.quaternions for p in parts]), np.concatenate([p.distance for p in parts]))


def _refine_block(
    patterns: Float32,
    sampling: Sampling,
    volumes: Complex64,
    q: Float32,
    start: Float64,
    iterations: int,
    largest_turn: float,
) -> Refined:
    """Refine the orientations `start` of weighed patterns (n, N_PIX); q (N_PIX, 3) in radians per voxel."""
    best = start.copy()
    trial = start.copy()
    cost = np.full(len(start), np.inf)
    damping = np.full(len(start), 1e-3)
    hessian, gradient = np.zeros((len(start), 3, 3)), np.zeros((len(start), 3))
    active = np.arange(len(start))
    for iteration in range(iterations + 1):
        rotations = orientations.matrices(trial[active]).astype(np.float32)
        trial_cost, trial_hessian, trial_gradient = _linearise(
            patterns[active], sampling, volumes, q, rotations, iteration < iterations
        )
        better = trial_cost < cost[active]
        won = active[better]
        best[won], cost[won] = trial[won], trial_cost[better]
        if iteration == iterations:
            break
        hessian[won], gradient[won] = trial_hessian[better], trial_gradient[better]
        damping[active] *= np.where(better, 0.2, 20.0)
        turn = _steps(hessian[active], gradient[active], damping[active], largest_turn)
        trial[active] = _turned(best[active], turn)
        active = active[np.linalg.norm(turn, axis=1) > SETTLED]
        if not len(active):
            break
    return Refined(best, cost / np.einsum("ip,ip->i", patterns, patterns))


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


def _linearise(
    patterns: Float32, sampling: Sampling, volumes: Complex64, q: Float32, rotations: Float32, with_gradient: bool
) -> tuple[Float64, Float64, Float64]:
    """Return cost (n,), normal matrices (n, 3, 3) and right-hand sides (n, 3); without gradient only the cost."""
    count = len(rotations)
    points = orientations.rotated_points(rotations, q)
    spectra = nufft.forward(
        volumes if with_gradient else volumes[:1], points.reshape(3, -1), tolerance=TOLERANCE, threads=1
    ).reshape(-1, count, len(q))
    cost, hessian, gradient = np.empty(count), np.empty((count, 3, 3)), np.empty((count, 3))
    for begin in range(0, count, TILE_PATTERNS):
        part = slice(begin, begin + TILE_PATTERNS)
        residual = patterns[part] - sampling.weigh(spectra[0, part].real)
        cost[part] = np.einsum("ip,ip->i", residual, residual)
        if not with_gradient:
            continue
        px, py, pz = points[:, part]
        # One copy out of the complex arrays, so that the products below run over contiguous memory.
        gx, gy, gz = spectra[0, part].imag.copy(), spectra[1, part].real.copy(), spectra[1, part].imag.copy()
        jacobian = np.stack([pz * gy - py * gz, px * gz - pz * gx, py * gx - px * gy], axis=1)
        jacobian *= sampling.root_weight
        hessian[part] = np.matmul(jacobian, jacobian.transpose(0, 2, 1))
        gradient[part] = np.matmul(jacobian, residual[..., None])[..., 0]
    return cost, hessian, gradient


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
