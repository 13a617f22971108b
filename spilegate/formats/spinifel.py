"""SpiniFEL's HDF5 layout, read from whoever wrote it (SpiniFEL, skopi, ourselves) and written with the truth.

Datasets: `intensities` (N_IMG, panels, y, x); `pixel_position_reciprocal` (panels, y, x, 3) or (3, panels, y, x) [1/m];
`pixel_index_map` (panels, y, x, 2), optional; the truth, optional: `orientations` (N_IMG, 1, 4) or (N_IMG, 4),
(w, x, y, z), particle to laboratory; `volume` (M, M, M). Ours has the volume's `voxel_angstrom` as its attribute, and
may have `mask` (panels, y, x), levels 0 to 2, and `background` (panels, y, x) [counts per pattern].
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files, masks, pixels, truth
from spilegate.formats.faults import EMPTY, faults_of, problem_of
from spilegate.formats.truth import Truth
from spilegate.kernels.events import events
from spilegate.kernels.workers import Here, Rows, Threads, Workers, tiles
from spilegate.state import NEVER, USE, Bool, Dataset, Float32, Float64, Int64, UInt8

EXPECTED = "patterns in SpiniFEL's HDF5 layout"
INTENSITIES = "intensities"
# Fewer patterns than this leave most of reciprocal space unmeasured at any resolution.
FEWEST_PATTERNS = 20
# Patterns are read in blocks of about this size, so that no second copy of all of them ever exists.
BLOCK_BYTES = 32 << 20
# Patterns are held as lists of photons where these are shorter than the patterns by this factor.
SPARSE_GAIN = 2


class Measured(Protocol):
    """What `write` needs of a simulation; see `spilegate.simulation.experiment.Simulation` for shapes and units."""

    @property
    def intensities(self) -> Float32:
        """Patterns, (N_IMG, panels, y, x)."""

    @property
    def pixel_position(self) -> Float64:
        """Pixel positions, (panels, y, x, 3) [1/angstrom]."""

    @property
    def pixel_index_map(self) -> Int64:
        """Places in the picture, (panels, y, x, 2)."""

    @property
    def quaternions(self) -> Float64:
        """Orientations, (N_IMG, 4)."""

    @property
    def volume(self) -> Float32:
        """Density, (M, M, M)."""

    @property
    def voxel_angstrom(self) -> float:
        """Edge of its voxels."""

    @property
    def wavelength_angstrom(self) -> float:
        """Wavelength of the beam."""

    @property
    def photons(self) -> float | None:
        """Mean photons per pattern, None for intensities without noise."""

    @property
    def seed(self) -> int:
        """Seed of orientations and noise."""

    @property
    def particle(self) -> str:
        """The particle's name."""

    @property
    def mask(self) -> UInt8 | None:
        """Levels of the pixels, (panels, y, x)."""

    @property
    def background(self) -> Float64 | None:
        """Background known to the experimenter, (panels, y, x)."""

    @property
    def hidden(self) -> truth.Hidden | None:
        """What else is true."""


def read(
    path: Path,
    *,
    binning: int = 1,
    q_min: float = 0.0,
    q_max: float | None = None,
    workers: Workers | None = None,
) -> Dataset:
    """Read patterns and where their pixels lie; the truth, if any, is not looked at.

    binning : blocks of binning x binning pixels are summed into one
    q_min, q_max : pixels with |q| outside get level 2 in the mask [1/angstrom]
    workers : every one of them reads its own patterns; this process's one thread if left out

    Pixels of level 2 may hold anything in the file; they are set to 0.
    Raises InputError for anything that cannot be used: file, datasets, shapes, types, values, options.
    """
    path = Path(path)
    workers = workers or Threads(1)
    with files.open_hdf5(path, EXPECTED) as file:
        images = _intensities(file, path)
        if len(images) < FEWEST_PATTERNS:
            raise InputError(f"{path}: {len(images)} patterns; expected at least {FEWEST_PATTERNS}; merge more runs")
        shape = pixels.binned_shape(images.shape[1:], binning, path)
        raw_q, wavelength = pixels.read_positions(file, path, images.shape[1:])
        index_map = pixels.bin_index_map(pixels.read_index_map(file, path, images.shape[1:]), binning)
        q = pixels.bin_positions(raw_q, binning, wavelength).reshape(-1, 3)
        levels = masks.read_mask(file, path, images.shape[1:])
        raw_background = masks.read_background(file, path, images.shape[1:], levels)
        binned = masks.bin_mask(np.zeros(images.shape[1:], np.uint8) if levels is None else levels, binning).ravel()
        mask = masks.limited(binned, q, q_min, q_max, path)
        counts = images.dtype.kind in "iu"
        photons = _most_photons(images, mask, binning, workers) if counts else mask.size
        result, faults, digests = _read_patterns(
            images, binning, mask, photons if photons * SPARSE_GAIN <= mask.size else None, workers
        )
    if problem := problem_of(faults):
        raise InputError(f"{path}: dataset {INTENSITIES!r}: {problem}")
    digest = hashlib.sha256(np.ascontiguousarray(raw_q).data)
    digest.update(digests.data)
    background = None
    if levels is not None:
        digest.update(masks.MASK.encode() + levels.tobytes())
    if raw_background is not None:
        digest.update(masks.BACKGROUND.encode() + raw_background.tobytes())
        background = np.where(mask == NEVER, 0.0, masks.bin_background(raw_background, binning).ravel())
    return Dataset(result, q, mask, shape, index_map.reshape(-1, 2), digest.hexdigest(), str(path), counts, background)


