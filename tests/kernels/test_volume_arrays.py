"""Array modules and functions of elements, with arrays of other modules against NumPy's."""

import os
import subprocess
import sys

import array_api_strict
import numpy as np
import pytest
from volumes import assert_same

from spilegate.backend import array_module, from_host, to_host
from spilegate.kernels import elementwise


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
