"""Work on tiles of rows by Legate tasks, on the processors of one node or of many.

Arrays of patterns are split along their first axis, once and for all: a processor keeps its rows and a body comes to
them. Everything else a body needs lies on the host of every rank, because every rank runs the same program. Work that
touches no split array is not worth a launch on CPUs: every rank does it by itself, with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count as counter
from typing import Any

import cupynumeric
import numpy as np
from legate.core import TaskTarget, get_legate_runtime, get_machine
from legate.core import types as legate_types
from legate.core.task import ADD, InputStore, OutputStore, ReductionStore

from spilegate.backend import to_host
from spilegate.errors import InputError
from spilegate.kernels import stores
from spilegate.kernels.blocks import SCRATCH, block_rows, tiles
from spilegate.kernels.cg import solver_name
from spilegate.kernels.device import WIDTH, volumes_at_once
from spilegate.kernels.exact import Output, Rows, put
from spilegate.kernels.launch import available_cores
from spilegate.kernels.packing import Pack
from spilegate.kernels.priorities import share_cores
from spilegate.kernels.tiling import Taking, processor_rows
from spilegate.kernels.workers import Body, Here, Threads, libraries, peak_memory_mib
from spilegate.records import Int64

TYPES = {
    np.dtype(name): getattr(legate_types, name)
    for name in ("bool_", "uint8", "int32", "int64", "float32", "float64", "complex64", "complex128")
}

# Longer messages are cut.
MESSAGE_BYTES = 4096

Launched = Callable[[Any, int, list[Any], list[Any], Any], None]


@dataclass(frozen=True)
class _Task:
    """A registered task with so many inputs, outputs and sums; its bodies by number while they are running."""

    library: Any
    number: Any
    bodies: dict[int, Launched]


_numbers = counter()


@lru_cache(maxsize=64)
def _task(inputs: int, outputs: int) -> _Task:
    """Register the task with so many stores."""
    bodies: dict[int, Launched] = {}

    def run(context: Any, xp: Any, views: list[Any], values: list[Any]) -> None:
        bodies[values[0]](xp, context.task_index[0], views[:inputs], views[inputs:-1], views[-1])

    kinds = [*[InputStore] * inputs, *[OutputStore] * outputs, ReductionStore[ADD]]
    return _Task(*stores.define(run, kinds, (int,)), bodies)


class LegateWorkers:
    """The processors of a Legate run: GPUs where there are any, else CPUs.

    threads : for work that every rank does on its host; if None its CPU processors, or, beside GPUs, all cores
    split_voxels : volumes with at least as many voxels are arrays split over all processors
    """

    def __init__(self, threads: int | None, split_voxels: int) -> None:
        self.split_voxels = split_voxels
        stores.collect_garbage()
        runtime, machine = get_legate_runtime(), get_machine()
        self.gpus = stores.on_gpus()
        self._accelerated = Here(np, 1, WIDTH, stores.room()) if self.gpus else Here(np, 1)
        self.processors = stores.processors()
        own = available_cores() if self.gpus else max(1, int(machine.count(TaskTarget.CPU)) // int(runtime.node_count))
        self.host = Threads(threads or own)
        # A task has one core. A limit that is set and lifted by tasks side by side would be lifted too soon.
        libraries().limit(limits=1, user_api="blas")
        if int(runtime.node_count) > 1:
            share_cores()

    @property
    def threads(self) -> int:
        """Threads of this rank's host."""
        return self.host.threads

    @property
    def here(self) -> Here:
        """One thread of this rank's host: every rank does small work by itself."""
        return self.host.here

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
        """Apply a body to all tiles, one task for each processor; see `Workers`.

        Raises what a body raised on this rank, RuntimeError if a body failed on another one.
        """
        stores.collect_garbage()
        spread = [array.shape for array in split] + [(count, *output.shape) for output in outputs if _is_kept(output)]
        if not spread and (on_host or not self.gpus):
            return self.host.run(body, count, outputs, tile=tile, row_bytes=row_bytes, tile_bytes=tile_bytes)
        if not spread:
            # What fills the cache of a core leaves a GPU idle.
            return self._evenly(body, count, outputs, self._accelerated.rows(tile, row_bytes or 0.0))
        if self.gpus and not on_host:
            # Blocks are still the same for any number of GPUs.
            most = self._accelerated.rows(tile, row_bytes or 4.0 * SCRATCH * math.prod(spread[0][1:]))
            tile = min(max(tile, block_rows(count, math.prod(spread[0][1:]))), most)
        return self._launch(body, count, outputs, split, tile, self._rows(spread[0]), on_host=on_host)

    def _evenly(self, body: Body, count: int, outputs: Sequence[Output], tile: int) -> list[Any]:
        """Launch about as many tiles on every processor."""
        return self._launch(body, count, outputs, (), tile, math.ceil(math.ceil(count / tile) / self.processors) * tile)

    def _launch(
        self,
        body: Body,
        count: int,
        outputs: Sequence[Output],
        split: Sequence[Any],
        tile: int,
        rows: int,
        *,
        on_host: bool = False,
    ) -> list[Any]:
        """Launch one task for every `rows` rows and collect what they return."""
        pack = Pack.of(outputs)
        kept = [_new((count, *o.shape), o.dtype) for o in outputs if isinstance(o, Rows) and o.split]
        packed = [_new((count, pack.row_bytes), np.uint8)] if pack.row_bytes else []
        errors: list[Exception] = []
        launched = _launched(body, count, outputs, pack, tile, rows, errors, None if on_host else self._accelerated)
        totals = _submit(
            launched,
            math.ceil(count / rows),
            [(stores.store_of(array), rows) for array in split],
            [(store, rows) for store in kept + packed],
            pack.sum_length,
        )
        if totals[-1]:
            raise errors[0] if errors else RuntimeError("the work of another rank failed; its message says why")
        return pack.unpacked(outputs, _read(packed[0]) if packed else None, totals, map(cupynumeric.asarray, kept))

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
        """Apply a body to volumes: by one processor each, or as split arrays from `split_voxels` voxels on.

        A solver of another library, where there is one, takes split arrays of any size. One GPU has nothing to split.
        """
        whole = size**3 < self.split_voxels or (self.gpus and self.processors == 1)
        if whole and not (solver and find_spec("legate_sparse")):
            if not self.gpus:
                return self.run(body, count, outputs, tile=1)
            at_once = volumes_at_once(self._accelerated.room, size) if several else 1
            return self._evenly(body, count, outputs, min(at_once, math.ceil(count / self.processors)))
        results: list[Any] = [
            np.empty((count, *output.shape), output.dtype) for output in outputs if isinstance(output, Rows)
        ]
        for number in range(count):
            put(
                outputs,
                results,
                body(Here(cupynumeric, self.threads), slice(number, number + 1)),
                slice(number, number + 1),
            )
        return results

    def take(self, array: Any, first: int, step: int) -> Any:
        """Return the rows first, first + step, ... of a split array as a split array; no row leaves its processor."""
        taking = Taking(len(array), first, step, self._rows(array.shape))

        def launched(xp: Any, index: int, inputs: list[Any], results: list[Any], sums: Any) -> None:  # noqa: ARG001
            results[0][...] = inputs[0][first::step]

        if not taking.launches:
            return cupynumeric.empty((0, *array.shape[1:]), array.dtype)
        taken = _new((taking.taken, *array.shape[1:]), array.dtype)
        _submit(launched, taking.launches, [(stores.store_of(array), taking.rows)], [(taken, taking.taken_rows)], 1)
        return cupynumeric.asarray(taken)

    def some(self, array: Any, index: Int64) -> Any:
        """Return these rows of a split array as a split array; they move to where that has them."""
        return array[cupynumeric.asarray(index)]

    def _rows(self, shape: tuple[int, ...]) -> int:
        """Return how many rows of a split array of that shape a processor holds."""
        return processor_rows(shape[0], math.prod(shape[1:]), self.processors)

    @property
    def writer(self) -> bool:
        """Whether this is the first rank."""
        return int(get_legate_runtime().node_id) == 0

    def description(self) -> dict[str, Any]:
        """Return processors, ranks and versions."""
        kind = "GPUs" if self.gpus else "CPUs (the GPUs idle: CuPy is missing)" if stores.idle_gpus() else "CPUs"
        split = find_spec("legate_sparse") is not None
        return {
            "backend": f"Legate {version('legate')}, cuPyNumeric {version('nvidia-cupynumeric')}",
            "processors": f"{self.processors} {kind}",
            "ranks": int(get_legate_runtime().node_count),
            "merge_solver": solver_name(cupynumeric.zeros(1) if split else np.empty(0)),
        }

    def peak_memory_mib(self) -> list[float]:
        """Return the largest memory that the process behind every processor has held."""

        def launched(xp: Any, index: int, inputs: list[Any], results: list[Any], sums: Any) -> None:  # noqa: ARG001
            results[0][...] = peak_memory_mib()

        memory = _new((self.processors,), np.float64)
        _submit(launched, self.processors, [], [(memory, 1)], 1)
        return [float(value) for value in _read(memory)]

    def once(self, check: Callable[[], None]) -> None:
        """Call a function on one rank and raise its InputError on all of them."""

        def body(here: Here, part: slice) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
            try:
                check()
            except InputError as error:
                return (_as_bytes(str(error))[None],)
            return (_as_bytes("")[None],)

        (text,) = self._launch(body, 1, [Rows((MESSAGE_BYTES,), np.uint8)], (), 1, 1, on_host=True)
        if message := text.tobytes().rstrip(b"\0").decode(errors="ignore"):
            raise InputError(message)


