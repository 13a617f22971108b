"""SpiniFEL's HDF5 layout, read from whoever wrote it (SpiniFEL, skopi, ourselves) and written with the truth.

Datasets: `intensities` (N_IMG, panels, y, x); `pixel_position_reciprocal` (panels, y, x, 3) or (3, panels, y, x) [1/m];
`pixel_index_map` (panels, y, x, 2), optional; the truth, optional: `orientations` (N_IMG, 1, 4) or (N_IMG, 4),
(w, x, y, z), particle to laboratory; `volume` (M, M, M). Ours has the volume's `voxel_angstrom` as its attribute, and
may have `mask` (panels, y, x), levels 0 to 2, and `background` (panels, y, x) [counts per pattern]. A single panel
needs no axis of its own. What values are is decided by the values, see `values`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import faults, files, masks, pixels, truth
from spilegate.formats.patterns import EXPECTED
from spilegate.formats.reading import INTENSITIES, Layout, Options, Patterns, layout_of, read_patterns, stack_of
from spilegate.formats.truth import Truth
from spilegate.formats.values import EMPTY
from spilegate.kernels.workers import Threads, Workers
from spilegate.records import NEVER, Dataset, Float32, Float64, Int64, UInt8

# Fewer patterns than this leave most of reciprocal space unmeasured at any resolution.
FEWEST_PATTERNS = 20


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


def read(path: Path, *, workers: Workers | None = None, **options: Any) -> Dataset:
    """Read patterns and where their pixels lie; the truth, if any, is not looked at.

    workers : every one of them reads its own patterns; this process's one thread if left out
    options : of `reading.Options`
        binning : blocks of binning x binning pixels are summed into one
        q_min, q_max : pixels with |q| outside get level 2 in the mask [1/angstrom]
        mask : "levels", or "good" if 1 stands for good pixels; photon_unit : what a photon is in the file, if known
        broken_pixels : never used are those without a value in all patterns ("always") or in any ("ever")

    Pixels of level 2 may hold anything in the file; they are set to 0.
    Raises InputError for anything that cannot be used: file, datasets, shapes, types, values, options.
    """
    path, how = Path(path), Options(**options)
    with files.opened(path, EXPECTED) as file:
        with files.reading(path, EXPECTED):
            layout = layout_of(file, path, how.mask)
        count, *panels = layout.stack.shape
        if count < FEWEST_PATTERNS:
            raise InputError(f"{path}: {count} patterns; expected at least {FEWEST_PATTERNS}; merge more runs")
        shape = pixels.binned_shape((panels[0], panels[1], panels[2]), how.binning, path)
        patterns = read_patterns(file, layout, how, workers or Threads(1), keep=True)
    if patterns.problem:
        raise InputError(f"{path}: dataset {INTENSITIES!r}: {patterns.problem}")
    mask, background = patterns.way.mask, patterns.background
    if background is not None:
        background = np.where(mask == NEVER, 0.0, masks.bin_background(background, how.binning).ravel())
    return Dataset(
        patterns.found.images,
        pixels.bin_positions(layout.q, how.binning, layout.wavelength).reshape(-1, 3),
        mask,
        shape,
        pixels.bin_index_map(layout.index_map, how.binning).reshape(-1, 2),
        _digest(layout, patterns),
        str(path),
        patterns.way.rule.counts,
        background,
        faults.taken_for(patterns.way),
        patterns.remarks,
    )


def _digest(layout: Layout, patterns: Patterns) -> str:
    """Return the SHA-256 of patterns, positions, mask and background."""
    digest = hashlib.sha256(np.ascontiguousarray(layout.q).data)
    digest.update(patterns.found.digests.data)
    if layout.levels is not None:
        digest.update(masks.MASK.encode() + layout.levels.tobytes())
    if patterns.background is not None:
        digest.update(masks.BACKGROUND.encode() + patterns.background.tobytes())
    return digest.hexdigest()


def read_truth(path: Path) -> Truth:
    """Read what a simulated file knows about its truth.

    Raises InputError if the file cannot be read, or if anything of the truth is there but makes no sense.
    """
    path = Path(path)
    with files.open_hdf5(path, EXPECTED) as file:
        count, *shape = stack_of(file, path).shape
        return truth.read(file, path, (shape[0], shape[1], shape[2]), count)


def describe(path: Path, **options: Any) -> dict[str, Any]:
    """Return what a file holds, for `spilegate inspect`: sizes, units in the names, and under "usable" yes or why not.

    options : as for `read`
    Raises InputError if the file or its pixel positions cannot be read; faults of patterns are described.
    """
    path, how = Path(path), Options(**options)
    with files.opened(path, EXPECTED) as file:
        with files.reading(path, EXPECTED):
            layout = layout_of(file, path, how.mask)
            known = ", ".join(truth.names_in(file))
        count, *shape = layout.stack.shape
        facts = _facts(layout)
        try:
            pixels.binned_shape((shape[0], shape[1], shape[2]), how.binning, path)
            patterns = read_patterns(file, layout, how, Threads(1), keep=False)
        except InputError as error:
            # Of the file or of an option; `read` says the same.
            return facts | {"truth": known or "none", "usable": str(error).removeprefix(f"{path}: ")}
    few = f"{count} patterns; expected at least {FEWEST_PATTERNS}" if count < FEWEST_PATTERNS else None
    totals, background = patterns.found.totals, patterns.background
    return facts | {
        "background_per_pattern": "none" if background is None else float(background.sum()),
        "taken_for": faults.taken_for(patterns.way),
        "photons_per_pattern_min": float(totals.min()),
        "photons_per_pattern_mean": float(totals.mean()),
        "photons_per_pattern_max": float(totals.max()),
        "zero_patterns": int((patterns.found.faults == EMPTY).sum()),
        "remarks": "; ".join(patterns.remarks) or "none",
        "truth": known or "none",
        "usable": patterns.problem or few or "yes",
    }


def _facts(layout: Layout) -> dict[str, Any]:
    """Return what a file says of its pixels."""
    images, q_length = layout.stack.dataset, np.linalg.norm(layout.q, axis=-1)
    count, panels, *size = layout.stack.shape
    return {
        "file": str(layout.path),
        "size_mib": layout.path.stat().st_size / 2**20,
        "patterns": count,
        "panels": panels,
        "pixels": size,
        "dtype": str(images.dtype),
        "wavelength_angstrom": layout.wavelength,
        "q_min_inverse_angstrom": float(q_length.min()),
        "q_max_inverse_angstrom": float(q_length.max()),
        "resolution_side_angstrom": 1 / pixels.inscribed_q(layout.q, layout.wavelength),
        "resolution_corner_angstrom": 1 / float(q_length.max()),
        "mask": "none" if layout.levels is None else masks.described(layout.levels),
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
