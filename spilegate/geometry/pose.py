"""What is refined of a pattern, and the damped Gauss-Newton steps that do it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from spilegate.geometry.seeing import Seeing
from spilegate.records import Float64, Int64

# What patterns have of their own, where that is nothing.
NOTHING = np.zeros((0, 0))


def seeing_of(own: Float64) -> Seeing:
    """Return what unknowns (n, UNKNOWNS) mean."""
    return Seeing(np.exp(own[:, 0]), own[:, 1:])


@dataclass(frozen=True)
class Pose:
    """What is refined of n patterns: quaternions (n, 4) and the factors (n,) of their scales.

    own : (n, UNKNOWNS) float64, what else is, if anything: the logarithm of the size, and the shift [radians per voxel]
    """

    quaternions: Float64
    factor: Float64
    own: Float64 = field(default_factory=lambda: NOTHING)

    def seen(self, seeing: Seeing) -> Pose:
        """Return them with unknowns of their own."""
        return replace(self, own=np.concatenate([np.log(seeing.size)[:, None], seeing.shift], axis=1))

    @property
    def free(self) -> bool:
        """Whether there are such."""
        return bool(self.own.shape[1])

    def of(self, index: Int64) -> Pose:
        """Return copies of some of them."""
        return Pose(self.quaternions[index], self.factor[index], self.own[index] if self.free else NOTHING)

    def put(self, index: Any, other: Pose) -> None:
        """Replace some of them."""
        self.quaternions[index], self.factor[index] = other.quaternions, other.factor
        if self.free:
            self.own[index] = other.own

    def moved(self, step: Float64) -> Pose:
        """Return them after steps (n, 4 or more): a turn, `R exp([turn]x)`, a change of the factor, and of the rest."""
        rotation = Rotation.from_quat(self.quaternions, scalar_first=True) * Rotation.from_rotvec(step[:, :3])
        factor = np.clip(self.factor + step[:, 3], 0.3 * self.factor, 3 * self.factor)
        own = self.own + step[:, 4:] if self.free else NOTHING
        return Pose(rotation.as_quat(canonical=True, scalar_first=True), factor, own)


def steps(hessian: Float64, gradient: Float64, damping: Float64, largest_turn: float) -> Float64:
    """Return the damped Gauss-Newton steps (n, 4 or more), their turns [radians] cut to `largest_turn`."""
    diagonal = np.einsum("nii->ni", hessian)
    # Turns and factors have units of their own: each is damped by its own curvature.
    floor = 1e-6 * np.concatenate(
        [np.repeat(diagonal[:, :3].sum(1, keepdims=True), 3, axis=1), diagonal[:, 3:]], axis=1
    )
    ridge = damping[:, None] * diagonal + floor + np.finfo(np.float64).tiny
    step = np.linalg.solve(hessian + np.eye(hessian.shape[-1]) * ridge[:, None, :], gradient[..., None])[..., 0]
    length = np.linalg.norm(step[:, :3], axis=1, keepdims=True)
    step[:, :3] *= np.minimum(1, largest_turn / np.maximum(length, 1e-300))
    result: Float64 = step
    return result
