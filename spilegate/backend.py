"""Which array module an array belongs to, and how to bring arrays from and to the host. Nothing else."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# An array of any module: its shape and type stand in the docstrings.
Array: TypeAlias = Any


def array_module(array: Array) -> ModuleType:
    """Return the module (`numpy`, ...) whose functions work on `array`.

    The array itself is asked, so no global choice exists; a module that was never imported is never needed.
    """
    return sys.modules[type(array).__module__.partition(".")[0]]


def to_host(array: Array) -> NDArray[Any]:
    """Return `array` as a NumPy array: itself if it is one, else a copy, which waits for whatever computes it."""
    if isinstance(array, np.ndarray):
        return array
    if array_module(array).__name__ == "cupy":
        copied: NDArray[Any] = array.get()
        return copied
    # Copied once more, because the memory a view shows may be given to another array.
    return np.asarray(array).copy()


def from_host(array: Array, like: Array) -> Array:
    """Return a NumPy array as an array of the module, and on the device, of `like`; any other array as it is.

    The result may share the memory of `array`: write to neither.
    """
    xp = array_module(like)
    if not isinstance(array, np.ndarray) or xp is np:
        return array
    if xp.__name__ == "cupynumeric":
        # Its `asarray` would work on the host's memory at a later time, when it may have changed.
        return xp.array(array)
    if xp.__name__ == "cupy":
        with like.device:
            return xp.asarray(array)
    return xp.asarray(array, device=like.device)
