"""Sparse resampling of patterns: every sample of a ring is a weighted sum of a few pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from spilegate.backend import array_module, from_host, to_host


def resampled(matrix: Any, images: Any) -> Any:
    """Return (n, samples) float32 of patterns (n, N_PIX): `images @ matrix.T`, by the sparse product of their device.

    matrix : (samples, N_PIX) sparse float32, on the host
    """
    if array_module(images).__name__ == "cupy":
        from cupyx.scipy.sparse import csr_matrix

        return array_module(images).ascontiguousarray((csr_matrix(matrix) @ images.T).T)
    return from_host(np.ascontiguousarray((matrix @ to_host(images).T).T), images)
