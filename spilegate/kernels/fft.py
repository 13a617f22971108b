"""Fast Fourier transforms of volumes with the centre at M // 2, by the library of the array's module.

NumPy arrays: scipy, with several threads. Arrays split over processors: slabs, one thread each. Others: their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft

from spilegate.backend import Array, array_module
from spilegate.kernels import slabs

AXES = (-3, -2, -1)


def fast_size(at_least: int) -> int:
    """Return the smallest FFT-friendly size of a real transform that is >= `at_least`."""
    return int(scipy.fft.next_fast_len(at_least, real=True))


def fast_odd_size(at_least: int) -> int:
    """Return the smallest odd FFT-friendly size (factors 3, 5, 7, 11) that is >= `at_least`."""
    size = at_least | 1
    while _has_other_factor(size):
        size += 2
    return size


def _has_other_factor(size: int) -> bool:
    """Tell whether `size` has a prime factor other than 3, 5, 7 and 11."""
    for prime in (3, 5, 7, 11):
        while size % prime == 0:
            size //= prime
    return size != 1


def rfftn(volumes: Array, *, threads: int, size: int | None = None) -> Array:
    """Transform the last three axes of real volumes whose origin is at index 0; `size` pads them with zeros."""
    library, options = _library(volumes, threads)
    return library.rfftn(volumes, s=None if size is None else (size,) * 3, axes=AXES, **options)


def irfftn(spectra: Array, size: int, *, threads: int, keep: int | None = None) -> Array:
    """Invert `rfftn` to volumes of `size`^3, of which the first `keep` voxels along each axis are wanted."""
    library, options = _library(spectra, threads)
    if library is slabs:
        return slabs.irfftn(spectra, s=(size,) * 3, keep=keep)
    spectra = _as_complex(spectra, library)
    return library.irfftn(spectra, s=(size,) * 3, axes=AXES, **options)[..., :keep, :keep, :keep]


def fftn(volumes: Array, *, threads: int) -> Array:
    """Transform the last three axes of real or complex volumes whose origin is at index 0."""
    library, options = _library(volumes, threads)
    return library.fftn(_as_complex(volumes, library), axes=AXES, **options)


def ifftn(spectra: Array, *, threads: int) -> Array:
    """Invert `fftn`."""
    library, options = _library(spectra, threads)
    return library.ifftn(_as_complex(spectra, library), axes=AXES, **options)


def to_corner(volumes: Array) -> Array:
    """Move the centre from M // 2 to index 0 along the last three axes."""
    shift = tuple(-(volumes.shape[axis] // 2) for axis in AXES)
    return array_module(volumes).roll(volumes, shift, axis=AXES)


def to_centre(volumes: Array) -> Array:
    """Move the centre from index 0 to M // 2 along the last three axes."""
    shift = tuple(volumes.shape[axis] // 2 for axis in AXES)
    return array_module(volumes).roll(volumes, shift, axis=AXES)


def rfft(values: Array, *, axis: int = -1) -> Array:
    """Transform real values along one axis, in their own precision, by one thread."""
    return _library(values, 1)[0].rfft(values, axis=axis)


def irfft(spectra: Array, size: int, *, axis: int = -1) -> Array:
    """Invert `rfft` to `size` values."""
    return _library(spectra, 1)[0].irfft(spectra, n=size, axis=axis)


def _library(array: Array, threads: int) -> tuple[Any, dict[str, int]]:
    """Return the module of transforms for an array, and the options it takes beyond the common ones."""
    if isinstance(array, np.ndarray):
        return scipy.fft, {"workers": threads}
    xp = array_module(array)
    return (slabs if xp.__name__ == "cupynumeric" else xp.fft), {}


def _as_complex(array: Array, library: Any) -> Array:
    """Return the array as it is if the library takes real arrays for complex ones, as scipy does; else complex."""
    if library in (scipy.fft, slabs):
        return array
    xp = array_module(array)
    return xp.asarray(array, dtype=xp.result_type(array.dtype, xp.complex64))
