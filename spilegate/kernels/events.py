"""Sparse patterns: a pattern of few photons is the list of the pixels they hit, of one length for all patterns.

An entry is a pixel and, in its upper bits, a power of two: so many photons hit it. So a pixel of 4097 photons takes two
entries, and one that is hot does not make the lists of all patterns long.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.backend import array_module, from_host, to_host

# Bits of an entry that hold the pixel; those above hold the power of two.
PIXEL_BITS = 26
# Patterns of more pixels cannot be lists, nor those with more photons on one pixel.
LONGEST = (1 << PIXEL_BITS) - 1
POWERS = 31


def dense(block: Any, n_pixel: int) -> Any:
    """Return patterns (n, N_PIX) float32 of the module of `block`.

    block : (n, N_PIX) floating point, returned as it is, or (n, N_EVENT) integers as `events` makes them
    """
    xp = array_module(block)
    if block.dtype in (xp.float32, xp.float64):
        return block
    count = block.shape[0]
    if xp.__name__ == "cupy":
        place = xp.arange(count)[:, None] * (n_pixel + 1) + (block & LONGEST)
        weight = xp.left_shift(xp.ones_like(block), block >> PIXEL_BITS).astype(xp.float64)
        photons = xp.bincount(place.ravel(), weights=weight.ravel(), minlength=count * (n_pixel + 1))
        return photons.reshape(count, -1)[:, :n_pixel].astype(xp.float32)
    lists = to_host(block)
    place = (np.arange(count)[:, None] * (n_pixel + 1) + (lists & LONGEST)).ravel()
    photons = np.bincount(place, minlength=count * (n_pixel + 1))
    several = np.flatnonzero(lists > LONGEST)
    if several.size:
        np.add.at(photons, place[several], (1 << (lists.ravel()[several].astype(np.int64) >> PIXEL_BITS)) - 1)
    photons = photons.reshape(count, -1)
    return from_host(np.ascontiguousarray(photons[:, :n_pixel], np.float32), block)


def events(counts: NDArray[Any], n_event: int) -> NDArray[np.int32]:
    """Return the lists (n, N_EVENT) of patterns (n, N_PIX) of whole counts; N_PIX stands for no photon.

    n_event : at least the largest of `entries`
    """
    n_pixel = counts.shape[1]
    result = np.full((len(counts), n_event), n_pixel, np.int32)
    for row, pattern in zip(result, counts, strict=True):
        hit = np.flatnonzero(pattern)
        number = pattern[hit].astype(np.int64)
        most, end = int(number.max(initial=0)), 0
        for power in range(most.bit_length()):
            pixels = hit[(number >> power) & 1 > 0]
            row[end : end + len(pixels)] = pixels + (power << PIXEL_BITS)
            end += len(pixels)
    return result


def entries(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many entries (n,) lists of patterns (n, N_PIX) have at most; infinite where they cannot be lists.

    Never fewer for a larger count in one pixel, so that a list that is mended has room.
    """
    hit = np.count_nonzero(counts, axis=1)
    needed: NDArray[np.float64] = hit.astype(np.float64)
    # Patterns that are mostly hit are no shorter as lists, however many photons there are.
    few = np.flatnonzero(2 * hit <= counts.shape[1])
    row, pixel = np.nonzero(counts[few] > 1)
    bits = np.frexp(counts[few[row], pixel])[1]
    needed[few] += np.bincount(row, bits - 1, len(few))
    needed[few[row[bits > POWERS]]] = np.inf
    return needed
