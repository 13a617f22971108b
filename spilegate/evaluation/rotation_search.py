"""Rotations that bring one density onto another, from Fourier amplitudes alone: blind to shift and hand.

`|F rho|` does not change when the density is shifted, nor when it is inverted through a point, so three of the
six unknowns and the hand drop out. Split `SO(3) = S^2 x S^1` as in matching: on rings about z an in-plane rotation is a
circular shift, so amplitudes are computed for views only and one FFT along the rings scores all in-plane angles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spilegate.geometry.fourier import fourier_resize
from spilegate.geometry.orientations import about_beam, view_grid
from spilegate.kernels import nufft
from spilegate.records import Float32, Float64

_TOLERANCE = 1e-5
# Below this many points starting and joining threads costs more than it saves.
_FEW_POINTS = 50_000
_VIEWS = 768
_IN_PLANE = 48
_SHELLS = 7
_RINGS_PER_SHELL = 8
# Peaks are sought with the inner shells alone as well, for a volume of which no more is known.
_SHELL_SETS = (slice(0, 3), slice(0, 7))
# Rotations nearer to a better one than this belong to the same peak [degrees].
_PEAK_WIDTH = 8.0
# Shells that vary less than this fraction of the strongest shell hold rounding errors only.
_FLOOR = 1e-3
# Half-width of the neighbourhood tried around every peak [degrees].
_CLIMB_STEP = 3.0


@dataclass(frozen=True)
class _Rings:
    """Fourier amplitudes of the fixed volume on half-shells, cut into rings about z.

    k : (N_SHELL, N_RING, N_PHI, 3) float64 [Fourier voxels]
    values : (N_SHELL, N_RING, N_PHI) float32, of zero mean and unit variance on every shell, times the sample's weight
    """

    k: Float64
    values: Float32

    def inner(self, shells: slice) -> _Rings:
        """Return the rings of some shells only."""
        return _Rings(self.k[shells], self.values[shells])


def transform_of(volume: Float32, radius: float = np.inf, *, threads: int) -> nufft.Transform:
    """Return the Fourier transform of a volume, to be sampled at |k| <= radius many times.

    It is of the smallest odd grid of the same extent that still holds the sphere.

    volume : (M, M, M) float32, M odd; radius [Fourier voxels], all there is if left out
    """
    if radius < volume.shape[0] // 2:
        volume = fourier_resize(volume, min(volume.shape[0], 2 * int(np.ceil(radius)) + 3), threads=threads)
    return nufft.Transform(np.asarray(volume, np.complex64), tolerance=_TOLERANCE, threads=threads)


def sampled(transform: nufft.Transform, k: Float64, *, threads: int) -> NDArray[np.complex64]:
    """Return a transform at k (..., 3) [Fourier voxels], complex64 (...)."""
    if k.size < 3 * _FEW_POINTS:
        threads = 1
    points = (2 * np.pi / transform.volumes.shape[0] * k.reshape(-1, 3).T).astype(np.float32)
    result: NDArray[np.complex64] = transform.at(np.ascontiguousarray(points), threads=threads).reshape(k.shape[:-1])
    return result


def find_rotations(moving: Float32, fixed: Float32, first: float, last: float, count: int, *, threads: int) -> Float64:
    """Return about `count` rotations R, (n, 3, 3), among them those with `|F moving|(R^T q) ~ |F fixed|(q)`.

    moving, fixed : (M, M, M) float32, M odd, centre at M // 2
    first, last : radii of the innermost and outermost shell compared [Fourier voxels]
    """
    rings = _sample_fixed(transform_of(fixed, last, threads=threads), first, last, threads)
    small = transform_of(moving, last, threads=threads)
    views = view_grid(_VIEWS, np.random.default_rng(0))
    amplitude = np.abs(sampled(small, rings.k @ views[:, None, None], threads=threads))
    amplitude *= _shell_scale(amplitude)
    found = []
    for shells in _SHELL_SETS:
        inner = rings.inner(shells)
        peaks = _grid_peaks(amplitude[:, shells], inner, views, count // len(_SHELL_SETS), threads)
        found.append(_climb(small, inner, peaks, threads))
    return np.concatenate(found)


def _sample_fixed(fixed: nufft.Transform, first: float, last: float, threads: int) -> _Rings:
    """Lay rings over half-shells (Gauss-Legendre in cos theta) and sample the fixed volume's amplitudes."""
    radii = np.linspace(first, last, _SHELLS)
    node, area = np.polynomial.legendre.leggauss(_RINGS_PER_SHELL)
    cosine, area = (node + 1) / 2, area / 2
    phi = np.arange(_IN_PLANE) * (2 * np.pi / _IN_PLANE)
    sine = np.sqrt(1 - cosine**2)[:, None]
    height = np.broadcast_to(cosine[:, None], (_RINGS_PER_SHELL, _IN_PLANE))
    sphere = np.stack([sine * np.cos(phi), sine * np.sin(phi), height], axis=-1)
    k = radii[:, None, None, None] * sphere
    amplitude = np.abs(sampled(fixed, k, threads=threads))
    share = area[:, None] / _IN_PLANE
    amplitude = amplitude - (share * amplitude).sum((1, 2), keepdims=True)
    spread = np.sqrt((share * amplitude**2).sum((1, 2), keepdims=True))
    # A shell counts as many times as it holds independent speckles, in proportion to its surface.
    weight = share * radii[:, None, None] ** 2
    values = weight * amplitude / np.maximum(spread, _FLOOR * spread.max())
    return _Rings(k, values.astype(np.float32))


