"""Conjugate gradients for a symmetric positive definite operator, in float64, by the library of the array's module.

NumPy arrays: scipy. cuPyNumeric arrays: legate-sparse where it is installed. Others: the plain text below.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import scipy
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import cg as scipy_cg

from spilegate.backend import Array, array_module
from spilegate.kernels.loops import repeated

# A test of convergence waits for everything before it.
CONVERGENCE_TEST_ITERATIONS = 5
# Divisors are at least this: at an exact solution a step is 0 / 0, and has to be 0.
TINY = 1e-300

Apply = Callable[[Array], Array]
Callback = Callable[[Array], None]


@dataclass(frozen=True)
class Operator:
    """A symmetric positive definite operator whose parts are known: `function(x, fixed, *scalars)`.

    function : of a module; fixed : the arrays it reads; scalars : hashable
    """

    function: Callable[..., Array]
    fixed: tuple[Array, ...]
    scalars: tuple[Any, ...]

    def __call__(self, x: Array) -> Array:
        """Apply it."""
        return self.function(x, self.fixed, *self.scalars)


def solve(
    apply: Apply, right: Array, start: Array, *, tolerance: float, iterations: int
) -> tuple[Array, dict[str, float]]:
    """Solve `apply(x) = right` for a 1-D float64 vector.

    Returns x and the figures cg_iterations and merge_residual (the recomputed |right - apply(x)| / |right|). A zero
    right-hand side has the solution zero.
    Raises ValueError for vectors of other dimensions or types.
    """
    xp = array_module(right)
    for vector in (right, start):
        if vector.ndim != 1 or vector.dtype != xp.float64:
            raise ValueError(f"only 1-D float64 vectors, got {vector.dtype} of shape {vector.shape}")
    norm = _norm(right)
    if norm == 0:
        return xp.zeros_like(right), {"cg_iterations": 0.0, "merge_residual": 0.0}
    count = 0

    def step(_: Array) -> None:
        nonlocal count
        count += 1

    options: dict[str, Any] = {"rtol": tolerance, "atol": 0.0, "maxiter": iterations, "callback": step}
    x = None
    if xp is np:
        operator = LinearOperator((right.size, right.size), matvec=apply, dtype=np.float64)
        x, _ = scipy_cg(operator, right, x0=start, **options)
    elif library := _legate_sparse(right):
        x = by_legate_sparse(library, apply, right, start, **options)
    if x is None:
        x, _, count = _iterated(
            apply, right, start, tolerance * norm, iterations, CONVERGENCE_TEST_ITERATIONS, callback=None
        )
    return x, {"cg_iterations": float(count), "merge_residual": _norm(right - apply(x)) / norm}


def solver_name(array: Array) -> str:
    """Return the function, and the version of its library, that solves for arrays of the module of `array`."""
    if isinstance(array, np.ndarray):
        return f"scipy.sparse.linalg.cg {_version(scipy)}"
    if library := _legate_sparse(array):
        return f"legate_sparse.linalg.cg {_version(library)}"
    return "spilegate.kernels.cg.conjugate_gradients"


def conjugate_gradients(
    A: Apply,
    b: Array,
    x0: Array | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    callback: Callback | None = None,
    conv_test_iters: int = 25,
) -> tuple[Array, int]:
    """Solve `A(x) = b` for a vector of any array module; the keywords are those of legate-sparse.

    A : a function, symmetric and positive definite
    Converged is |b - A(x)| <= max(atol, rtol |b|), which is tested before every `conv_test_iters`-th iteration and at
    the end. Returns x and 0 if converged, else the number of iterations.
    """
    bound = max(atol, rtol * _norm(b))
    most = 10 * b.shape[0] if maxiter is None else maxiter
    x, misfit, iterations = _iterated(A, b, x0, bound, most, conv_test_iters, callback)
    return x, 0 if misfit <= bound else iterations


def _iterated(
    A: Apply, b: Array, x0: Array | None, bound: float, most: int, between_tests: int, callback: Callback | None
) -> tuple[Array, float, int]:
    """Return the solution, |b - A(x)| and the number of iterations made."""
    x = array_module(b).zeros_like(b) if x0 is None else x0
    residual = b if x0 is None else b - A(x)
    state = (x, residual, residual, residual @ residual)
    done = 0
    while (misfit := math.sqrt(float(state[-1]))) > bound and done < most:
        times = min(between_tests, most - done)
        if isinstance(A, Operator) and callback is None:
            state = repeated(_iteration, times, state, A.fixed, (A.function, *A.scalars))
        else:
            for _ in range(times):
                state = _iteration(state, (), lambda direction, _: A(direction))
                if callback is not None:
                    callback(state[0])
        done += times
    return state[0], misfit, done


def _iteration(
    state: tuple[Array, ...], fixed: tuple[Array, ...], function: Callable[..., Array], *scalars: Any
) -> tuple[Array, ...]:
    """Return solution, residual, direction and the residual's square after one more iteration."""
    x, residual, direction, squared = state
    xp = array_module(x)
    image = function(direction, fixed, *scalars)
    step = squared / xp.maximum(direction @ image, TINY)
    x = x + step * direction
    residual = residual - step * image
    previous, squared = squared, residual @ residual
    direction = residual + (squared / xp.maximum(previous, TINY)) * direction
    return x, residual, direction, squared


def _legate_sparse(array: Array) -> ModuleType | None:
    """Return legate-sparse if it works on `array` and is installed."""
    if array_module(array).__name__ != "cupynumeric":
        return None
    try:
        import_module("legate_sparse.linalg")
    except ImportError:
        return None
    return sys.modules["legate_sparse"]


def by_legate_sparse(
    library: Any, apply: Apply, right: Array, start: Array, *, rtol: float, **options: Any
) -> Array | None:
    """Solve by legate-sparse; None if it fails.

    From an exact solution on, which it may be given or reach between two tests of convergence, it divides 0 by 0.
    """
    if _norm(right - apply(start)) <= rtol * _norm(right):
        return start
    size = right.shape[0]
    operator = library.linalg.LinearOperator((size, size), matvec=apply, dtype=np.float64)
    # The second result is the number of iterations in one version and a status in another.
    x, _ = library.linalg.cg(
        operator, right, x0=start, rtol=rtol, conv_test_iters=CONVERGENCE_TEST_ITERATIONS, **options
    )
    xp = array_module(x)
    return x if bool(xp.all(xp.isfinite(x))) else None


def _norm(vector: Array) -> float:
    """Return the Euclidean norm, which waits for whatever computes the vector."""
    if isinstance(vector, np.ndarray):
        return float(np.linalg.norm(vector))
    return math.sqrt(float(vector @ vector))


def _version(module: Any) -> str:
    """Return the first two parts of a module's version."""
    return ".".join(str(module.__version__).split(".")[:2])
