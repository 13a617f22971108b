"""Work on tiles of rows (patterns, views, volumes) by whatever there is to work with: here, the threads of one process.

A body is a function of an array module: it gets the tile's arrays and returns, for every output, either its rows or its
part of a sum. It never asks where it runs. Sums are exact (see `exact`), so that neither the number of workers nor the
order in which they finish can change a result.
"""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from spilegate.backend import array_module
from spilegate.kernels import host_memory
from spilegate.kernels.blocks import SCRATCH, tiles
from spilegate.kernels.cg import solver_name
from spilegate.kernels.exact import Output, Total, sums_of
from spilegate.records import Int64


@dataclass(frozen=True)
class Here:
    """Where a body runs.

    xp : the array module of its arrays; threads : those that its libraries may use
    width : what fills the cache of a core leaves a large device idle: this many times as much keeps it busy
    room : memory that a body's arrays may take, where it is the memory and not a cache that limits them [bytes]
    """

    xp: Any
    threads: int
    width: int = 1
    room: float = math.inf

    def rows(self, few: int, row_bytes: float) -> int:
        """Return how many rows of something to work on at once.

        few : as many as a core's cache holds; row_bytes : memory that a row takes with all that is made of it
        """
        return few if self.width == 1 else max(1, int(min(few * self.width, self.room / max(row_bytes, 1.0))))

    def array(self, values: Any, dtype: Any = None) -> Any:
        """Return host values, or those of an array of the module, as an array of the module."""
        if array_module(values) is self.xp:
            return self.xp.asarray(values, dtype=dtype)
        host = np.asarray(values, dtype)
        if self.xp.__name__ != "cupynumeric":
            return self.xp.asarray(host)
        # Its `asarray` refuses some views, and would work on the host's memory at a later time.
        return self.xp.array(np.ascontiguousarray(host))


Body = Callable[..., tuple[Any, ...]]


class Workers(Protocol):
    """Those who do the work of a run; what they are decides how fast it is, and nothing else."""

    @property
    def threads(self) -> int:
        """Threads that a library called outside of any tile may use."""

    @property
    def here(self) -> Here:
        """Where small work is done that is shared with nobody."""

    def run(
        self,
        body: Body,
        count: int,
        outputs: Sequence[Output],
        *,
        tile: int,
        split: Sequence[Any] = (),
        row_bytes: float | None = None,
        tile_bytes: float = 0.0,
        on_host: bool = False,
    ) -> list[Any]:
        """Apply a body to all tiles of `range(count)` and return its outputs, host arrays unless `split` or `shared`.

        body : `body(here, part, *arrays) -> outputs`; part is the tile as a slice of all rows, arrays are the tile's
            rows of the arrays in `split`; whatever else it needs it brings along as host arrays
        tile : rows of a tile at most; a divisor of GROUP where results depend on which rows share a tile
        split : arrays with `count` rows that may be spread over many processors
        row_bytes : memory that a row takes with all that a body makes of it; SCRATCH patterns of single precision if
            left out. A tile has as many rows as `tile` says only where a core's cache is what limits it.
        tile_bytes : memory that a tile takes besides, however many rows it has. Of large tiles fewer are worked on
            side by side.
        on_host : the body reads files, or calls libraries that only the host has
        """

    def volumes(
        self,
        body: Body,
        count: int,
        outputs: Sequence[Output],
        size: int,
        *,
        solver: bool = False,
        several: bool = False,
    ) -> list[Any]:
        """Apply a body to `count` volumes of size^3, one by one: each by one worker or, if it is large, split over all.

        body : `body(here, part)`, written for split arrays too; solver : it solves linear equations
        several : the body takes more than one volume at once, if that helps
        """

    def take(self, array: Any, first: int, step: int) -> Any:
        """Return the rows first, first + step, ... of an array that may be spread over many processors.

        step : a divisor of GROUP. Write to neither: they may share their memory.
        """

    def some(self, array: Any, index: Int64) -> Any:
        """Return the rows of these numbers (n,), ascending, of an array that may be spread over many processors."""

    @property
    def writer(self) -> bool:
        """Whether this process writes the files and talks to the user: exactly one process of a run does."""

    def description(self) -> dict[str, Any]:
        """Return who they are, for the record of a run: `backend`, `processors`, `ranks`, `merge_solver`."""

    def peak_memory_mib(self) -> list[float]:
        """Return the largest memory that the process behind every processor has held [MiB]."""

    def once(self, check: Callable[[], None]) -> None:
        """Call a function in one process of the run; the InputError it raises is raised in all of them."""


