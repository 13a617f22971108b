"""Merge: the autocorrelation that fits all patterns at their orientations, by least squares.

    min_A  sum_j w_j |I(q_j) - d_j|^2 + lambda |A|^2,   A real, centrosymmetric, zero outside its support

The normal operator is a convolution (Wajer and Pruessmann, ISMRM 2001; Fessler et al., IEEE Trans. Signal Process.
53:3393, 2005), so that a CG iteration costs two real FFTs, whatever the number of patterns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np

from spilegate.backend import Array, array_module, from_host, to_host
from spilegate.geometry.fourier import radius_grid
from spilegate.geometry.orientations import rotated_points
from spilegate.geometry.seeing import Seeing, shifted
from spilegate.geometry.symmetry import Group, permuted_mean
from spilegate.kernels import cg, fft, nufft
from spilegate.kernels.blocks import block_rows, tile_rows
from spilegate.kernels.elementwise import elementwise
from spilegate.kernels.exact import Total
from spilegate.kernels.loops import scalar
from spilegate.kernels.plans import grid_bytes
from spilegate.kernels.workers import Here, Workers
from spilegate.likelihood.sampling import Sampling
from spilegate.records import Bool, Float32, Float64, Int64
from spilegate.settings import MergingOptions

# The kernel's error is multiplied by the condition number of the normal equations: tighter than slices.
TOLERANCE = 1e-6
# Memory of a point in double precision, with its coordinates, its strength and what it is sorted by.
POINT_BYTES = 256.0
# Points of slices summed at once: at least, and at most; between them, this part of the samples of the sum's grid, so
# that the transform of the grid is a small part of the time.
FEWEST_POINTS, MOST_POINTS, PART_OF_GRID = 250_000, 2_000_000, 0.5


@dataclass(frozen=True)
class Normal:
    """The normal equations of one state; where a device did the work, arrays of it.

    kernel : (2 M - 1,)^3 float64, `sum_j w_j cos(2 pi q_j.x)`, centre at M - 1
    right : (M, M, M) float64, `sum_j w_j d_j cos(2 pi q_j.x)`
    """

    kernel: Float64
    right: Float64

    def __add__(self, other: Normal) -> Normal:
        """Return the equations of both sets of patterns."""
        return Normal(self.kernel + other.kernel, self.right + other.right)

    def mean(self, cosets: int, permutations: Float64) -> Normal:
        """Return the mean of a sum over so many cosets, and over the permutations of the voxels, (N_H, 3, 3)."""
        return Normal(*(permuted_mean(to_host(part) / cosets, permutations) for part in (self.kernel, self.right)))


def support_ball(size: int, voxel_angstrom: float, diameter_angstrom: float) -> Bool:
    """Return (size,)*3 bool: where the autocorrelation of a particle of that diameter may be non-zero."""
    ball: Bool = radius_grid(size) * voxel_angstrom <= diameter_angstrom
    return ball


def normal_equations(
    images: Any,
    sampling: Sampling,
    labels: Int64,
    rotations: Float64,
    scale: Float64,
    weight: Float64,
    n_states: int,
    size: int,
    voxel_angstrom: float,
    *,
    seeing: Seeing | None = None,
    workers: Workers,
) -> list[Normal | None]:
    """Sum all patterns into the normal equations of their states; None for a state without patterns.

    images : (N_IMG, N_PIX), patterns or lists of their photons; labels : (N_IMG,) int64, the state of each
    rotations : (N_IMG, 3, 3) float64, particle to laboratory
    scale, weight : (N_IMG,) float64; a pattern of scale s says d / s of the intensity with the weight s, as the
    statistics of photons want it; those of weight 0 are left out
    seeing : what patterns have of their own, shifts in 1/angstrom; None for nothing
    Rotated pixels crowd towards the centre as 1 / |q|; the weight |q| evens them out, so that CG converges fast.
    """
    radius = np.linalg.norm(sampling.q, axis=-1)
    evening = (radius / radius.mean() * sampling.response).astype(np.float32)
    if sampling.trust is not None:
        evening = evening * sampling.trust
    strength = scale * weight
    total = float(evening @ np.abs(sampling.mean)) * strength.sum()
    kernel, right = (2 * size - 1,) * 3, (size,) * 3
    outputs = [
        Total((n_states, *kernel), 4.0 * evening.sum() * strength.sum(), shared=True),
        Total((n_states, *right), 4.0 * total, shared=True),
    ]
    labels = np.where(strength > 0, labels, -1)

    def sum_tile(here: Here, part: slice, block: Any) -> tuple[Any, Any]:
        patterns = sampling.normalised(sampling.counts(block), here.array(scale[part]))
        sums = []
        for state in range(n_states):
            mine = np.flatnonzero(labels[part] == state)
            own = here.xp.take(patterns, here.array(mine), axis=0)
            weights = here.array(strength[part][mine])[:, None] * here.array(evening, np.float64)
            weights = here.xp.astype(weights, here.xp.float32)
            own_way = seeing and seeing[part][mine].times(2 * np.pi * voxel_angstrom)
            sums.append(_part(here, own, weights, rotations[part][mine], sampling.q, size, voxel_angstrom, own_way))
        return here.xp.stack([kernel for kernel, _ in sums]), here.xp.stack([right for _, right in sums])

    # Lists of photons come in larger blocks than the patterns that are made of them.
    most = block_rows(len(images), sampling.n_pixel)
    tile = tile_rows(len(images), math.prod(images.shape[1:]), most)
    row_bytes = POINT_BYTES * len(evening) + 8.0 * sampling.n_pixel
    kernels, rights = workers.run(
        sum_tile,
        len(images),
        outputs,
        tile=tile,
        split=[images],
        row_bytes=row_bytes,
        tile_bytes=n_states * _sum_bytes(size),
    )
    number = np.bincount(labels[labels >= 0], minlength=n_states)
    return [Normal(kernels[k], rights[k]) if number[k] else None for k in range(n_states)]


def normal_equations_of_slices(
    slices: Float32,
    weight: Float32,
    rotations: Float64,
    q: Float64,
    size: int,
    voxel_angstrom: float,
    *,
    workers: Workers,
) -> Normal:
    """Sum slices with weights of their own into normal equations.

    slices : (N, ...) float32; weight : float32, broadcast to them
    rotations : (N, 3, 3) float64; q : (..., 3) float64 [1/angstrom]
    """
    weight = np.broadcast_to(weight, slices.shape)
    kernel, right = (2 * size - 1,) * 3, (size,) * 3
    bounds = [float(np.sum(value, dtype=np.float64)) for value in (weight, weight * np.abs(slices))]
    outputs = [Total(shape, 4.0 * bound, shared=True) for shape, bound in zip((kernel, right), bounds, strict=True)]

    def sum_tile(here: Here, part: slice) -> tuple[Any, Any]:
        return _part(here, here.array(slices[part]), weight[part], rotations[part], q, size, voxel_angstrom)

    samples = math.prod(slices.shape[1:])
    points = min(MOST_POINTS, max(FEWEST_POINTS, int(PART_OF_GRID * (2 * kernel[0]) ** 3)))
    summed = workers.run(
        sum_tile,
        len(slices),
        outputs,
        tile=max(1, points // samples),
        row_bytes=POINT_BYTES * samples,
        tile_bytes=_sum_bytes(size),
    )
    return Normal(*summed)


def _sum_bytes(size: int) -> float:
    """Return the memory of a tile's sums, for a kernel and what is made of it."""
    return grid_bytes(2 * size - 1) + 32.0 * (2 * size - 1) ** 3


