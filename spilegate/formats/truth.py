"""What a simulated file says of its truth, written and read beside the patterns; a reconstruction never looks at it.

`orientations` (N_IMG, 1, 4) or (N_IMG, 4), (w, x, y, z), particle to laboratory; `volume` (M, M, M), ours with the
attribute `voxel_angstrom`; ours also the group `truth`: `state` (N_IMG), -1 for junk, `scale` (N_IMG), `background`
(panels, y, x) [counts per pattern], `volumes` (K, M, M, M) with the attribute `voxel_angstrom`, `hot_pixels` (n, 2);
for every pattern `kind`, 0 for a single particle, with the attribute `names`, `size`, `centre` (N_IMG, 2) [pixels],
`wavelength`, `amplitude`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.records import Bool, Float32, Float64, Int64

GROUP = "truth"
UNIT = "electrons/angstrom^3"
# What is true of every pattern, and what it means.
OF_PATTERNS = {
    "state": "state of the particle, -1 for junk",
    "scale": "relative fluence, mean 1",
    "kind": "what the pattern shows, by its number in the attribute names",
    "size": "size of the particle over that of volumes",
    "centre": "how far the beam is off the detector's middle: row, column [pixels]",
    "wavelength": "over the nominal one",
    "amplitude": "of the background, mean 1",
}
KINDS = ("single", "doublet", "aggregate", "droplet", "blank", "stray", "flat")


@dataclass(frozen=True)
class Truth:
    """What a simulation knows and a reconstruction must not; None for what the file does not hold.

    quaternions : (N_IMG, 4) float64, unit, (w, x, y, z), particle to laboratory
    volume : (M, M, M) float32 in (x, y, z) index order, centre at M // 2; of the first state
    voxel_angstrom : edge of its voxels, and of those of `volumes` [angstrom]
    state : (N_IMG,) int64, the particle's state in every pattern, -1 for junk
    scale : (N_IMG,) float64, > 0, relative fluence of every pattern
    background : (panels, y, x) float64 [counts per pattern], mean background
    volumes : (K, M, M, M) float32, one per state
    hot_pixels : (n, 2) int64, (pattern, pixel) of every value that is hot in a single pattern
    kind : (N_IMG,) int64, what every pattern shows, of KINDS, 0 for a single particle
    size : (N_IMG,) float64, > 0, the particle's size over that of `volumes`
    centre : (N_IMG, 2) float64 [pixels], how far the beam is off the detector's middle, row and column
    wavelength : (N_IMG,) float64, > 0, over the nominal one
    amplitude : (N_IMG,) float64, >= 0, of the background in every pattern
    """

    quaternions: Float64 | None
    volume: Float32 | None
    voxel_angstrom: float | None
    state: Int64 | None = None
    scale: Float64 | None = None
    background: Float64 | None = None
    volumes: Float32 | None = None
    hot_pixels: Int64 | None = None
    kind: Int64 | None = None
    size: Float64 | None = None
    centre: Float64 | None = None
    wavelength: Float64 | None = None
    amplitude: Float64 | None = None


class Hidden(Protocol):
    """What `write` needs of a simulation beside orientations and volume; see `simulation.experiment.Hidden`."""

    @property
    def state(self) -> Int64:
        """States, (N_IMG,)."""

    @property
    def scale(self) -> Float64:
        """Fluences, (N_IMG,)."""

    @property
    def kind(self) -> Int64:
        """What patterns show, (N_IMG,)."""

    @property
    def size(self) -> Float64:
        """Relative sizes, (N_IMG,)."""

    @property
    def centre(self) -> Float64:
        """How far the beam is off, (N_IMG, 2)."""

    @property
    def wavelength(self) -> Float64:
        """Relative wavelengths, (N_IMG,)."""

    @property
    def amplitude(self) -> Float64:
        """Amplitudes of the background, (N_IMG,)."""

    @property
    def background(self) -> Float64:
        """Background, (panels, y, x)."""

    @property
    def volumes(self) -> Float32:
        """Densities, (K, M, M, M)."""

    @property
    def hot_pixels(self) -> Int64 | None:
        """Pattern and pixel, (n, 2), of values that are hot."""


def names_in(file: h5py.File) -> list[str]:
    """Return the names of what a file knows of the truth."""
    group = file.get(GROUP)
    found = [name for name in ("orientations", "volume") if name in file]
    if isinstance(group, h5py.Group):
        names = (*OF_PATTERNS, "background", "volumes", "hot_pixels")
        found += [f"{GROUP}/{name}" for name in names if name in group]
    return found


def write(file: h5py.File, quaternions: Float64, volume: Float32, voxel_angstrom: float, hidden: Hidden | None) -> None:
    """Write orientations, volume and, if any, what else is true."""
    orientations = file.create_dataset("orientations", data=quaternions[:, None])
    orientations.attrs["convention"] = "unit quaternions (w, x, y, z), particle to laboratory"
    written = [file.create_dataset("volume", data=volume)]
    if hidden is not None:
        group = file.create_group(GROUP)
        for name, meaning in OF_PATTERNS.items():
            group.create_dataset(name, data=getattr(hidden, name)).attrs["meaning"] = meaning
        group["kind"].attrs["names"] = list(KINDS)
        group.create_dataset("background", data=hidden.background).attrs["unit"] = "counts per pattern"
        written.append(group.create_dataset("volumes", data=hidden.volumes))
        if hidden.hot_pixels is not None:
            group.create_dataset("hot_pixels", data=hidden.hot_pixels).attrs["meaning"] = "pattern, pixel"
    for each in written:
        each.attrs["voxel_angstrom"] = voxel_angstrom
        each.attrs["unit"] = UNIT


def read(file: h5py.File, path: Path, panel_shape: tuple[int, int, int], count: int) -> Truth:
    """Return what a file of `count` patterns knows of the truth.

    Raises InputError for anything that is there but makes no sense.
    """
    volume, voxel = _volumes(file, path, "volume", 3, "the true density, shape (M, M, M)")
    volumes, voxel_of_volumes = _volumes(file, path, f"{GROUP}/volumes", 4, "true densities, shape (K, M, M, M)")
    if None not in (voxel, voxel_of_volumes) and voxel != voxel_of_volumes:
        raise InputError(
            f"{path}: dataset '{GROUP}/volumes': voxel_angstrom {voxel_of_volumes}; expected {voxel}, as 'volume' has"
        )
    state = _numbers(file, path, "state", (count,), "the state of every pattern, from 0, -1 for junk", _is_state)
    scale = _numbers(file, path, "scale", (count,), "the fluence of every pattern, positive", lambda values: values > 0)
    background = _numbers(
        file, path, "background", panel_shape, "mean counts per pattern, not negative", lambda values: values >= 0
    )
    kind = _numbers(file, path, "kind", (count,), f"what patterns show, below {len(KINDS)}", _is_kind)
    size, wavelength, amplitude = (
        _numbers(file, path, name, (count,), f"{OF_PATTERNS[name]}, positive", lambda values: values > 0)
        for name in ("size", "wavelength", "amplitude")
    )
    centre = _numbers(file, path, "centre", (count, 2), OF_PATTERNS["centre"], np.isfinite)
    if state is not None and volumes is not None and state.max() >= len(volumes):
        raise InputError(
            f"{path}: dataset '{GROUP}/state': state {state.max():g}; expected less than {len(volumes)}, the number of "
            f"densities in '{GROUP}/volumes'"
        )
    return Truth(
        _quaternions(file, path, count) if files.holds(file, "orientations") else None,
        volume,
        voxel_of_volumes if voxel is None else voxel,
        None if state is None else state.astype(np.int64),
        scale,
        background,
        volumes,
        _hot_pixels(file, path, count, math.prod(panel_shape)),
        None if kind is None else kind.astype(np.int64),
        size,
        centre,
        wavelength,
        amplitude,
    )


def _is_state(values: Float64) -> Bool:
    """Tell which values are numbers of states, or -1."""
    good: Bool = (values >= -1) & (values % 1 == 0)
    return good


def _is_kind(values: Float64) -> Bool:
    """Tell which values are numbers of kinds."""
    good: Bool = (values >= 0) & (values < len(KINDS)) & (values % 1 == 0)
    return good


def _numbers(file: h5py.File, path: Path, name: str, shape: tuple[int, ...], meaning: str, good: Any) -> Float64 | None:
    """Return a dataset of the truth's group, float64, None if it is not there; its values finite and `good`."""
    name = f"{GROUP}/{name}"
    if not files.holds(file, name):
        return None
    expected = f"{meaning}, shape {shape}"
    found = files.dataset(file, name, path, expected)
    if found.shape != shape:
        raise InputError(f"{path}: dataset {name!r}: shape {found.shape}; expected {expected}")
    values: Float64 = found[()].astype(np.float64)
    wrong = ~np.isfinite(values)
    wrong[~wrong] = ~good(values[~wrong])
    if wrong.any():
        raise InputError(
            f"{path}: dataset {name!r}: {int(wrong.sum())} values such as {values[wrong][0]:g}; expected {expected}"
        )
    return values


