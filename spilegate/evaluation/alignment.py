"""Bring one density onto another: all rotations, both hands, sub-voxel shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.evaluation import rigid
from spilegate.evaluation.rotation_search import find_rotations, sampled, transform_of
from spilegate.geometry.fourier import fourier_resize
from spilegate.geometry.orientations import matrices, quaternions
from spilegate.kernels import fft
from spilegate.records import Float32, Float64

Complex64 = NDArray[np.complex64]

# Shells searched, in inverse diameters: from where speckles begin to where the rotation grid still hits one.
_SEARCH_FIRST, _SEARCH_LAST = 1.0, 5.0
_ROTATIONS = 24
# Growing spheres: radius in units of the searched one, poses that enter, Gauss-Newton steps, Fourier voxels used.
_BANDS = ((1.0, 8, 4, 4_000), (2.5, 3, 4, 6_000), (np.inf, 1, 3, 30_000))
# Where the rotation is known, or a few that may be: volumes are laid over each other to a tenth of a voxel.
_BANDS_NEAR = ((2.5, 4, 4, 6_000),)
# Shells whose mean power is below this fraction of the strongest shell's hold rounding errors only.
_POWER_FLOOR = 1e-8


@dataclass(frozen=True)
class Placement:
    """How a moving volume goes onto a fixed one: `placed(x) = moving(s R^T (x - shift))`, s = -1 if inverted.

    quaternion : (4,) float64 (w, x, y, z), w >= 0, of R, from the moving (inverted) frame to the fixed one
    inverted : whether the moving volume is first inverted through its centre voxel M // 2 (the other hand)
    shift_angstrom : (3,) float64 [angstrom], applied last, in the fixed frame
    """

    quaternion: Float64
    inverted: bool
    shift_angstrom: Float64

    @property
    def sign(self) -> int:
        """Return -1 if inverted, else 1."""
        return -1 if self.inverted else 1

    def then(self, other: Placement) -> Placement:
        """Return this placement followed by another one of what it has placed.

        `moving(s1 R1^T (s2 R2^T (x - t2) - t1)) = moving(s1 s2 (R2 R1)^T (x - t2 - s2 R2 t1))`.
        """
        first, second = matrices(self.quaternion), matrices(other.quaternion)
        shift: Float64 = other.shift_angstrom + other.sign * (second @ self.shift_angstrom)
        return Placement(quaternions(second @ first), self.inverted != other.inverted, shift)


@dataclass(frozen=True)
class Alignment(Placement):
    """The placement that brings the moving volume onto the fixed one best.

    correlation : Pearson correlation of aligned and fixed volume over all voxels, both cut to 0 < |q| <= q_max
    volume : (M, M, M) float32, the aligned volume, in its own units, band-limited to the Nyquist sphere
    """

    correlation: float
    volume: Float32


def align(
    moving: Float32,
    fixed: Float32,
    voxel_angstrom: float,
    *,
    q_max: float | None = None,
    near: Float64 | None = None,
    threads: int,
) -> Alignment:
    """Align a density to another of the same voxel size over SO(3), both hands and shifts; no starting guess is needed.

    Amplitudes |F rho|, blind to shift and hand, give the best rotations; the cross-correlation of each, for both
    hands, its shift; Gauss-Newton in growing spheres of Fourier space (`rigid`) decides among them and refines the
    best. Scale, offset, noise, or a moving volume of lower resolution do not matter.

    moving, fixed : cubes of float32, centre at size // 2; sizes may differ and are padded to a common odd M
    q_max : the largest q that has a say [1/angstrom], Nyquist if left out
    near : (n, 3, 3) rotations R, of which one is right to about a degree, if such are known
    Raises InputError for a volume that is no cube, not finite, or constant.
    """
    size = max(moving.shape[0], fixed.shape[0]) | 1
    moving, unit = _prepared(moving, size, "moving volume")
    fixed, _ = _prepared(fixed, size, "fixed volume")
    edge = size * voxel_angstrom
    nyquist = float(size // 2)
    fixed_spectrum = fft.rfftn(fft.to_corner(fixed), threads=threads)
    wanted = nyquist if q_max is None else q_max * edge
    radius = max(2.0, min(nyquist, wanted, _reach(fixed_spectrum), _reach(fft.rfftn(moving, threads=threads))))
    diameter = _diameter(fixed)
    inner = min(_SEARCH_LAST / diameter, radius)
    first = min(_SEARCH_FIRST / diameter, 0.5 * inner)
    rotations = find_rotations(moving, fixed, first, inner, _ROTATIONS, threads=threads) if near is None else near
    poses = _with_shifts(rigid.band(moving, fixed_spectrum, inner, threads=threads), rotations, threads)
    for growth, kept, steps, most_points in _BANDS if near is None else _BANDS_NEAR:
        problem = rigid.band(moving, fixed_spectrum, min(growth * inner, radius), most_points, threads=threads)
        poses = _refined(problem, poses[:kept], steps, threads)
    best = poses[0]
    spectrum = _moved_spectrum(moving, best, threads)
    return Alignment(
        quaternion=quaternions(best.rotation),
        inverted=best.sign < 0,
        shift_angstrom=best.shift * edge,
        correlation=_correlation(spectrum, fixed_spectrum, min(nyquist, wanted)),
        volume=unit * fft.to_centre(fft.irfftn(spectrum, size, threads=threads)),
    )


def moved(volume: Float32, placement: Placement, voxel_angstrom: float, *, threads: int) -> Float32:
    """Return another volume (M, M, M), M odd, of the moving one's frame, brought onto the fixed one's."""
    size = volume.shape[0]
    shift = placement.shift_angstrom / (size * voxel_angstrom)
    pose = rigid.Pose(matrices(placement.quaternion), placement.sign, shift)
    spectrum = _moved_spectrum(volume, pose, threads)
    result: Float32 = fft.to_centre(fft.irfftn(spectrum, size, threads=threads))
    return result


def _prepared(volume: Float32, size: int, name: str) -> tuple[Float32, np.float32]:
    """Check a volume, pad it to size^3 with its centre on the new centre, and scale it to unit variance.

    Returns what it was divided by as well.
    """
    if volume.ndim != 3 or len(set(volume.shape)) != 1:
        raise InputError(f"alignment, {name}: shape {volume.shape}; expected a cube; pad or crop it to one")
    spread = float(np.std(volume, dtype=np.float64))
    if not spread > 0 or not np.isfinite(spread):
        raise InputError(
            f"alignment, {name}: standard deviation {spread:g}; expected a finite density that is not constant; "
            "check how it was made"
        )
    before = size // 2 - volume.shape[0] // 2
    after = size - volume.shape[0] - before
    unit = np.float32(spread)
    return np.pad(np.ascontiguousarray(volume, np.float32) / unit, [(before, after)] * 3), unit


def _diameter(volume: Float32) -> float:
    """Return the diameter of a ball with the density's radius of gyration [box edges].

    Squared density above a tenth of the maximum, on a coarse grid, so that noise around the particle hardly counts.
    """
    size = min(volume.shape[0], 33)
    coarse = fourier_resize(volume, size, threads=1).astype(np.float64)
    mass = np.where(coarse > 0.1 * coarse.max(), coarse**2, 0.0)
    axis = (np.arange(size) - size // 2) / size
    square = sum(
        np.average(axis**2, weights=profile) - np.average(axis, weights=profile) ** 2
        for profile in (mass.sum((1, 2)), mass.sum((0, 2)), mass.sum((0, 1)))
    )
    return float(max(2 * np.sqrt(5 / 3 * square), 3 / size))


def _reach(spectrum: Complex64) -> float:
    """Return the radius of the outermost shell that holds more than rounding errors [Fourier voxels]."""
    most = spectrum.shape[0] // 2
    k = rigid.half_sphere(most)
    shell = np.rint(np.sqrt((k**2).sum(1))).astype(np.intp)
    power = np.bincount(shell, np.abs(spectrum[tuple(k.T)]) ** 2) / np.maximum(np.bincount(shell), 1)
    return float(np.flatnonzero(power > _POWER_FLOOR * power.max())[-1])


def _with_shifts(problem: rigid.Band, rotations: Float64, threads: int) -> list[rigid.Pose]:
    """Return, for every rotation (n, 3, 3) and both hands, the pose at the peak of the whitened cross-correlation.

    Best first by the height of the peak, in which every shell counts the same. The other hand's transform is
    the complex conjugate.
    """
    moved = problem.moved(rotations, 1, threads=threads)
    size = fft.fast_size(3 * int(problem.radius) + 2)
    spectrum = np.zeros((size, size, size // 2 + 1), np.complex64)
    x, y, z = problem.k.astype(int).T
    found = []
    for rotation, one_hand in zip(rotations, moved, strict=True):
        for sign, values in ((1, one_hand), (-1, one_hand.conj())):
            _, scale_fixed, scale_moved, _ = rigid.shell_statistics(problem, values)
            whitening = scale_fixed * scale_moved / np.arange(1, len(scale_fixed) + 1) ** 2
            spectrum[x, y, z] = problem.fixed * values.conj() * whitening[problem.shell]
            peaks = fft.irfftn(spectrum, size, threads=threads)
            peak = np.array(np.unravel_index(peaks.argmax(), peaks.shape))
            shift = (peak + size // 2) % size - size // 2
            found.append(rigid.Pose(rotation, sign, shift / size, float(peaks.max())))
    return sorted(found, key=lambda pose: -pose.score)


def _refined(problem: rigid.Band, poses: list[rigid.Pose], iterations: int, threads: int) -> list[rigid.Pose]:
    """Refine every pose within the band and return them best first."""
    refined = [rigid.refine(problem, pose, iterations, threads=threads) for pose in poses]
    return sorted(refined, key=lambda pose: -pose.score)


def _moved_spectrum(moving: Float32, pose: rigid.Pose, threads: int) -> Complex64:
    """Return the half spectrum (M, M, M // 2 + 1) of the moved volume, zero beyond the Nyquist sphere."""
    size = moving.shape[0]
    k = np.vstack([np.zeros((1, 3), np.int64), rigid.half_sphere(size // 2)])
    turned = pose.sign * (k @ pose.rotation)
    values = sampled(transform_of(moving, threads=threads), turned, threads=threads)
    spectrum = np.zeros((size, size, size // 2 + 1), np.complex64)
    spectrum[tuple(k.T)] = values * np.exp((-2j * np.pi) * (k @ pose.shift))
    return spectrum


def _correlation(first: Complex64, second: Complex64, radius: float) -> float:
    """Return the Pearson correlation of two densities cut to 0 < |k| <= radius, from their half spectra."""
    at = rigid.half_sphere(radius)
    a, b = first[tuple(at.T)], second[tuple(at.T)]
    # Both mates of a pair lie in the plane k_z = 0; elsewhere one stands for two.
    weight = np.where(at[:, 2] == 0, 0.5, 1.0)
    norm = (weight * np.abs(a) ** 2).sum() * (weight * np.abs(b) ** 2).sum()
    return float((weight * (a * b.conj()).real).sum() / np.sqrt(norm)) if norm > 0 else 0.0
