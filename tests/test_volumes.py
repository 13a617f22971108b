"""What works on volumes, with arrays of other modules against NumPy's; every forward transform against its adjoint."""

import os
import subprocess
import sys
from importlib import import_module
from types import ModuleType

import array_api_strict
import numpy as np
import pytest
import scipy.fft
from scipy.sparse.linalg import cg as scipy_cg

from spilegate.backend import array_module, from_host, to_host
from spilegate.geometry.fourier import fourier_resize
from spilegate.kernels import cg, elementwise, fft, slabs
from spilegate.settings import MergingOptions, PhasingOptions
from spilegate.stages import merging, phasing

# The launcher sets this for the process it starts.
LAUNCHED = "LEGATE_CONFIG" in os.environ
MODULES = ["array_api_strict", *(["cupynumeric"] if LAUNCHED else [])]
SHAPES = [(9, 9, 9), (2, 27, 27, 27), (1, 3, 3, 3), (2, 3, 16, 12, 15)]
TOLERANCES = [(np.float32, 2e-6), (np.float64, 1e-14)]


@pytest.fixture(scope="module", params=MODULES)
def bring(request):
    """A function that makes an array of another module."""
    like = import_module(request.param).zeros(1)
    return lambda array: from_host(np.ascontiguousarray(array), like)


def assert_close(found, expected, tolerance):
    assert found.dtype == array_module(found).asarray(expected[..., :0]).dtype
    assert found.shape == expected.shape
    assert np.abs(to_host(found) - expected).max() <= tolerance * np.abs(expected).max()


def assert_same(found, expected):
    np.testing.assert_array_equal(to_host(found), expected, strict=True)


# --- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.bool_, np.int64])
def test_arrays_come_from_and_to_the_host(bring, dtype):
    array = (np.arange(24).reshape(2, 3, 4) % 5).astype(dtype)
    brought = bring(array)
    assert array_module(brought) is not np
    assert_same(brought, array)
    assert from_host(brought, brought) is brought
    assert from_host(brought, array) is brought
    assert from_host(array, array) is array
    assert to_host(array) is array


def test_host_arrays_are_of_numpy():
    assert array_module(np.zeros(3)) is np
    assert array_module(np.float32(1)) is np
    assert array_module(array_api_strict.zeros(3)) is array_api_strict


def test_kernels_load_no_runtime():
    code = (
        "import sys, spilegate.kernels.fft, spilegate.kernels.slabs, spilegate.kernels.cg, spilegate.stages.phasing\n"
        "import spilegate.stages.merging, numpy as np\n"
        "spilegate.kernels.fft.rfftn(np.zeros((3, 3, 3)), threads=1)\n"
        "spilegate.kernels.cg.solve(lambda x: x, np.ones(2), np.zeros(2), tolerance=1e-3, iterations=3)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "LEGATE_CONFIG"}
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    names = loaded.stdout.split("'")
    assert "scipy" in names
    assert not {"legate", "cupynumeric", "legate_sparse", "cupy"} & set(names)


def third(a, b, scale):
    xp = array_module(a)
    return xp.where(b, a * scale, 0.0)


@pytest.mark.backend
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 6), (45, 46, 47), (1, 2, 30, 31, 32), (1, 1, 1, 1, 3)])
def test_functions_of_elements(bring, shape):
    rng = np.random.default_rng(0)
    a = rng.standard_normal(shape).astype(np.float32)
    b = rng.random(shape) > 0.5
    expected = np.where(b, a * np.float32(0.3), np.float32(0))
    assert_same(elementwise.elementwise(third, a, b, scalars=(0.3,)), expected)
    assert_same(elementwise.elementwise(third, bring(a), bring(b), scalars=(0.3,)), expected)
    for into, mask in ((a.copy(), b), (bring(a), bring(b))):
        assert_same(elementwise.elementwise(third, into, mask, scalars=(0.3,), reuse=into), expected)


@pytest.mark.backend
def test_functions_of_elements_broadcast(bring):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((2, 1, 21, 22, 23)).astype(np.float32)
    b = rng.random((1, 3, 21, 1, 23)) > 0.5
    expected = np.where(b, a * np.float32(0.3), np.float32(0))
    assert_same(elementwise.elementwise(third, a, b, scalars=(0.3,)), expected)
    assert_same(elementwise.elementwise(third, bring(a), bring(b), scalars=(0.3,)), expected)


