"""A reconstruction against a known density: correlation, resolution, hand, orientation errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.evaluation.alignment import align
from spilegate.evaluation.fsc import FscCurve, fourier_shell_correlation, resolution_angstrom
from spilegate.evaluation.orientations import orientation_error
from spilegate.geometry.fourier import fourier_resize, frequency_radius
from spilegate.kernels import fft, nufft
from spilegate.records import Float32, Float64

# The reference's share of squared density that may fall outside the box compared in.
_MOST_OUTSIDE = 0.05
# A map whose third moment about what surrounds it is as negative, as a part of the largest it could be, is inverted.
_SKEWED = 0.1
# Of the low-passed reference's maximum: what counts as particle.
_PARTICLE_LEVEL = 0.1
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Comparison:
    """A reconstruction's figures of merit against a reference. `dataclasses.asdict` of it is ready for JSON.

    correlation : Pearson correlation after alignment, see `compare`
    resolution_angstrom : where the Fourier shell correlation falls below 0.5; None if it never rises above
    hand : "inverted" if the other hand of the density fits the reference
    orientation_error_deg : median, mean [degrees] and fraction_within_12, after the best global rotation; None if
        orientations were not given
    quaternion : (w, x, y, z) of R, shift_angstrom : t, in `aligned(x) = density(s R^T (x - t))`, s = -1 if inverted
    """

    correlation: float
    resolution_angstrom: float | None
    hand: Literal["same", "inverted"]
    orientation_error_deg: dict[str, float] | None
    quaternion: tuple[float, float, float, float]
    shift_angstrom: tuple[float, float, float]


def resample_map(volume: Float32, voxel_in: float, size: int, voxel_out: float, *, threads: int) -> Float32:
    """Resample a density on another grid about the same centre; neither voxel nor extent need agree.

    The volume's Fourier transform is evaluated at the target's Fourier voxels (type-2 NUFFT) as far as both grids
    reach, zero beyond, and transformed back: band-limited interpolation. What lies outside the target's box is cut
    off first, so that it does not fold back in. Values stay densities: an integral over space does not change.

    volume : (A, B, C), centre at (A // 2, B // 2, C // 2); voxel_in, voxel_out [angstrom]
    Returns (size, size, size) float32.
    """
    cube = _within_box(volume, size * voxel_out / voxel_in)
    # What the target cannot hold goes first: the NUFFT's own grid is eight times its volume.
    enough = (int(np.ceil(cube.shape[0] * voxel_in / voxel_out)) + 4) | 1
    if enough < cube.shape[0]:
        voxel_in *= cube.shape[0] / enough
        cube = fourier_resize(cube, enough, threads=threads)
    step = voxel_in / (size * voxel_out)
    most = min((size - 1) // 2, int(0.5 / step))
    known, half = np.arange(-most, most + 1), np.arange(most + 1)
    axes = np.meshgrid(known, known, half, indexing="ij")
    points = np.stack([(2 * np.pi * step * axis.ravel()).astype(np.float32) for axis in axes])
    values = nufft.forward(cube.astype(np.complex64), points, tolerance=_TOLERANCE, threads=threads)
    spectrum = np.zeros((size, size, size // 2 + 1), np.complex64)
    spectrum[np.ix_(known, known, half)] = values.reshape(axes[0].shape) * (voxel_in / voxel_out) ** 3
    result: Float32 = fft.to_centre(fft.irfftn(spectrum, size, threads=threads))
    return result


def compare(
    density: Float32,
    voxel_angstrom: float,
    reference: Float32,
    reference_voxel_angstrom: float,
    *,
    q_max: float,
    quaternions: Float64 | None = None,
    true_quaternions: Float64 | None = None,
    symmetry: str = "C1",
    threads: int,
) -> tuple[Comparison, FscCurve]:
    """Compare a density with a reference of any voxel and extent, after the best rotation, hand and shift.

    The reference is resampled on the density's grid and the density aligned to it. The correlation is Pearson's
    `sum (a - <a>)(b - <b>) / sqrt(sum (a - <a>)^2 sum (b - <b>)^2)` of aligned density a and reference b, both cut to
    |q| <= q_max, over the voxels of a ball: about the reference's centre of mass, just large enough for every voxel
    above a tenth of its maximum. The Fourier shell correlation takes the whole box, unmasked, up to q_max.

    density : (M, M, M) float32, padded to an odd size if M is even; q_max [1/angstrom]
    voxel_angstrom, reference_voxel_angstrom : edges of their voxels [angstrom]
    reference : (A, B, C) float32, centre at (A // 2, B // 2, C // 2)
    quaternions, true_quaternions : (N, 4), found and true orientations, in the order of the patterns
    symmetry : point group about the density's axes; orientations that it makes equal count as equal
    Raises InputError if either map cannot be aligned, or much of the reference lies outside the density's box.

    Examples
    --------
    >>> found, curve = sg.compare(
    ...     result.density, result.voxel_angstrom, simulation.volume, simulation.voxel_angstrom, q_max=0.05, threads=2
    ... )
    >>> found.correlation > 0.9, curve.q.shape == curve.correlation.shape
    (True, True)
    """
    size = density.shape[0] | 1
    _check_reference(reference, size * voxel_angstrom / reference_voxel_angstrom)
    target = resample_map(reference, reference_voxel_angstrom, size, voxel_angstrom, threads=threads)
    alignment = align(density, target, voxel_angstrom, q_max=q_max, threads=threads)
    curve = fourier_shell_correlation(alignment.volume, target, voxel_angstrom, threads=threads)
    measured = slice(max(1, int(np.searchsorted(curve.q, q_max * (1 + 1e-6)))))
    curve = FscCurve(curve.q[measured], curve.correlation[measured], curve.count[measured])
    errors = None
    if quaternions is not None and true_quaternions is not None:
        errors = orientation_error(quaternions, true_quaternions, symmetry=symmetry).figures()
    w, x, y, z = alignment.quaternion.tolist()
    shift_x, shift_y, shift_z = alignment.shift_angstrom.tolist()
    comparison = Comparison(
        correlation=_ball_correlation(alignment.volume, target, q_max * voxel_angstrom, threads),
        resolution_angstrom=resolution_angstrom(curve, 0.5),
        hand="inverted" if alignment.inverted else "same",
        orientation_error_deg=errors,
        quaternion=(w, x, y, z),
        shift_angstrom=(shift_x, shift_y, shift_z),
    )
    return comparison, curve


def as_reference(volume: Float32, edge: float) -> tuple[Float32, list[str]]:
    """Return a map from elsewhere as `compare` wants it, and what was done to it for that; mostly nothing.

    A particle that is darker than what is around it gets the other sign, with zero around it. One that lies outside
    the box compared, about the map's centre (`edge` of the map's voxels), is brought there by whole voxels; the map
    counts as periodic, since some programs put the centre into a corner.

    volume : (A, B, C) float32
    """
    said = []
    faces = [volume.take(end, axis=axis).ravel() for axis in range(3) for end in (0, -1)]
    around = np.float32(np.median(np.concatenate(faces)))
    contrast = volume - around
    cubes = (contrast / max(float(np.abs(contrast).max()), 1e-30)) ** 3
    if cubes.sum(dtype=np.float64) < -_SKEWED * np.abs(cubes).sum(dtype=np.float64):
        volume = -contrast
        said.append("contrast inverted? its particle is darker than what is around it; taken with the other sign")
    if 1 - _part_inside(volume, edge) > _MOST_OUTSIDE:
        weight = np.square(volume, dtype=np.float64)
        shift = []
        for axis, length in enumerate(volume.shape):
            profile = weight.sum(axis=tuple(other for other in range(3) if other != axis))
            mean = np.angle((profile * np.exp(2j * np.pi * np.arange(length) / length)).sum()) * length / (2 * np.pi)
            shift.append(round(length // 2 - mean))
        moved = np.roll(volume, shift, axis=(0, 1, 2))
        if 1 - _part_inside(moved, edge) <= _MOST_OUTSIDE:
            volume = moved
            said.append(f"its particle is not in the middle; moved there, by {tuple(shift)} voxels along x, y, z")
    return volume, said


def _part_inside(volume: Float32, edge: float) -> float:
    """Return the part of a map, squared, that lies in the box about its centre; 1 for an empty one."""
    total = float(np.square(volume, dtype=np.float64).sum())
    inside = float(np.square(_within_box(volume, edge), dtype=np.float64).sum())
    return inside / total if total > 0 else 1.0


def _within_box(volume: Float32, edge: float) -> Float32:
    """Return the smallest cube about the centre that holds the box of `edge` voxels, or all of the volume.

    Cropped along axes longer than the box, padded with zeros to the longest axis along the others.
    """
    half = min(int(np.ceil(edge / 2)), max(volume.shape) // 2)
    cube = np.zeros((2 * half + 1,) * 3, volume.dtype)
    source, target = [], []
    for length in volume.shape:
        low, high = max(-half, -(length // 2)), min(half, length - 1 - length // 2)
        source.append(slice(length // 2 + low, length // 2 + high + 1))
        target.append(slice(half + low, half + high + 1))
    cube[tuple(target)] = volume[tuple(source)]
    return cube


def _check_reference(reference: Float32, edge: float) -> None:
    """Refuse a reference of which much lies outside the box compared in (`edge` of its own voxels)."""
    if reference.ndim != 3:
        raise InputError(f"reference map: shape {reference.shape}; expected three axes; give a density map")
    total = float(np.square(reference, dtype=np.float64).sum())
    inside = float(np.square(_within_box(reference, edge), dtype=np.float64).sum())
    if not np.isfinite(total) or total == 0:
        raise InputError("reference map: empty or not finite; expected a density; check how it was made")
    if inside < (1 - _MOST_OUTSIDE) * total:
        raise InputError(
            f"reference map: {1 - inside / total:.0%} of it (squared) lies outside the density's box; expected at most "
            f"{_MOST_OUTSIDE:.0%}; centre the particle in the map"
        )


def _ball_correlation(first: Float32, second: Float32, q_max: float, threads: int) -> float:
    """Return the Pearson correlation of both, cut to |q| <= q_max [1/voxel], over a ball that holds `second`."""
    a, b = (_low_pass(volume, q_max, threads) for volume in (first, second))
    particle = np.where(b > _PARTICLE_LEVEL * b.max(), b, 0)
    size = b.shape[0]
    at = np.argwhere(particle)
    centre = np.average(at, axis=0, weights=particle[tuple(at.T)])
    radius = np.sqrt(((at - centre) ** 2).sum(1).max())
    x, y, z = ((np.arange(size) - middle) ** 2 for middle in centre)
    ball = x[:, None, None] + y[:, None] + z <= max(radius, 1.0) ** 2
    return float(np.corrcoef(a[ball], b[ball])[0, 1])


def _low_pass(volume: Float32, q_max: float, threads: int) -> NDArray[np.float64]:
    """Return the volume without Fourier voxels beyond q_max [1/voxel]; the centre stays where it is."""
    size = volume.shape[0]
    spectrum = fft.rfftn(volume, threads=threads)
    spectrum *= frequency_radius(size, half=True) <= q_max * (1 + 1e-6)
    return np.asarray(fft.irfftn(spectrum, size, threads=threads), np.float64)
