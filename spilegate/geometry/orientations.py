"""Orientations: quaternions, matrices, and the grid of views and in-plane angles that covers SO(3)."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from spilegate.backend import array_module
from spilegate.records import Float64


def matrices(quaternions: Float64) -> Float64:
    """Return the (..., 3, 3) rotation matrices, particle to laboratory, of (..., 4) quaternions (w, x, y, z)."""
    result: Float64 = Rotation.from_quat(quaternions, scalar_first=True).as_matrix()
    return result


def quaternions(rotations: Float64) -> Float64:
    """Return the (..., 4) quaternions (w, x, y, z), w >= 0, of (..., 3, 3) rotation matrices."""
    result: Float64 = Rotation.from_matrix(rotations).as_quat(canonical=True, scalar_first=True)
    return result


def euler_angles(quaternions: Float64) -> Float64:
    """Return RELION's angles rot, tilt and psi, (..., 3) [degrees], of (..., 4) quaternions (w, x, y, z).

    A pattern samples the particle at `R^T q`. An image of RELION's (as of Xmipp and Frealign; Heymann, Chagoyen and
    Belnap, J. Struct. Biol. 151:196, 2005) samples it at `A^T q` with `A = Z(psi)^T Y(tilt)^T Z(rot)^T`, where Z and Y
    turn vectors about an axis by the right hand. So A = R, and `R^T = Z(rot) Y(tilt) Z(psi)`: scipy's intrinsic "ZYZ".

    Where tilt is 0 or 180 degrees only the sum, or the difference, of the others is defined: then psi is 0.
    """
    with warnings.catch_warnings():
        # Of angles that are not defined.
        warnings.simplefilter("ignore")
        angles: Float64 = Rotation.from_quat(quaternions, scalar_first=True).inv().as_euler("ZYZ", degrees=True)
    return angles


def random_quaternions(count: int, rng: np.random.Generator) -> Float64:
    """Return (count, 4) quaternions uniform on SO(3)."""
    result: Float64 = Rotation.random(count, rng=rng).as_quat(canonical=True, scalar_first=True)
    return result


def rotated_points(rotations: Any, q: Any) -> Any:
    """Return the points `R^T q` of every rotation, (3, N, N_POINT), one contiguous array per axis as a NUFFT wants it.

    rotations : (N, 3, 3), particle to laboratory; q : (N_POINT, 3); both of one dtype and module, which the result has
    """
    xp = array_module(rotations)
    # One product for each rotation and axis: its rounding does not depend on which rotations share a tile.
    turned = xp.stack([rotations[:, :, axis] for axis in range(3)])[:, :, None, :]
    return xp.matmul(turned, xp.stack([q[:, axis] for axis in range(3)]))[:, :, 0, :]


def about_beam(angles: Float64) -> Float64:
    """Return the (..., 3, 3) rotations by `angles` [radians] about the beam, +z."""
    c, s, o, one = np.cos(angles), np.sin(angles), np.zeros_like(angles), np.ones_like(angles)
    return np.stack([c, -s, o, s, c, o, o, o, one], axis=-1).reshape(*np.shape(angles), 3, 3)


def view_grid(at_least: int, rng: np.random.Generator) -> Float64:
    """Return nearly uniform views, (N_VIEW, 3, 3) with N_VIEW >= at_least, turned at random as a whole.

    A view's matrix takes one HEALPix direction of the particle frame to the beam. Together with N_PHI in-plane
    angles the grid covers SO(3) = S^2 x S^1; the random turn keeps its gaps from staying where they are.
    """
    turn = Rotation.random(rng=rng).as_matrix()
    grid: Float64 = _views(max(1, int(np.ceil(np.sqrt(at_least / 12))))) @ turn
    return grid


@lru_cache(maxsize=2)
def _views(n_side: int) -> Float64:
    """Return the views of a HEALPix grid, not turned; a blind start asks for the same ones again and again."""
    import healpy  # it takes half a second, and only a search needs views

    theta, phi = healpy.pix2ang(n_side, np.arange(12 * n_side**2))
    c, s, o, one = np.cos(theta), np.sin(theta), np.zeros_like(theta), np.ones_like(theta)
    tilt = np.stack([c, o, -s, o, one, o, s, o, c], axis=-1).reshape(-1, 3, 3)
    views: Float64 = tilt @ about_beam(-phi)
    views.setflags(write=False)
    return views


def directions(count: int) -> Float64:
    """Return (count, 3) nearly uniform unit vectors with z > 0: a spiral of golden angles."""
    number = np.arange(count) + 0.5
    z, phi = 1 - number / count, np.pi * (1 + np.sqrt(5)) * number
    across = np.sqrt(1 - z * z)
    return np.stack([across * np.cos(phi), across * np.sin(phi), z], axis=-1)


def half_turned(quaternions: Float64) -> Float64:
    """Return orientations (..., 4) turned by half a turn about the beam."""
    w, x, y, z = np.moveaxis(quaternions, -1, 0)
    return np.stack([-z, -y, x, w], axis=-1)


def angle_between(first: Float64, second: Float64) -> Float64:
    """Return the angles [degrees] between matching quaternions (..., 4)."""
    cosine = np.abs((first * second).sum(-1))
    angle: Float64 = np.degrees(2 * np.arccos(np.minimum(cosine, 1.0)))
    return angle
