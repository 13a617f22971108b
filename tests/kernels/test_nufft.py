"""NUFFTs against direct sums, and every forward transform against its adjoint."""

import os
import subprocess
import sys

import numpy as np
import pytest

from spilegate.kernels import fft, nufft, plans

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
        "points = np.zeros((3, 100_000))\n"
        "nufft.forward(np.zeros((9, 9, 9), complex), points, tolerance=1e-4, threads=2)\n"
        "nufft.between_points(points, points[0] + 0j, points, tolerance=1e-4, threads=2)\n"
        "nufft.adjoint_pictures(np.zeros((4, 9), 'c8'), np.zeros((2, 9), 'f4'), 9, tolerance=1e-4, threads=2)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("", "")


THREADS = (1, 2, 3, 5, 8)
SIZES = [(11, np.float32, 1e-4), (21, np.float32, 1e-4), (35, np.float64, 1e-6), (45, np.float32, 1e-4)]


def same_bits(work):
    """Fail unless a function of the number of threads returns the same bits for any number, and more than zeros."""
    expected = work(1)
    assert np.abs(expected).max() > 0
    for threads in THREADS[1:]:
        np.testing.assert_array_equal(work(threads), expected, err_msg=f"{threads} threads")


@pytest.mark.parametrize(("size", "dtype", "tolerance"), SIZES)
def test_transforms_have_the_same_bits_for_any_number_of_threads(size, dtype, tolerance):
    points, volume = make(dtype, size, 300_001)
    both = np.stack([volume, volume[::-1]])
    same_bits(lambda threads: nufft.forward(volume, points, tolerance=tolerance, threads=threads))
    same_bits(lambda threads: nufft.forward(both, points, tolerance=tolerance, threads=threads))
    # One volume of two, from the preparation of both.
    transform = nufft.Transform(both, tolerance=tolerance, threads=3)
    first = transform.at(points, threads=2, first=1)
    np.testing.assert_array_equal(first[0], nufft.forward(volume, points, tolerance=tolerance, threads=1))


def test_point_sources_have_the_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(nufft, "BLOCK_TARGETS", 30_000)
    rng = np.random.default_rng(8)
    sources, targets = rng.uniform(-30, 30, (3, 4000)), rng.uniform(-0.8, 0.8, (3, 100_000))
    strengths = rng.standard_normal((2, 4000)).astype(np.complex128)
    same_bits(lambda threads: nufft.between_points(sources, strengths, targets, tolerance=1e-6, threads=threads))


def test_pictures_have_the_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(9)
    points = rng.uniform(-1.5, 1.5, (2, 4000)).astype(np.float32)
    strengths = (rng.standard_normal((7, 4000)) + 1j * rng.standard_normal((7, 4000))).astype(np.complex64)
    same_bits(lambda threads: nufft.adjoint_pictures(strengths, points, 65, tolerance=1e-4, threads=threads))


@pytest.mark.parametrize("size", [48, 45])
def test_ffts_have_the_same_bits_for_any_number_of_threads(size):
    rng = np.random.default_rng(10)
    volumes = rng.standard_normal((2, size, size, size)).astype(np.float32)
    spectra = fft.rfftn(volumes, threads=1)
    for work in (
        lambda threads: fft.rfftn(volumes, threads=threads, size=64),
        lambda threads: fft.irfftn(spectra, size, threads=threads),
        lambda threads: fft.fftn(volumes, threads=threads),
        lambda threads: fft.ifftn(volumes + 0j, threads=threads),
    ):
        same_bits(work)


def test_sums_onto_large_volumes_are_as_exact_on_their_coarser_grid(monkeypatch):
    points, volume = make(np.float64, 11)
    strengths = volume.ravel()[: points.shape[1]].copy()
    fine = nufft.adjoint(strengths, points, 11, tolerance=1e-6)
    monkeypatch.setattr(plans, "COARSE_SIZE", 10)
    plans._idle.cache_clear()
    coarse = nufft.adjoint(strengths, points, 11, tolerance=1e-6)
    plans._idle.cache_clear()
    axis = np.arange(11) - 5
    x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    exact = (np.exp(1j * (x.T @ points)) @ strengths).reshape(11, 11, 11)
    for found in (fine, coarse):
        assert np.linalg.norm(found - exact) < 5e-6 * np.linalg.norm(exact)
    assert not np.array_equal(fine, coarse)
    assert plans.grid_bytes(11) < 16 * (11**3 + 22**3)
