"""Sparse resampling of patterns: every sample of a ring is a weighted sum of a few pixels."""

from __future__ import annotations

from typing import Any
from weakref import finalize

import numpy as np

from spilegate.backend import array_module, from_host, to_host

# Rings are laid once a radius and used for many tiles of many generations: their matrix goes to a device once.
# By the host's matrix, which takes its copies along when it goes, and device.
_copies: dict[tuple[int, int], Any] = {}


def _on_device(matrix: Any, device: int) -> Any:
    """Return the matrix on a GPU."""
    from cupyx.scipy.sparse import csr_matrix

    key = (id(matrix), device)
    if key not in _copies:
        _copies[key] = csr_matrix(matrix)
        finalize(matrix, _copies.pop, key, None)
    return _copies[key]


def resampled(matrix: Any, images: Any) -> Any:
    """Return (n, samples) float32 of patterns (n, N_PIX): `images @ matrix.T`, by the sparse product of their device.

    matrix : (samples, N_PIX) sparse float32, on the host
    """
    if array_module(images).__name__ == "cupy":
        return array_module(images).ascontiguousarray((_on_device(matrix, images.device.id) @ images.T).T)
    return from_host(np.ascontiguousarray((matrix @ to_host(images).T).T), images)
