"""Arrays of other modules than NumPy's, how they are compared with NumPy's, and small densities."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from spilegate.backend import array_module, to_host

# The launcher sets this for the process it starts.
LAUNCHED = "LEGATE_CONFIG" in os.environ
MODULES = ["array_api_strict", *(["cupynumeric"] if LAUNCHED else [])]


def assert_close(found: Any, expected: np.ndarray, tolerance: float) -> None:
    """Fail unless two arrays agree to a part of the largest value expected."""
    assert found.dtype == array_module(found).asarray(expected[..., :0]).dtype
    assert found.shape == expected.shape
    assert np.abs(to_host(found) - expected).max() <= tolerance * np.abs(expected).max()


def assert_same(found: Any, expected: np.ndarray) -> None:
    """Fail unless two arrays are equal in every bit that counts, their dtypes included."""
    np.testing.assert_array_equal(to_host(found), expected, strict=True)


def blobs(size: int, seed: int) -> np.ndarray:
    """A density (size, size, size) float32 of Gaussians about the centre."""
    rng = np.random.default_rng(seed)
    axis = np.arange(size) - size // 2
    density = np.zeros((size,) * 3)
    for centre in rng.uniform(-4, 4, (25, 3)):
        x, y, z = (np.exp(-((axis - c) ** 2) / 3) for c in centre)
        density += x[:, None, None] * y[:, None] * z
    # Nothing below the level at which shrink-wrap cuts.
    return np.maximum(density - 0.1 * density.max(), 0).astype(np.float32)
