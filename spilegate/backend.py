"""Which array module an array belongs to, and how to bring an array to the host. Nothing else."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


def array_module(array: Any) -> ModuleType:
    """Return the module (`numpy`, ...) whose functions work on `array`.

    The array itself is asked, so no global choice exists; a module that was never imported is never needed.
    """
    return sys.modules[type(array).__module__.partition(".")[0]]


def to_host(array: Any) -> NDArray[Any]:
    """Return `array` as a NumPy array, copying only if it does not lie in host memory."""
    return array if isinstance(array, np.ndarray) else np.asarray(array)
