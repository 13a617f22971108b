"""Conjugate gradients and the merge they solve, with arrays of other modules against NumPy's."""

import sys
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest
import scipy
from scipy.sparse.linalg import cg as scipy_cg
from volumes import MODULES, assert_close, assert_same

from spilegate.backend import array_module, from_host, to_host
from spilegate.kernels import cg
from spilegate.settings import MergingOptions
from spilegate.stages import merging


def equations(size=13, count=300):
    """Normal equations of points, by sums."""
    rng = np.random.default_rng(14)
    points, weight = rng.uniform(-np.pi, np.pi, (3, count)), rng.random(count)

    def sums(size, strengths):
        waves = [np.exp(1j * np.outer(np.arange(size) - size // 2, p)) for p in points]
        return np.einsum("xp,yp,zp,p->xyz", *waves, strengths, optimize=True).real

    return merging.Normal(sums(2 * size - 1, weight), sums(size, weight * rng.random(count)))


@pytest.mark.backend
@pytest.mark.parametrize("host_masks", [True, False])
def test_merging(bring, host_masks):
    normal, support = equations(), merging.support_ball(13, 1.0, 5.5)
    start = np.random.default_rng(15).standard_normal((13,) * 3).astype(np.float32)
    # To the end, where different roundings and numbers of steps meet again.
    options = MergingOptions(tolerance=1e-9, iterations=300, regularisation=1e-2)
    expected, figures = merging.solve(normal, support, start, options, threads=1)
    brought = merging.Normal(bring(normal.kernel), bring(normal.right))
    given = (support, start) if host_masks else (bring(support), bring(start))
    found, other = merging.solve(brought, *given, options, threads=1)
    assert_close(found, expected, 1e-6)
    assert not to_host(found)[~support].any()
    assert max(figures["merge_residual"], other["merge_residual"]) <= 2e-9
    assert abs(figures["cg_iterations"] - other["cg_iterations"]) <= cg.CONVERGENCE_TEST_ITERATIONS


def system(size=40, seed=16):
    """A positive definite matrix, a right-hand side and the solution."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    matrix = root @ root.T / size + np.eye(size)
    solution = rng.standard_normal(size)
    return matrix, matrix @ solution, solution


@pytest.fixture(scope="module", params=["numpy", *MODULES])
def vector(request):
    like = import_module(request.param).zeros(1)
    return lambda array: from_host(array, like)


def multiplying(matrix):
    xp = array_module(matrix)
    return lambda x: xp.matmul(matrix, x)


@pytest.mark.backend
@pytest.mark.parametrize("conv_test_iters", [1, 5, 25])
def test_own_cg_agrees_with_scipys_and_with_the_solution(vector, conv_test_iters):
    matrix, right, solution = system()
    seen = []
    apply = multiplying(vector(matrix))
    x, info = cg.conjugate_gradients(
        apply, vector(right), rtol=1e-11, maxiter=200, callback=seen.append, conv_test_iters=conv_test_iters
    )
    assert info == 0
    np.testing.assert_allclose(to_host(x), solution, atol=1e-8)
    np.testing.assert_allclose(to_host(x), scipy_cg(matrix, right, rtol=1e-11)[0], atol=1e-8)
    assert len(seen) % conv_test_iters == 0
    few, info = cg.conjugate_gradients(apply, vector(right), maxiter=3, conv_test_iters=conv_test_iters)
    assert info == 3
    np.testing.assert_allclose(to_host(few), scipy_cg(matrix, right, maxiter=3)[0], rtol=1e-9)


@pytest.mark.backend
def test_own_cg_starts_and_stays_at_a_solution(vector):
    matrix, right, solution = system()
    apply, b = multiplying(vector(matrix)), vector(right)
    seen = []
    x, info = cg.conjugate_gradients(apply, b, vector(solution), rtol=1e-6, callback=seen.append)
    assert (info, seen) == (0, [])
    assert_same(x, solution)
    # One step solves a multiple of the identity, and the next test of convergence comes much later.
    x, info = cg.conjugate_gradients(lambda v: 2 * v, b, rtol=1e-12, conv_test_iters=25)
    assert info == 0
    np.testing.assert_allclose(to_host(x), right / 2, rtol=1e-14)
    for x0 in (None, vector(np.zeros(40)), b):
        x, info = cg.conjugate_gradients(apply, vector(np.zeros(40)), x0, maxiter=400, atol=1e-9)
        np.testing.assert_allclose(to_host(x), 0, atol=1e-8)
        assert info == 0


@pytest.mark.backend
def test_solving(vector):
    matrix, right, solution = system()
    apply, zero = multiplying(vector(matrix)), vector(np.zeros(40))
    x, figures = cg.solve(apply, vector(right), zero, tolerance=1e-10, iterations=100)
    np.testing.assert_allclose(to_host(x), solution, atol=1e-7)
    assert figures["merge_residual"] <= 1e-9
    assert 10 <= figures["cg_iterations"] <= 60
    x, figures = cg.solve(apply, zero, vector(right), tolerance=1e-3, iterations=100)
    assert not to_host(x).any()
    assert figures == {"cg_iterations": 0, "merge_residual": 0}
    x, figures = cg.solve(apply, vector(right), vector(solution), tolerance=1e-3, iterations=100)
    np.testing.assert_allclose(to_host(x), solution)
    assert figures["cg_iterations"] == 0
    x, figures = cg.solve(lambda v: 2 * v, vector(right), zero, tolerance=1e-6, iterations=100)
    np.testing.assert_allclose(to_host(x), right / 2)
    for wrong in (right.astype(np.float32), right.reshape(5, 8)):
        with pytest.raises(ValueError, match="1-D float64"):
            cg.solve(apply, vector(wrong), zero, tolerance=1e-3, iterations=5)


@pytest.mark.backend
def test_solvers_by_name(vector):
    name = cg.solver_name(vector(np.zeros(3)))
    module = array_module(vector(np.zeros(3))).__name__
    if module == "numpy":
        assert name == "scipy.sparse.linalg.cg " + ".".join(scipy.__version__.split(".")[:2])
    elif module == "cupynumeric":
        assert name.startswith(("legate_sparse.linalg.cg 2", "spilegate.kernels.cg.conjugate_gradients"))
    else:
        assert name == "spilegate.kernels.cg.conjugate_gradients"


class StrictOperator:
    def __init__(self, shape, *, matvec, dtype):
        assert dtype == np.float64
        assert shape[0] == shape[1]
        self.shape, self._matvec = shape, matvec

    def matvec(self, x):
        assert x.shape == self.shape[:1]
        return checked(self._matvec(x))


def checked(x):
    """Refuse what legate-sparse computes wrong without saying so."""
    assert array_module(x).__name__ in ("cupynumeric", "numpy")
    assert x.ndim == 1
    assert x.dtype == np.float64
    return x


def strict_double(version):
    """legate-sparse as it was found: NaN from an exact solution on, one of two conventions of the second result."""

    def solve(A, b, x0=None, tol=None, maxiter=None, M=None, callback=None, atol=0.0, rtol=1e-5, conv_test_iters=25):
        assert isinstance(A, StrictOperator)
        xp = array_module(checked(b))
        bound = max(atol, (rtol if tol is None else tol) * float(xp.linalg.norm(b)))
        x = xp.zeros(b.shape[0]) if x0 is None else checked(x0).copy()
        residual = b - A.matvec(x)
        rho = float(residual @ residual)
        direction, count = residual.copy(), 0
        while count < maxiter:
            image = A.matvec(direction)
            step = divided(rho, float(direction @ image))
            x, residual = x + step * direction, residual - step * image
            rho, previous = float(residual @ residual), rho
            direction = residual + divided(rho, previous) * direction
            count += 1
            if callback is not None:
                callback(x)
            if (count % conv_test_iters == 0 or count == maxiter - 1) and rho**0.5 < bound:
                break
        return x, count if version < "26" else 0

    library, linalg = ModuleType("legate_sparse"), ModuleType("legate_sparse.linalg")
    library.__version__ = version
    library.linalg = linalg
    linalg.cg, linalg.LinearOperator = solve, StrictOperator
    return library


def divided(a, b):
    return a / b if b else np.nan


@pytest.fixture(params=["24.11.00", "26.02.00"])
def double(request):
    return strict_double(request.param)


def test_the_double_fails_as_the_library_does(double):
    matrix, right, _ = system()
    operator = StrictOperator((40, 40), matvec=multiplying(matrix), dtype=np.float64)
    assert np.isnan(double.linalg.cg(operator, 0 * right, maxiter=10)[0]).all()
    twice = StrictOperator((40, 40), matvec=lambda v: 2 * v, dtype=np.float64)
    assert np.isnan(double.linalg.cg(twice, 2 * right, right, maxiter=10)[0]).all()
    with pytest.raises(AssertionError):
        double.linalg.cg(operator, right.astype(np.float32), maxiter=10)


def test_calling_legate_sparse(double):
    matrix, right, solution = system()
    apply, zero, seen = multiplying(matrix), np.zeros(40), []
    options = {"rtol": 1e-10, "atol": 0.0, "maxiter": 100, "callback": seen.append}
    x = cg.by_legate_sparse(double, apply, right, zero, **options)
    np.testing.assert_allclose(x, solution, atol=1e-7)
    assert 0 < len(seen) < 60
    assert len(seen) % cg.CONVERGENCE_TEST_ITERATIONS == 0
    seen.clear()
    assert_same(cg.by_legate_sparse(double, apply, right, solution, **options), solution)
    assert not seen
    # It reaches the solution between two tests, and is lost.
    assert cg.by_legate_sparse(double, lambda v: 2 * v, right, zero, **options) is None


@pytest.mark.backend
def test_solving_where_legate_sparse_is_installed(monkeypatch, double, vector):
    monkeypatch.setitem(sys.modules, "legate_sparse", double)
    monkeypatch.setitem(sys.modules, "legate_sparse.linalg", double.linalg)
    like = vector(np.zeros(1))
    by_it = cg.solver_name(like) == f"legate_sparse.linalg.cg {double.__version__[:5]}"
    assert by_it == (array_module(like).__name__ == "cupynumeric")
    solve_everything(vector)


@pytest.mark.legate_sparse
def test_solving_by_the_real_legate_sparse():
    pytest.importorskip("legate_sparse", reason="legate-sparse is not installed; it is in conda's channel legate only")
    like = import_module("cupynumeric").zeros(1)
    assert cg.solver_name(like).startswith("legate_sparse.linalg.cg ")
    solve_everything(lambda array: from_host(array, like))


def solve_everything(vector):
    """What legate-sparse solves, and what it cannot."""
    matrix, right, solution = map(vector, system())
    zero, expected = vector(np.zeros(40)), to_host(solution)
    for apply, b, start, answer, most in (
        (multiplying(matrix), right, zero, expected, 60),
        (multiplying(matrix), zero, right, 0 * expected, 0),
        (multiplying(matrix), right, solution, expected, 0),
        (lambda v: 2 * v, right, zero, to_host(right) / 2, 5),
    ):
        x, figures = cg.solve(apply, b, start, tolerance=1e-10, iterations=100)
        np.testing.assert_allclose(to_host(x), answer, atol=1e-7)
        assert figures["merge_residual"] <= 1e-9
        assert figures["cg_iterations"] <= most
    normal, support = equations(), merging.support_ball(13, 1.0, 5.5)
    options = MergingOptions(tolerance=1e-9, iterations=300, regularisation=1e-2)
    start = np.zeros((13,) * 3, np.float32)
    found, _ = merging.solve(
        merging.Normal(vector(normal.kernel), vector(normal.right)), support, start, options, threads=1
    )
    assert_close(found, merging.solve(normal, support, start, options, threads=1)[0], 1e-6)
