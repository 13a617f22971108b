"""Steps repeated: a plain loop, or a recording, by a stand-in for CuPy that plays operations again from a tape."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import array_api_strict
import numpy as np
import pytest
from scipy.sparse.linalg import cg as scipy_cg
from stand_in import CUDARuntimeError, StandIn

from spilegate.backend import array_module, to_host
from spilegate.kernels import cg, loops

calls: list[Any] = []


def relaxed(state: tuple[Any, ...], fixed: tuple[Any, ...], factor: float = 0.5) -> tuple[Any, ...]:
    """Two arrays that depend on each other and on a third one."""
    calls.append(factor)
    x, y = state
    return y * factor + fixed[0], x - y / 3


def product(x: Any, fixed: tuple[Any, ...], shift: float) -> Any:
    """A matrix and a multiple of the identity."""
    return fixed[0] @ x + shift * x


def given(seed: int = 0, size: int = 8, dtype: Any = np.float64) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    x, y, z = np.random.default_rng(seed).standard_normal((3, size)).astype(dtype)
    return (x, y), (z,)


def looped(times: int, state: Any, fixed: Any, factor: float = 0.5) -> Any:
    for _ in range(times):
        state = relaxed(state, fixed, factor)
    calls.clear()
    return state


def assert_equal(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(to_host(own), to_host(other), strict=True)


def faulty(state: tuple[Any, ...], fixed: tuple[Any, ...]) -> tuple[Any, ...]:
    """A step by a library that may not be recorded."""
    cupy = sys.modules["cupy"]
    if cupy.tape is not None and "step" in cupy.faults:
        raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
    return relaxed(state, fixed)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    loops._recording.cache_clear()
    calls.clear()
    yield stand_in
    loops._recording.cache_clear()


def brought(cupy: StandIn, *arguments: Any, **options: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    state, fixed = given(*arguments, **options)
    return tuple(map(cupy.array, state)), tuple(map(cupy.array, fixed))


@pytest.mark.parametrize("times", [0, 1, 7])
@pytest.mark.parametrize("xp", [np, array_api_strict])
def test_without_a_gpu_it_is_a_loop(xp: Any, times: int) -> None:
    state, fixed = given()
    expected = looped(times, state, fixed)
    found = loops.repeated(relaxed, times, tuple(map(xp.asarray, state)), tuple(map(xp.asarray, fixed)))
    assert all(array_module(array) is xp for array in found)
    assert_equal(found, expected)
    with_scalars = loops.repeated(relaxed, times, state, fixed, (0.25,))
    assert calls == [0.5] * times + [0.25] * times
    assert_equal(with_scalars, looped(times, state, fixed, 0.25))


@pytest.mark.parametrize("xp", [np, array_api_strict])
def test_what_a_step_is_told_is_a_number_where_nothing_is_recorded(xp: Any) -> None:
    value = loops.scalar(xp.asarray(0.5))
    assert type(value) is float
    assert value == 0.5


def test_what_a_recorded_step_is_told_is_read_by_every_step(cupy: StandIn) -> None:
    value = cupy.array(0.5)
    assert loops.scalar(value) is value


def test_a_step_is_recorded_once_and_played(cupy: StandIn) -> None:
    """Once to compile and once to record; then any number of times, on any values."""
    cases = ((0, 5), (1, 2), (2, 9))
    expected = [looped(times, *given(seed)) for seed, times in cases]
    for (seed, times), right in zip(cases, expected, strict=True):
        assert_equal(loops.repeated(relaxed, times, *brought(cupy, seed)), right)
        assert len(calls) == 2
    assert cupy.captures == 1
    assert cupy.launches == [0] * (5 + 2 + 9)


def test_what_is_recorded_lies_in_memory_of_its_own_on_a_stream_of_its_own(cupy: StandIn) -> None:
    cupy.current = cupy.ordinary(5)
    state, fixed = brought(cupy)
    for array in (*state, *fixed):
        array.number = 2
    loops.repeated(relaxed, 3, state, fixed)
    (pool,) = cupy.pools
    assert len(cupy.zeroed) == 3
    assert {(allocator, number) for allocator, number, _ in cupy.zeroed} == {(pool.malloc, 2)}
    assert not {0, 5} & {stream for *_, stream in cupy.zeroed}
    # And played where the arrays are worked on.
    assert cupy.launches == [5] * 3
    assert (cupy.allocator, cupy.number, cupy.current.ptr) == (None, 0, 5)


def test_what_is_in_flight_is_waited_for_before_a_step_is_recorded(cupy: StandIn) -> None:
    """Its first step uses the plans of FFTs that are there, on another stream: both would work in the same memory."""
    cupy.current = cupy.ordinary(5)
    cupy.in_flight = {5}
    loops.repeated(relaxed, 3, *brought(cupy))
    assert cupy.captures == 1
    # To play it waits for nothing.
    cupy.in_flight = {5}
    loops.repeated(relaxed, 3, *brought(cupy))
    assert cupy.in_flight == {5}


def test_another_kind_of_step_is_recorded_anew(cupy: StandIn) -> None:
    def repeat(factor: float = 0.5, stream: int = 0, number: int = 0, **options: Any) -> None:
        cupy.current = cupy.ordinary(stream)
        state, fixed = brought(cupy, **options)
        for array in (*state, *fixed):
            array.number = number
        found = loops.repeated(relaxed, 4, state, fixed, (factor,))
        assert_equal(found, looped(4, *given(**options), factor))

    kinds: list[dict[str, Any]] = [
        {},
        {"factor": 0.25},
        {"stream": 3},
        {"number": 1},
        {"size": 9},
        {"dtype": np.float32},
    ]
    for _ in range(2):
        for kind in kinds:
            repeat(**kind)
    assert cupy.captures == len(kinds)
    assert len(cupy.pools) == len(kinds)


def test_results_are_copies_and_what_is_given_stays(cupy: StandIn) -> None:
    state, fixed = brought(cupy)
    first = loops.repeated(relaxed, 3, state, fixed)
    kept = [array.view(np.ndarray).copy() for array in first]
    second = loops.repeated(relaxed, 3, *brought(cupy, 1))
    assert_equal(first, tuple(kept))
    assert_equal((*state, *fixed), (*given()[0], *given()[1]))
    for one in first:
        assert not any(np.shares_memory(one, other) for other in (*second, *state, *fixed))
    # They can be given again, as the phasing does between its cycles.
    assert_equal(loops.repeated(relaxed, 4, first, fixed), looped(7, *given()))


@pytest.mark.parametrize("times", [0, 1])
def test_few_steps_are_not_recorded(cupy: StandIn, times: int) -> None:
    assert times < loops.FEWEST
    found = loops.repeated(relaxed, times, *brought(cupy))
    assert len(calls) == times
    assert cupy.captures == 0
    assert_equal(found, looped(times, *given()))


@pytest.mark.parametrize("faults", [{"step"}, {"end"}, {"step", "end"}], ids=" and ".join)
def test_a_step_that_cannot_be_recorded_is_looped(cupy: StandIn, faults: set[str]) -> None:
    cupy.faults = faults
    for seed in (0, 1):
        assert_equal(loops.repeated(faulty, 4, *brought(cupy, seed)), looped(4, *given(seed)))
    # It was tried once, and what was captured was given up.
    assert cupy.captures == 1
    assert cupy.launches == []
    assert cupy.tape is None


def test_plans_of_ffts_live_as_long_as_what_reads_them(cupy: StandIn) -> None:
    class Plan:
        pass

    cupy.cache = [("key", SimpleNamespace(plan=Plan()))]
    plan = weakref.ref(cupy.cache[0][1].plan)
    loops.repeated(relaxed, 3, *brought(cupy))
    cupy.cache = []
    gc.collect()
    assert plan() is not None
    loops._recording.cache_clear()
    gc.collect()
    assert plan() is None


# Conjugate gradients, whose iterations are such steps.


def system(size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(16)
    root = rng.standard_normal((size, size))
    return root @ root.T / size, rng.standard_normal(size)


def closure(operator: cg.Operator) -> Callable[[Any], Any]:
    return lambda x: product(x, operator.fixed, *operator.scalars)


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("xp", [np, array_api_strict])
def test_an_operator_is_a_function(xp: Any, start: bool) -> None:
    matrix, right = (xp.asarray(array) for array in system())
    operator = cg.Operator(product, (matrix,), (0.5,))
    options: dict[str, Any] = {"rtol": 1e-9, "maxiter": 200, "conv_test_iters": 5}
    first = right * 0.25 if start else None
    x, info = cg.conjugate_gradients(operator, right, first, **options)
    other, _ = cg.conjugate_gradients(closure(operator), right, first, **options)
    assert info == 0
    assert_equal((x,), (other,))
    # A watched one is looped, and the same.
    seen: list[Any] = []
    watched, _ = cg.conjugate_gradients(operator, right, first, callback=seen.append, **options)
    assert_equal((watched, seen[-1]), (x, x))
    few, info = cg.conjugate_gradients(operator, right, first, **(options | {"maxiter": 7}))
    assert info == 7
    assert_equal((few,), (seen[6],))


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-9])
def test_counts_of_iterations_are_scipys_but_for_the_tests_of_convergence(tolerance: float) -> None:
    matrix, right = system()
    seen: list[Any] = []
    scipy_cg(matrix + 0.5 * np.eye(40), right, rtol=tolerance, callback=seen.append)
    for xp in (np, array_api_strict):
        operator = cg.Operator(product, (xp.asarray(matrix),), (0.5,))
        b = xp.asarray(right)
        x, figures = cg.solve(operator, b, xp.zeros_like(b), tolerance=tolerance, iterations=200)
        assert abs(figures["cg_iterations"] - len(seen)) <= cg.CONVERGENCE_TEST_ITERATIONS
        assert figures["merge_residual"] <= 1.01 * tolerance
        np.testing.assert_allclose(to_host(product(x, operator.fixed, 0.5)), right, atol=2 * tolerance * 40**0.5)


def test_recorded_conjugate_gradients_are_the_same(cupy: StandIn) -> None:
    """Their iterations are recorded once for all blocks between two tests of convergence, and for all solutions."""
    matrix, right = system()
    operator = cg.Operator(product, (matrix,), (0.5,))
    on_device = cg.Operator(product, (cupy.array(matrix),), (0.5,))
    for scale in (1.0, 3.0):
        x, info = cg.conjugate_gradients(operator, scale * right, rtol=1e-9, maxiter=200, conv_test_iters=5)
        found, other = cg.conjugate_gradients(
            on_device, cupy.array(scale * right), rtol=1e-9, maxiter=200, conv_test_iters=5
        )
        assert info == other == 0
        assert_equal((found,), (x,))
    assert cupy.captures == 1
    assert len(cupy.launches) >= 20