def _as_bytes(text: str) -> Any:
    """Return a text as an array of MESSAGE_BYTES bytes."""
    return np.frombuffer(text.encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0"), np.uint8)


def _submit(
    launched: Launched,
    launches: int,
    inputs: list[tuple[Any, int]],
    outputs: list[tuple[Any, int]],
    sum_length: int,
) -> Any:
    """Launch tasks, each on so many rows of every store, wait for them, and return their sums (sum_length,) float64."""
    runtime = get_legate_runtime()
    sums = _new((sum_length,), np.float64)
    runtime.issue_fill(sums, 0.0)
    task, number = _task(len(inputs), len(outputs)), next(_numbers)
    task.bodies[number] = launched
    launch = runtime.create_manual_task(task.library, task.number, (launches,))
    for split, add in ((inputs, launch.add_input), (outputs, launch.add_output)):
        for store, rows in split:
            add(store.partition_by_tiling((rows, *tuple(store.shape)[1:])))
    launch.add_reduction(sums, ADD)
    launch.add_scalar_arg(number, legate_types.int64)
    runtime.submit(launch)
    # Reading waits for all tasks, so that the body is needed no longer.
    totals = _read(sums)
    del task.bodies[number]
    return totals


def _new(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a new store."""
    return get_legate_runtime().create_store(TYPES[np.dtype(dtype)], shape)


def _launched(
    body: Body,
    count: int,
    outputs: Sequence[Output],
    pack: Pack,
    tile: int,
    rows: int,
    errors: list[Exception],
    accelerated: Here | None,
) -> Launched:
    """Return what a task does: its rows tile by tile, failures noted instead of raised, which would end the process.

    accelerated : where the body runs on a GPU; if None, it runs on the host of whatever processor has the rows
    """

    def launched(xp: Any, index: int, inputs: list[Any], results: list[Any], sums: Any) -> None:
        begin = index * rows
        here = Here(np, 1) if xp is np or accelerated is None else replace(accelerated, xp=xp)
        try:
            for part in tiles(begin, min(begin + rows, count), tile):
                own = slice(part.start - begin, part.stop - begin)
                arrays = (to_host(array[own]) if here.xp is np else array[own] for array in inputs)
                values = body(here, part, *arrays)
                pack.put(outputs, values, [array[own] for array in results], sums)
        except Exception as error:
            errors.append(error)
            sums[-1] += 1

    return launched


@lru_cache(maxsize=1)
def _is_kept(output: Output) -> bool:
    """Tell whether an output stays where it was made."""
    return isinstance(output, Rows) and output.split


def _read(store: Any) -> Any:
    """Return a copy of a store in host memory, on every rank."""
    return np.array(store.get_physical_store().get_inline_allocation())
