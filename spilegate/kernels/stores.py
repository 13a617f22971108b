"""Stores of cuPyNumeric arrays, and Python tasks on them.

Legate is imported by the functions and not by the module, because importing it starts the runtime. A function that gets
a cuPyNumeric array finds it started.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from spilegate.backend import Array
from spilegate.kernels.device import room_of

# What a task does: body(array module, sources, target, *scalars) writes the target, both being arrays of the module.
Body = Callable[..., None]


def store_of(array: Array) -> Any:
    """Return the logical store of a cuPyNumeric array."""
    (field,) = array.__legate_data_interface__["data"].values()
    return field.data


def on_gpus() -> bool:
    """Tell whether tasks run on GPUs: where there are any, and CuPy to work on them."""
    from legate.core import TaskTarget, get_machine

    return get_machine().count(TaskTarget.GPU) > 0 and find_spec("cupy") is not None


def idle_gpus() -> bool:
    """Tell whether there are GPUs that nothing runs on, because CuPy is missing."""
    from legate.core import TaskTarget, get_machine

    return get_machine().count(TaskTarget.GPU) > 0 and not on_gpus()


def processors() -> int:
    """Return how many processors share the work of a task, over all ranks."""
    from legate.core import TaskTarget, get_machine

    return int(get_machine().count(TaskTarget.GPU if on_gpus() else TaskTarget.CPU))


def room() -> float:
    """Return how much memory a task's arrays may take on a GPU, beside what Legate has taken for itself [bytes]."""
    import cupy

    return room_of(float(cupy.cuda.runtime.memGetInfo()[0]))


def collect_garbage() -> None:
    """Collect garbage here, when it is due, and from now on nowhere else: to be called before other threads work.

    Python collects in whichever thread happens to make a list, and an array of cuPyNumeric that is freed by any thread
    but the program's own ends the process by a segmentation fault.
    """
    gc.disable()
    due = [
        generation
        for generation, (count, limit) in enumerate(zip(gc.get_count(), gc.get_threshold(), strict=True))
        if count > limit
    ]
    if due:
        gc.collect(due[-1])


def register(body: Body, sources: int, scalars: tuple[type, ...]) -> tuple[Any, Any]:
    """Register a task with so many sources, one target and scalars (int or float); return its library and number."""
    from legate.core.task import InputStore, OutputStore

    def run(context: Any, xp: Any, views: list[Array], values: list[Any]) -> None:  # noqa: ARG001 - as every task
        if views[-1].size:
            body(xp, views[:-1], views[-1], *values)

    return define(run, [*[InputStore] * sources, OutputStore], scalars)


def define(
    run: Callable[[Any, Any, list[Array], list[Any]], None], kinds: list[Any], scalars: tuple[type, ...]
) -> tuple[Any, Any]:
    """Register a task with stores of these kinds and scalars; return its library and number.

    run : called with the task's context, the array module, views of the stores, and the scalars
    Legate counts the stores at every launch, and every rank has to register the same tasks in the same order.
    """
    from legate.core import TaskContext, VariantCode
    from legate.core.task import PyTask

    arrays = [f"array_{number}" for number in range(len(kinds))]
    values = {f"scalar_{number}": kind for number, kind in enumerate(scalars)}

    def task(context: Any, **arguments: Any) -> None:
        with working(context.get_variant_kind() == VariantCode.GPU, context) as xp:
            views = [xp.asarray(arguments[name].get_inline_allocation()) for name in arrays]
            run(context, xp, views, [arguments[name] for name in values])

    annotations = dict(zip(["context", *arrays], [TaskContext, *kinds], strict=True)) | values
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    task.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, place, annotation=annotation) for name, annotation in annotations.items()],
        return_annotation=None,
    )
    task.__annotations__ = {**annotations, "return": None}
    made = PyTask(func=task, variants=(VariantCode.CPU, *((VariantCode.GPU,) if on_gpus() else ())))
    return made.library, made.complete_registration()


@contextmanager
def working(gpu: bool, context: Any) -> Iterator[Any]:
    """Yield the array module of the processor that a task runs on.

    Legate hands every task one of a dozen streams, and memory, plans and recordings belong to the stream that they were
    made on. So all tasks of a GPU work on one stream of ours, after what its own stream waits for, and before what
    waits for that.
    """
    if not gpu:
        yield np
        return
    import cupy

    given = cupy.cuda.ExternalStream(context.task_stream)
    own = _stream(int(cupy.cuda.Device().id))
    own.wait_event(given.record())
    try:
        with own:
            yield cupy
    finally:
        given.wait_event(own.record())


@lru_cache(maxsize=64)
def _stream(device: int) -> Any:  # noqa: ARG001 - the current one
    """Return the stream of a device on which all tasks work."""
    import cupy

    return cupy.cuda.Stream(non_blocking=True)
