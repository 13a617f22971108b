"""Rotation and shift between two densities by Gauss-Newton in Fourier space, every shell weighted by its own FSC.

With both transforms scaled to unit power on every shell, `f = F fixed` and `m = F moved` are modelled as
`f = c m + noise`, noise of variance `1 - c^2`, where c is the shell's Fourier shell correlation. The likelihood of a
pose is then `-sum_shells n log(1 - c^2)`: shells that do not agree (yet), for noise, resolution or a pose still far
off, have no say, and the strong central peak has no more say than any other shell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spilegate.evaluation.rotation_search import sampled, transform_of
from spilegate.kernels.nufft import Transform
from spilegate.records import Float32, Float64

Complex64 = NDArray[np.complex64]

# More correlated than this counts as this: a perfect shell must not silence the others.
_LARGEST_CORRELATION = 0.9999
# Shells whose power is below this fraction of the strongest shell's hold rounding errors only.
_POWER_FLOOR = 1e-9
# A step ends the search when it moves phases at the sphere's edge by less than this [cycles].
_NEGLIGIBLE_STEP = 2e-3


@dataclass(frozen=True)
class Pose:
    """How the moving volume goes onto the fixed one: `moved(x) = moving(sign R^T (x - shift))`.

    rotation : (3, 3) float64; sign : +1, or -1 with a point inversion; shift : (3,) float64 [box edges]
    score : log-likelihood, larger is better; comparable within one band only
    """

    rotation: Float64
    sign: int
    shift: Float64
    score: float = -np.inf


@dataclass(frozen=True)
class Band:
    """Both volumes inside a sphere of Fourier space.

    moving : the transform of the moving volume
    k : (N, 3) float64, where the fixed volume's transform is known [Fourier voxels]
    fixed : (N,) complex64; shell : (N,) intp, 0 innermost; radius : of the sphere [Fourier voxels]
    """

    moving: Transform
    k: Float64
    fixed: Complex64
    shell: NDArray[np.intp]
    radius: float

    def moved(self, rotations: Float64, sign: int, *, threads: int) -> Complex64:
        """Return the transform of the moving volume turned by each of rotations (n, 3, 3), unshifted, (n, N)."""
        return sampled(self.moving, sign * (self.k @ rotations), threads=threads)

    def ramp(self, shift: Float64) -> Complex64:
        """Return the factors (N,) that shift a density by `shift` [box edges]."""
        result: Complex64 = np.exp((-2j * np.pi) * (self.k @ shift)).astype(np.complex64)
        return result


def band(
    moving: Float32, fixed_spectrum: Complex64, radius: float, most_points: int | None = None, *, threads: int
) -> Band:
    """Restrict two volumes to 0 < |k| <= radius, and to `most_points` Fourier voxels drawn at random if given.

    moving : (M, M, M) float32, M odd; fixed_spectrum : (M, M, M // 2 + 1), `rfftn` of the volume, centre at index 0
    """
    size = moving.shape[0]
    most = int(radius)
    k = half_sphere(radius)
    if most_points is not None and len(k) > most_points:
        k = k[np.sort(np.random.default_rng(0).choice(len(k), most_points, replace=False))]
    fixed = fixed_spectrum[k[:, 0] % size, k[:, 1] % size, k[:, 2]]
    shell = np.rint(np.sqrt((k**2).sum(1))).astype(np.intp) - 1
    shell = np.minimum(shell, most - 1)
    return Band(transform_of(moving, radius, threads=threads), k.astype(np.float64), fixed, shell, radius)


def half_sphere(radius: float) -> NDArray[np.int64]:
    """Return the integer vectors (N, 3) with 0 < |k| <= radius and k_z >= 0, in the order of `rfftn`'s half."""
    most = int(radius)
    full, half = np.arange(-most, most + 1), np.arange(most + 1)
    square = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    index = np.argwhere((square > 0) & (square <= radius**2))
    result: NDArray[np.int64] = index - np.array([most, most, 0])
    return result


def refine(problem: Band, pose: Pose, iterations: int, *, threads: int) -> Pose:
    """Return the pose after at most `iterations` Gauss-Newton steps; the score never falls.

    A step that does not raise the likelihood is shortened; steps far below what the band resolves end the search.
    """
    best = Pose(pose.rotation, pose.sign, pose.shift)
    step = np.zeros(6)
    for _ in range(iterations + 1):
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        trial = Pose(turn @ best.rotation, best.sign, best.shift + step[3:])
        score, next_step = _linearise(problem, trial, threads)
        if score > best.score:
            best, step = replace(trial, score=score), next_step
        else:
            step = step / 3
        if np.abs(step).max() * problem.radius < _NEGLIGIBLE_STEP:
            break
    return best


def _linearise(problem: Band, pose: Pose, threads: int) -> tuple[float, Float64]:
    """Return the log-likelihood of a pose and the Gauss-Newton step (6,) from it: rotation vector, shift.

    Central differences over six small turns cost six times the points but no further FFT, unlike the transforms of
    x rho, y rho, z rho that the exact derivative takes; their phase error is a hundredth of a radian.
    """
    angle = 0.2 / problem.radius
    turns = Rotation.from_rotvec(angle * np.vstack([np.zeros((1, 3)), np.eye(3), -np.eye(3)])).as_matrix()
    values = problem.moved(turns @ pose.rotation, pose.sign, threads=threads) * problem.ramp(pose.shift)
    correlation, scale_fixed, scale_moved, number = shell_statistics(problem, values[0])
    score = float(-(number * np.log1p(-(correlation**2))).sum())
    at, model = problem.shell, (correlation * scale_moved)[problem.shell]
    weight = 1 / (1 - correlation[at] ** 2)
    residual = problem.fixed * scale_fixed[at] - values[0] * model
    jacobian = (
        np.concatenate([(values[1:4] - values[4:]) / (2 * angle), (-2j * np.pi) * problem.k.T * values[0]]) * model
    )
    weighted = (jacobian * weight).conj()
    normal = (weighted @ jacobian.T).real
    step: Float64 = np.linalg.lstsq(normal, (weighted @ residual).real, rcond=1e-10)[0]
    return score, step


def shell_statistics(problem: Band, moved: Complex64) -> tuple[Float64, Float64, Float64, Float64]:
    """Return per shell the correlation (within 0 and nearly 1), both scales to unit power, and the voxels counted."""
    fixed, shell = problem.fixed, problem.shell
    number = np.bincount(shell).astype(np.float64)
    power_fixed = np.bincount(shell, np.abs(fixed) ** 2)
    power_moved = np.bincount(shell, np.abs(moved) ** 2)
    cross = np.bincount(shell, (fixed * moved.conj()).real)
    filled = (power_fixed > _POWER_FLOOR * power_fixed.max()) & (power_moved > _POWER_FLOOR * power_moved.max())
    scale_fixed = np.sqrt(np.divide(number, power_fixed, out=np.zeros_like(number), where=filled))
    scale_moved = np.sqrt(np.divide(number, power_moved, out=np.zeros_like(number), where=filled))
    correlation = np.divide(cross * scale_fixed * scale_moved, number, out=np.zeros_like(number), where=number > 0)
    return np.clip(correlation, 0, _LARGEST_CORRELATION), scale_fixed, scale_moved, number
