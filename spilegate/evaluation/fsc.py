"""Fourier shell correlation and the resolution read off it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.kernels import fft
from spilegate.records import Float32, Float64

# Fourier voxels reduced at a time: products and their float64 copies inside `bincount` stay in the cache.
_BLOCK = 1 << 17


@dataclass(frozen=True)
class FscCurve:
    """Fourier shell correlation of two volumes; the shell of the zero frequency is left out.

    q : (N_SHELL,) float64 [1/angstrom], centres of the shells, ascending, one Fourier voxel apart
    correlation : (N_SHELL,) float64 in [-1, 1]; 0 where either volume has no power
    count : (N_SHELL,) float64, independent Fourier voxels (Friedel mates counted once)
    """

    q: Float64
    correlation: Float64
    count: Float64


def fourier_shell_correlation(first: Float32, second: Float32, voxel_angstrom: float, *, threads: int) -> FscCurve:
    """Correlate two volumes shell by shell in Fourier space (van Heel, Ultramicroscopy 21:95, 1987).

    `FSC(s) = Re sum F1 conj(F2) / sqrt(sum |F1|^2 sum |F2|^2)`, sums over the Fourier voxels whose |q| rounds to
    shell s, for s = 1 to Nyquist. Only the half spectrum is computed and visited, once.

    first, second : (M, M, M) float32, same grid, already aligned
    Raises InputError if the volumes are not cubes of one size.
    """
    size = first.shape[0]
    if first.shape != (size,) * 3 or second.shape != first.shape:
        raise InputError(
            f"Fourier shell correlation: volumes of {first.shape} and {second.shape}; expected two cubes of one size; "
            "resample one of them"
        )
    shell, count = shells(size)
    spectra = [half_spectrum(volume, threads) for volume in (first, second)]
    sums = np.zeros((3, count.size))
    for start in range(0, shell.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        a, b, index = spectra[0][part], spectra[1][part], shell[part]
        products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
        sums += [np.bincount(index, weights=product, minlength=count.size) for product in products]
    cross, power_first, power_second = sums[:, 1:-1]
    norm = np.sqrt(power_first * power_second)
    correlation = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    q = np.arange(1, count.size - 1) / (size * voxel_angstrom)
    return FscCurve(q=q, correlation=correlation, count=count[1:-1].copy())


def resolution_angstrom(curve: FscCurve, threshold: float) -> float | None:
    """Return 1/q where the curve first falls below `threshold`, walking outwards, linear in q between shells.

    None if the first shell already lies below; the last shell's 1/q if no shell does.
    """
    below = np.flatnonzero(curve.correlation < threshold)
    if below.size == 0:
        return float(1 / curve.q[-1])
    outer = int(below[0])
    if outer == 0:
        return None
    (q_in, q_out), (c_in, c_out) = curve.q[outer - 1 : outer + 1], curve.correlation[outer - 1 : outer + 1]
    return float(1 / (q_in + (q_out - q_in) * (c_in - threshold) / (c_in - c_out)))


def half_spectrum(volume: Float32, threads: int) -> NDArray[np.complex64]:
    """Return the flattened half spectrum with every Friedel pair counted once.

    Planes that hold both mates of their pairs are scaled by sqrt(1/2), so plain sums of products come out right.
    The centre stays where it is: a phase common to both volumes cancels.
    """
    spectrum = fft.rfftn(volume, threads=threads)
    spectrum *= np.sqrt(pair_weights(volume.shape[0])).astype(np.float32)
    flat: NDArray[np.complex64] = spectrum.reshape(-1)
    return flat


def pair_weights(size: int) -> Float64:
    """Return the weight (size // 2 + 1,) of the half spectrum's planes that counts every Friedel pair once.

    It is 1/2 for the planes along the last axis that hold both mates of their pairs.
    """
    weight = np.ones(size // 2 + 1)
    weight[[0] if size % 2 else [0, size // 2]] = 0.5
    return weight


@lru_cache(maxsize=4)
def shells(size: int) -> tuple[NDArray[np.intp], Float64]:
    """Return the shell of every half-spectrum voxel, flattened, and the independent voxels of every shell.

    Shell 0 is the zero frequency; the last index collects what lies beyond Nyquist.
    """
    axis = np.fft.fftfreq(size, 1 / size)
    last = np.fft.rfftfreq(size, 1 / size)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + last**2)
    beyond = size // 2 + 1
    shell = np.minimum(np.rint(radius).astype(np.intp), beyond)
    weight = np.broadcast_to(pair_weights(size), shell.shape)
    count = np.bincount(shell.ravel(), weights=weight.ravel(), minlength=beyond + 1).astype(np.float64)
    flat: NDArray[np.intp] = shell.reshape(-1)
    flat.setflags(write=False)
    count.setflags(write=False)
    return flat, count
