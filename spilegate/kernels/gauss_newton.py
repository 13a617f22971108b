"""Normal matrices of a Gauss-Newton step: how a pattern's slice changes when its particle is turned a little.

As array functions it is some twenty passes over all points of all patterns; on a GPU it is one kernel, a block for each
pattern.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from spilegate.backend import array_module, to_host
from spilegate.records import Float64

THREADS = 256
# Row and column of every element of a symmetric 4 x 4 matrix that is summed up, row by row.
ROWS, COLUMNS = np.triu_indices(4)
ENTRIES = len(ROWS) + 4
SOURCE = r"""
extern "C" __global__ void normal_matrices(
    const float* points, const float2* spectra, const float* factor, const float* root, const float* residual,
    float* result, const long long count, const int n_pixel)
{
    const long long pattern = blockIdx.x, plane = count * n_pixel, first = pattern * n_pixel;
    const float scale = 1.0f / factor[pattern];
    float sum[14];
    for (int k = 0; k < 14; ++k) sum[k] = 0.0f;
    for (int j = threadIdx.x; j < n_pixel; j += blockDim.x) {
        const long long here = first + j;
        const float px = points[here], py = points[plane + here], pz = points[2 * plane + here];
        const float2 one = spectra[here], two = spectra[plane + here];
        const float gx = one.y, gy = two.x, gz = two.y, weight = root[here], rest = residual[here];
        const float jacobian[4] = {
            (pz * gy - py * gz) * weight, (px * gz - pz * gx) * weight, (py * gx - px * gy) * weight,
            one.x * scale * weight};
        int k = 0;
        for (int a = 0; a < 4; ++a) {
            for (int b = a; b < 4; ++b) sum[k++] += jacobian[a] * jacobian[b];
        }
        for (int a = 0; a < 4; ++a) sum[k++] += jacobian[a] * rest;
    }
    __shared__ float shared[14][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int k = 0; k < 14; ++k) {
        for (int step = 16; step > 0; step /= 2) sum[k] += __shfl_down_sync(0xffffffffu, sum[k], step);
        if (lane == 0) shared[k][warp] = sum[k];
    }
    __syncthreads();
    if (threadIdx.x < 14) {
        double total = 0.0;
        for (int w = 0; w < blockDim.x / 32; ++w) total += shared[threadIdx.x][w];
        result[pattern * 14 + threadIdx.x] = (float)total;
    }
}
"""


def normal_matrices(
    points: Any, spectra: Any, factor: Any, root: Any, residual: Any, lateral: Any = None
) -> tuple[Float64, Float64]:
    """Return normal matrices (n, 4, 4) and right-hand sides (n, 4) of n patterns, on the host.

    A turn of the particle by `delta` changes the intensity by `-(p x grad I(p)) . delta`; the fourth unknown is the
    factor of the pattern's scale.

    points : (3, n, N_PIX) float32, rotated, radians per voxel
    spectra : (2, n, N_PIX) complex64, `I + i dI/dx` and `dI/dy + i dI/dz`
    factor : (n,) float32; root, residual : (n, N_PIX) float32, see `Likelihood.residuals`
    lateral : (n, 2, 3) float32, directions in the particle's frame that points move in when the pattern's shift grows;
        with them there are three unknowns more, (n, 7, 7): the logarithm of the size, by which points move outwards,
        and the shift
    """
    xp = array_module(points)
    if xp.__name__ == "cupy" and lateral is None:
        return _by_kernel(xp, points, spectra, factor, root, residual)
    px, py, pz = (points[axis, ...] for axis in range(3))
    # One copy out of the complex arrays, so that the products below run over contiguous memory.
    stacked = xp.stack([xp.imag(spectra[0, ...]), xp.real(spectra[1, ...]), xp.imag(spectra[1, ...])])
    gx, gy, gz = (stacked[axis, ...] for axis in range(3))
    columns = [pz * gy - py * gz, px * gz - pz * gx, py * gx - px * gy, xp.real(spectra[0, ...]) / factor[:, None]]
    if lateral is not None:
        columns.append(px * gx + py * gy + pz * gz)
        columns += [sum(lateral[:, k, axis, None] * stacked[axis, ...] for axis in range(3)) for k in range(2)]
    jacobian = xp.stack(columns, axis=1)
    jacobian *= root[:, None, :]
    matrices = to_host(xp.matmul(jacobian, xp.permute_dims(jacobian, (0, 2, 1))))
    return matrices, to_host(xp.matmul(jacobian, residual[..., None])[..., 0])


def _by_kernel(xp: Any, points: Any, spectra: Any, factor: Any, root: Any, residual: Any) -> tuple[Float64, Float64]:
    """Return the same by one kernel."""
    _, count, n_pixel = points.shape
    arrays = [xp.ascontiguousarray(array) for array in (points, spectra, factor, root, residual)]
    result = xp.empty((count, ENTRIES), dtype=xp.float32)
    _kernel()((count,), (THREADS,), (*arrays, result, xp.int64(count), xp.int32(n_pixel)))
    sums = to_host(result)
    matrices = np.empty((count, 4, 4))
    matrices[:, ROWS, COLUMNS] = matrices[:, COLUMNS, ROWS] = sums[:, :-4]
    return matrices, sums[:, -4:]


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Compile the kernel."""
    import cupy

    return cupy.RawKernel(SOURCE, "normal_matrices")