def _most_photons(images: h5py.Dataset, mask: UInt8, binning: int, workers: Workers) -> int:
    """Return the largest number of photons in a pattern of whole counts; at least 1."""
    never = mask == NEVER

    def count_tile(here: Here, part: slice) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        try:
            values = _masked(_binned(images[part], binning), never)
        except (OSError, RuntimeError):
            # Whoever reads the patterns in earnest says so.
            return (np.zeros(part.stop - part.start),)
        return (values.sum(1, dtype=np.float64),)

    (totals,) = workers.run(count_tile, len(images), [Rows((), np.float64)], tile=_tile(images), on_host=True)
    return max(1, int(np.max(totals)))


def _read_patterns(
    images: h5py.Dataset, binning: int, mask: UInt8, n_event: int | None, workers: Workers
) -> tuple[Any, NDArray[np.uint8], NDArray[np.uint8]]:
    """Return patterns, spread over the workers, and faults and digests of each.

    n_event : None for patterns (N_IMG, N_PIX) float32, else for lists (N_IMG, N_EVENT) int32 of their photons
    """
    count, never = len(images), mask == NEVER

    def read_tile(here: Here, part: slice) -> tuple[Any, Any, Any, Any]:
        size = part.stop - part.start
        try:
            block = np.ascontiguousarray(images[part])
        except (OSError, RuntimeError):
            none = np.zeros((size, *outputs[0].shape), outputs[0].dtype)
            return here.array(none), np.zeros(size, np.uint8), np.zeros((size, 32), np.uint8), np.ones(size, np.bool_)
        # Before masked values are set to 0: that may be done in place.
        digests = [np.frombuffer(hashlib.sha256(pattern.data).digest(), np.uint8) for pattern in block]
        values = _masked(_binned(block, binning), never)
        faults = faults_of(values, ~never)
        kept = values if n_event is None else events(np.where(faults[:, None] == 0, values, 0), n_event)
        return here.array(kept), faults, np.stack(digests), np.zeros(size, np.bool_)

    patterns = Rows((len(mask),), np.float32, split=True) if n_event is None else Rows((n_event,), np.int32, split=True)
    outputs = [
        patterns,
        Rows((), np.uint8),
        Rows((32,), np.uint8),
        Rows((), np.bool_),
    ]
    result, faults, digests, unreadable = workers.run(read_tile, count, outputs, tile=_tile(images), on_host=True)
    if unreadable.any():
        # Once more, here, so that every process of a run meets the same error in the same place.
        bad = int(np.argmax(unreadable))
        _ = images[bad : bad + 1]
        raise OSError(f"pattern {bad} cannot be read")
    return result, faults, digests


def _intensities(file: h5py.File, path: Path) -> h5py.Dataset:
    """Return the dataset of patterns, checked but not read."""
    expected = "patterns, shape (patterns, panels, y, x)"
    images = files.dataset(file, INTENSITIES, path, expected)
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(f"{path}: dataset {INTENSITIES!r}: shape {images.shape}; expected {expected}")
    return images


