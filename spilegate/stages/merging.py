"""Merge: the autocorrelation that fits all patterns at their orientations, by least squares.

    min_A  sum_j w_j |I(q_j) - d_j|^2 + lambda |A|^2,   A real, centrosymmetric, zero outside its support

The normal operator is a convolution (Wajer and Pruessmann, ISMRM 2001; Fessler et al., IEEE Trans. Signal Process.
53:3393, 2005), so that a CG iteration costs two real FFTs, whatever the number of patterns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.geometry.fourier import radius_grid
from spilegate.geometry.orientations import rotated_points
from spilegate.kernels import cg, fft, nufft
from spilegate.settings import MergingOptions
from spilegate.state import Bool, Float32, Float64

# The kernel's error is multiplied by the condition number of the normal equations: tighter than slices.
TOLERANCE = 1e-6
# Points summed at once: their positions and strengths take 40 bytes each.
BLOCK_POINTS = 4_000_000


@dataclass(frozen=True)
class Normal:
    """The normal equations of a set of patterns; those of disjoint sets add.

    kernel : (2 M - 1,)^3 float64, `sum_j w_j cos(2 pi q_j.x)`, centre at M - 1
    right : (M, M, M) float64, `sum_j w_j d_j cos(2 pi q_j.x)`
    """

    kernel: Float64
    right: Float64

    def __add__(self, other: Normal) -> Normal:
        return Normal(self.kernel + other.kernel, self.right + other.right)


def support_ball(size: int, voxel_angstrom: float, diameter_angstrom: float) -> Bool:
    """Return (size,)*3 bool: where the autocorrelation of a particle of that diameter may be non-zero."""
    ball: Bool = radius_grid(size) * voxel_angstrom <= diameter_angstrom
    return ball


def normal_equations(
    patterns: Float32,
    weight: Float32,
    rotations: Float64,
    q: Float64,
    size: int,
    voxel_angstrom: float,
    *,
    threads: int,
) -> Normal:
    """Sum patterns into the normal equations of one state.

    patterns : (N, ...) float32, about BLOCK_POINTS values at most; weight : float32, broadcastable to them
    rotations : (N, 3, 3) float64, particle to laboratory; q : (..., 3) float64 [1/angstrom]

    Kernel and right-hand side are the even parts of two real sums, so they share one complex transform with the
    strengths `w + i w d`: the even part of its real part is the kernel's, of its imaginary part the right-hand side's.
    """
    points = rotated_points(rotations, q.reshape(-1, 3) * (2 * np.pi * voxel_angstrom)).reshape(3, -1)
    weights = np.broadcast_to(weight, patterns.shape).ravel()
    # Both parts in like units, or the transform's rounding of the larger would drown the smaller.
    unit = float(np.sqrt(np.mean(np.square(patterns, dtype=np.float64)))) or 1.0
    strengths = np.empty(points.shape[1], np.complex128)
    strengths.real = weights
    strengths.imag = weights * (patterns.ravel() / unit)
    volume = nufft.adjoint(strengths, points, 2 * size - 1, tolerance=TOLERANCE, threads=threads)
    even = (volume + volume[::-1, ::-1, ::-1]) / 2
    inner = slice(size // 2, size // 2 + size)
    return Normal(even.real.copy(), even.imag[inner, inner, inner] * unit)


def solve(
    normal: Normal, support: Bool, start: Float32, options: MergingOptions, *, threads: int
) -> tuple[Float32, dict[str, float]]:
    """Solve the normal equations by conjugate gradients in float64.

    support : (M, M, M) bool; start : (M, M, M) float32, first guess
    Returns the autocorrelation (M, M, M) float32 and the figures cg_iterations and merge_residual, the relative
    residual |b - N A| / |b| at the end.
    """
    size = len(support)
    padded = fft.fast_size(2 * size - 1)
    corner = np.zeros((padded,) * 3)
    corner[: 2 * size - 1, : 2 * size - 1, : 2 * size - 1] = normal.kernel
    spectrum = fft.rfftn(np.roll(corner, (1 - size,) * 3, (0, 1, 2)), threads=threads).real.copy()
    ridge = options.regularisation * float(spectrum.max())

    def apply(x: Float64) -> Float64:
        volume = x.reshape(support.shape)
        product = fft.irfftn(fft.rfftn(volume, size=padded, threads=threads) * spectrum, padded, threads=threads)
        result: Float64 = (product[:size, :size, :size] * support + ridge * volume).ravel()
        return result

    solution, figures = cg.solve(
        apply,
        (normal.right * support).ravel(),
        (start * support).astype(np.float64).ravel(),
        tolerance=options.tolerance,
        iterations=options.iterations,
    )
    return solution.reshape(support.shape).astype(np.float32), figures
