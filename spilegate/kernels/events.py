"""Sparse patterns: a pattern of few photons is the list of the pixels they hit, of one length for all patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.backend import array_module, from_host, to_host


def dense(block: Any, n_pixel: int) -> Any:
    """Return patterns (n, N_PIX) float32 of the module of `block`.

    block : (n, N_PIX) floating point, returned as it is, or (n, N_EVENT) integers, the pixel of every photon; N_PIX
        stands for no photon
    """
    xp = array_module(block)
    if block.dtype in (xp.float32, xp.float64):
        return block
    count = block.shape[0]
    if xp.__name__ == "cupy":
        place = xp.arange(count)[:, None] * (n_pixel + 1) + block
        photons = xp.bincount(place.ravel(), minlength=count * (n_pixel + 1))
        return photons.reshape(count, -1)[:, :n_pixel].astype(xp.float32)
    place = np.arange(count)[:, None] * (n_pixel + 1) + to_host(block)
    photons = np.bincount(place.ravel(), minlength=count * (n_pixel + 1)).reshape(count, -1)
    return from_host(np.ascontiguousarray(photons[:, :n_pixel], np.float32), block)


def events(counts: NDArray[Any], n_event: int) -> NDArray[np.int32]:
    """Return the lists (n, N_EVENT) of patterns (n, N_PIX) of whole counts, none with more than N_EVENT photons."""
    n_pixel = counts.shape[1]
    result = np.full((len(counts), n_event), n_pixel, np.int32)
    for row, pattern in zip(result, counts, strict=True):
        hit = np.repeat(np.arange(n_pixel), pattern.astype(np.int64))
        row[: len(hit)] = hit
    return result
