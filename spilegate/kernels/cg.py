"""Conjugate gradients for a symmetric positive definite operator, in float64, by scipy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import cg as scipy_cg

from spilegate.state import Float64


def solve(
    apply: Callable[[Float64], Float64], right: Float64, start: Float64, *, tolerance: float, iterations: int
) -> tuple[Float64, dict[str, float]]:
    """Solve `apply(x) = right` for a 1-D float64 vector.

    Returns x and the figures cg_iterations and merge_residual (the recomputed |right - apply(x)| / |right|). A zero
    right-hand side has the solution zero.
    """
    norm = float(np.linalg.norm(right))
    if norm == 0:
        return np.zeros_like(right), {"cg_iterations": 0.0, "merge_residual": 0.0}
    count = 0

    def step(_: Float64) -> None:
        nonlocal count
        count += 1

    operator = LinearOperator((right.size, right.size), matvec=apply, dtype=np.float64)
    x, _ = scipy_cg(operator, right, x0=start, rtol=tolerance, atol=0.0, maxiter=iterations, callback=step)
    residual = float(np.linalg.norm(right - apply(x))) / norm
    return x, {"cg_iterations": float(count), "merge_residual": residual}