def _hot_pixels(file: h5py.File, path: Path, count: int, n_pixel: int) -> Int64 | None:
    """Return the values known to be hot, None if the file does not say."""
    name, expected = f"{GROUP}/hot_pixels", f"(pattern, pixel), shape (n, 2), below {count} and {n_pixel}"
    if not files.holds(file, name):
        return None
    found = files.dataset(file, name, path, expected)
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype.kind not in "iu":
        raise InputError(f"{path}: dataset {name!r}: {found.dtype}, shape {found.shape}; expected {expected}")
    values: Int64 = found[()].astype(np.int64)
    if ((values < 0) | (values >= [count, n_pixel])).any():
        raise InputError(f"{path}: dataset {name!r}: values up to {values.max(axis=0).tolist()}; expected {expected}")
    return values


def _volumes(file: h5py.File, path: Path, name: str, axes: int, expected: str) -> tuple[Float32 | None, float | None]:
    """Return true densities and their voxel [angstrom], None where not known."""
    if not files.holds(file, name):
        return None, None
    found = files.dataset(file, name, path, expected)
    if found.ndim != axes or len(set(found.shape[-3:])) != 1 or 0 in found.shape:
        raise InputError(f"{path}: dataset {name!r}: shape {found.shape}; expected {expected}")
    values = found[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: dataset {name!r}: values that are not finite; expected {expected}")
    voxel = found.attrs.get("voxel_angstrom")
    return values, None if voxel is None else float(voxel)


def _quaternions(file: h5py.File, path: Path, count: int) -> Float64:
    """Return the true orientations, (N_IMG, 4), normalised."""
    expected = f"unit quaternions, shape ({count}, 1, 4) or ({count}, 4), one for each pattern"
    found = files.dataset(file, "orientations", path, expected)
    if found.shape not in {(count, 1, 4), (count, 4)}:
        raise InputError(f"{path}: dataset 'orientations': shape {found.shape}; expected {expected}")
    values = found[()].astype(np.float64).reshape(count, 4)
    norm = np.linalg.norm(values, axis=-1, keepdims=True)
    if not (np.abs(norm - 1) < 1e-3).all():
        raise InputError(f"{path}: dataset 'orientations': norms other than 1; expected {expected}")
    result: Float64 = values / norm
    return result
