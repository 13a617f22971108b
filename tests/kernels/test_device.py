"""Work by one GPU, its tiling tried with other modules: rows by its memory, what the host does, who is asked for it."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import array_api_strict
import numpy as np
import pytest
from conftest import as_dataset

from spilegate.backend import to_host
from spilegate.errors import InputError
from spilegate.evaluation.comparison import compare
from spilegate.kernels.blocks import SCRATCH
from spilegate.kernels.device import ROOM_PART, STAY_PART, WIDTH, Device
from spilegate.kernels.exact import Rows, Total
from spilegate.kernels.workers import Here, Threads
from spilegate.mtip import reconstruct
from spilegate.patterns.prepare import prepare
from spilegate.settings import Settings
from spilegate.simulation.experiment import simulate
from spilegate.simulation.particle import Particle

COUNT, PIXELS = 333, 40
ROW_BYTES = 4.0 * SCRATCH * PIXELS
PLENTY = 1e9
STRICT = type(array_api_strict.asarray(0.0))


def device(xp: Any = np, free: float = PLENTY, threads: int = 2) -> Device:
    return Device(xp, threads, lambda: free, "a device")


def free_for(rows: float) -> float:
    """Free memory whose room is that of so many rows."""
    return rows * ROW_BYTES / ROOM_PART


def values() -> np.ndarray:
    """Numbers whose sums are exact in any order."""
    return np.random.default_rng(0).integers(0, 100, (COUNT, PIXELS)).astype(np.float32)


def own_type(dtype: Any) -> Any:
    """The type of array_api_strict for one of NumPy's."""
    try:
        return getattr(array_api_strict, np.dtype(dtype).name)
    except TypeError:
        return dtype


