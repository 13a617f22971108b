"""Phase: the density whose Fourier amplitudes are the square roots of the merged intensities.

Cycles of error reduction and HIO (Fienup, Appl. Opt. 21:2758, 1982) or RAAR (Luke, Inverse Problems 21:37, 2005) with
positivity and a support that shrink-wrap (Marchesini et al., Phys. Rev. B 68:140101, 2003) fits to the density.
Amplitudes outside what was measured are free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spilegate.geometry.fourier import frequency_radius, radius_grid
from spilegate.kernels import fft
from spilegate.settings import PhasingOptions
from spilegate.state import Bool, Float32

ITERATIONS_ER, ITERATIONS_GLOBAL = 20, 40
# Shrink-wrap: voxels above this part of the maximum of the density blurred by a Gaussian of BLUR_VOXELS.
SHRINK_THRESHOLD = 0.08
BLUR_VOXELS = 1.0


@dataclass(frozen=True)
class Phased:
    """density (..., M, M, M) float32, support (..., M, M, M) bool, r_factor (...) float64 over measured amplitudes."""

    density: Float32
    support: Bool
    r_factor: np.ndarray


@dataclass(frozen=True)
class Amplitudes:
    """amplitude (..., M, M, M // 2 + 1) float32 in `rfftn` order; measured bool, where it binds, same shape."""

    amplitude: Float32
    measured: Bool


def amplitudes(
    autocorrelation: Float32, voxel_angstrom: float, *, q_min: float, q_max: float, threads: int
) -> Amplitudes:
    """Return amplitudes sqrt(max(F A, 0)) of autocorrelations (..., M, M, M); free where not q_min <= |q| <= q_max."""
    size = autocorrelation.shape[-1]
    intensity = fft.rfftn(fft.to_corner(autocorrelation), threads=threads).real
    q = frequency_radius(size, half=True) / voxel_angstrom
    measured = (q >= q_min) & (q <= q_max) & (q > 0)
    amplitude = np.sqrt(np.maximum(intensity, 0)).astype(np.float32)
    return Amplitudes(amplitude, np.broadcast_to(measured, amplitude.shape))


def autocorrelation(density: Float32, *, threads: int) -> Float32:
    """Return the autocorrelation F^-1 |F rho|^2 (..., M, M, M) float32 of densities, centre at M // 2."""
    spectrum = fft.rfftn(density, threads=threads)
    result: Float32 = fft.to_centre(fft.irfftn(np.abs(spectrum) ** 2, density.shape[-1], threads=threads))
    return result.astype(np.float32)


def random_start(shape: tuple[int, ...], support: Bool, rng: np.random.Generator) -> Float32:
    """Return random densities of `shape` inside the support."""
    return rng.random(shape, dtype=np.float32) * support


def phase(
    target: Amplitudes,
    density: Float32,
    support: Bool,
    limit: Bool,
    options: PhasingOptions,
    *,
    cycles: int,
    threads: int,
) -> Phased:
    """Phase amplitudes from a first density, all leading dimensions at once.

    density : (..., M, M, M) float32, support : same shape bool, both with the centre at M // 2
    limit : (M, M, M) bool, the support never grows beyond it
    """
    rho, inside = fft.to_corner(density), fft.to_corner(support)
    bound = fft.to_corner(limit)
    for _ in range(cycles):
        for count, kind in ((ITERATIONS_ER, "er"), (ITERATIONS_GLOBAL, options.method), (ITERATIONS_ER, "er")):
            for _ in range(count):
                rho = _update(rho, _with_amplitudes(rho, target, threads), inside, kind, options.beta)
        inside = _shrink_wrap(rho, bound, threads)
        rho, inside = _recentred(rho, inside)
    for _ in range(ITERATIONS_ER):
        rho = _update(rho, _with_amplitudes(rho, target, threads), inside, "er", options.beta)
    spectrum = np.abs(fft.rfftn(rho, threads=threads))
    misfit = (np.abs(spectrum - target.amplitude) * target.measured).sum(fft.AXES)
    r_factor = misfit / np.maximum((target.amplitude * target.measured).sum(fft.AXES), 1e-30)
    return Phased(fft.to_centre(rho), fft.to_centre(inside), r_factor.astype(np.float64))


def combine(phased: Phased, sound: float) -> Phased:
    """Return one phasing for each state (K, ...) from several (K, starts, ...).

    The best one is kept, and averaged with every other whose misfit is at most `sound` times its own, once it has been
    brought to the same hand and place: amplitudes determine neither.
    """
    best = phased.r_factor.argmin(axis=1)
    densities, supports = [], []
    for k, reference in enumerate(best):
        fixed = phased.density[k, reference]
        chosen = np.flatnonzero(phased.r_factor[k] <= sound * phased.r_factor[k, reference])
        moved = [fixed if i == reference else _superposed(phased.density[k, i], fixed) for i in chosen]
        densities.append(np.mean(moved, axis=0, dtype=np.float32))
        supports.append(phased.support[k, reference])
    return Phased(np.stack(densities), np.stack(supports), phased.r_factor.min(axis=1))


def _superposed(moving: Float32, fixed: Float32) -> Float32:
    """Return the density (M, M, M) in the hand and at the whole-voxel shift that correlate best with another."""
    size = fixed.shape[-1]
    spectrum = fft.rfftn(fixed, threads=1)
    best, result = -np.inf, moving
    for hand in (moving, moving[::-1, ::-1, ::-1]):
        correlation = fft.irfftn(spectrum * fft.rfftn(hand, threads=1).conj(), size, threads=1)
        shift = np.unravel_index(int(correlation.argmax()), correlation.shape)
        if correlation[shift] > best:
            best, result = float(correlation[shift]), np.roll(hand, shift, (0, 1, 2))
    return result


def _with_amplitudes(rho: Float32, target: Amplitudes, threads: int) -> Float32:
    """Project onto the measured amplitudes, phases kept."""
    spectrum = fft.rfftn(rho, threads=threads)
    magnitude = np.abs(spectrum)
    factor = np.where(target.measured, target.amplitude / np.maximum(magnitude, 1e-20), np.float32(1))
    spectrum *= factor
    result: Float32 = fft.irfftn(spectrum, rho.shape[-1], threads=threads)
    return result


def _update(
    rho: Float32, projected: Float32, inside: Bool, kind: Literal["er", "hio", "raar"] | str, beta: float
) -> Float32:
    """Return the next density by one of the three updates."""
    if kind == "er":
        return np.where(inside, np.maximum(projected, 0), np.float32(0))
    feedback = np.float32(beta)
    if kind == "hio":
        return np.where(inside & (projected > 0), projected, rho - feedback * projected)
    keep = inside & (2 * projected - rho > 0)
    return np.where(keep, projected, feedback * rho + (1 - 2 * feedback) * projected)


def _shrink_wrap(rho: Float32, bound: Bool, threads: int) -> Bool:
    """Return where the blurred density stands out."""
    size = rho.shape[-1]
    blur = np.exp(-2 * np.pi**2 * BLUR_VOXELS**2 * frequency_radius(size, half=True) ** 2)
    smooth = fft.irfftn(fft.rfftn(np.abs(rho), threads=threads) * blur, size, threads=threads)
    inside: Bool = (smooth > SHRINK_THRESHOLD * smooth.max(axis=fft.AXES, keepdims=True)) & bound
    return inside


def _recentred(rho: Float32, inside: Bool) -> tuple[Float32, Bool]:
    """Roll every density so that its centre of mass, on the circle of each axis, is at index 0."""
    size = rho.shape[-1]
    wave = np.exp(2j * np.pi * np.arange(size) / size)
    flat, support = rho.reshape(-1, size, size, size), inside.reshape(-1, size, size, size)
    rolled, rolled_support = np.empty_like(flat), np.empty_like(support)
    for index, volume in enumerate(flat):
        angles = [np.angle(volume.sum(tuple({0, 1, 2} - {axis})) @ wave) for axis in range(3)]
        shift = [-int(np.round(angle / (2 * np.pi) * size)) for angle in angles]
        rolled[index] = np.roll(volume, shift, (0, 1, 2))
        rolled_support[index] = np.roll(support[index], shift, (0, 1, 2))
    return rolled.reshape(rho.shape), rolled_support.reshape(inside.shape)


def ball(size: int, voxel_angstrom: float, radius_angstrom: float) -> Bool:
    """Return (size,)*3 bool: the ball of that radius about the centre."""
    inside: Bool = radius_grid(size) * voxel_angstrom <= radius_angstrom
    return inside
