"""Linear algebra on rows, for arrays of any module."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from spilegate.backend import array_module


def squared_norms(rows: Any) -> Any:
    """Return the squared norm (n,) of every row of a real (n, m) array."""
    xp = array_module(rows)
    if xp.__name__ == "cupy":
        return _squares()(rows, axis=1)
    return xp.matmul(rows[:, None, :], rows[:, :, None])[:, 0, 0]


@lru_cache(maxsize=1)
def _squares() -> Any:
    """Return the sum of squares as one kernel: as products of a row and a column it is a GPU's slowest."""
    import cupy

    return cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = a", "0", "sum_of_squares")


def largest(gain: Any, count: int) -> Any:
    """Return the columns (n, count) of the largest values of every row of `gain` (n, m), largest first."""
    xp = array_module(gain)
    columns = xp.arange(gain.shape[1])
    chosen = []
    for _ in range(min(count, gain.shape[1])):
        chosen.append(xp.argmax(gain, axis=1))
        gain = xp.where(columns[None, :] == chosen[-1][:, None], -xp.inf, gain)
    return xp.stack(chosen, axis=1)
