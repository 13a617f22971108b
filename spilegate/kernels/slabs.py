"""FFTs over the last three axes of cuPyNumeric arrays, split into slabs over processors.

cuPyNumeric has no FFT on CPUs, and on GPUs splits only complex transforms over the axes left untransformed. So the
planes (y, z) are transformed in slabs along x, and the lines x in slabs along y.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft

from spilegate.backend import Array, array_module
from spilegate.kernels import stores

AXES = (-3, -2, -1)
# A task is told the transform by its place here.
PLANES = ("rfftn", "irfftn", "fftn", "ifftn")
LINES = ("fft", "ifft")


def rfftn(volumes: Array, s: tuple[int, int, int] | None = None, axes: tuple[int, int, int] = AXES) -> Array:
    """Transform real volumes; s pads them with zeros, and the zeros are not transformed where that can be saved."""
    x, y, z = _shape(volumes, s, axes)
    planes = _planes("rfftn", volumes, (y, z // 2 + 1), z, np.result_type(volumes.dtype, np.complex64))
    return _lines("fft", planes, x, planes if x == volumes.shape[-3] else None)


def irfftn(
    spectra: Array, s: tuple[int, int, int], axes: tuple[int, int, int] = AXES, *, keep: int | None = None
) -> Array:
    """Invert `rfftn` to volumes of the shape s, which the spectra have to fit; see `fft.irfftn` for keep."""
    x, y, z = _shape(spectra, s, axes)
    if spectra.shape[-3:] != (x, y, z // 2 + 1):
        raise ValueError(f"spectra of {spectra.shape[-3:]} samples do not belong to volumes of {s} voxels")
    planes = _lines("ifft", spectra, x)[..., :keep, :, :]
    return _planes("irfftn", planes, (keep or y, keep or z), z, np.zeros(0, spectra.dtype).real.dtype)


def fftn(volumes: Array, axes: tuple[int, int, int] = AXES) -> Array:
    """Transform real or complex volumes."""
    x, y, z = _shape(volumes, None, axes)
    planes = _planes("fftn", volumes, (y, z), z, np.result_type(volumes.dtype, np.complex64))
    return _lines("fft", planes, x, planes)


def ifftn(spectra: Array, axes: tuple[int, int, int] = AXES) -> Array:
    """Invert `fftn`."""
    x, y, z = _shape(spectra, None, axes)
    lines = _lines("ifft", spectra, x)
    return _planes("ifftn", lines, (y, z), z, lines.dtype)


def _shape(array: Array, s: tuple[int, int, int] | None, axes: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape of the volumes to be transformed."""
    if axes != AXES:
        raise ValueError(f"only the last three axes are transformed, got {axes}")
    x, y, z = array.shape[-3:] if s is None else s
    return x, y, z


def _planes(kind: str, source: Array, shape: tuple[int, int], size: int, dtype: Any) -> Array:
    """Transform the last two axes to `shape` in slabs along x; size : voxels along z."""
    xp = array_module(source)
    if kind in ("fftn", "ifftn") and stores.on_gpus():
        return getattr(xp.fft, kind)(source.astype(dtype), axes=(-2, -1))
    target = xp.empty((*source.shape[:-2], *shape), dtype=dtype)
    _launch(_planes_task(), source, target, -3, PLANES.index(kind), size)
    return target


def _lines(kind: str, source: Array, size: int, target: Array | None = None) -> Array:
    """Transform lines along x, padded with zeros to `size`, in slabs along y; into `target` if there is one."""
    xp, dtype = array_module(source), np.result_type(source.dtype, np.complex64)
    if stores.on_gpus():
        return getattr(xp.fft, kind)(source.astype(dtype), n=size, axis=-3)
    if target is None:
        target = xp.empty((*source.shape[:-3], size, *source.shape[-2:]), dtype=dtype)
    _launch(_lines_task(), source, target, -2, LINES.index(kind))
    return target


def _launch(task: tuple[Any, Any], source: Array, target: Array, axis: int, *scalars: int) -> None:
    """Run a task on every slab along an axis that is as long in the source as in the target."""
    from legate.core import get_legate_runtime, types

    stores.collect_garbage()
    thickness = -(-target.shape[axis] // stores.processors())

    def slabs(array: Array) -> Any:
        shape = list(array.shape)
        shape[axis] = thickness
        return stores.store_of(array).partition_by_tiling(shape)

    parts = slabs(target)
    launch = get_legate_runtime().create_manual_task(*task, parts.color_shape)
    launch.add_input(slabs(source))
    launch.add_output(parts)
    for scalar in scalars:
        launch.add_scalar_arg(scalar, types.int64)
    launch.execute()


@lru_cache(maxsize=1)
def _planes_task() -> tuple[Any, Any]:
    """Register `transform_planes`."""
    return stores.register(transform_planes, 1, (int, int))


@lru_cache(maxsize=1)
def _lines_task() -> tuple[Any, Any]:
    """Register `transform_lines`."""
    return stores.register(transform_lines, 1, (int,))


def transform_planes(xp: Any, sources: list[Array], target: Array, kind: int, size: int) -> None:
    """Transform the planes of a slab, padded with zeros before or cut after.

    kind : the place of the transform in PLANES; size : voxels along z
    """
    source, (rows, columns) = sources[0], target.shape[-2:]
    library = scipy.fft if xp is np else xp.fft
    planes = getattr(library, PLANES[kind])(source, s=(max(source.shape[-2], rows), size), axes=(-2, -1))
    target[...] = planes[..., :rows, :columns]


def transform_lines(xp: Any, sources: list[Array], target: Array, kind: int) -> None:
    """Transform the lines of a slab, on CPUs; kind : the place of the transform in LINES.

    target : may be the source itself, which saves the memory and the time of a copy
    """
    source = sources[0]
    if not xp.may_share_memory(source, target):
        target[..., : source.shape[-3], :, :] = source
        target[..., source.shape[-3] :, :, :] = 0
    result = getattr(scipy.fft, LINES[kind])(target, axis=-3, overwrite_x=True)
    if not xp.may_share_memory(result, target):
        target[...] = result
