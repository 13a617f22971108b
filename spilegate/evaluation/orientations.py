"""How far found orientations are from the true ones, after the one rotation of the particle frame that is free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from spilegate.errors import InputError
from spilegate.geometry.symmetry import nearest_equivalents, rotations
from spilegate.records import Float64

_MOST_CANDIDATES = 1024
# Elements of a (candidates, patterns) block.
_BLOCK = 1 << 22
# Radii within which a pattern supports a global rotation, one after the other [degrees].
_INLIER_RADII = (20.0, 12.0, 12.0, 6.0, 6.0)


@dataclass(frozen=True)
class OrientationError:
    """Errors of orientations after the best global rotation.

    global_quaternion : (4,) float64 (w, x, y, z), w >= 0, of G with `R_found ~ R_true G^T`; G takes the true particle
        frame to the reconstructed one
    degrees : (N,) float64, angle between every `R_found G` and `R_true`
    median_deg : their median; fraction_within_12_deg : how many of them are at most 12 degrees
    """

    global_quaternion: Float64
    degrees: Float64
    median_deg: float
    fraction_within_12_deg: float

    def figures(self) -> dict[str, float]:
        """Return median and mean [degrees] and fraction_within_12, ready for JSON."""
        return {
            "median": self.median_deg,
            "mean": float(self.degrees.mean()),
            "fraction_within_12": self.fraction_within_12_deg,
        }


def orientation_error(quaternions: Float64, truth: Float64, *, symmetry: str = "C1") -> OrientationError:
    """Return the errors of orientations (N, 4) against the true ones (N, 4), both (w, x, y, z).

    A reconstruction's particle frame is its own: `rho_found(x) = rho_true(G^T x)` explains the same patterns with
    `R_found = R_true G^T`. Every pattern thus proposes `G_i = R_found_i^T R_true_i`, and its error under G is the angle
    between G_i and G. The proposal with most support starts a mean over ever nearer proposals, so that wrong patterns,
    even a majority, do not draw it; if most are near, the median itself is minimised last.

    symmetry : a point group about the reconstruction's axes; then R_found g explains the pattern as well as R_found,
        and the angle is the least over all g. How the true axes lie need not be known: G takes them there.

    Raises InputError if the shapes differ or are not (N, 4), for zero or non-finite quaternions, for an unknown group.
    """
    if quaternions.ndim != 2 or quaternions.shape[1] != 4 or quaternions.shape != truth.shape or not len(truth):
        raise InputError(
            f"orientation error: quaternions of shapes {quaternions.shape} and {truth.shape}; expected (N, 4) twice; "
            "give one (w, x, y, z) per pattern in each"
        )
    proposals = _unit(_conjugate_times(_unit(quaternions, "found"), _unit(truth, "true")), "relative")
    elements = rotations(symmetry)
    best = _most_supported(proposals, elements)
    for radius in _INLIER_RADII:
        proposals = _equivalents(proposals, best, elements)
        near = _angles(proposals, best) <= radius
        if near.any():
            best = Rotation.from_quat(proposals[near], scalar_first=True).mean().as_quat(scalar_first=True)
    best = _least_median(_equivalents(proposals, best, elements), best)
    proposals = _equivalents(proposals, best, elements)
    degrees = _angles(proposals, best)
    return OrientationError(
        global_quaternion=Rotation.from_quat(best, scalar_first=True).as_quat(canonical=True, scalar_first=True),
        degrees=degrees,
        median_deg=float(np.median(degrees)),
        fraction_within_12_deg=float(np.mean(degrees <= 12.0)),
    )


def _unit(quaternions: Float64, name: str) -> Float64:
    """Return quaternions (N, 4) scaled to length one."""
    length = np.linalg.norm(quaternions, axis=1, keepdims=True)
    wrong = ~(np.isfinite(length) & (length > 0))
    if wrong.any():
        raise InputError(
            f"orientation error: {int(wrong.sum())} of {len(quaternions)} {name} quaternions zero or not finite; "
            "expected unit (w, x, y, z); check the orientations of the file"
        )
    result: Float64 = quaternions.astype(np.float64) / length
    return result


def _conjugate_times(first: Float64, second: Float64) -> Float64:
    """Return the quaternions (N, 4) of `R(first)^T R(second)`."""
    turn = Rotation.from_quat(first, scalar_first=True).inv() * Rotation.from_quat(second, scalar_first=True)
    result: Float64 = turn.as_quat(scalar_first=True)
    return result


def _angles(proposals: Float64, quaternion: Float64) -> Float64:
    """Return the angles [degrees] between proposals (N, 4) and one quaternion, exact for small ones too.

    `|p -+ g| = 2 sin(angle / 4)`; the arc cosine of |p.g| would lose half the digits.
    """
    near = np.minimum(np.linalg.norm(proposals - quaternion, axis=1), np.linalg.norm(proposals + quaternion, axis=1))
    result: Float64 = np.degrees(4 * np.arcsin(np.minimum(near / 2, 1.0)))
    return result


def _equivalents(proposals: Float64, quaternion: Float64, elements: Float64) -> Float64:
    """Return of every proposal (N, 4) the equivalent one, g^T G_i, nearest to a quaternion (4,)."""
    if len(elements) == 1:
        return proposals
    inverse = np.array([1.0, -1.0, -1.0, -1.0])
    return inverse * nearest_equivalents(inverse * proposals, inverse * quaternion, elements)


def _most_supported(proposals: Float64, elements: Float64) -> Float64:
    """Return the proposal, of evenly chosen ones, with the largest sum of `1 - (angle / radius)^2` over those near."""
    chosen = np.unique(np.linspace(0, len(proposals) - 1, min(_MOST_CANDIDATES, len(proposals))).astype(int))
    candidates = proposals[chosen]
    support = np.zeros(len(candidates))
    edge = np.cos(np.radians(_INLIER_RADII[0]) / 2) ** 2
    rows = max(1, _BLOCK // len(candidates))
    for start in range(0, len(proposals), rows):
        cosine = _squared_cosines(candidates, proposals[start : start + rows], elements)
        cosine -= edge
        support += np.maximum(cosine, 0, out=cosine).sum(1)
    best: Float64 = candidates[support.argmax()]
    return best


def _squared_cosines(candidates: Float64, proposals: Float64, elements: Float64) -> NDArray[np.float64]:
    """Return squared cosines (n, N) of half the angles between candidates and the nearest equivalents of proposals."""
    nearest: NDArray[np.float64] = np.square(candidates @ proposals.T)
    own = Rotation.from_quat(proposals, scalar_first=True)
    for element in elements if len(elements) > 1 else ():
        turned = (Rotation.from_matrix(element).inv() * own).as_quat(scalar_first=True)
        np.maximum(nearest, np.square(candidates @ turned.T), out=nearest)
    return nearest


def _least_median(proposals: Float64, quaternion: Float64) -> Float64:
    """Return the quaternion near the given one that makes the median angle least, if most proposals lie near.

    Otherwise the median is an angle of wrong patterns, which says nothing, and the quaternion is returned as it is.
    """
    median = float(np.median(_angles(proposals, quaternion)))
    if median > _INLIER_RADII[0]:
        return quaternion

    def turned(vector: Float64) -> Float64:
        turn = Rotation.from_rotvec(vector, degrees=True) * Rotation.from_quat(quaternion, scalar_first=True)
        result: Float64 = turn.as_quat(scalar_first=True)
        return result

    corners = 0.5 * max(median, 1e-6) * np.vstack([np.zeros((1, 3)), np.eye(3)])
    found = minimize(
        lambda vector: float(np.median(_angles(proposals, turned(vector)))),
        np.zeros(3),
        method="Nelder-Mead",
        options={"initial_simplex": corners, "maxfev": 80, "xatol": 1e-4 * max(median, 1e-6), "fatol": 0.0},
    )
    return turned(found.x) if found.fun < median else quaternion
