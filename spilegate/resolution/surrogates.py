"""Surrogates: a density phased anew from what is known of it inside some radius, and nothing beyond."""

from __future__ import annotations

import numpy as np

from spilegate.evaluation.fsc import shells
from spilegate.geometry.fourier import frequency_radius
from spilegate.kernels import fft
from spilegate.records import Bool, Float32
from spilegate.settings import PhasingOptions
from spilegate.stages import phasing


def surrogate(density: Float32, support: Bool, radius: float, rng: np.random.Generator, *, threads: int) -> Float32:
    """Return a density (M, M, M) whose amplitudes beyond a radius are noise of the same power in every shell.

    It is phased like any density, by error reduction inside the support, from the phases known inside the radius and
    those of the noise beyond. What two surrogates agree on beyond the radius has not been measured: their supports,
    positivity and what is known further inside have made it.

    density, support : (M, M, M) float32 and bool, centre at M // 2; radius : [1/voxel]
    """
    size = density.shape[-1]
    shell, count = shells(size)
    spectrum = fft.rfftn(fft.to_corner(density), threads=threads)
    noise = fft.rfftn(rng.standard_normal(density.shape, dtype=np.float32), threads=threads)
    power, of_noise = (
        np.bincount(shell, weights=(np.abs(array) ** 2).ravel(), minlength=len(count)) for array in (spectrum, noise)
    )
    noise *= np.sqrt(power / of_noise)[shell].reshape(noise.shape).astype(np.float32)
    q = frequency_radius(size, half=True)
    spectrum = np.where(q < radius, spectrum, noise)
    # Shells end at Nyquist; the corners beyond it are free.
    target = phasing.Amplitudes(np.abs(spectrum), (q > 0) & (q <= 0.5))
    start = fft.to_centre(fft.irfftn(spectrum, size, threads=threads)) * support
    phased: Float32 = phasing.phase(
        target, start, support, support, PhasingOptions(), cycles=0, threads=threads
    ).density
    return phased
