"""A stand-in for CuPy.

While a stream captures, operations are written to its tape and not done: what they would make is not a number. To
launch the tape is to do them again, on the very arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class OnDevice(np.ndarray):
    """An array of the stand-in."""

    number = 0

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=self.number)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        assert out is None, "a step writes to nothing it is given"

        def plain() -> Any:
            own = (value.view(np.ndarray) if isinstance(value, OnDevice) else value for value in inputs)
            return np.asarray(getattr(ufunc, method)(*own, **options))

        result = plain().view(OnDevice)
        if (tape := sys.modules["cupy"].tape) is not None:
            tape.append((result, plain))
            result.view(np.ndarray)[...] = np.nan
        return result

    def __setitem__(self, key: Any, value: Any) -> None:
        own = self.view(np.ndarray)[key]
        source = value.view(np.ndarray) if isinstance(value, OnDevice) else value
        if (tape := sys.modules["cupy"].tape) is not None:
            tape.append((own, lambda: source))
        else:
            own[...] = source


OnDevice.__module__ = "cupy"


class CUDARuntimeError(RuntimeError):
    """What CuPy raises where a library cannot be recorded."""


class StandIn(ModuleType):
    """CuPy, as far as recordings need it."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.tape: list[Any] | None = None
        self.current = self.ordinary(0)
        self.in_flight: set[int] = set()
        self.faults: set[str] = set()
        self.zeroed: list[tuple[Any, int, int]] = []
        self.allocator: Any = None
        self.number = 0
        self.captures = 0
        self.launches: list[int] = []
        self.pools: list[Any] = []
        self.cache: list[Any] = []
        self.float64, self.maximum = np.float64, np.maximum
        self.fft = SimpleNamespace(config=SimpleNamespace(get_plan_cache=lambda: list(self.cache)))
        self.cuda = SimpleNamespace(
            MemoryPool=self.pool,
            Stream=lambda non_blocking: Stream(self, non_blocking),
            Device=lambda number: self.swapped("number", number),
            using_allocator=lambda allocator: self.swapped("allocator", allocator),
            get_current_stream=lambda: self.current,
            runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
        )

    def ordinary(self, ptr: int) -> Any:
        """Return a stream that others have; work is in flight on it until somebody waits for it."""
        return SimpleNamespace(ptr=ptr, synchronize=lambda: self.in_flight.discard(ptr))

    def pool(self) -> Any:
        self.pools.append(SimpleNamespace(malloc=object()))
        return self.pools[-1]

    @contextmanager
    def swapped(self, name: str, value: Any) -> Iterator[None]:
        before = getattr(self, name)
        setattr(self, name, value)
        yield
        setattr(self, name, before)

    def zeros(self, shape: Any, dtype: Any) -> OnDevice:
        assert not self.in_flight, "a step is done while others use the same plans"
        self.zeroed.append((self.allocator, self.number, self.current.ptr))
        return self.array(np.zeros(shape, dtype), self.number)

    def zeros_like(self, array: OnDevice) -> OnDevice:
        return self.array(np.zeros_like(array.view(np.ndarray)))

    def array(self, values: Any, number: int = 0) -> OnDevice:
        array = np.array(values).view(OnDevice)
        array.number = number
        return array


class Stream:
    """A stream of the stand-in; its graph knows the tape."""

    def __init__(self, cupy: StandIn, non_blocking: bool) -> None:
        assert non_blocking
        self.cupy, self.ptr, self.within = cupy, id(self), nullcontext()

    def __enter__(self) -> Stream:
        self.within = self.cupy.swapped("current", self)
        self.within.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.within.__exit__(*error)

    def synchronize(self) -> None:
        assert self.cupy.tape is None

    def begin_capture(self) -> None:
        assert self.cupy.current is self
        self.cupy.captures += 1
        self.cupy.tape = []

    def end_capture(self) -> Any:
        tape, self.cupy.tape = self.cupy.tape, None
        if "end" in self.cupy.faults:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
        return SimpleNamespace(launch=lambda stream: self.played(tape, stream))

    def played(self, tape: list[Any], stream: Any) -> None:
        self.cupy.launches.append(stream.ptr)
        for target, source in tape:
            target.view(np.ndarray)[...] = source()
