"""Grids of volumes and of their spectra; changes of grid at fixed physical extent."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from spilegate.backend import Array, array_module
from spilegate.kernels import fft
from spilegate.records import Float32


@lru_cache(maxsize=8)
def radius_grid(size: int) -> Float32:
    """Return (size, size, size) float32: the distance of every voxel from the centre voxel size // 2 [voxels]."""
    axis = np.arange(size, dtype=np.float32) - size // 2
    radius: Float32 = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    radius.setflags(write=False)
    return radius


@lru_cache(maxsize=8)
def frequency_radius(size: int, *, half: bool = False) -> Float32:
    """Return |q| of every spectrum sample [1/voxel], zero frequency at index 0; `half`: the layout of `rfftn`."""
    axis = np.fft.fftfreq(size).astype(np.float32)
    last = np.fft.rfftfreq(size).astype(np.float32) if half else axis
    radius: Float32 = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + last**2)
    radius.setflags(write=False)
    return radius


def fourier_resize(volumes: Array, size: int, *, threads: int) -> Array:
    """Resample real volumes (..., M, M, M) of any array module on a size^3 grid of the same physical extent.

    The spectrum is cropped or padded with zeros; values keep their density (an integral over voxels changes by
    the voxels' volume, a value at a point does not). Sizes must be odd, so that the spectrum has no unpaired term.
    """
    old = volumes.shape[-1]
    if old == size:
        return volumes
    if old % 2 == 0 or size % 2 == 0:
        raise ValueError(f"sizes must be odd, got {old} and {size}")
    xp = array_module(volumes)
    spectrum = fft.to_centre(fft.fftn(fft.to_corner(volumes), threads=threads))
    margin = (size - old) // 2
    if margin < 0:
        cut = slice(-margin, old + margin)
        spectrum = spectrum[..., cut, cut, cut]
    else:
        inner = slice(margin, margin + old)
        padded = xp.zeros((*volumes.shape[:-3], size, size, size), dtype=spectrum.dtype)
        padded[..., inner, inner, inner] = spectrum
        spectrum = padded
    result = fft.to_centre(xp.real(fft.ifftn(fft.to_corner(spectrum), threads=threads)))
    return xp.asarray(result * (size / old) ** 3, dtype=volumes.dtype)