@lru_cache(maxsize=1)
def libraries() -> ThreadpoolController:
    """Return the BLAS libraries of this process, NumPy's and SciPy's; looking for them takes milliseconds."""
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own

    return ThreadpoolController()


@dataclass(frozen=True)
class Threads:
    """The threads of this process, on arrays of one module in its memory.

    threads : how many; xp : the array module, NumPy unless a body is to be tried with another
    """

    threads: int
    xp: Any = np

    @property
    def here(self) -> Here:
        """One thread of them."""
        return Here(self.xp, 1)

    def run(
        self,
        body: Body,
        count: int,
        outputs: Sequence[Output],
        *,
        tile: int,
        split: Sequence[Any] = (),
        row_bytes: float | None = None,
        tile_bytes: float = 0.0,
        on_host: bool = False,  # noqa: ARG002 - there is nothing else
    ) -> list[Any]:
        """Apply a body to all tiles, `threads` at a time, or as many as the memory holds; see `Workers`.

        Sums are added in the order of the tiles, and few tiles are ahead of the one that is waited for.
        """
        results = [np.zeros(o.shape) if isinstance(o, Total) else np.empty((count, *o.shape), o.dtype) for o in outputs]
        parts = list(tiles(0, count, tile))
        # One tile alone may use all threads; several share them.
        here = Here(self.xp, self.threads if len(parts) == 1 else 1)

        def work(part: slice) -> list[Any]:
            values = body(here, part, *(self.xp.asarray(array[part]) for array in split))
            return sums_of(outputs, results, values, part)

        if row_bytes is None:
            row_bytes = 4.0 * SCRATCH * sum(math.prod(array.shape[1:]) for array in split)
        at_once = host_memory.at_once(min(self.threads, len(parts)), min(tile, count) * row_bytes + tile_bytes)
        totals = [result for output, result in zip(outputs, results, strict=True) if isinstance(output, Total)]
        # A tile's arrays fit into the cache of its core, so the tiles run in parallel and BLAS inside a tile does not.
        with libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(max(1, at_once)) as pool:
            for sums in host_memory.in_order(pool, work, parts, at_once + 1):
                for total, own in zip(totals, sums, strict=True):
                    total += own
        return results

    def volumes(
        self,
        body: Body,
        count: int,
        outputs: Sequence[Output],
        size: int,
        *,
        solver: bool = False,
        several: bool = False,  # noqa: ARG002 - a core has enough with one
    ) -> list[Any]:
        """Apply a body to volumes, `threads` at a time."""
        # Linear equations are convolutions on a grid twice as fine, in double precision.
        row_bytes = 4.0 * SCRATCH * size**3 * (8 if solver else 1)
        return self.run(body, count, outputs, tile=1, row_bytes=row_bytes)

    def take(self, array: Any, first: int, step: int) -> Any:
        """Return every step-th row, where it lies."""
        return array[first::step]

    def some(self, array: Any, index: Int64) -> Any:
        """Return these rows, copied."""
        return array[index]

    @property
    def writer(self) -> bool:
        """There is but one process."""
        return True

    def description(self) -> dict[str, Any]:
        """Return the number of threads and versions."""
        return {
            "backend": f"NumPy {np.__version__}",
            "processors": f"{self.threads} threads",
            "ranks": 1,
            "merge_solver": solver_name(np.empty(0)),
        }

    def peak_memory_mib(self) -> list[float]:
        """Return the largest memory of this process."""
        return [peak_memory_mib()]

    def once(self, check: Callable[[], None]) -> None:
        """Call a function."""
        check()


def peak_memory_mib() -> float:
    """Return the largest memory this process has held [MiB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
