"""How single patterns see the particle: at a size of its own, and with the beam where it went in that pulse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.records import Float64, Int64

# Unknowns of a pattern: the logarithm of its size, and the shift of its beam in q_x and q_y.
UNKNOWNS = 3


@dataclass(frozen=True)
class Seeing:
    """What n patterns have of their own.

    size : (n,) float64, the particle's size over the model's; shift : (n, 2) float64, how far q_x and q_y of the pixels
    have to be taken back
    A pattern samples the model at `size R^T (q - shift)`. Shifts are in the unit of q, whatever that is.
    """

    size: Float64
    shift: Float64

    @staticmethod
    def nominal(count: int) -> Seeing:
        """Return that of so many patterns that have nothing of their own."""
        return Seeing(np.ones(count), np.zeros((count, 2)))

    def __getitem__(self, index: slice | Int64) -> Seeing:
        """Return that of some patterns."""
        return Seeing(self.size[index], self.shift[index])

    def sized(self, size: Float64) -> Seeing:
        """Return it with other sizes (n,)."""
        return Seeing(size, self.shift)

    def times(self, unit: float) -> Seeing:
        """Return it with shifts in another unit of q."""
        return Seeing(self.size, unit * self.shift)

    def matrices(self, rotations: Float64) -> Float64:
        """Return what takes the place of rotations (n, 3, 3) in `R^T q`."""
        result: Float64 = rotations * self.size[:, None, None]
        return result

    def offsets(self, rotations: Float64) -> Float64:
        """Return what is to be taken off `size R^T q`, (n, 3)."""
        result: Float64 = np.einsum("nji,nj->ni", rotations[:, :2], self.shift) * self.size[:, None]
        return result


@dataclass(frozen=True)
class Spread:
    """How much patterns differ: standard deviations of the logarithm of size, and of the shift along each axis.

    0 for what does not differ, which is not looked for then.
    """

    size: float = 0.0
    shift: float = 0.0

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return self.size > 0 or self.shift > 0

    def precision(self, unit: float = 1.0) -> Float64:
        """Return the inverse variances (UNKNOWNS,), shifts in a unit of q; enormous for what does not differ."""
        deviation = np.array([self.size, self.shift * unit, self.shift * unit])
        return np.where(deviation > 0, 1 / np.maximum(deviation, 1e-12) ** 2, 1e24)


def shifted(points: Any, offsets: Any) -> Any:
    """Return points (3, n, N_POINT) less offsets (n, 3), of one module; in place where that can be."""
    points -= offsets.T[:, :, None]
    return points
