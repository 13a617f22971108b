"""A step repeated many times: by a loop, or, on a GPU, recorded once as a graph and played again and again.

An iteration of phasing or of conjugate gradients on a small volume is a dozen kernels of a few microseconds each, and
Python takes ten times as long to launch one. A graph is launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from spilegate.backend import Array, array_module

Arrays = tuple[Array, ...]
# A step makes new arrays of the same shapes and types: `state = step(state, fixed, *scalars)`.
Step = Callable[..., Arrays]

# To record takes about as long as this many steps.
FEWEST = 2


def repeated(step: Step, times: int, state: Arrays, fixed: Arrays = (), scalars: tuple[Any, ...] = ()) -> Arrays:
    """Return the state after `times` steps.

    step : of a module, not made inside another function; it reads no values of arrays and writes to none it is given
    state : arrays that every step makes anew; fixed : arrays that it reads; scalars : what else it is told
    """
    if array_module(state[0]).__name__ == "cupy" and times >= FEWEST:
        return _recording(step, scalars, _place(state[0]), _shapes(state), _shapes(fixed)).played(times, state, fixed)
    for _ in range(times):
        state = step(state, fixed, *scalars)
    return state


def scalar(value: Array) -> Any:
    """Return a 0-d array as a step wants it: a number, or, where steps are recorded, itself, read by every step."""
    return value if array_module(value).__name__ == "cupy" else float(value)


def _place(array: Array) -> tuple[int, int]:
    """Return the device of an array of CuPy and the stream it is worked on."""
    return int(array.device.id), int(array_module(array).cuda.get_current_stream().ptr)


def _shapes(arrays: Arrays) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Return shapes and types of arrays."""
    return tuple((array.shape, array.dtype.str) for array in arrays)


@lru_cache(maxsize=24)
def _recording(step: Step, scalars: tuple[Any, ...], place: tuple[int, int], state: Any, fixed: Any) -> _Recording:
    """Return the recording of a step for arrays like these on one stream of one device."""
    return _Recording(step, scalars, place[0], state, fixed)


class _Recording:
    """A step as a graph that reads and writes arrays of its own, in memory that nothing else is ever given."""

    def __init__(self, step: Step, scalars: tuple[Any, ...], device: int, state: Any, fixed: Any) -> None:
        import cupy

        self.pool = cupy.cuda.MemoryPool()
        # Plans of FFTs are shared, and a plan has one place to work in: what still runs there would be spoilt.
        with cupy.cuda.Device(device):
            cupy.cuda.get_current_stream().synchronize()
        stream = cupy.cuda.Stream(non_blocking=True)
        with cupy.cuda.Device(device), cupy.cuda.using_allocator(self.pool.malloc), stream:
            self.state, self.fixed = (
                tuple(cupy.zeros(shape, dtype=dtype) for shape, dtype in arrays) for arrays in (state, fixed)
            )
            # Once before: kernels are compiled, plans made and memory is found, which a recording must not do.
            self._once(step, scalars)
            stream.synchronize()
            # CuPy keeps sixteen plans of FFTs, and a plan that goes takes along what a recording of it still reads.
            self.plans = [node.plan for _, node in cupy.fft.config.get_plan_cache()]
            self.graph = self._captured(stream, lambda: self._once(step, scalars))
        self.step, self.scalars = step, scalars

    def _captured(self, stream: Any, work: Callable[[], None]) -> Any | None:
        """Return the graph of some work, None if a library cannot be recorded: then the step is done as it is.

        Errors of CUDA and of its libraries are RuntimeErrors.
        """
        graph = None
        with suppress(RuntimeError):
            stream.begin_capture()
            try:
                work()
            except RuntimeError:
                # What was begun has to be ended, and what comes of it is of no use.
                stream.end_capture()
                return None
            graph = stream.end_capture()
        return graph

    def _once(self, step: Step, scalars: tuple[Any, ...]) -> None:
        """Do the step and keep what it made."""
        for own, made in zip(self.state, step(self.state, self.fixed, *scalars), strict=True):
            own[...] = made

    def played(self, times: int, state: Arrays, fixed: Arrays) -> Arrays:
        """Return the state after `times` steps."""
        if self.graph is None:
            for _ in range(times):
                state = self.step(state, fixed, *self.scalars)
            return state
        stream = array_module(state[0]).cuda.get_current_stream()
        for own, given in zip((*self.state, *self.fixed), (*state, *fixed), strict=True):
            own[...] = given
        for _ in range(times):
            self.graph.launch(stream)
        return tuple(array.copy() for array in self.state)
