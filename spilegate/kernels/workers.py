"""Work on tiles of rows (patterns, views, volumes) by whatever there is to work with: here, the threads of one process.

A body is a function of an array module: it gets the tile's arrays and returns, for every output, either its rows or its
part of a sum. It never asks where it runs. Sums are exact, so that neither the number of workers nor the order in which
they finish can change a result: every part is rounded to a multiple of one power of two, so small that nothing is lost
and so large that the whole sum still fits into the 53 bits of a double (Demmel and Nguyen, IEEE ARITH 21, 163, 2013).
"""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from spilegate.backend import array_module, to_host
from spilegate.kernels import host_memory
from spilegate.kernels.cg import solver_name

# Bits of a double less the sign and one for the bound's rounding.
BITS = 51
# Patterns that always stay together: whatever is summed over a tile of patterns uses a tile that divides this.
GROUP = 64
# Copies of a pattern, in single precision, that a body makes, unless told otherwise.
SCRATCH = 16
# Detector pixels of a block of patterns at most; a NUFFT of fewer points is mostly the FFT of its grid.
BLOCK_POINTS = 4_000_000


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


@dataclass(frozen=True)
class Rows:
    """An output with one row of `shape` for each row of the work; kept where it was made if `split`.

    shared : every body may want all of it next; so it stays on the device, where the work is done by one
    """

    shape: tuple[int, ...]
    dtype: Any
    split: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Total:
    """An output of `shape`, float64, summed over all rows of the work.

    bound : upper bound of the absolute value of every element of the sum; beyond it sums are merely not exact
    shared : as for `Rows`
    """

    shape: tuple[int, ...]
    bound: float
    shared: bool = False

    def rounded(self, part: Any) -> Any:
        """Return a part of the sum, an array of any module, rounded so that adding parts is exact."""
        step = math.ldexp(1.0, math.frexp(self.bound)[1] - BITS) if self.bound > 0 else 1.0
        xp = array_module(part)
        if not hasattr(xp, "rint"):
            xp, part = np, to_host(part)
        return xp.rint(xp.asarray(part, dtype=xp.float64) / step) * step


Output = Rows | Total
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

        step : a divisor of GROUP
        """

    @property
    def writer(self) -> bool:
        """Whether this process writes the files and talks to the user: exactly one process of a run does."""

    def description(self) -> dict[str, Any]:
        """Return who they are, for the record of a run: `backend`, `processors`, `ranks`, `merge_solver`."""

    def peak_memory_mib(self) -> list[float]:
        """Return the largest memory that the process behind every processor has held [MiB]."""

    def once(self, check: Callable[[], None]) -> None:
        """Call a function in one process of the run; the InputError it raises is raised in all of them."""


def block_rows(count: int, n_pixel: int) -> int:
    """Return how many of `count` patterns make a block: sums of blocks are the same wherever they are made.

    The number of blocks is about a power of two, or the largest that leaves every block GROUP patterns; it depends on
    the data alone. Large blocks can be halved several times.
    """
    blocks = 2 ** math.ceil(math.log2(max(2.0, count * n_pixel / BLOCK_POINTS)))
    groups = max(1, math.ceil(count / blocks / GROUP))
    unit = 1 << max(0, groups.bit_length() - 4)
    return int(math.ceil(groups / unit) * unit * GROUP)


def pattern_bytes(n_pixel: int) -> float:
    """Return the memory that a pattern takes with all that a body usually makes of it."""
    return 4.0 * SCRATCH * n_pixel


def tile_rows(count: int, n_pixel: int, most: float) -> int:
    """Return how many of `count` patterns make a tile: a block halved until it has at most `most`, or cannot be."""
    rows = block_rows(count, n_pixel)
    while rows > most and rows % (2 * GROUP) == 0:
        rows //= 2
    return rows


@lru_cache(maxsize=1)
def libraries() -> ThreadpoolController:
    """Return the BLAS libraries of this process, NumPy's and SciPy's; looking for them takes milliseconds."""
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own

    return ThreadpoolController()


def tiles(begin: int, end: int, tile: int) -> Iterator[slice]:
    """Yield the tiles of `range(begin, end)`."""
    for first in range(begin, end, tile):
        yield slice(first, min(first + tile, end))


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
        """Return every step-th row."""
        return np.ascontiguousarray(array[first::step])

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


def sums_of(outputs: Sequence[Output], results: Sequence[Any], values: Sequence[Any], part: slice) -> list[Any]:
    """Put the rows of what a body returned for a tile in their places; return its parts of the sums, rounded."""
    sums = []
    for output, result, value in zip(outputs, results, values, strict=True):
        if isinstance(output, Total):
            sums.append(to_host(output.rounded(value)))
        else:
            result[part] = to_host(value)
    return sums


def put(outputs: Sequence[Output], results: Sequence[Any], values: Sequence[Any], part: slice) -> None:
    """Add what a body returned for a tile to the results: rows in their places, parts to their sums."""
    for output, result, value in zip(outputs, results, values, strict=True):
        if isinstance(output, Total):
            result += output.rounded(value)
        else:
            result[part] = to_host(value)
