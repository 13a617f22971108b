"""Fourier transforms of volumes, with arrays of other modules against NumPy's, and forward against adjoint."""

import array_api_strict
import numpy as np
import pytest
import scipy.fft
from volumes import assert_close, assert_same

from spilegate.backend import to_host
from spilegate.geometry.fourier import fourier_resize
from spilegate.kernels import fft, slabs

SHAPES = [(9, 9, 9), (2, 27, 27, 27), (1, 3, 3, 3), (2, 3, 16, 12, 15)]
TOLERANCES = [(np.float32, 2e-6), (np.float64, 1e-14)]


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
