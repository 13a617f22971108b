"""Plans of non-uniform FFTs, lent and kept, so that FFT plans and grids are built once a thread, or once a stream.

A plan of cufinufft belongs to the device and the stream it was made on: its grid lies on that device, and its kernels
are ordered by that stream alone. Without a word it takes device 0 and the null stream, for which the streams of others
do not wait. So both are said, and both are part of what a plan is known by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

from spilegate.backend import array_module
from spilegate.kernels.cuda_libraries import preload

# Without words on stderr where OMP_NUM_THREADS allows fewer threads than are asked for, which it takes all the same.
QUIET = {"showwarn": 0}
# Beside finufft's types of transform: a type 2 that is given the spectrum on its finer grid, by the host's library.
INTERPOLATION = 0
# On the host, sums onto volumes larger than this are made on a grid 1.25 times as fine instead of twice: a quarter of
# the memory, and of the time as well for the largest (measured: 0.6 of it at 141 voxels and 800,000 points, 0.8 at
# 1,600,000; at 101 voxels 1.2).
COARSE_SIZE = 119
# Methods of cufinufft: point by point, or, for sums, bin by bin, each point added to its bin by one block.
BY_POINT, BY_BIN = 1, 3
# Grids of volumes of fewer voxels along an edge lie in a GPU's cache, whatever the order of the points.
UNSORTED_SIZE = 64


def library_of(array: Any) -> str:
    """Return the name of the NUFFT library for arrays like this one."""
    return "cufinufft" if array_module(array).__name__ == "cupy" else "finufft"


@lru_cache(maxsize=1)
def load_cufinufft() -> Any:
    """Return the module cufinufft, for which CUDA's libraries are loaded first: it looks for them on the system's path.

    Raises ImportError where it is not installed, or was built for another CUDA than there is.
    """
    preload()
    return import_module("cufinufft")


def where(array: Any) -> dict[str, int]:
    """Return the options of cufinufft that say where an array of CuPy is worked on: its device, the current stream."""
    cupy = array_module(array)
    return {"gpu_device_id": int(array.device.id), "gpu_stream": int(cupy.cuda.get_current_stream().ptr)}


def grid_bytes(size: int) -> float:
    """Return the memory of the host's grid for sums onto a volume of size^3 in double precision, and of the volume."""
    return 16.0 * (size**3 + ((1.25 if size > COARSE_SIZE else 2.0) * size) ** 3)


@contextmanager
def plan_of(like: Any, kind: int, size: int, n_trans: int, dtype: str, tolerance: float, threads: int) -> Iterator[Any]:
    """Lend a plan for volumes of `size`^3 that works where the array `like` is, which nobody else uses meanwhile.

    kind : 1 sums points onto a volume, exp(+i), 2 evaluates a volume at points, exp(-i); INTERPOLATION
    """
    library = library_of(like)
    place = where(like) if library == "cufinufft" else {"nthreads": threads}
    idle = _idle(library, kind, size, n_trans, dtype, tolerance, *place.values())
    try:
        plan = idle.pop()
    except IndexError:
        plan = _made(library, kind, size, n_trans, dtype, tolerance, place)
    yield plan
    idle.append(plan)


@lru_cache(maxsize=8)
def _idle(*kind_of_plan: int | str | float) -> list[Any]:  # noqa: ARG001 - a key of the cache
    """Return the plans of one kind that no thread is using; empty at first."""
    return []


def _made(library: str, kind: int, size: int, n_trans: int, dtype: str, tolerance: float, place: dict[str, int]) -> Any:
    """Return a new plan.

    Evaluation takes points as they come: neighbours on a detector are neighbours in the volume, and sorting them costs
    more than it saves (measured: 1.5 times the whole). Summation needs its points sorted, or threads would collide.
    """
    options: dict[str, Any] = {"n_trans": n_trans, "eps": tolerance, "isign": 1 if kind == 1 else -1, "dtype": dtype}
    options |= {"upsampfac": 2.0, **place}
    if library == "finufft":
        if kind == 1 and size > COARSE_SIZE:
            options["upsampfac"] = 1.25
        options |= {"spread_sort": 2 if kind == 1 else 0, "spreadinterponly": int(kind == INTERPOLATION), **QUIET}
        made = import_module("finufft").Plan(kind or 2, (size,) * 3, **options)
    else:
        made = load_cufinufft().Plan(kind, (size,) * 3, **_method(kind, size), **options)
    return made


def _method(kind: int, size: int) -> dict[str, int]:
    """Return how cufinufft is to do it; measured on an H100.

    Sums by bins are 6 to 9 times as fast as its default, in single and double precision, at 69^3 and 197^3. To sort the
    points of an evaluation costs more than it saves, until the grid is larger than the cache.
    """
    if kind == 1:
        return {"gpu_method": BY_BIN, "gpu_sort": 1}
    return {"gpu_method": BY_POINT, "gpu_sort": int(size >= UNSORTED_SIZE)}
