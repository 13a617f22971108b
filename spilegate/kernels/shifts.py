"""The largest score over the in-plane shifts, from the even and odd parts of correlations: most of what a search reads.

As array functions it is half a dozen passes over the correlations of a tile; on a GPU it is one kernel and one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from spilegate.backend import array_module

# Joins correlations with the sums that belong to them, elementwise: a straight line in the correlation that rises.
Score = Callable[[Any, Any], Any]

THREADS = 256
# C[s] = even + odd, C[s + half] = even - odd for s < half; a thread has one pattern and view, all shifts.
SOURCE = r"""
extern "C" __global__ void largest_scores(
    const float* even, const float* odd, const float* slope, const float* offset, float* result,
    const int half, const long long columns, const int tile, const int each)
{
    const long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    const int view = column % tile;
    float first = -3.4e38f, second = -3.4e38f;
    for (int s = 0; s < half; ++s) {
        const float e = even[s * columns + column], o = odd[s * columns + column];
        float one = e + o, other = e - o;
        if (each) {
            one = one * slope[s * tile + view] + offset[s * tile + view];
            other = other * slope[(s + half) * tile + view] + offset[(s + half) * tile + view];
        }
        first = fmaxf(first, one);
        second = fmaxf(second, other);
    }
    if (!each) {
        first = first * slope[view] + offset[view];
        second = second * slope[view] + offset[view];
    }
    result[column] = first;
    result[columns + column] = second;
}
"""


def largest_scores(even: Any, odd: Any, sums: Any, score: Score) -> Any:
    """Return (2, n, TILE) float32: the largest score over the shifts [0, pi) and over [pi, 2 pi).

    even, odd : (N_PHI / 2, n TILE) float32, changed in place; sums : (N_S, TILE) float32, N_S = N_PHI or 1
    """
    xp, tile = array_module(even), sums.shape[1]
    if xp.__name__ == "cupy":
        return _by_kernel(xp, even, odd, sums, score)
    above = even + odd
    # In place: these arrays are most of what the cache holds.
    even -= odd
    if sums.shape[0] == 1:
        most = xp.stack([xp.max(above, axis=0), xp.max(even, axis=0)])
        return score(xp.reshape(most, (2, -1, tile)), sums[0, :])
    shape, middle = (even.shape[0], -1, tile), even.shape[0]
    first = xp.max(score(xp.reshape(above, shape), sums[:middle, None, :]), axis=0)
    return xp.stack([first, xp.max(score(xp.reshape(even, shape), sums[middle:, None, :]), axis=0)])


def _by_kernel(xp: Any, even: Any, odd: Any, sums: Any, score: Score) -> Any:
    """Return the same by one kernel, for which a score is its value at 0 and its slope."""
    half, columns = even.shape
    offset = xp.ascontiguousarray(score(xp.zeros_like(sums), sums))
    slope = xp.ascontiguousarray(score(xp.ones_like(sums), sums) - offset)
    result = xp.empty((2, columns), dtype=xp.float32)
    arguments = (even, odd, slope, offset, result)
    numbers = (xp.int32(half), xp.int64(columns), xp.int32(sums.shape[1]), xp.int32(sums.shape[0] > 1))
    _kernel()((-(-columns // THREADS),), (THREADS,), (*arguments, *numbers))
    return xp.reshape(result, (2, -1, sums.shape[1]))


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Compile the kernel."""
    import cupy

    return cupy.RawKernel(SOURCE, "largest_scores")
