"""NUFFTs against direct sums, and every forward transform against its adjoint."""

import os
import subprocess
import sys

import numpy as np
import pytest

from spilegate.kernels import nufft

TOLERANCES = [(np.float32, 1e-4), (np.float64, 1e-9)]


def make(dtype, size=9, count=50, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-np.pi, np.pi, (3, count)).astype(dtype)
    volume = (rng.standard_normal((size,) * 3) + 1j * rng.standard_normal((size,) * 3)).astype(
        np.result_type(dtype, np.complex64)
    )
    return points, volume


def direct(volume, points):
    axis = np.arange(len(volume)) - len(volume) // 2
    x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    return volume.ravel() @ np.exp(-1j * (x.T @ points.astype(np.float64)))


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("threads", [1, 2])
def test_forward_is_the_fourier_sum(dtype, tolerance, threads):
    points, volume = make(dtype)
    found = nufft.forward(volume, points, tolerance=tolerance, threads=threads)
    expected = direct(volume, points)
    assert found.dtype == volume.dtype
    assert np.linalg.norm(found - expected) < 10 * tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_forward_and_adjoint_are_a_pair(dtype, tolerance):
    points, volume = make(dtype, seed=1)
    strengths = make(dtype, size=9, seed=2)[1].ravel()[: points.shape[1]].copy()
    left = np.vdot(strengths, nufft.forward(volume, points, tolerance=tolerance, threads=2))
    right = np.vdot(nufft.adjoint(strengths, points, len(volume), tolerance=tolerance), volume)
    assert abs(left - right) < 10 * tolerance * np.linalg.norm(strengths) * np.linalg.norm(volume)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_several_volumes_are_several_transforms(dtype, tolerance):
    points, first = make(dtype)
    second = make(dtype, seed=3)[1]
    both = nufft.forward(np.stack([first, second]), points, tolerance=tolerance, threads=2)
    for found, volume in zip(both, (first, second), strict=True):
        np.testing.assert_allclose(
            found,
            nufft.forward(volume, points, tolerance=tolerance, threads=2),
            atol=10 * tolerance * np.abs(both).max(),
        )


def test_between_points_is_the_fourier_sum():
    rng = np.random.default_rng(4)
    sources, targets = rng.uniform(-30, 30, (3, 40)), rng.uniform(-0.8, 0.8, (3, 60))
    strengths = rng.standard_normal((2, 40)).astype(np.complex128)
    found = nufft.between_points(sources, strengths, targets, tolerance=1e-9, threads=1)
    np.testing.assert_allclose(found, strengths @ np.exp(-1j * sources.T @ targets), atol=1e-6)


def test_pictures_are_the_fourier_sum():
    rng = np.random.default_rng(5)
    points = rng.uniform(-1.5, 1.5, (2, 30)).astype(np.float32)
    strengths = (rng.standard_normal((3, 30)) + 1j * rng.standard_normal((3, 30))).astype(np.complex64)
    found = nufft.adjoint_pictures(strengths, points, 7, tolerance=1e-5, threads=2)
    axis = np.arange(7) - 3
    phase = axis[:, None, None] * points[0] + axis[None, :, None] * points[1]
    np.testing.assert_allclose(found, np.einsum("np,xyp->nxy", strengths, np.exp(1j * phase)), atol=1e-3)


def test_more_threads_than_openmp_allows_are_taken_without_a_word():
    code = (
        "import numpy as np\n"
        "from spilegate.kernels import nufft\n"
        "points = np.zeros((3, nufft.FEW_POINTS))\n"
        "nufft.forward(np.zeros((9, 9, 9), complex), points, tolerance=1e-4, threads=2)\n"
        "nufft.between_points(points, points[0] + 0j, points, tolerance=1e-4, threads=2)\n"
        "nufft.adjoint_pictures(np.zeros((4, 9), 'c8'), np.zeros((2, 9), 'f4'), 9, tolerance=1e-4, threads=2)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("", "")
