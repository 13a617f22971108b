"""What runs on a GPU, tried without one: recorded steps keep what they read, and kernels' plain twins."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stand_in_cupy
from stand_in_cupy import LOG, ndarray

from spilegate.kernels import cg, gauss_newton, loops, shifts


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    loops._recording.cache_clear()
    module = stand_in_cupy.installed(monkeypatch)
    yield module
    loops._recording.cache_clear()


def halved(state: tuple[Any, ...], fixed: tuple[Any, ...], number: float) -> tuple[Any, ...]:
    return (state[0] / 2 + number * fixed[0],)


def test_steps_are_a_loop_where_nothing_is_recorded() -> None:
    x, y = np.random.default_rng(0).random((2, 7))
    (found,) = loops.repeated(halved, 5, (x,), (y,), (0.25,))
    for _ in range(5):
        x = x / 2 + 0.25 * y
    np.testing.assert_array_equal(found, x)


def test_a_step_is_recorded_once_for_arrays_alike_and_keeps_its_plans(cupy: Any) -> None:
    x, y = np.ones(4).view(ndarray), np.ones(4).view(ndarray)
    (found,) = loops.repeated(halved, 6, (x,), (y,), (0.25,))
    assert found is not x
    loops.repeated(halved, 3, (x,), (y,), (0.25,))
    assert (LOG["captures"], LOG["launches"]) == (1, [0] * 9)
    (key,) = [loops._recording(halved, (0.25,), loops._place(x), loops._shapes((x,)), loops._shapes((y,)))]
    assert key.plans == ["a plan"]
    loops.repeated(halved, 2, (x[:2],), (y[:2],), (0.25,))
    loops.repeated(halved, 2, (x,), (y,), (0.5,))
    LOG["stream"] = SimpleNamespace(ptr=9)
    loops.repeated(halved, 2, (x,), (y,), (0.5,))
    assert LOG["captures"] == 4
    assert LOG["launches"][-1] == 9


def test_what_cannot_be_recorded_is_done_step_by_step(cupy: Any) -> None:
    x, y = np.ones(4).view(ndarray), np.ones(4).view(ndarray)
    LOG["refuse"] = True
    (found,) = loops.repeated(halved, 3, (x,), (y,), (0.25,))
    np.testing.assert_allclose(found, 0.125 + 0.25 * 1.75)


def scaled(x: Any, fixed: tuple[Any, ...]) -> Any:
    return fixed[0] @ x


def test_an_operator_gives_the_bits_of_a_closure() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.random((30, 30))
    matrix = matrix @ matrix.T + 30 * np.eye(30)
    right = rng.random(30)
    operator = cg.Operator(scaled, (matrix,), ())
    found, info = cg.conjugate_gradients(operator, right, rtol=1e-8, conv_test_iters=5)
    closure, _ = cg.conjugate_gradients(lambda x: matrix @ x, right, rtol=1e-8, conv_test_iters=5)
    assert info == 0
    np.testing.assert_array_equal(found, closure)
    np.testing.assert_allclose(matrix @ found, right, rtol=1e-6)


def test_normal_matrices_are_the_products_of_derivatives() -> None:
    rng = np.random.default_rng(3)
    points, gradient = rng.standard_normal((3, 2, 50)), rng.standard_normal((3, 2, 50))
    intensity, root, residual = rng.random((3, 2, 50))
    factor = np.array([0.5, 2.0])
    spectra = np.stack([intensity + 1j * gradient[0], gradient[1] + 1j * gradient[2]])
    turns = np.cross(points, gradient, axis=0)
    jacobian = -np.concatenate([turns, -(intensity / factor[:, None])[None]]) * root
    hessian, right = gauss_newton.normal_matrices(points, spectra, factor, root, residual)
    np.testing.assert_allclose(hessian, np.einsum("anp,bnp->nab", jacobian, jacobian), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(right, np.einsum("anp,np->na", jacobian, residual), rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no compiler for GPUs here")
@pytest.mark.parametrize("source", [shifts.SOURCE, gauss_newton.SOURCE], ids=["shifts", "gauss_newton"])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_kernels_compile(source: str, architecture: str, tmp_path: Path) -> None:
    (tmp_path / "kernel.cu").write_text(source)
    command = [
        "nvcc",
        "-cubin",
        f"-arch={architecture}",
        "-o",
        str(tmp_path / "kernel.cubin"),
        str(tmp_path / "kernel.cu"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Compiled while a program runs there are no headers, so that their names are unknown.
    assert not {"INFINITY", "NAN", "FLT_MAX"} & set(source.replace("(", " ").split())
