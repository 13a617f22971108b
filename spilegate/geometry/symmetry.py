"""Point groups of rotations: their elements, what is left to search, and their means over volumes.

A particle with the symmetry G looks the same turned by any g of G, so that R and R g explain the same pattern and its
density, intensity and autocorrelation obey V(g x) = V(x) about the axes of the group. Main axis along z.

Elements that map the voxel grid onto itself (signed permutations of x, y, z) form a subgroup H: a volume is averaged
over it exactly, by exchanging and reversing axes. Only one element c of every coset c H needs more: 1 for C1, C2, C4,
D2, D4, T and O, 5 of 60 for I, n of 2 n for D_n with odd n.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spilegate.backend import Array, array_module
from spilegate.errors import InputError
from spilegate.geometry.fourier import frequency_radius, radius_grid
from spilegate.kernels import fft, nufft
from spilegate.records import Float32, Float64
from spilegate.settings import symmetry_name

# Its images under any group of a few axes along or between x, y and z are far from each other.
GENERIC_DIRECTION = np.array([0.769, 0.251, 0.588])
# Entries of elements that differ from a whole number by less than this are whole.
ROUNDING = 1e-9
# Interpolation in float32 volumes.
TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class Group:
    """A group of rotations of the particle.

    name : "C1", "D4", "I" ...
    rotations : (N_GROUP, 3, 3) float64
    """

    name: str
    rotations: Float64

    @property
    def trivial(self) -> bool:
        """Return whether the identity is the only element."""
        return len(self.rotations) == 1

    @cached_property
    def permutations(self) -> Float64:
        """Return the elements (N_H, 3, 3) that map the voxel grid onto itself: whole numbers."""
        whole = np.rint(self.rotations)
        result: Float64 = whole[np.abs(self.rotations - whole).max(axis=(1, 2)) < ROUNDING]
        return result

    @cached_property
    def representatives(self) -> Float64:
        """Return one element c of every coset c H of the permutations H, (N_COSET, 3, 3), the identity first."""
        order = np.argsort(-np.trace(self.rotations, axis1=1, axis2=2), kind="stable")
        chosen: list[Float64] = []
        for rotation in self.rotations[order]:
            step = np.array([first.T @ rotation for first in chosen]).reshape(-1, 1, 3, 3)
            if not (np.abs(step - self.permutations).max(axis=(2, 3)) < 1e3 * ROUNDING).any():
                chosen.append(rotation)
        return np.array(chosen)


@lru_cache(maxsize=16)
def group(name: str) -> Group:
    """Return the group of a name: "C1", "C4", "D2", "T", "O", "I". Raises InputError for any other."""
    try:
        known = symmetry_name(name)
    except ValueError as error:
        raise InputError(f"symmetry: found {name!r}; expected {error}") from error
    elements = Rotation.create_group(known).as_matrix()
    whole = np.rint(elements)
    elements = np.where(np.abs(elements - whole) < ROUNDING, whole, elements)
    elements.setflags(write=False)
    return Group(known, elements)


def rotations(name: str) -> Float64:
    """Return the elements of a group, (N_GROUP, 3, 3) float64, as scipy's `Rotation.create_group` has them.

    C_n : n-fold axis along z; D_n : the same, and half turns about n axes across it, the first along x
    T : half turns about x, y and z, 3-fold axes along (1, 1, 1) ...; O : 4-fold axes along x, y, z
    I : half turns about x, y and z among others, 3-fold axes along (1, 1, 1) ...
    Raises InputError for any other name.
    """
    return group(name).rotations


def asymmetric_unit(views: Float64, elements: Float64) -> Float64:
    """Return the views that no element of the group brings nearer to one fixed direction, about N_VIEW / N_GROUP.

    views : (N_VIEW, 3, 3) float64, each with the direction `R^T z` in the particle frame; elements : (N_GROUP, 3, 3)
    Returns (N, 3, 3). `R g` of those R and all g cover the same directions as the views do; where two images of the
    unit meet, their grids do not match, and gaps are a little wider. At least one view remains.
    """
    nearness = np.einsum("va,gab,b->vg", views[:, 2], elements, GENERIC_DIRECTION)
    # R g has the direction g^T R^T z, whose cosine to the fixed direction is R^T z . g d.
    own = views[:, 2] @ GENERIC_DIRECTION
    behind = nearness.max(axis=1) - own
    unit: Float64 = views[behind <= max(ROUNDING, float(behind.min()))]
    return unit


def nearest_equivalents(quaternions: Float64, reference: Float64, elements: Float64) -> Float64:
    """Return of every orientation R the equivalent one, R g, nearest to a reference orientation.

    quaternions, reference : (..., 4) float64 (w, x, y, z), broadcast to each other; elements : (N_GROUP, 3, 3)
    """
    shape = np.broadcast_shapes(quaternions.shape, reference.shape)
    own, fixed = (np.broadcast_to(array, shape).reshape(-1, 4) for array in (quaternions, reference))
    best, cosine = own.copy(), np.full(len(own), -1.0)
    for element in elements:
        turned = Rotation.from_quat(own, scalar_first=True) * Rotation.from_matrix(element)
        candidate = turned.as_quat(canonical=True, scalar_first=True)
        near = np.abs((candidate * fixed).sum(-1))
        better = near > cosine + ROUNDING
        best[better], cosine[better] = candidate[better], near[better]
    return best.reshape(shape)


def permuted_mean(volume: Array, permutations: NDArray[np.float64]) -> Array:
    """Return the mean of `V(h x)` over signed permutations h, (N_H, 3, 3), of a volume (M, M, M), M odd; exact."""
    xp = array_module(volume)
    total = xp.zeros_like(volume)
    for turn in permutations:
        source = np.abs(turn).argmax(axis=1)
        backwards = tuple(axis for axis in range(3) if turn[axis, source[axis]] < 0)
        turned = xp.flip(volume, axis=backwards) if backwards else volume
        total += xp.permute_dims(turned, tuple(np.argsort(source).tolist()))
    return total / len(permutations)


def symmetric_mean(volume: Float32, symmetry: Group, *, threads: int) -> Float32:
    """Return the mean of `V(g x)` over the group of a real volume (M, M, M), M odd, that vanishes towards its edges.

    The volume is taken as the trigonometric polynomial through its voxels, without frequencies beyond the inscribed
    sphere, and evaluated at the turned voxels of the inscribed ball (type-2 NUFFT). Volumes need no turning, and
    keep everything, for groups that map the grid onto itself; C1 returns the volume itself.
    """
    if symmetry.trivial:
        return volume
    turned = volume
    if len(symmetry.representatives) > 1:
        size = volume.shape[0]
        spectrum = fft.fftn(fft.to_corner(volume), threads=threads) * (frequency_radius(size) < 0.5) / size**3
        spectrum = np.ascontiguousarray(fft.to_centre(spectrum), np.complex64)
        inside = radius_grid(size) <= size // 2
        voxels = (np.argwhere(inside) - size // 2) * (-2 * np.pi / size)
        total = np.zeros(len(voxels), np.float32)
        for turn in symmetry.representatives:
            points = np.ascontiguousarray((voxels @ turn.T).T, np.float32)
            total += nufft.forward(spectrum, points, tolerance=TOLERANCE, threads=threads).real
        turned = np.zeros_like(volume)
        turned[inside] = total / len(symmetry.representatives)
    result: Float32 = permuted_mean(turned, symmetry.permutations)
    return result
