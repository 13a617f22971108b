"""The same bits for any number of threads and processors, whatever memory there is for them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import as_dataset, assert_same_state

from spilegate.kernels import host_memory
from spilegate.kernels.exact import Rows, Total
from spilegate.kernels.workers import Here, Threads, Workers
from spilegate.mtip import blind_start, generation
from spilegate.patterns.diameter import estimate as diameter
from spilegate.patterns.prepare import prepare
from spilegate.records import State
from spilegate.settings import Settings
from spilegate.simulation.experiment import Simulation
from spilegate.watching import Recorder

THREADS = (1, 2, 3, 5, 8)
COUNT = 60


def settings() -> Settings:
    return Settings.model_validate(
        {
            "seed": 3,
            "prepare": {"diameter_angstrom": 62.0, "q_max": 0.06},
            "start": {"iterations": 6, "count": 1},
            "phasing": {"cycles": 2, "starts": 2},
            "resolution": {"half_sets": False},
        }
    )


def blind(simulation: Simulation, workers: Workers) -> State:
    """The state after a blind start and a generation of search, refinement, merge and phasing."""
    some = replace(simulation, intensities=simulation.intensities[:COUNT])
    dataset, options = as_dataset(some, workers), settings()
    experiment, record = prepare(dataset, options, workers), Recorder(None)
    plans = [experiment.plan(number) for number in (1, 2)]
    state = blind_start(experiment, plans[0], options, np.random.default_rng([3, 1]), record)
    return generation(experiment, plans[1], state, options, np.random.default_rng([3, 2]), record)


@pytest.fixture(scope="module")
def by_one_thread(simulation: Simulation) -> State:
    return blind(simulation, Threads(1))


@pytest.mark.parametrize("threads", THREADS[1:])
def test_a_blind_run_gives_the_same_bits_by_any_number_of_threads(
    simulation: Simulation, by_one_thread: State, threads: int
) -> None:
    assert by_one_thread.density.any()
    assert by_one_thread.autocorrelation.any()
    assert_same_state(blind(simulation, Threads(threads)), by_one_thread)


@pytest.mark.backend
def test_a_blind_run_gives_the_same_bits_here_as_by_one_thread(
    simulation: Simulation, by_one_thread: State, workers: Workers
) -> None:
    """Start it by `legate --cpus 1`, 2 and 3."""
    assert_same_state(blind(simulation, workers), by_one_thread)


@pytest.mark.parametrize("count", [COUNT, 150])
def test_texture_gives_the_same_bits_by_any_number_of_threads(simulation: Simulation, count: int) -> None:
    """One tile, whose transforms may use all threads, and several; behind a mask, which is transformed by itself."""
    some = replace(simulation, intensities=simulation.intensities[:count])
    mask = np.zeros(40 * 40, np.uint8)
    mask[760:830] = 2
    experiment = prepare(replace(as_dataset(some), mask=mask), settings(), Threads(1))
    arguments = (experiment.images, experiment.detector, experiment.scale, experiment.weight, experiment.profile)
    expected, *others = (
        diameter.texture_power(*arguments, q_max=0.06, workers=Threads(threads))[1] for threads in THREADS
    )
    for found in others:
        np.testing.assert_array_equal(found, expected)


def row_sums(here: Here, part: slice, block: Any) -> tuple[Any, Any]:
    return block.sum(axis=1), (block / 3).sum(axis=0)


def test_results_do_not_depend_on_how_many_tiles_the_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    values, running, most = np.random.default_rng(0).random((500, 30)), [0], [0]
    lock, outputs = threading.Lock(), [Rows((), np.float64), Total((30,), 500.0)]

    def body(here: Here, part: slice, block: Any) -> tuple[Any, Any]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1
        return row_sums(here, part, block)

    found = []
    for free, expected in ((np.inf, 8), (1e9, 5), (1e3, 1)):
        monkeypatch.setattr(host_memory, "available_bytes", lambda free=free: free)
        most[0] = 0
        found.append(Threads(8).run(body, 500, outputs, tile=10, split=[values], row_bytes=0.0, tile_bytes=1e8))
        assert most[0] == expected
    for other in found[1:]:
        for first, second in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


def test_tiles_do_not_run_ahead_of_the_slowest() -> None:
    begun: list[int] = []
    begun_meanwhile: list[int] = []

    def body(here: Here, part: slice) -> tuple[Any]:
        if part.start == 0:
            threading.Event().wait(0.2)
            begun_meanwhile.extend(begun)
        begun.append(part.start)
        return (np.ones(3),)

    (total,) = Threads(2).run(body, 100, [Total((3,), 100.0)], tile=1)
    assert total.tolist() == [100.0] * 3
    assert len(begun_meanwhile) <= 4


def test_the_memory_that_is_left_is_known(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(host_memory, "GROUPS", tmp_path)
    assert host_memory.available_bytes() == np.inf
    assert host_memory.at_once(8, 1e18) == 8
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    assert host_memory.available_bytes() == 1_024_000
    (tmp_path / "memory.current").write_text("300\n")
    for limit, left in (("max", 1_024_000), ("1300", 1000), ("100", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert host_memory.available_bytes() == left
    assert host_memory.at_once(8, 1.0) == 1
    (tmp_path / "memory.max").write_text("1300\n")
    assert [host_memory.at_once(threads, 100.0) for threads in (1, 4, 8)] == [1, 4, 5]


def test_blas_adds_up_by_one_thread_from_the_start() -> None:
    """Also outside of tiles: in a process of its own, where nothing has set it before."""
    code = (
        "import os, numpy as np\n"
        "from threadpoolctl import threadpool_info\n"
        "from spilegate.kernels import launch\n"
        "launch.start('numpy', 4, 10**9)\n"
        "import scipy.linalg, scipy.sparse.linalg\n"
        "print({each['num_threads'] for each in threadpool_info() if each['user_api'] == 'blas'})\n"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "{1}\n"


@pytest.mark.backend
@pytest.mark.parametrize("gpus", [False, True])
def test_hosts_of_gpus_use_all_cores(workers: Workers, monkeypatch: pytest.MonkeyPatch, gpus: bool) -> None:
    if isinstance(workers, Threads):
        pytest.skip("no processors of a launcher")
    monkeypatch.setattr("spilegate.kernels.stores.on_gpus", lambda: gpus)
    monkeypatch.setattr("spilegate.kernels.stores.room", lambda: 1e9)
    monkeypatch.setattr("spilegate.kernels.tasks.available_cores", lambda: 77)
    made = type(workers)(None, 10**9)
    assert made.threads == (77 if gpus else max(1, workers.processors // workers.description()["ranks"]))


def test_the_memory_of_texture_does_not_grow_with_the_patterns_of_a_tile() -> None:
    rng, peaks = np.random.default_rng(1), []
    points = rng.uniform(-1, 1, (2, 400)).astype(np.float32)
    for count in (16, 128):
        values = rng.standard_normal((count, 400)).astype(np.float32)
        tracemalloc.start()
        diameter._power(Here(np, 1), values, points, 201)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