def _tile(images: h5py.Dataset) -> int:
    """Return how many patterns to read at once: whole HDF5 chunks of about BLOCK_BYTES."""
    chunk = int(images.chunks[0]) if images.chunks else 1
    chunk_bytes: int = images.dtype.itemsize * math.prod(images.shape[1:]) * chunk
    return max(1, BLOCK_BYTES // chunk_bytes) * chunk


def _binned(block: NDArray[Any], binning: int) -> Float32:
    """Return a block of patterns (n, panels, y, x) of any type as (n, N_PIX) float32, summed over blocks of pixels."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: Float32 = block.astype(np.float32, copy=False).reshape(-1, *block.shape[2:])
        if binning > 1:
            values = pixels.blocks(values, binning).sum((2, 4))
    return values.reshape(len(block), -1)


def _masked(values: Float32, never: Bool) -> Float32:
    """Return patterns (n, N_PIX), changed in place, with 0 on pixels never (N_PIX,) used, whatever they held."""
    if never.any():
        values[:, never] = 0
    return values


def read_truth(path: Path) -> Truth:
    """Read what a simulated file knows about its truth.

    Raises InputError if the file cannot be read, or if anything of the truth is there but makes no sense.
    """
    path = Path(path)
    with files.open_hdf5(path, EXPECTED) as file:
        shape = _intensities(file, path).shape
        return truth.read(file, path, shape[1:], shape[0])


def describe(path: Path) -> dict[str, Any]:
    """Return what a file holds, for `spilegate inspect`: sizes, units in the names, and under "usable" yes or why not.

    Raises InputError if the file or its pixel positions cannot be read; faults of patterns are described.
    """
    path = Path(path)
    with files.open_hdf5(path, EXPECTED) as file:
        images = _intensities(file, path)
        q, wavelength = pixels.read_positions(file, path, images.shape[1:])
        mask = masks.read_mask(file, path, images.shape[1:])
        background = masks.read_background(file, path, images.shape[1:], mask)
        levels = np.zeros(images.shape[1:], np.uint8) if mask is None else mask
        never = levels.ravel() == NEVER
        totals, faults = np.empty(len(images)), np.empty(len(images), np.uint8)
        for part in tiles(0, len(images), _tile(images)):
            values = _masked(_binned(images[part], 1), never)
            totals[part] = values.sum(1, dtype=np.float64)
            faults[part] = faults_of(values, ~never)
        known = ", ".join(truth.names_in(file))
        dtype, shape = str(images.dtype), images.shape
    nowhere = None if (levels == USE).any() else "no pixel of level 0 in the mask; expected pixels to match patterns on"
    few = f"{shape[0]} patterns; expected at least {FEWEST_PATTERNS}" if shape[0] < FEWEST_PATTERNS else None
    q_length = np.linalg.norm(q, axis=-1)
    return {
        "file": str(path),
        "size_mib": path.stat().st_size / 2**20,
        "patterns": shape[0],
        "panels": shape[1],
        "pixels": list(shape[2:]),
        "dtype": dtype,
        "wavelength_angstrom": wavelength,
        "q_min_inverse_angstrom": float(q_length.min()),
        "q_max_inverse_angstrom": float(q_length.max()),
        "resolution_side_angstrom": 1 / pixels.inscribed_q(q, wavelength),
        "resolution_corner_angstrom": 1 / float(q_length.max()),
        "mask": "none" if mask is None else masks.described(mask),
        "background_per_pattern": "none" if background is None else float(background.sum()),
        "photons_per_pattern_min": float(totals.min()),
        "photons_per_pattern_mean": float(totals.mean()),
        "photons_per_pattern_max": float(totals.max()),
        "zero_patterns": int((faults == EMPTY).sum()),
        "truth": known or "none",
        "usable": nowhere or problem_of(faults) or few or "yes",
    }


def write(path: Path, simulation: Measured, *, force: bool = False) -> None:
    """Write patterns with their truth; the file appears whole or not at all.

    Counts are stored as integers and compressed, intensities without noise as float32.
    Raises InputError if the file exists and `force` is not set, or cannot be written.
    """
    path = Path(path)
    images = simulation.intensities
    counts = simulation.photons is not None
    options: dict[str, Any] = {}
    if counts:
        dtype = np.uint16 if images.max() <= np.iinfo(np.uint16).max else np.uint32
        options = {"dtype": dtype, "chunks": (1, *images.shape[1:]), "compression": "gzip", "compression_opts": 1}
    with files.replacing_hdf5(path, force=force) as file:
        file.create_dataset(INTENSITIES, data=images, **options).attrs["unit"] = "photons" if counts else "electrons^2"
        position = simulation.pixel_position * pixels.ANGSTROM_PER_METRE
        file.create_dataset(pixels.POSITION, data=position).attrs["unit"] = "1/m"
        file.create_dataset(pixels.INDEX_MAP, data=simulation.pixel_index_map)
        if simulation.mask is not None:
            file.create_dataset(masks.MASK, data=simulation.mask).attrs["levels"] = "0 use, 1 merge only, 2 never"
        if simulation.background is not None:
            file.create_dataset(masks.BACKGROUND, data=simulation.background).attrs["unit"] = "counts per pattern"
        truth.write(file, simulation.quaternions, simulation.volume, simulation.voxel_angstrom, simulation.hidden)
        file.attrs["wavelength_angstrom"] = simulation.wavelength_angstrom
        file.attrs["particle"] = simulation.particle
        file.attrs["seed"] = simulation.seed
        if simulation.photons is not None:
            file.attrs["photons_per_pattern"] = simulation.photons
