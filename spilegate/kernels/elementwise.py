"""Functions of the elements of arrays, and sums, for arrays of any module.

cuPyNumeric makes a task of every operation, and on CPUs takes ten times as long as NumPy wherever a scalar or a slice
is an operand. So a function of several operations is one task here. On CPUs it works on blocks that fit into the cache,
as it does for NumPy arrays.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from operator import mul
from typing import Any

import numpy as np

from spilegate.backend import Array, array_module, to_host
from spilegate.kernels import stores

# Elements of a block.
BLOCK = 2**15

_functions: list[Callable[..., Array]] = []


def elementwise(
    function: Callable[..., Array], *arrays: Array, scalars: tuple[float, ...] = (), reuse: Array | None = None
) -> Array:
    """Return `function(*arrays, *scalars)` for a function in which every element stands for itself.

    function : of a module, not made inside another function; it writes to none of its arguments
    arrays : of one module, their shapes are broadcast; scalars : further arguments
    reuse : an array of the result's shape and type, which nobody needs any more; may be one of `arrays`
    """
    xp = array_module(arrays[0])
    if xp.__name__ == "cupy":
        return _as_one_kernel(function, *map(_kind, arrays))(*arrays, *scalars)
    if xp is not np and xp.__name__ != "cupynumeric":
        return function(*arrays, *scalars)
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    if xp is np and math.prod(shape) <= BLOCK:
        return function(*arrays, *scalars)
    target = reuse
    if target is None:
        types = (np.empty((0,) * len(shape), array.dtype) for array in arrays)
        target = xp.empty(shape, dtype=function(*types, *scalars).dtype)
    sources = [xp.broadcast_to(array, shape) for array in arrays]
    if xp is np:
        _apply_blocks(function, sources, target, scalars)
    else:
        _launch(function, sources, target, scalars)
    return target


def joined(function: Callable[..., Array], *arrays: Array) -> Array:
    """Return `function(*arrays)` for a function as above, on a GPU as one kernel; the caller keeps to the cache."""
    if array_module(arrays[0]).__name__ == "cupy":
        return _as_one_kernel(function, *map(_kind, arrays))(*arrays)
    return function(*arrays)


def _kind(array: Array) -> tuple[tuple[int, ...], str]:
    """Return what a kernel depends on: along which axes an array is repeated, and its type."""
    return tuple(min(extent, 2) for extent in array.shape), array.dtype.str


@lru_cache(maxsize=256)
def _as_one_kernel(function: Callable[..., Array], *kinds: tuple[tuple[int, ...], str]) -> Callable[..., Array]:
    """Return a function as one kernel of a GPU, or as it is if CuPy cannot join it or would give another type."""
    import cupy

    fused: Callable[..., Array] = cupy.fuse(function)
    few = [cupy.ones(shape, dtype=dtype) for shape, dtype in kinds]
    missing = len(inspect.signature(function).parameters) - len(few) if function is not mul else 0
    numbers = (0.5,) * missing
    try:
        made, right = fused(*few, *numbers), function(*few, *numbers)
        same = (made.dtype, made.shape) == (right.dtype, right.shape)
    except Exception:
        # Whatever it stumbles over while it traces the function, the function itself is right.
        return function
    return fused if same else function


def total(array: Array, axes: tuple[int, ...]) -> Any:
    """Return the sum over some axes as a NumPy array, which waits for whatever computes `array`.

    NumPy sums in pairs and keeps the type; elsewhere float32 would stop growing at 2^24 and float64 is summed.
    """
    xp = array_module(array)
    if xp is np:
        return np.sum(array, axis=axes)
    return to_host(xp.sum(array, axis=axes, dtype=xp.float64))


def _launch(function: Callable[..., Array], sources: list[Array], target: Array, scalars: tuple[float, ...]) -> None:
    """Run the task for a function on all parts of the arrays."""
    from legate.core import get_legate_runtime, types

    stores.collect_garbage()
    if function not in _functions:
        _functions.append(function)
    launch = get_legate_runtime().create_auto_task(*_task(len(sources), len(scalars)))
    result = stores.store_of(target)
    launch.add_output(result)
    for source in sources:
        store = stores.store_of(source)
        launch.add_input(store)
        launch.add_alignment(result, store)
    launch.add_scalar_arg(_functions.index(function), types.int64)
    for scalar in scalars:
        launch.add_scalar_arg(scalar, types.float64)
    launch.execute()


@lru_cache(maxsize=32)
def _task(sources: int, scalars: int) -> tuple[Any, Any]:
    """Register the task for functions with so many arguments: Legate counts them at every launch."""
    return stores.register(_apply, sources, (int, *[float] * scalars))


def _apply(xp: Any, sources: list[Array], target: Array, number: int, *scalars: float) -> None:
    """Apply a function to a part of the arrays: what one task does."""
    parts = [xp.broadcast_to(source[_repeated(source, target)], target.shape) for source in sources]
    if xp is np:
        _apply_blocks(_functions[number], parts, target, scalars)
    else:
        target[...] = _functions[number](*parts, *scalars)


def _repeated(source: Array, target: Array) -> tuple[slice, ...]:
    """Return the elements to broadcast again: along an axis that was broadcast a task sees the whole array."""
    return tuple(slice(None if n == m else 1) for n, m in zip(source.shape, target.shape, strict=True))


def _apply_blocks(
    function: Callable[..., Array], sources: list[Array], target: Array, scalars: tuple[float, ...]
) -> None:
    """Apply a function in blocks along the first axis that has more than one element."""
    axis = next((axis for axis, extent in enumerate(target.shape) if extent > 1), 0)
    step = max(1, target.shape[axis] * BLOCK // target.size)
    for begin in range(0, target.shape[axis], step):
        block = (slice(None),) * axis + (slice(begin, begin + step),)
        target[block] = function(*(source[block] for source in sources), *scalars)
