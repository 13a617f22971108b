"""The largest score over the shifts: the array functions against all scores, the kernel's text against both."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest

from spilegate.backend import to_host
from spilegate.kernels import shifts

HALF, COUNT, TILE = 6, 5, 7
N_PHI = 2 * HALF


def ratio(correlation: Any, sums: Any) -> Any:
    return correlation / sums


def line(correlation: Any, sums: Any) -> Any:
    """Rises, and is not 0 for no correlation."""
    return correlation * 0.25 - sums


def made(n_sum: int, low: float = -1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_sum)
    even, odd = rng.uniform(low, low + 2, (2, HALF, COUNT * TILE)).astype(np.float32)
    return even, odd, rng.uniform(0.5, 2, (n_sum, TILE)).astype(np.float32)


def by_all_scores(even: np.ndarray, odd: np.ndarray, sums: np.ndarray, score: Callable[..., Any]) -> np.ndarray:
    """One score after the other."""
    found = np.full((2, COUNT, TILE), -np.inf, np.float32)
    for shift in range(N_PHI):
        for row in range(COUNT):
            for view in range(TILE):
                at = (shift % HALF, row * TILE + view)
                correlation = even[at] + odd[at] if shift < HALF else even[at] - odd[at]
                own = score(correlation, sums[shift if len(sums) > 1 else 0, view])
                turn = shift // HALF
                found[turn, row, view] = max(found[turn, row, view], own)
    return found


@pytest.mark.parametrize("score", [ratio, line])
@pytest.mark.parametrize("low", [-1.0, -9.0])
@pytest.mark.parametrize("n_sum", [1, N_PHI])
@pytest.mark.parametrize("xp", [np, array_api_strict])
def test_largest_scores_are_those_of_all_scores(xp: Any, n_sum: int, low: float, score: Callable[..., Any]) -> None:
    even, odd, sums = made(n_sum, low)
    expected = by_all_scores(even, odd, sums, score)
    found = shifts.largest_scores(*(xp.asarray(array.copy()) for array in (even, odd, sums)), score)
    assert found.shape == (2, COUNT, TILE)
    assert found.dtype == xp.float32
    # The very numbers: a score rises with the correlation, after rounding too.
    np.testing.assert_array_equal(to_host(found), expected)


def test_the_kernel_compiles(tmp_path: Path) -> None:
    if not (nvcc := shutil.which("nvcc")):
        pytest.skip("nvcc is not on the path")
    (tmp_path / "shifts.cu").write_text(shifts.SOURCE)
    command = [nvcc, "-cubin", "-arch=sm_80", "-o", "shifts.cubin", "shifts.cu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=540)
    assert done.returncode == 0, done.stderr
    assert b"largest_scores" in (tmp_path / "shifts.cubin").read_bytes()


# What CUDA gives to a kernel, for one thread after the other.
HOST = r"""
#include <cmath>
using std::fmaxf;
#define __global__
struct Index { unsigned int x; };
static Index blockIdx, blockDim, threadIdx;
%s
extern "C" void on_host(
    const float* even, const float* odd, const float* slope, const float* offset, float* result,
    int half, long long columns, int tile, int each, unsigned int blocks, unsigned int threads)
{
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
            largest_scores(even, odd, slope, offset, result, half, columns, tile, each);
}
"""


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """The kernel's text as a function of the host."""
    if not (compiler := shutil.which("c++")):
        pytest.skip("there is no C++ compiler on the path")
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "kernel.cpp").write_text(HOST % shifts.SOURCE)
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", "kernel.so", "kernel.cpp"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=540)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "kernel.so")).on_host


@pytest.mark.parametrize("score", [ratio, line])
@pytest.mark.parametrize("low", [-1.0, -9.0])
@pytest.mark.parametrize("n_sum", [1, N_PHI])
def test_the_kernels_text_finds_the_same(
    on_host: Callable[..., None], monkeypatch: Any, n_sum: int, low: float, score: Callable[..., Any]
) -> None:
    """Launched as for a GPU, with threads left over."""

    def kernel(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
        arrays, (half, columns, tile, each) = arguments[:5], arguments[5:]
        assert [number.dtype for number in arguments[5:]] == [np.int32, np.int64, np.int32, np.int32]
        assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in arrays)
        assert grid[0] * block[0] >= columns
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        numbers = [int(half), ctypes.c_longlong(columns), int(tile), int(each)]
        on_host(*pointers, *numbers, ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]))

    monkeypatch.setattr(shifts, "THREADS", 32)
    monkeypatch.setattr(shifts, "_kernel", lambda: kernel)
    even, odd, sums = made(n_sum, low)
    found = shifts._by_kernel(np, even, odd, sums, score)
    assert found.shape == (2, COUNT, TILE)
    np.testing.assert_allclose(found, by_all_scores(even, odd, sums, score), rtol=1e-5, atol=1e-5)