def symmetric_normals(
    summed: Callable[[Float64], list[Normal | None]], rotations: Float64, symmetry: Group
) -> list[Normal | None]:
    """Sum patterns at all equivalents of their orientations: least squares with the symmetry imposed, exactly.

    summed : the normal equations of every state with the patterns at rotations (N, 3, 3)
    rotations : (N, 3, 3) float64, particle to laboratory
    The mean over R g is taken: over one element of every coset by summing again, over the rest by permuting voxels.
    """
    if symmetry.trivial:
        return summed(rotations)
    total = summed(rotations)
    for turn in symmetry.representatives[1:]:
        total = [one and other and one + other for one, other in zip(total, summed(rotations @ turn), strict=True)]
    return [normal and normal.mean(len(symmetry.representatives), symmetry.permutations) for normal in total]


def _part(
    here: Here,
    patterns: Any,
    weight: Any,
    rotations: Float64,
    q: Float64,
    size: int,
    voxel_angstrom: float,
    seeing: Seeing | None = None,
) -> tuple[Any, Any]:
    """Return what patterns (N, ...) add to kernel and right-hand side; weight has their shape, or that of one.

    Kernel and right-hand side are the even parts of two real sums, so they share one complex transform with the
    strengths `w + i w d`: the even part of its real part is the kernel's, of its imaginary part the right-hand side's.
    """
    xp = here.xp
    inner = slice(size // 2, size // 2 + size)
    if not len(rotations):
        return xp.zeros((2 * size - 1,) * 3, dtype=xp.float64), xp.zeros((size,) * 3, dtype=xp.float64)
    scaled = here.array(q.reshape(-1, 3) * (2 * np.pi * voxel_angstrom))
    if seeing is None:
        points = rotated_points(here.array(rotations), scaled)
    else:
        points = rotated_points(here.array(seeing.matrices(rotations)), scaled)
        points = shifted(points, here.array(seeing.offsets(rotations)))
    points = xp.reshape(points, (3, -1))
    values = xp.astype(xp.reshape(patterns, (len(rotations), -1)), xp.float64)
    # Both parts in like units, or the transform's rounding of the larger would drown the smaller.
    unit = float(xp.mean(values * values)) ** 0.5 or 1.0
    weights = xp.reshape(here.array(weight, xp.float64), (-1, values.shape[1]))
    strengths = weights * (xp.astype(values / unit, xp.complex128) * 1j + 1.0)
    volume = nufft.adjoint(xp.reshape(strengths, (-1,)), points, 2 * size - 1, tolerance=TOLERANCE)
    even = (volume + xp.flip(volume)) / 2
    return xp.real(even), xp.imag(even)[inner, inner, inner] * unit


def solve(
    normal: Normal, support: Array, start: Array, options: MergingOptions, *, threads: int
) -> tuple[Array, dict[str, float]]:
    """Solve the normal equations, arrays of any module, by conjugate gradients in float64.

    support : (M, M, M) bool; start : (M, M, M) float32, first guess; both of the same module, or NumPy arrays
    Returns the autocorrelation (M, M, M) float32 and the figures cg_iterations and merge_residual, the relative
    residual |b - N A| / |b| at the end.
    """
    xp, shape, size = array_module(normal.right), normal.right.shape, normal.right.shape[0]
    inside, first = (xp.asarray(from_host(array, normal.right), dtype=xp.float64) for array in (support, start))
    padded = fft.fast_size(2 * size - 1)
    corner = xp.zeros((padded,) * 3, dtype=xp.float64)
    corner[: 2 * size - 1, : 2 * size - 1, : 2 * size - 1] = normal.kernel
    # The plus sign makes a copy without the gaps that imaginary parts leave.
    spectrum = +xp.real(fft.rfftn(xp.roll(corner, (1 - size,) * 3, axis=(0, 1, 2)), threads=threads))
    ridge = scalar(options.regularisation * xp.max(spectrum))
    solution, figures = cg.solve(
        cg.Operator(_applied, (spectrum, inside, ridge), (padded, threads)),
        xp.reshape(normal.right * inside, (-1,)),
        xp.reshape(first * inside, (-1,)),
        tolerance=options.tolerance,
        iterations=options.iterations,
    )
    return xp.asarray(xp.reshape(solution, shape), dtype=xp.float32), figures


def _applied(x: Array, fixed: tuple[Array, ...], padded: int, threads: int) -> Array:
    """Return the regularised normal operator's value for a vector: a convolution, cut to the support."""
    spectrum, inside, ridge = fixed
    xp, size = array_module(x), inside.shape[0]
    volume = xp.reshape(x, inside.shape)
    product = fft.rfftn(volume, size=padded, threads=threads)
    product = elementwise(mul, product, spectrum, reuse=product)
    inner = fft.irfftn(product, padded, threads=threads, keep=size)
    return xp.reshape(elementwise(_regularised, inner, inside, volume, scalars=(ridge,)), (-1,))


def _regularised(product: Array, inside: Array, volume: Array, ridge: float) -> Array:
    """Return the normal operator's value, cut to the support, and the penalty on |A|^2."""
    return product * inside + ridge * volume
