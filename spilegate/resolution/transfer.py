"""Phase retrieval transfer function: how far independent phasings of the same intensities agree on the phases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.evaluation.fsc import half_spectrum, pair_weights, shells
from spilegate.kernels import fft
from spilegate.records import Float32, Float64

Complex64 = NDArray[np.complex64]

# Newton steps towards the best shift; a step below this many voxels ends the search.
_STEPS = 12
_NEGLIGIBLE_SHIFT = 1e-3


def phase_retrieval_transfer(densities: Float32, autocorrelation: Float32, *, threads: int) -> Float64:
    """Return the phase retrieval transfer function (N_SHELL,) of shells 1 to M // 2 [Fourier voxels].

    Chapman et al., J. Opt. Soc. Am. A 23:1179 (2006): `PRTF(q) = |<F rho_i>| / sqrt(I)`, the mean over phasings i once
    they have been brought to the same hand and place. Of n phasings with random phases that is about 1 / sqrt(n), for
    few of them more than the threshold of 1/e. So the square comes from pairs of different phasings, to which random
    phases add nothing on average:

    `PRTF^2(s) = sum_(q in s) [|sum_i F_i|^2 - sum_i |F_i|^2] / (n (n - 1)) / sum_(q in s) I`, 0 where that is negative.

    densities : (n, M, M, M) float32, n >= 2, each phased from its own random start
    autocorrelation : (M, M, M) float32, whose transform I is what was phased; centres at M // 2
    Raises InputError for fewer than two densities.
    """
    count, size = len(densities), densities.shape[-1]
    if count < 2:
        raise InputError(f"phase retrieval transfer function: {count} phasings; expected at least 2")
    spectra = superposed(densities, threads=threads)
    total = np.abs(sum(spectra, np.zeros_like(spectra[0]))) ** 2
    pairs = (total - sum(np.abs(spectrum) ** 2 for spectrum in spectra)) / (count * (count - 1))
    intensity = fft.rfftn(fft.to_corner(autocorrelation), threads=threads).real * pair_weights(size)
    intensity = np.maximum(intensity, 0.0).reshape(-1)
    index, number = shells(size)
    agreed, measured = (
        np.bincount(index, weights=values, minlength=number.size)[1:-1] for values in (pairs, intensity)
    )
    return np.sqrt(np.divide(np.maximum(agreed, 0.0), measured, out=np.zeros_like(agreed), where=measured > 0))


def superposed(densities: Float32, *, threads: int) -> list[Complex64]:
    """Return the flattened half spectra of densities (n, M, M, M), brought to the hand and place of the first one.

    Amplitudes determine neither. The peak of the cross-correlation gives the hand and the shift in whole voxels, from
    where Newton's method climbs to the best shift: a quarter of a voxel is an eighth of a turn at the finest shells.
    """
    size = densities.shape[-1]
    fixed = half_spectrum(densities[0], threads)
    waves = _waves(size)
    result = [fixed]
    for density in densities[1:]:
        moving = half_spectrum(density, threads)
        hands = (moving, moving.conj())
        peaks = [_peak(fixed * hand.conj(), size, threads) for hand in hands]
        best = int(peaks[1][0] > peaks[0][0])
        products = fixed * hands[best].conj()
        shift = _climbed(products, waves, peaks[best][1])
        result.append((hands[best] * np.exp(-1j * (shift @ waves))).astype(np.complex64))
    return result


def _peak(products: Complex64, size: int, threads: int) -> tuple[float, Float64]:
    """Return the height of a cross-correlation's peak and the shift there [voxels]."""
    correlation = fft.irfftn(products.reshape(size, size, -1), size, threads=threads)
    at = np.array(np.unravel_index(int(correlation.argmax()), correlation.shape), np.float64)
    return float(correlation.max()), at


def _climbed(products: Complex64, waves: Float32, shift: Float64) -> Float64:
    """Return the shift [voxels] that makes `Re sum products exp(i waves shift)` largest, from one near it.

    waves : (3, N) float32 [radians per voxel]; a step that leads downhill is shortened
    """
    highest, step = -np.inf, np.zeros(3)
    for _ in range(_STEPS):
        turned = products * np.exp(1j * ((shift + step) @ waves))
        height = float(turned.real.sum(dtype=np.float64))
        if height > highest:
            highest, shift = height, shift + step
            curvature = ((waves * turned.real) @ waves.T).astype(np.float64)
            slope = -(waves @ turned.imag).astype(np.float64)
            step = np.clip(np.linalg.lstsq(curvature, slope, rcond=1e-6)[0], -0.5, 0.5)
        else:
            step = step / 3
        if np.abs(step).max() < _NEGLIGIBLE_SHIFT:
            break
    return shift


def _waves(size: int) -> Float32:
    """Return the phase (3, N) [radians] by which a shift of one voxel along each axis turns a half spectrum."""
    full, half = 2 * np.pi * np.fft.fftfreq(size), 2 * np.pi * np.fft.rfftfreq(size)
    grids = np.meshgrid(full, full, half, indexing="ij")
    return np.stack([grid.ravel() for grid in grids]).astype(np.float32)
