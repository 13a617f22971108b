"""CUDA's libraries from wherever CuPy would take them, for what looks on the system's path only."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any


def preload() -> None:
    """Load what cufinufft is linked with; where it is on the system's path, cufinufft finds it all the same."""
    with suppress(ImportError):
        pathfinder: Any = import_module("cuda.pathfinder")
        for name in ("cudart", "cufft"):
            with suppress(RuntimeError, OSError):
                pathfinder.load_nvidia_dynamic_lib(name)
