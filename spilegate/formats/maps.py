"""Volumes as MRC files: order (z, y, x) on disk, mode 2, the centre voxel at the origin of coordinates."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import mrcfile
import numpy as np
from mrcfile.mrcinterpreter import MrcInterpreter
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.records import Float32

EXPECTED = "a cubic map in MRC/CCP4 format"
# Relative difference of a voxel's edges that is rounding of the header's float32 values and no more.
EDGE_TOLERANCE = 1e-3


def write_map(
    path: Path, volume: Float32, voxel_angstrom: float, *, force: bool = False, label: str = "spilegate"
) -> None:
    """Write a volume (M, M, M) float32 in (x, y, z) index order; the file appears whole or not at all.

    path : the file; volume : centre voxel at M // 2, any unit; force : replace a file that is there
    voxel_angstrom : edge of a voxel, in whatever unit the map has; MRC calls it angstrom
    label : what the map is, in ASCII; the header takes 80 letters
    The header puts the centre voxel M // 2 at 0, by its origin and by its start indices; programs read either.
    The format: A. Cheng et al., J. Struct. Biol. 192:146 (2015), MRC2014.

    Raises InputError if the file exists and `force` is not set, or cannot be written.

    Examples
    --------
    >>> sg.write_map(folder / "mine.mrc", result.density, result.voxel_angstrom, force=True)
    """
    path = Path(path)
    centre = volume.shape[0] // 2
    files.check_target(path, force=force)
    # Bytes in memory, that it is `files` who writes; the package documents these two steps for streams of one's own.
    mrc, stream = MrcInterpreter(), BytesIO()
    mrc._create_default_attributes()
    mrc._iostream = stream
    mrc.set_data(np.ascontiguousarray(volume.transpose(2, 1, 0), np.float32))
    mrc.voxel_size = voxel_angstrom
    mrc.header.origin = (-centre * voxel_angstrom,) * 3
    mrc.nstart = -centre
    mrc.add_label(label[:80])
    mrc.flush()
    files.replace(path, stream.getvalue(), force=force)


def read_map(path: Path) -> tuple[Float32, float]:
    """Read a map; return it as (M, M, M) float32 in (x, y, z) index order and the edge of its voxels [angstrom].

    path : the file, of any order of axes and any real mode, compressed or not.
    Raises InputError for a missing or damaged file, another format, a map or voxels that are not cubic.

    Examples
    --------
    >>> sg.write_map(folder / "density.mrc", result.density, result.voxel_angstrom, force=True)
    >>> density, voxel_angstrom = sg.read_map(folder / "density.mrc")
    >>> bool((density == result.density).all()), round(voxel_angstrom, 1)
    (True, 8.3)
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: not found; expected {EXPECTED}; check the path")
    try:
        # A label too many, or bytes after the last voxel, are no one's concern; what matters raises.
        with warnings.catch_warnings(action="ignore"), mrcfile.open(path) as mrc:
            data, header, edges = np.array(mrc.data), mrc.header, mrc.voxel_size.tolist()
            order = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as MRC ({reason}); expected {EXPECTED}") from error
    if data.ndim != 3 or len(set(data.shape)) != 1:
        raise InputError(f"{path}: shape {data.shape}; expected {EXPECTED}; pad or cut it")
    if data.dtype.kind not in "iuf" or not np.isfinite(data).all():
        raise InputError(f"{path}: {data.dtype} with values that are not real numbers; expected {EXPECTED}")
    low, high = min(edges), max(edges)
    if not (low > 0 and high - low <= EDGE_TOLERANCE * high):
        raise InputError(f"{path}: voxel edges {edges} angstrom; expected positive, equal ones; correct the header")
    return _to_xyz(data, order), float(edges[0])


def _to_xyz(data: NDArray[np.generic], order: list[int]) -> Float32:
    """Return data whose axes are `order` (1 = x, 2 = y, 3 = z; if unset, z, y, x) as float32 in (x, y, z) order."""
    if sorted(order) != [1, 2, 3]:
        order = [3, 2, 1]
    return np.ascontiguousarray(data.transpose([order.index(axis) for axis in (1, 2, 3)]), np.float32)
