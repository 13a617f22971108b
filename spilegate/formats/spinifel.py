"""SpiniFEL's HDF5 layout, read from whoever wrote it (SpiniFEL, skopi, ourselves) and written with the truth.

Datasets: `intensities` (N_IMG, panels, y, x); `pixel_position_reciprocal` (panels, y, x, 3) or (3, panels, y, x) [1/m];
`pixel_index_map` (panels, y, x, 2), optional; the truth, optional: `orientations` (N_IMG, 1, 4) or (N_IMG, 4),
(w, x, y, z), particle to laboratory; `volume` (M, M, M). Ours has the volume's `voxel_angstrom` as its attribute, and
may have `mask` (panels, y, x), levels 0 to 2, and `background` (panels, y, x) [counts per pattern]. A single panel
needs no axis of its own. What values are is decided by the values, see `values`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spilegate.formats import files, masks, pixels, truth
from spilegate.formats.patterns import EXPECTED
from spilegate.formats.reading import INTENSITIES, stack_of
from spilegate.formats.truth import Truth
from spilegate.records import Float32, Float64, Int64, UInt8


def pixel_width(path: Path) -> float:
    """Return the distance of neighbouring pixels in the middle of a simulated file's detector [1/angstrom].

    Raises InputError if the file cannot be read.
    """
    with files.open_hdf5(path, EXPECTED) as file:
        *_, rows, columns = stack_of(file, path).shape
        position = files.dataset(file, pixels.POSITION, path, EXPECTED)[()].reshape(-1, rows, columns, 3)
    row, column = rows // 2, columns // 2
    return float(np.linalg.norm(position[0, row, column] - position[0, row, column - 1])) / pixels.ANGSTROM_PER_METRE


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


def read_truth(path: Path) -> Truth:
    """Read what a simulated file knows about its truth.

    Raises InputError if the file cannot be read, or if anything of the truth is there but makes no sense.
    """
    path = Path(path)
    with files.open_hdf5(path, EXPECTED) as file:
        count, *shape = stack_of(file, path).shape
        return truth.read(file, path, (shape[0], shape[1], shape[2]), count)


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
