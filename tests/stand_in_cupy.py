"""A stand-in for CuPy where there is none: NumPy's arrays under its name, and notes of what is recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class ndarray(np.ndarray):  # noqa: N801 - the name of CuPy's
    """An array that says it is CuPy's, on a device."""

    place = 0

    @property
    def device(self) -> SimpleNamespace:
        return SimpleNamespace(id=self.place)


ndarray.__module__ = "cupy"


class CudaError(Exception):
    """What CuPy raises for errors of CUDA."""


class Stream:
    """A stream that can record: what is launched while it does is remembered, not only done."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.ptr = id(self)
        self.non_blocking = non_blocking

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def begin_capture(self) -> None:
        if LOG["refuse"]:
            raise CudaError("not permitted")
        LOG["captures"] += 1

    def end_capture(self) -> Any:
        if LOG["refuse"]:
            raise CudaError("not permitted")
        return SimpleNamespace(launch=lambda stream: LOG["launches"].append(stream.ptr))


LOG: dict[str, Any] = {}


def installed(monkeypatch: Any) -> ModuleType:
    """Return the stand-in, under CuPy's name for as long as a test runs."""
    LOG.update(captures=0, launches=[], refuse=False, stream=SimpleNamespace(ptr=0))
    cupy = ModuleType("cupy")
    for name in ("float32", "float64", "complex64", "complex128", "int32", "int64"):
        setattr(cupy, name, getattr(np, name))

    def asarray(values: Any, dtype: Any = None) -> ndarray:
        return np.asarray(values, dtype).view(ndarray)

    @contextmanager
    def using_allocator(_: Callable[..., Any]) -> Iterator[None]:
        yield

    cupy.ndarray, cupy.asarray, cupy.ascontiguousarray = ndarray, asarray, asarray  # type: ignore[attr-defined]
    cupy.zeros = lambda shape, dtype=float: np.zeros(shape, dtype).view(ndarray)  # type: ignore[attr-defined]
    cupy.maximum = np.maximum  # type: ignore[attr-defined]
    cache = [(0, SimpleNamespace(plan="a plan"))]
    cupy.fft = SimpleNamespace(config=SimpleNamespace(get_plan_cache=lambda: cache))  # type: ignore[attr-defined]
    cupy.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        MemoryPool=lambda: SimpleNamespace(malloc=None),
        Stream=Stream,
        Device=lambda _: Stream(),
        using_allocator=using_allocator,
        get_current_stream=lambda: LOG["stream"],
        runtime=SimpleNamespace(CUDARuntimeError=CudaError),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy
