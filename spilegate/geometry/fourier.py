"""Grids of volumes and of their spectra; changes of grid at fixed physical extent."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from spilegate.kernels import fft
from spilegate.state import Float32


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


def fourier_resize(volumes: NDArray[Any], size: int, *, threads: int) -> NDArray[Any]:
    """Resample real volumes (..., M, M, M) on a size^3 grid of the same physical extent.

    The spectrum is cropped or padded with zeros; values keep their density (an integral over voxels changes by
    the voxels' volume, a value at a point does not). Sizes must be odd, so that the spectrum has no unpaired term.
    """
    old = volumes.shape[-1]
    if old == size:
        return volumes
    if old % 2 == 0 or size % 2 == 0:
        raise ValueError(f"sizes must be odd, got {old} and {size}")
    spectrum = scipy.fft.fftshift(scipy.fft.fftn(fft.to_corner(volumes), axes=fft.AXES, workers=threads), axes=fft.AXES)
    margin = (size - old) // 2
    if margin < 0:
        cut = slice(-margin, old + margin)
        spectrum = spectrum[..., cut, cut, cut]
    else:
        spectrum = np.pad(spectrum, [(0, 0)] * (volumes.ndim - 3) + [(margin, margin)] * 3)
    spectrum = scipy.fft.ifftshift(spectrum, axes=fft.AXES)
    result: NDArray[Any] = fft.to_centre(scipy.fft.ifftn(spectrum, axes=fft.AXES, workers=threads).real)
    return np.asarray(result * (size / old) ** 3, dtype=volumes.dtype)
