"""Work over tiles: exact sums whatever the order, the same bits from every kind of worker, failures that are heard."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import array_api_strict
import numpy as np
import pytest
from conftest import spread
from hypothesis import given
from hypothesis import strategies as st

from spilegate.backend import to_host
from spilegate.errors import InputError
from spilegate.kernels.blocks import GROUP, block_rows, tile_rows
from spilegate.kernels.exact import Rows, Total
from spilegate.kernels.packing import Pack
from spilegate.kernels.workers import Here, Threads, Workers

COUNT, WIDTH = 333, 40
OUTPUTS = [Rows((), np.float32), Rows((2, 3), np.int64), Total((WIDTH,), COUNT), Total((), 10.0 * COUNT * WIDTH)]


def values() -> np.ndarray:
    return np.random.default_rng(0).random((COUNT, WIDTH), dtype=np.float32)


def body(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
    """Two kinds of rows, and sums of numbers that are not exact in any precision."""
    xp = here.xp
    number = xp.reshape(here.array(np.arange(part.start, part.stop)), (-1, 1, 1))
    rows = number * here.array(np.arange(6).reshape(1, 2, 3))
    return xp.sum(block, axis=1), rows, xp.sum(block / 3, axis=0), xp.sum(xp.sqrt(block))


@given(st.integers(1, 10**9), st.integers(1, 10**7))
def test_blocks_are_groups_and_about_a_power_of_two(count: int, width: int) -> None:
    rows = block_rows(count, width)
    assert rows % GROUP == 0
    blocks = -(-count // rows)
    wanted = 1 << max(1, int(np.ceil(np.log2(max(2, count * width / 4e6)))))
    assert blocks <= wanted
    assert rows == GROUP or blocks > wanted / 2 or blocks == -(-count // rows)
    assert rows <= GROUP or rows < 1.125 * (count / wanted + GROUP)


@given(st.integers(1, 10**9), st.integers(1, 10**7), st.integers(1, 10**5))
def test_tiles_are_blocks_halved(count: int, width: int, most: int) -> None:
    rows, block = tile_rows(count, width, most), block_rows(count, width)
    assert rows % GROUP == 0
    assert block % rows == 0
    assert rows <= max(most, 15 * GROUP)


@given(st.permutations(range(12)), st.integers(1, 11))
def test_sums_do_not_depend_on_order_or_grouping(order: list[int], cut: int) -> None:
    parts = np.random.default_rng(1).standard_normal((12, 5)) * 10.0 ** np.arange(-6, 6)[:, None]
    total = Total((5,), float(np.abs(parts).sum()))
    rounded = [total.rounded(part) for part in parts]
    one = sum(rounded[i] for i in order[:cut]) + sum(rounded[i] for i in order[cut:])
    np.testing.assert_array_equal(one, sum(rounded))
    np.testing.assert_allclose(one, parts.sum(axis=0), rtol=0, atol=1e-13 * total.bound)


def test_sums_of_nothing_are_nothing() -> None:
    assert Total((2,), 0.0).rounded(np.zeros(2)).tolist() == [0.0, 0.0]


def expected() -> list[np.ndarray]:
    block = values()
    numbers = np.arange(COUNT)[:, None, None] * np.arange(6).reshape(1, 2, 3)
    return [block.sum(1), numbers, (block.astype(float) / 3).sum(0), np.sqrt(block.astype(float)).sum()]


@pytest.mark.backend
def test_rows_and_totals_are_right(workers: Workers) -> None:
    results = workers.run(body, COUNT, OUTPUTS, tile=32, split=[spread(values(), workers)])
    for result, right in zip(results, expected(), strict=True):
        assert result.shape == np.shape(right)
        np.testing.assert_allclose(result, right, rtol=1e-5)


@pytest.mark.backend
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_all_workers_give_the_same_bits(workers: Workers, threads: int) -> None:
    results = workers.run(body, COUNT, OUTPUTS, tile=32, split=[spread(values(), workers)])
    others = Threads(threads).run(body, COUNT, OUTPUTS, tile=32, split=[values()])
    for result, other in zip(results, others, strict=True):
        np.testing.assert_array_equal(result, other)


def test_bodies_meet_the_array_module_they_are_given() -> None:
    seen = []

    def note(here: Here, part: slice, block: Any) -> tuple[Any]:
        seen.append((type(block), here.xp))
        return (here.xp.sum(block, axis=1),)

    (result,) = Threads(2, array_api_strict).run(note, COUNT, OUTPUTS[:1], tile=100, split=[values()])
    assert {kind for kind, _ in seen} == {type(array_api_strict.asarray(0.0))}
    assert {xp for _, xp in seen} == {array_api_strict}
    np.testing.assert_allclose(result, values().sum(1), rtol=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("count", [64, 200, COUNT])
@pytest.mark.parametrize("step", [2, 16, 64])
def test_taking_every_nth_row(workers: Workers, first: int, count: int, step: int) -> None:
    taken = workers.take(spread(values()[:count], workers), first, step)
    np.testing.assert_array_equal(to_host(taken), values()[first:count:step])
    # It can be worked on like any other array.
    total = workers.run(body, len(taken), OUTPUTS, tile=32, split=[taken])[2]
    np.testing.assert_allclose(total, values()[first:count:step].sum(0, dtype=float) / 3, rtol=1e-6)


@pytest.mark.backend
def test_a_failing_body_is_heard(workers: Workers) -> None:
    def fail(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
        raise ZeroDivisionError(f"tile {part.start}")

    with pytest.raises(ZeroDivisionError, match="tile"):
        workers.run(fail, COUNT, OUTPUTS, tile=32, split=[spread(values(), workers)])
    test_rows_and_totals_are_right(workers)


@pytest.mark.backend
def test_what_is_checked_once_is_known_everywhere(workers: Workers) -> None:
    calls = []
    workers.once(lambda: calls.append(1))
    assert len(calls) <= 1

    def refuse() -> None:
        raise InputError("--output: found a file; expected a folder of 5 Å")

    with pytest.raises(InputError, match="folder of 5 Å"):
        workers.once(refuse)


@pytest.mark.backend
def test_volumes_are_worked_on_one_by_one(workers: Workers) -> None:
    cubes = np.random.default_rng(2).random((3, 5, 5, 5), dtype=np.float32)

    def double(here: Here, part: slice) -> tuple[Any, Any]:
        cube = here.array(cubes[part])
        return cube * 2, np.array([float(here.xp.sum(cube))])

    outputs = [Rows((5, 5, 5), np.float32), Rows((), np.float64)]
    doubled, sums = workers.volumes(double, 3, outputs, 5)
    np.testing.assert_array_equal(doubled, cubes * 2)
    np.testing.assert_allclose(sums, cubes.sum((1, 2, 3)), rtol=1e-6)


@pytest.mark.backend
def test_garbage_is_collected_and_under_legate_by_the_programs_own_thread(workers: Workers) -> None:
    """An array of cuPyNumeric that another thread frees ends the process."""

    class Cycle:
        def __init__(self) -> None:
            self.array, self.itself = spread(np.ones((GROUP, 50_000), np.float32), workers), self
            self.lists: list[Any] = [[] for _ in range(1000)]

    def body(here: Here, part: slice) -> tuple[Any]:
        lists: list[Any] = [[number] for number in range(10_000)]
        return (here.array(np.full(part.stop - part.start, len(lists))),)

    collectors, dead = set(), []

    def note(phase: str, info: dict[str, int]) -> None:
        collectors.add(threading.current_thread())

    gc.callbacks.append(note)
    try:
        for _ in range(30):
            dead.append(weakref.ref(Cycle()))
            workers.run(body, 4, [Rows((), np.int64)], tile=1)
    finally:
        gc.callbacks.remove(note)
    # Not each: one that was still being made while an older generation was collected is old itself, and stays longer.
    assert any(cycle() is None for cycle in dead)
    assert collectors
    assert isinstance(workers, Threads) or collectors == {threading.current_thread()}


@pytest.mark.backend
def test_workers_say_who_they_are(workers: Workers) -> None:
    description = workers.description()
    assert set(description) == {"backend", "processors", "ranks", "merge_solver"}
    assert description["ranks"] >= 1
    assert description["merge_solver"]
    assert min(workers.peak_memory_mib()) > 20


def test_outputs_packed_and_unpacked_are_the_same() -> None:
    outputs = [Rows((3,), np.bool_), Total((2, 2), 8.0), Rows((), np.float64), Rows((2,), np.float32, split=True)]
    pack = Pack.of(outputs)
    rows, sums = np.zeros((4, pack.row_bytes), np.uint8), np.zeros(pack.sum_length)
    stay = np.zeros((4, 2), np.float32)
    rng = np.random.default_rng(3)
    whole = [rng.random((4, 3)) > 0.5, np.arange(4.0).reshape(2, 2), rng.random(4), rng.random((4, 2), np.float32)]
    for part in (slice(0, 3), slice(3, 4)):
        tile = [whole[0][part], whole[1], whole[2][part], whole[3][part]]
        pack.put(outputs, tile, [stay[part], rows[part]], sums)
    flags, total, numbers, stayed = pack.unpacked(outputs, rows, sums, iter([stay]))
    np.testing.assert_array_equal(flags, whole[0])
    np.testing.assert_array_equal(total, 2 * whole[1])
    np.testing.assert_array_equal(numbers, whole[2])
    np.testing.assert_array_equal(stayed, whole[3])
    assert sums[-1] == 0
