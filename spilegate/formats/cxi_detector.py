"""What a CXI file says of its detector: the beam's centre, positions of pixels, a background (CXI file format 1.6)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats.facts import DISTANCES, PIXELS, Metadata
from spilegate.records import Float64


def centre(
    entry: str, detector: str, pixel: tuple[float | None, float | None], metadata: Metadata
) -> tuple[float, float] | None:
    """Return (row, column) of the beam, in pixels, pixel centres being whole numbers; None if the file has none.

    detector : the group that describes it; pixel : height and width [m], None if not known
    """
    rows, columns = (metadata.number([f"{detector}/beam_center_{axis}"], (1e-9, 2.0)) for axis in ("y", "x"))
    if rows is not None and columns is not None and pixel[0] and pixel[1]:
        # In metres, from the corner of the first pixel.
        return rows / pixel[0] - 0.5, columns / pixel[1] - 0.5
    rows, columns = (metadata.number([f"detector/c{axis}"], (-1e5, 1e5)) for axis in ("y", "x"))
    if rows is not None and columns is not None:
        return rows, columns
    found: Any = metadata.file.get(f"{entry}/image_1/image_center")
    if isinstance(found, h5py.Dataset) and found.dtype.kind in "iuf" and found.size >= 2:
        x, y = found[()].astype(np.float64).ravel()[:2]
        if np.isfinite([x, y]).all():
            return float(y), float(x)
    return None


def positions(
    detector: str, panels: tuple[int, int, int], distance: float | None, metadata: Metadata
) -> Float64 | None:
    """Return the positions of pixels (panels, y, x, 3) [m], None if the file does not have them.

    Of every one as a map, or of every module's corner with the vectors from pixel to pixel. distance : [m], None if not
    known; where positions have none along the beam it is added.
    Raises InputError for maps, corners or vectors that do not belong to panels of that shape.
    """
    file, path = metadata.file, metadata.path
    found: Any = file.get(f"{detector}/xyz_map")
    if isinstance(found, h5py.Dataset):
        return _map(found, path, panels, distance)
    corner: Any = file.get(f"{detector}/corner_position", file.get(f"{detector}/corner_positions"))
    if not isinstance(corner, h5py.Dataset):
        return None
    corners = _of_modules(corner, path, panels[0], (3,))
    vectors: Any = file.get(f"{detector}/basis_vectors")
    if isinstance(vectors, h5py.Dataset):
        transposed = vectors.shape[-2:] == (3, 2)
        basis = _of_modules(vectors, path, panels[0], (3, 2) if transposed else (2, 3))
        basis = basis.swapaxes(-1, -2) if transposed else basis
    else:
        sizes = [metadata.number([f"{detector}/{axis}_pixel_size"], PIXELS) for axis in ("y", "x")]
        if sizes[0] is None or sizes[1] is None:
            return None
        basis = np.broadcast_to([[0.0, -sizes[0], 0.0], [-sizes[1], 0.0, 0.0]], (panels[0], 2, 3))
    lengths = np.linalg.norm(basis, axis=-1)
    if not ((lengths >= PIXELS[0]) & (lengths <= PIXELS[1])).all():
        raise InputError(
            f"{path}: dataset {f'{detector}/basis_vectors'!r}: pixels of {lengths.min():.3g} to {lengths.max():.3g} m; "
            f"expected {PIXELS[0]:g} to {PIXELS[1]:g}, vectors along rows and columns, in metres"
        )
    if not (corners[..., 2] > 0).all() and distance is not None:
        corners = corners.copy()
        corners[..., 2] += distance
    row, column = np.indices(panels[1:], np.float64) + 0.5
    return np.asarray(
        corners[:, None, None]
        + row[None, ..., None] * basis[:, None, None, 0]
        + column[None, ..., None] * basis[:, None, None, 1]
    )


def _map(found: h5py.Dataset, path: Path, panels: tuple[int, int, int], distance: float | None) -> Float64:
    """Return positions of a map of them (3, panels, y, x)."""
    where = f"{path}: dataset {found.name!r}"
    if found.dtype.kind not in "iuf" or found.size != 3 * math.prod(panels) or found.shape[0] != 3:
        raise InputError(
            f"{where}: {found.dtype} {found.shape}; expected {(3, *panels)}, x y z of every pixel in metres"
        )
    result: Float64 = np.moveaxis(found[()].astype(np.float64).reshape(3, *panels), 0, -1).copy()
    finite = np.isfinite(result).all(-1)
    if distance is not None and finite.any() and not (result[finite, 2] > DISTANCES[0]).any():
        result[..., 2] += distance
    return result


def _of_modules(found: h5py.Dataset, path: Path, modules: int, shape: tuple[int, ...]) -> Float64:
    """Return what a file has of every module (modules, *shape), or of one and all; that of the first pattern."""
    values = found[()].astype(np.float64) if found.dtype.kind in "iuf" else np.zeros(0)
    each = math.prod(shape)
    if values.size and values.shape[-len(shape) :] == shape and values.size % each == 0:
        values = values.reshape(-1, *shape)
        if len(values) > modules and len(values) % modules == 0:
            stacked = values.reshape(-1, modules, *shape)
            if np.abs(stacked - stacked[:1]).max() > 1e-6:
                raise InputError(
                    f"{path}: dataset {found.name!r}: differs from pattern to pattern; expected a detector that does "
                    "not move; write the patterns of each place into a file of their own"
                )
            values = stacked[0]
        if len(values) in (1, modules) and np.isfinite(values).all():
            return np.broadcast_to(values, (modules, *shape))
    raise InputError(f"{path}: dataset {found.name!r}: shape {found.shape}; expected {(modules, *shape)}, in metres")


def background(detector: str, panels: tuple[int, int, int], metadata: Metadata) -> Float64 | None:
    """Return the background of hits (panels, y, x) [as the patterns], None if the file has none, or several.

    Raises InputError if it is of another shape.
    """
    path = metadata.path
    found: Any = metadata.file.get(f"{detector}/background")
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iuf" or not found.size:
        return None
    count = found.size // math.prod(panels)
    if found.size != count * math.prod(panels):
        raise InputError(f"{path}: dataset {found.name!r}: shape {found.shape}; expected {panels}")
    if count != 1:
        metadata.remarks.append(f"{found.name} has {count} backgrounds: none is used")
        return None
    metadata.remarks.append(f"the background {found.name} is used; --set prepare.background=none leaves it out")
    return np.asarray(found[()].astype(np.float64).reshape(panels))