def _grid_peaks(amplitude: Float32, rings: _Rings, views: Float64, count: int, threads: int) -> Float64:
    """Score views x in-plane angles and return the best separate peaks, (count, 3, 3), best first.

    amplitude : (N_VIEW, N_SHELL, N_RING, N_PHI) of the moving volume
    """
    # score(view, a) = sum fixed(shell, ring, phi) moving(shell, ring, phi - a)
    moving = scipy.fft.rfft(amplitude, workers=threads)
    spectrum = np.einsum("srm,vsrm->vm", scipy.fft.rfft(rings.values), moving.conj(), optimize=True)
    score = scipy.fft.irfft(spectrum, _IN_PLANE)
    best = np.argsort(score, axis=None)[: -40 * count : -1]
    view, angle = np.unravel_index(best, score.shape)
    turn = np.asarray(angle * (2 * np.pi / _IN_PLANE), np.float64)
    candidates: Float64 = about_beam(turn) @ views[view]
    return separate(candidates, count, _PEAK_WIDTH)


def separate(rotations: Float64, count: int, degrees: float) -> Float64:
    """Return up to `count` of the rotations (best first), none nearer than so many degrees to a better one."""
    quaternions = Rotation.from_matrix(rotations).as_quat()
    nearest = np.cos(np.radians(degrees) / 2)
    left = np.arange(len(rotations))
    chosen: list[int] = []
    while left.size and len(chosen) < count:
        chosen.append(int(left[0]))
        left = left[np.abs(quaternions[left] @ quaternions[left[0]]) < nearest]
    return rotations[chosen]


def _climb(moving: nufft.Transform, rings: _Rings, rotations: Float64, threads: int) -> Float64:
    """Move every rotation (n, 3, 3) to the best of its 27 neighbours."""
    lattice = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    turns = Rotation.from_rotvec(np.radians(_CLIMB_STEP) * lattice).as_matrix()
    trial: Float64 = turns @ rotations[:, None]
    amplitude = np.abs(sampled(moving, rings.k.reshape(-1, 3) @ trial, threads=threads))
    amplitude = amplitude.reshape(-1, *rings.values.shape)
    score = np.einsum("srm,csrm->c", rings.values, amplitude * _shell_scale(amplitude), optimize=True)
    best: Float64 = trial[np.arange(len(trial)), score.reshape(len(trial), -1).argmax(1)]
    return best


def _shell_scale(amplitude: Float32) -> Float32:
    """Return the factors (N_SHELL, 1, 1) that give amplitudes (n, N_SHELL, N_RING, N_PHI) unit variance on shells."""
    spread = amplitude.std((0, 2, 3), keepdims=True)[0]
    scale: Float32 = 1 / np.maximum(spread, _FLOOR * spread.max())
    return scale
