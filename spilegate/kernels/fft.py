"""Fast Fourier transforms of real volumes with the centre at M // 2, by scipy."""

from __future__ import annotations

from typing import Any

import scipy.fft
from numpy.typing import NDArray

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


def rfftn(volumes: NDArray[Any], *, threads: int, size: int | None = None) -> NDArray[Any]:
    """Transform the last three axes of real volumes whose origin is at index 0; `size` pads them with zeros."""
    shape = None if size is None else (size,) * 3
    result: NDArray[Any] = scipy.fft.rfftn(volumes, s=shape, axes=AXES, workers=threads)
    return result


def irfftn(spectra: NDArray[Any], size: int, *, threads: int) -> NDArray[Any]:
    """Invert `rfftn` to volumes of `size`^3."""
    result: NDArray[Any] = scipy.fft.irfftn(spectra, s=(size,) * 3, axes=AXES, workers=threads)
    return result


def to_corner(volumes: NDArray[Any]) -> NDArray[Any]:
    """Move the centre from M // 2 to index 0 along the last three axes."""
    result: NDArray[Any] = scipy.fft.ifftshift(volumes, axes=AXES)
    return result


def to_centre(volumes: NDArray[Any]) -> NDArray[Any]:
    """Move the centre from index 0 to M // 2 along the last three axes."""
    result: NDArray[Any] = scipy.fft.fftshift(volumes, axes=AXES)
    return result
