"""Work on tiles by one GPU: CuPy's arrays, cuFFT, cuBLAS and cufinufft, without a launcher or a runtime of its own.

Bodies come one after the other, each with the whole device: a tile has as many rows as its memory allows. Patterns lie
in its memory if they fit, else they come from the host's in blocks. What the host alone can do, its threads do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spilegate.backend import to_host
from spilegate.errors import InputError
from spilegate.kernels.blocks import SCRATCH, tiles
from spilegate.kernels.cg import solver_name
from spilegate.kernels.exact import Output, Total
from spilegate.kernels.remedies import cuda_of_distributions, remedies
from spilegate.kernels.workers import Body, Here, Threads
from spilegate.records import Int64

# What fills the cache of a core, so many times, fills a device; its own cache still holds it.
WIDTH = 64
# Parts of the free memory: what a body's arrays may take (beyond MOST_ROOM nothing becomes faster), and what an array
# that stays may take at most.
ROOM_PART, MOST_ROOM, STAY_PART = 0.15, 6e9, 0.15


def room_of(free: float) -> float:
    """Return how much of a device's free memory a body's arrays may take [bytes]."""
    return min(MOST_ROOM, ROOM_PART * free)


def volumes_at_once(room: float, size: int) -> int:
    """Return how many volumes of size^3 a body's arrays have room for, with all that is made of them."""
    return max(1, int(room / (4.0 * SCRATCH * size**3)))


class Device:
    """The GPU that CuPy works on; see `Workers`.

    xp : CuPy, or, to try the tiling, another module with NumPy's functions
    threads : of the host; free : returns the device's free memory [bytes]; name : of the device
    """

    def __init__(self, xp: Any, threads: int, free: Callable[[], float], name: str) -> None:
        self.xp = xp
        self.host = Threads(threads)
        self.free = free
        self.name = name
        self._here = Here(xp, 1, WIDTH, room_of(free()))

    @property
    def threads(self) -> int:
        """Threads of the host."""
        return self.host.threads

    @property
    def here(self) -> Here:
        """The device."""
        return self._here

    def run(
        self,
        body: Body,
        count: int,
        outputs: Sequence[Output],
        *,
        tile: int,
        split: Sequence[Any] = (),
        row_bytes: float | None = None,
        tile_bytes: float = 0.0,  # noqa: ARG002 - tiles come one after the other
        on_host: bool = False,
    ) -> list[Any]:
        """Apply a body to all tiles, one after the other."""
        results = [self._empty(output, count) for output in outputs]
        if on_host:
            self._on_host(body, count, outputs, results, tile, split)
        else:
            if row_bytes is None:
                row_bytes = 4.0 * SCRATCH * sum(math.prod(array.shape[1:]) for array in split)
            for part in tiles(0, count, self._here.rows(tile, row_bytes)):
                values = body(self._here, part, *(self.xp.asarray(array[part]) for array in split))
                self._put(outputs, results, values, part)
        return [self._finished(output, result) for output, result in zip(outputs, results, strict=True)]

    def _empty(self, output: Output, count: int) -> Any:
        """Return the array for an output: on the device if it is summed there, or stays there and fits."""
        if isinstance(output, Total):
            return self.xp.zeros(output.shape, dtype=self.xp.float64)
        size = count * math.prod(output.shape) * np.dtype(output.dtype).itemsize
        stays = (output.split or output.shared) and size <= STAY_PART * self.free()
        return (self.xp if stays else np).empty((count, *output.shape), dtype=output.dtype)

    def _put(self, outputs: Sequence[Output], results: Sequence[Any], values: Sequence[Any], part: slice) -> None:
        """Add what a body returned for a tile to the results."""
        for output, result, value in zip(outputs, results, values, strict=True):
            if isinstance(output, Total):
                result += self.xp.asarray(output.rounded(value))
            elif isinstance(result, np.ndarray) and self.xp is not np:
                result[part] = to_host(value)
            else:
                result[part] = self.xp.asarray(value)

    def _finished(self, output: Output, result: Any) -> Any:
        """Return a result where it is wanted."""
        return to_host(result) if isinstance(output, Total) and not output.shared else result

    def _on_host(
        self, body: Body, count: int, outputs: Sequence[Output], results: list[Any], tile: int, split: Sequence[Any]
    ) -> None:
        """Apply a body by the host's threads, a few tiles at a time, so that the host need not hold all of them."""
        most = tile * max(1, 4 * self.threads)
        for several in tiles(0, count, most):

            def shifted(here: Here, part: slice, *blocks: Any, first: int = several.start) -> tuple[Any, ...]:
                return body(here, slice(first + part.start, first + part.stop), *blocks)

            own = [to_host(array[several]) for array in split]
            values = self.host.run(shifted, several.stop - several.start, outputs, tile=tile, split=own)
            self._put(outputs, results, values, several)

    def volumes(
        self,
        body: Body,
        count: int,
        outputs: Sequence[Output],
        size: int,
        *,
        solver: bool = False,  # noqa: ARG002 - the signature of all workers
        several: bool = False,
    ) -> list[Any]:
        """Apply a body to volumes, as many at once as it takes and the memory holds."""
        at_once = volumes_at_once(self._here.room, size) if several else 1
        results = [self._empty(output, count) for output in outputs]
        for part in tiles(0, count, at_once):
            self._put(outputs, results, body(self._here, part), part)
        return [self._finished(output, result) for output, result in zip(outputs, results, strict=True)]

    def take(self, array: Any, first: int, step: int) -> Any:
        """Return every step-th row, where the array is."""
        return (np if isinstance(array, np.ndarray) else self.xp).ascontiguousarray(array[first::step])

    def some(self, array: Any, index: Int64) -> Any:
        """Return these rows, copied, where the array is."""
        return array[index if isinstance(array, np.ndarray) else self.xp.asarray(index)]

    @property
    def writer(self) -> bool:
        """There is but one process."""
        return True

    def description(self) -> dict[str, Any]:
        """Return the device and versions."""
        return {
            "backend": f"{self.xp.__name__} {self.xp.__version__}",
            "processors": self.name,
            "ranks": 1,
            "merge_solver": solver_name(self.xp.zeros(1)),
        }

    def peak_memory_mib(self) -> list[float]:
        """Return the largest memory of this process."""
        return self.host.peak_memory_mib()

    def once(self, check: Callable[[], None]) -> None:
        """Call a function."""
        check()


def first_device(threads: int) -> Device:
    """Return the first GPU of this process; CUDA_VISIBLE_DEVICES says which that is.

    Raises InputError, saying what is missing, if there is none or its libraries do not load.
    """
    try:
        import cupy
    except ImportError as error:
        raise InputError(
            f"--backend cupy: CuPy is not there ({_line(error)}); expected it and cufinufft; "
            f"{remedies(cuda_of_distributions(0))['cupy']}; spilegate doctor says what else is missing"
        ) from error
    try:
        cupy.zeros(1).get()
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    except Exception as error:
        raise InputError(
            f"--backend cupy: no GPU can be used ({_line(error)}); expected an NVIDIA GPU and its driver; "
            "spilegate doctor says what is missing; --backend numpy needs none"
        ) from error
    from spilegate.kernels.plans import load_cufinufft

    try:
        load_cufinufft()
    except (ImportError, OSError) as error:
        raise InputError(
            f"--backend cupy: cufinufft does not load ({_line(error)}); expected one for the same CUDA as CuPy; "
            "spilegate doctor says how to get it"
        ) from error

    def free() -> float:
        return float(cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes())

    return Device(cupy, threads, free, properties["name"].decode())


def _line(error: Exception) -> str:
    """Return the first line of what went wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