def rows_of(key: Any) -> Any:
    return (key, ...) if isinstance(key, slice) else key


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Arrays that are not NumPy's, of a module that knows NumPy's types and takes slices of rows, as CuPy does."""
    for name in ("empty", "zeros"):
        make = getattr(array_api_strict, name)
        monkeypatch.setattr(array_api_strict, name, lambda shape, dtype, make=make: make(shape, dtype=own_type(dtype)))
    get, put = STRICT.__getitem__, STRICT.__setitem__
    monkeypatch.setattr(STRICT, "__getitem__", lambda self, key: get(self, rows_of(key)))
    monkeypatch.setattr(STRICT, "__setitem__", lambda self, key, value: put(self, rows_of(key), value))
    monkeypatch.setattr(array_api_strict, "ascontiguousarray", lambda array: array, raising=False)
    return array_api_strict


class Notes:
    """A body, and what it was given."""

    outputs = (Rows((), np.float32), Rows((2,), np.float32, split=True), Rows((), np.int64, shared=True))
    outputs += (Total((PIXELS,), 100.0 * COUNT), Total((), 100.0 * COUNT * PIXELS, shared=True))

    def __init__(self) -> None:
        self.parts: list[slice] = []
        self.blocks: list[Any] = []
        self.heres: list[Here] = []

    def __call__(self, here: Here, part: slice, block: Any) -> tuple[Any, ...]:
        self.parts.append(part)
        self.blocks.append(block)
        self.heres.append(here)
        xp = here.xp
        sums = xp.sum(block, axis=1)
        number = here.array(np.arange(part.start, part.stop))
        return sums, xp.stack([sums, 2 * sums], axis=1), 3 * number, xp.sum(block, axis=0), xp.sum(block)

    @property
    def rows(self) -> list[int]:
        """Rows of each tile; the tiles are all rows, in order."""
        assert [row for part in self.parts for row in range(part.start, part.stop)] == list(range(COUNT))
        assert [block.shape for block in self.blocks] == [(part.stop - part.start, PIXELS) for part in self.parts]
        return [part.stop - part.start for part in self.parts]


def expected() -> list[np.ndarray]:
    sums = values().sum(axis=1)
    return [sums, np.stack([sums, 2 * sums], axis=1), 3 * np.arange(COUNT), values().sum(axis=0), values().sum()]


def kinds(results: list[Any]) -> list[str]:
    return ["host" if isinstance(result, np.ndarray | np.generic) else "device" for result in results]


@pytest.mark.parametrize("free", [PLENTY, free_for(7), 1.0])
def test_rows_and_totals_are_those_of_threads(strict: ModuleType, free: float) -> None:
    by_threads = Threads(2).run(Notes(), COUNT, Notes.outputs, tile=32, split=[values()])
    for xp in (np, strict):
        results = device(xp, free).run(Notes(), COUNT, Notes.outputs, tile=32, split=[values()])
        for result, other, right in zip(results, by_threads, expected(), strict=True):
            np.testing.assert_array_equal(to_host(result), right)
            np.testing.assert_array_equal(to_host(result), other)
            assert str(result.dtype).rpartition(".")[2] == str(other.dtype)


def test_what_stays_and_fits_is_on_the_device_and_the_rest_on_the_host(strict: ModuleType) -> None:
    def where(free: float) -> list[str]:
        return kinds(device(strict, free).run(Notes(), COUNT, Notes.outputs, tile=32, split=[values()]))

    assert where(PLENTY) == ["host", "device", "device", "host", "device"]
    # The second and the third output have 8 bytes a row.
    assert where(COUNT * 8 / STAY_PART + 1) == ["host", "device", "device", "host", "device"]
    assert where(COUNT * 8 / STAY_PART - 1) == ["host", "host", "host", "host", "device"]


def test_the_memory_that_is_free_is_asked_for_again(strict: ModuleType) -> None:
    free = [PLENTY]
    workers = Device(strict, 2, lambda: free[0], "a device")
    outputs = [Rows((PIXELS,), np.float32, split=True)]

    def body(here: Here, part: slice) -> tuple[Any]:
        return (here.array(values()[part]),)

    (first,) = workers.run(body, COUNT, outputs, tile=64)
    free[0] = 1e4
    (second,) = workers.run(body, COUNT, outputs, tile=64)
    assert kinds([first, second]) == ["device", "host"]
    for patterns in (first, second):
        np.testing.assert_array_equal(to_host(patterns), values())
        # Wherever they are, they can be worked on, and taken from.
        notes = Notes()
        results = workers.run(notes, COUNT, Notes.outputs, tile=32, split=[patterns])
        np.testing.assert_array_equal(to_host(results[0]), expected()[0])
        assert {type(block) for block in notes.blocks} == {STRICT}
        taken = workers.take(patterns, 1, 4)
        assert type(taken) is type(patterns)
        np.testing.assert_array_equal(to_host(taken), values()[1::4])


@pytest.mark.parametrize("rows", [0.5, 1, 7, 100, 1e6])
@pytest.mark.parametrize("said", [True, False])
def test_patterns_of_the_host_come_in_blocks_that_fit(rows: float, said: bool) -> None:
    """However few a core's cache would hold: never more than the room has, or than keeps the device busy."""
    notes = Notes()

    def first(here: Here, part: slice, block: Any) -> tuple[Any]:
        return notes(here, part, block)[:1]

    workers = device(array_api_strict, free_for(rows) * (1 + 1e-9))
    options: dict[str, Any] = {"row_bytes": ROW_BYTES} if said else {}
    (result,) = workers.run(first, COUNT, Notes.outputs[:1], tile=2, split=[values()], **options)
    np.testing.assert_array_equal(result, expected()[0])
    assert {type(block) for block in notes.blocks} == {STRICT}
    assert {here.xp for here in notes.heres} == {array_api_strict}
    most = max(1, min(int(rows), 2 * WIDTH))
    assert max(notes.rows) == most
    assert len(notes.rows) == -(-COUNT // most)


def test_what_only_the_host_can_do_its_threads_do_some_at_a_time(strict: ModuleType) -> None:
    """Two threads, 8 tiles of 5 rows for a group: all of a group are done before the next begins."""
    both, seen, lock = threading.Barrier(2, timeout=10), [], threading.Lock()

    def body(here: Here, part: slice) -> tuple[Any, ...]:
        if part.start in (0, 5):
            both.wait()
        with lock:
            seen.append((part.start, part.stop, here.xp, threading.get_ident()))
        rows = values()[part]
        return rows.sum(axis=1), rows, rows.sum(axis=0)

    outputs = [Rows((), np.float32), Rows((PIXELS,), np.float32, split=True), Total((PIXELS,), 1e5, shared=True)]
    results = device(strict, threads=2).run(body, COUNT, outputs, tile=5, on_host=True)
    assert kinds(results)[:2] == ["host", "device"]
    for result, right in zip(results, [expected()[0], values(), expected()[3]], strict=True):
        np.testing.assert_array_equal(to_host(result), right)
    assert {xp for _, _, xp, _ in seen} == {np}
    assert len({thread for *_, thread in seen}) >= 2
    assert threading.get_ident() not in {thread for *_, thread in seen}
    assert sorted(row for first, last, *_ in seen for row in range(first, last)) == list(range(COUNT))
    assert all(last - first <= 5 for first, last, *_ in seen)
    group = [first // 40 for first, *_ in seen]
    assert group == sorted(group)


def test_what_the_host_reads_and_does_not_fit_stays_there() -> None:
    def body(here: Here, part: slice) -> tuple[Any]:
        return (values()[part],)

    outputs = [Rows((PIXELS,), np.float32, split=True)]
    (patterns,) = device(array_api_strict, 1e3).run(body, COUNT, outputs, tile=64, on_host=True)
    assert isinstance(patterns, np.ndarray)
    np.testing.assert_array_equal(patterns, values())


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("room", [0.5, 3, 100])
def test_volumes_come_together_if_they_may_and_fit(strict: ModuleType, several: bool, room: float) -> None:
    count, size = 7, 5
    cubes = np.random.default_rng(2).random((count, *(size,) * 3), dtype=np.float32)
    parts = []

    def double(here: Here, part: slice) -> tuple[Any, Any]:
        parts.append(part)
        cube = here.array(cubes[part])
        return cube * 2, here.xp.max(cube, axis=(1, 2, 3))

    free = room * 4.0 * SCRATCH * size**3 / ROOM_PART * (1 + 1e-9)
    outputs = [Rows((size,) * 3, np.float32), Rows((), np.float32)]
    doubled, largest = device(strict, free).volumes(double, count, outputs, size, several=several)
    np.testing.assert_array_equal(doubled, cubes * 2)
    np.testing.assert_array_equal(largest, cubes.max((1, 2, 3)))
    at_once = min(count, max(1, int(room))) if several else 1
    assert [(part.start, part.stop) for part in parts] == [
        (first, min(first + at_once, count)) for first in range(0, count, at_once)
    ]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("step", [2, 16])
def test_taking_every_nth_row(first: int, step: int) -> None:
    taken = device().take(values(), first, step)
    np.testing.assert_array_equal(taken, values()[first::step])
    assert taken.flags.c_contiguous


@pytest.mark.parametrize("on_host", [True, False])
def test_a_failing_body_is_heard(on_host: bool) -> None:
    def fail(here: Here, part: slice) -> tuple[Any, ...]:
        raise ZeroDivisionError(f"tile {part.start}")

    workers = device()
    with pytest.raises(ZeroDivisionError, match="tile 0"):
        workers.run(fail, COUNT, Notes.outputs, tile=32, on_host=on_host)
    with pytest.raises(ZeroDivisionError, match="tile 0"):
        workers.volumes(fail, 3, Notes.outputs, 5)
    results = workers.run(Notes(), COUNT, Notes.outputs, tile=32, split=[values()])
    np.testing.assert_array_equal(results[0], expected()[0])


def test_a_check_is_made_once_and_its_error_is_heard() -> None:
    calls = []
    device().once(lambda: calls.append(1))
    assert calls == [1]

    def refuse() -> None:
        raise InputError("--output: found a file; expected a folder")

    with pytest.raises(InputError, match="expected a folder"):
        device().once(refuse)


def test_a_device_says_who_it_is() -> None:
    workers = device(array_api_strict, threads=3)
    description = workers.description()
    assert set(description) == set(Threads(1).description())
    assert description == {
        "backend": f"array_api_strict {array_api_strict.__version__}",
        "processors": "a device",
        "ranks": 1,
        "merge_solver": "spilegate.kernels.cg.conjugate_gradients",
    }
    assert workers.threads == 3
    assert workers.writer
    assert workers.here.xp is array_api_strict
    assert (workers.here.threads, workers.here.width) == (1, WIDTH)
    assert len(workers.peak_memory_mib()) == 1
    assert workers.peak_memory_mib()[0] > 20


def test_a_blind_run_by_a_device_with_little_memory(particle: Particle) -> None:
    """Few patterns, coarse, in many blocks; the stages ask for rows as the device says."""
    simulation = simulate(
        particle,
        images=80,
        pixels=32,
        resolution_angstrom=18.0,
        wavelength_angstrom=1.0,
        photons=None,
        seed=11,
        threads=1,
    )
    settings = Settings.model_validate(
        {
            "seed": 4,
            "compute": {"threads": 1},
            "prepare": {"diameter_angstrom": 62.0},
            "start": {"iterations": 15, "count": 1},
            "phasing": {"cycles": 3, "starts": 2},
            "resolution": {"half_sets": False, "phasings": 0},
            "convergence": {"most_generations": 2},
        }
    )
    workers = device(free=2e7, threads=1)
    dataset = as_dataset(simulation, workers)
    result = reconstruct(dataset, settings, experiment=prepare(dataset, settings, workers))
    comparison, _ = compare(
        result.state.density[0],
        result.state.voxel_angstrom,
        simulation.volume,
        simulation.voxel_angstrom,
        q_max=result.q_max,
        quaternions=result.state.quaternions,
        true_quaternions=simulation.quaternions,
        threads=1,
    )
    assert comparison.correlation > 0.97
    assert comparison.resolution_angstrom < 1.2 * 18.0
    assert comparison.orientation_error_deg["median"] < 5.0