@pytest.mark.backend
def test_totals_do_not_stop_growing(bring):
    """In single precision 2^24 + 1 is 2^24."""
    values = np.ones((2, 3, 1001), np.float32)
    values[..., 0] = 2**24
    for array in (values, bring(values)):
        found = elementwise.total(array, (1, 2))
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, [3 * (2**24 + 1000)] * 2, rtol=0, atol=300)


# --- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_real_transforms(bring, shape, dtype, tolerance):
    x = np.random.default_rng(2).standard_normal(shape).astype(dtype)
    brought = bring(x)
    spectrum = scipy.fft.rfftn(x, axes=fft.AXES)
    assert_same(fft.rfftn(x, threads=2), spectrum)
    found = fft.rfftn(brought, threads=1)
    assert_close(found, spectrum, tolerance)
    assert_same(brought, x)
    size = shape[-1] + 5
    assert_close(fft.rfftn(brought, size=size, threads=1), fft.rfftn(x, size=size, threads=1), tolerance)
    if shape[-3:] == shape[-1:] * 3:
        kept = to_host(found)
        assert_close(fft.irfftn(found, shape[-1], threads=1), x, tolerance)
        assert_same(found, kept)


@pytest.mark.backend
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize("size", [12, 13])
def test_inverse_transforms_cut_to_what_is_wanted(bring, dtype, size):
    """A spectrum may be real, and is then that of an even volume."""
    spectrum = np.random.default_rng(3).standard_normal((2, size, size, size // 2 + 1)).astype(dtype)
    expected = scipy.fft.irfftn(spectrum, s=(size,) * 3, axes=fft.AXES)
    for keep in (None, 1, 5, size):
        found = fft.irfftn(bring(spectrum), size, threads=1, keep=keep)
        assert_close(found, expected[:, :keep, :keep, :keep], 1e-5)
        assert_same(fft.irfftn(spectrum, size, threads=1, keep=keep), expected[:, :keep, :keep, :keep])


@pytest.mark.backend
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_real_transforms_are_a_pair(bring, size, dtype, tolerance):
    """Re <y, F x> = size^3 <F^-1 y, x>, where a sample that stands for two counts twice."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((size,) * 3).astype(dtype)
    y = rng.standard_normal((size, size, size // 2 + 1)) + 1j * rng.standard_normal((size, size, size // 2 + 1))
    y = y.astype(np.result_type(dtype, np.complex64))
    twice = np.full(size // 2 + 1, 2.0)
    twice[0] = 1
    if size % 2 == 0:
        twice[-1] = 1
    left = np.vdot(y * twice, to_host(fft.rfftn(bring(x), threads=1))).real
    right = size**3 * np.vdot(to_host(fft.irfftn(bring(y), size, threads=1)), x)
    assert abs(left - right) <= tolerance * np.linalg.norm(x) * np.linalg.norm(y) * size**1.5


@pytest.mark.backend
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_complex_transforms(bring, shape, dtype, tolerance):
    rng = np.random.default_rng(5)
    x = rng.standard_normal(shape).astype(dtype)
    z = x + 1j * rng.standard_normal(shape).astype(dtype)
    for array in (x, z):
        spectrum = scipy.fft.fftn(array, axes=fft.AXES)
        assert_same(fft.fftn(array, threads=2), spectrum)
        assert_close(fft.fftn(bring(array), threads=1), spectrum, tolerance)
    assert_close(fft.ifftn(fft.fftn(bring(z), threads=1), threads=1), z, tolerance)
    assert_close(fft.ifftn(bring(x), threads=1), scipy.fft.ifftn(x, axes=fft.AXES), tolerance)
    left = np.vdot(z, to_host(fft.fftn(bring(x), threads=1)))
    right = np.prod(shape[-3:]) * np.vdot(to_host(fft.ifftn(bring(z), threads=1)), x)
    assert abs(left - right) <= tolerance * np.linalg.norm(x) * np.linalg.norm(z) * np.prod(shape[-3:]) ** 0.5


@pytest.mark.parametrize("axis", [0, -1])
def test_transforms_along_one_axis(axis):
    x = np.random.default_rng(6).standard_normal((5, 7)).astype(np.float32)
    spectrum = fft.rfft(x, axis=axis)
    assert_same(spectrum, scipy.fft.rfft(x, axis=axis))
    strict = array_api_strict.asarray(x)
    assert_close(fft.rfft(strict, axis=axis), spectrum, 1e-6)
    assert_close(fft.irfft(fft.rfft(strict, axis=axis), x.shape[axis], axis=axis), x, 1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("shape", SHAPES)
def test_shifts(bring, shape):
    x = np.arange(np.prod(shape)).reshape(shape)
    for array in (x, x % 3 == 0):
        assert_same(fft.to_corner(array), scipy.fft.ifftshift(array, axes=fft.AXES))
        assert_same(fft.to_corner(bring(array)), scipy.fft.ifftshift(array, axes=fft.AXES))
        assert_same(fft.to_centre(bring(array)), scipy.fft.fftshift(array, axes=fft.AXES))


@pytest.mark.parametrize("kind", slabs.PLANES)
def test_the_planes_of_a_slab_in_any_array_module(kind):
    """What a task does on any processor; the last axis of a real transform is told, for its spectrum does not tell."""
    rng = np.random.default_rng(7)
    x = (rng.standard_normal((2, 3, 6, 5)) + 1j * rng.standard_normal((2, 3, 6, 5))).astype(np.complex64)
    source = x.real.copy() if kind == "rfftn" else x
    size = 8 if kind == "irfftn" else 5
    expected = getattr(scipy.fft, kind)(source, s=(6, size), axes=(-2, -1))[..., :4, :3]
    strict = array_api_strict
    for xp in (np, strict):
        target = xp.zeros(expected.shape, dtype=xp.float32 if kind == "irfftn" else xp.complex64)
        slabs.transform_planes(xp, [xp.asarray(source)], target, slabs.PLANES.index(kind), size)
        assert_close(target, expected, 1e-5)


@pytest.mark.parametrize("kind", slabs.LINES)
def test_the_lines_of_a_slab(kind):
    rng = np.random.default_rng(8)
    x = (rng.standard_normal((2, 5, 3, 4)) + 1j * rng.standard_normal((2, 5, 3, 4))).astype(np.complex64)
    padded = np.empty((2, 9, 3, 4), np.complex64)
    slabs.transform_lines(np, [x], padded, slabs.LINES.index(kind))
    assert_close(padded, getattr(scipy.fft, kind)(x, n=9, axis=1), 1e-6)
    expected = getattr(scipy.fft, kind)(x, axis=1)
    # Views with gaps, as parts of a larger array are.
    wide = np.empty((2, 5, 3, 9), np.complex64)
    wide[..., :4] = x
    slabs.transform_lines(np, [wide[..., :4]], wide[..., :4], slabs.LINES.index(kind))
    assert_close(wide[..., :4], expected, 1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("size", [15, 27, 33])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_resizing(bring, size, dtype, tolerance):
    volumes = np.random.default_rng(9).standard_normal((2, 27, 27, 27)).astype(dtype)
    assert_close(fourier_resize(bring(volumes), size, threads=1), fourier_resize(volumes, size, threads=1), tolerance)
    assert_close(
        fourier_resize(bring(volumes[0]), size, threads=1), fourier_resize(volumes[0], size, threads=1), tolerance
    )


# --- phase -----------------------------------------------------------------------------------------------------------


def blobs(size, seed):
    rng = np.random.default_rng(seed)
    axis = np.arange(size) - size // 2
    density = np.zeros((size,) * 3)
    for centre in rng.uniform(-4, 4, (25, 3)):
        x, y, z = (np.exp(-((axis - c) ** 2) / 3) for c in centre)
        density += x[:, None, None] * y[:, None] * z
    # Nothing below the level at which shrink-wrap cuts.
    return np.maximum(density - 0.1 * density.max(), 0).astype(np.float32)


@pytest.fixture(scope="module")
def densities():
    """(2, 27, 27, 27) float32."""
    return np.stack([blobs(27, 10), blobs(27, 11)])


@pytest.mark.backend
def test_autocorrelations_and_amplitudes(bring, densities):
    expected = phasing.autocorrelation(densities, threads=1)
    assert_close(phasing.autocorrelation(bring(densities), threads=1), expected, 2e-6)
    keywords = {"q_min": 0.03, "q_max": 0.4, "threads": 1}
    target = phasing.amplitudes(expected[:, None], 1.0, **keywords)
    found = phasing.amplitudes(bring(expected[:, None]), 1.0, **keywords)
    assert_same(found.measured, target.measured)
    # A root triples the digits of what rounding leaves of zero.
    assert_close(found.amplitude, target.amplitude, 1e-3)
    np.testing.assert_allclose(
        to_host(found.amplitude) ** 2, target.amplitude**2, atol=2e-6 * target.amplitude.max() ** 2
    )


def targets(densities, bring=None):
    autocorrelation = phasing.autocorrelation(densities, threads=1)[:, None]
    target = phasing.amplitudes(autocorrelation, 1.0, q_min=0.03, q_max=0.4, threads=1)
    if bring is None:
        return target
    return phasing.Amplitudes(bring(target.amplitude), bring(target.measured))


def starts():
    """First densities and supports (2, 2, 27, 27, 27), and the limit of supports."""
    inside = phasing.ball(27, 1.0, 8.0)
    densities = phasing.random_start((2, 2, 27, 27, 27), inside, np.random.default_rng(12))
    return densities, np.broadcast_to(inside, densities.shape), phasing.ball(27, 1.0, 9.0)


@pytest.mark.backend
@pytest.mark.parametrize("on_host", [True, False])
def test_error_reduction_step_by_step(bring, densities, on_host):
    keywords = {"options": PhasingOptions(), "cycles": 0, "threads": 1}
    expected = phasing.phase(targets(densities), *starts(), **keywords)
    given = starts() if on_host else map(bring, starts())
    found = phasing.phase(targets(densities, bring), *given, **keywords)
    assert_close(found.density, expected.density, 1e-4)
    assert_same(found.support, expected.support)
    assert isinstance(found.r_factor, np.ndarray)
    assert found.r_factor.dtype == np.float64
    np.testing.assert_allclose(found.r_factor, expected.r_factor, rtol=1e-4)


@pytest.mark.backend
@pytest.mark.parametrize("method", ["hio", "raar"])
def test_many_steps_of_phasing_lead_to_as_good_a_fit(bring, densities, method):
    """They are chaotic: any two roundings part soon."""
    keywords = {"options": PhasingOptions(method=method), "cycles": 1, "threads": 1}
    expected = phasing.phase(targets(densities), *starts(), **keywords)
    found = phasing.phase(targets(densities, bring), *starts(), **keywords)
    assert (to_host(found.support) != expected.support).mean() < 0.01
    np.testing.assert_allclose(found.r_factor, expected.r_factor, rtol=0.2)


@pytest.mark.backend
@pytest.mark.parametrize("kind", ["er", "hio", "raar"])
def test_one_update(bring, kind):
    rng = np.random.default_rng(13)
    rho, projected = rng.standard_normal((2, 2, 27, 27, 27)).astype(np.float32)
    inside = rng.random(rho.shape) > 0.5
    expected = {
        "er": np.where(inside & (projected > 0), projected, 0),
        "hio": np.where(inside & (projected > 0), projected, rho - 0.7 * projected),
        "raar": np.where(inside & (2 * projected > rho), projected, 0.7 * rho - 0.4 * projected),
    }[kind].astype(np.float32)
    assert_close(phasing._update(rho, projected.copy(), inside, kind, 0.7), expected, 1e-6)
    assert_close(phasing._update(bring(rho), bring(projected), bring(inside), kind, 0.7), expected, 1e-6)


@pytest.mark.backend
def test_every_volume_is_centred_by_itself(bring, densities):
    shifts = [(3, -2, 5), (-7, 1, 0)]
    moved = np.stack([np.roll(d, s, (0, 1, 2)) for d, s in zip(densities, shifts, strict=True)])[:, None]
    centred = phasing._recentred(fft.to_corner(densities)[:, None], fft.to_corner(densities)[:, None] > 0)
    found = phasing._recentred(bring(fft.to_corner(moved)), bring(fft.to_corner(moved) > 0))
    for array, expected in zip(found, centred, strict=True):
        assert_same(array, expected)


@pytest.mark.backend
def test_combining_phasings(bring, densities):
    """The second one is the first one's other hand, elsewhere; the third one is too bad."""
    other = np.roll(densities[:, ::-1, ::-1, ::-1], (2, -1, 4), (1, 2, 3))
    stack = np.stack([densities, other, np.ones_like(other)], axis=1)
    r_factor = np.array([[0.1, 0.11, 0.9], [0.1, 0.11, 0.9]])
    expected = phasing.combine(phasing.Phased(stack, stack > 0, r_factor), 1.2)
    np.testing.assert_allclose(expected.density, densities, atol=1e-6)
    found = phasing.combine(phasing.Phased(bring(stack), bring(stack > 0), r_factor), 1.2)
    assert_close(found.density, expected.density, 1e-6)
    assert_same(found.support, densities > 0)
    assert_same(found.r_factor, np.array([0.1, 0.1]))


# --- merge -----------------------------------------------------------------------------------------------------------


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


# --- conjugate gradients ---------------------------------------------------------------------------------------------


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
