"""Patterns as a notebook has them: read from files or made of arrays, and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spilegate import records
from spilegate.backend import to_host
from spilegate.formats import arrays, reader
from spilegate.formats.reading import Options
from spilegate.front.options import reading
from spilegate.front.page import Picture, page
from spilegate.geometry.detector import ewald_wavelength
from spilegate.kernels.events import dense
from spilegate.kernels.launch import Backend, start
from spilegate.kernels.workers import Workers
from spilegate.patterns import beam
from spilegate.records import NEVER, Float64
from spilegate.settings import Settings

# Patterns that a mean takes in, and at once: it is to look at.
SHOWN, AT_ONCE = 1000, 50


@dataclass(frozen=True, repr=False)
class Dataset(records.Dataset):
    """Measured patterns and where their pixels lie; nothing of the truth. `read` and `from_arrays` make it.

    Capital letters: N_IMG patterns, N_PIX pixels of one, all panels flattened. Beside the fields below (`images`, `q`
    [1/angstrom], `mask` of N_PIX each ...) there are `len(data)`, and these with units in their names:
    `q_max_inverse_angstrom`, `resolution_angstrom`, `wavelength_angstrom`, `photons_per_pattern`, `mean_pattern`.

    read_with : how it was read, as settings of stage `prepare`
    """

    read_with: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_arrays(
        images: ArrayLike,
        q_inverse_angstrom: ArrayLike | None = None,
        *,
        wavelength_angstrom: float | None = None,
        photon_energy_ev: float | None = None,
        distance_m: float | None = None,
        pixel_um: float | None = None,
        centre: tuple[float, float] | None = None,
        mask: ArrayLike | None = None,
        background: ArrayLike | None = None,
        **options: Any,
    ) -> Dataset:
        """Return the data set of patterns that lie in memory.

        Parameters
        ----------
        images : (N_IMG, y, x), or (N_IMG, panels, y, x), integer or floating point [photons, ADU or any intensity]
            at least 6; what the values are, they decide, as in a file. NaN: no value
        q_inverse_angstrom : (panels, y, x, 3), or (y, x, 3) of one panel, [1/angstrom]
            where pixels lie, `|q| = 1/d`, laboratory frame, beam along +z, on the Ewald sphere
        wavelength_angstrom or photon_energy_ev, distance_m, pixel_um, centre
            in its place: a flat detector; `centre` is the (row, column) where the beam goes through it, the middle if
            left out
        mask : (panels, y, x), or (y, x)
            levels 0 use, 1 merge only, 2 never; of truth values true is masked
        background : (panels, y, x), or (y, x) [counts per pattern]
            common to all patterns, if it is known
        options
            `binning`, `q_min`, `q_max` [1/angstrom], `mask_means`, `photon_unit`, `adu_per_photon`, `broken_pixels`, as
            the settings of stage `prepare`

        Raises
        ------
        InputError
            for shapes that do not match, positions off the Ewald sphere, patterns that cannot be used

        Examples
        --------
        >>> import numpy as np
        >>> counts = np.random.default_rng(0).poisson(5, (30, 24, 24))
        >>> made = sg.Dataset.from_arrays(counts, wavelength_angstrom=2.0, distance_m=0.5, pixel_um=1200)
        >>> len(made), made.images.dtype, round(made.resolution_angstrom, 1)
        (30, dtype('float32'), 51.3)
        """
        if "mask_means" in options:
            options["mask"] = options.pop("mask_means")
        known = reading(options)
        how = Options(**known)
        placed = arrays.Placed(wavelength_angstrom, photon_energy_ev, distance_m, pixel_um, centre)
        layout = arrays.layout(
            images, q_inverse_angstrom, placed=placed, mask=mask, background=background, means=how.mask
        )
        return of_record(reader.read_layout(layout, how), {})

    def __len__(self) -> int:
        """Return the number of patterns."""
        return len(self.images)

    def __repr__(self) -> str:
        """Say what it is in a line."""
        photons = self.photons_per_pattern
        counted = f"{photons:.4g} photons in each" if photons is not None else "intensities"
        return (
            f"<Dataset {self.source}: {len(self)} patterns of {self.used_pixels} pixels to "
            f"{self.resolution_angstrom:.3g} Å, {counted}>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the mean pattern and what is known of all."""
        from spilegate.front.pictures import mean_picture

        panels, rows, columns = self.panel_shape
        facts = {
            "patterns": len(self),
            "pixels": f"{panels} x {rows} x {columns}, {self.used_pixels} of them used",
            "resolution at the last pixel": f"{self.resolution_angstrom:.3g} Å",
            "wavelength": f"{self.wavelength_angstrom:.4g} Å",
            "photons per pattern": None if self.photons_per_pattern is None else f"{self.photons_per_pattern:.5g}",
            "taken for": self.taken_for,
            "background": None if self.background is None else "known",
            "remarks": "; ".join(self.remarks),
        }
        return page(f"Patterns of {self.source}", facts, Picture(mean_picture(self)), "mean of the patterns")

    @property
    def used_pixels(self) -> int:
        """Return how many pixels may be used: those that are not of level 2 in the mask."""
        return int((self.mask < NEVER).sum())

    @property
    def q_inverse_angstrom(self) -> Float64:
        """Return where the pixels lie, (N_PIX, 3) float64 [1/angstrom], laboratory frame, beam along +z."""
        return self.q

    @property
    def q_max_inverse_angstrom(self) -> float:
        """Return the largest |q| of the pixels that may be used [1/angstrom]."""
        return float(np.linalg.norm(self.q[self.mask < NEVER], axis=-1).max())

    @property
    def resolution_angstrom(self) -> float:
        """Return what the last pixel resolves, 1 / q_max [angstrom]."""
        return 1 / self.q_max_inverse_angstrom

    @property
    def wavelength_angstrom(self) -> float:
        """Return the wavelength of the Ewald sphere that the pixels lie on [angstrom]."""
        return ewald_wavelength(self.q)

    @property
    def mean_pattern(self) -> Float64:
        """Return the mean of the patterns (of 1000 of more), (N_PIX,) float64 [photons or intensity units]."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(SHOWN, len(self))).astype(np.int64))
        total = np.zeros(len(self.q))
        for first in range(0, len(chosen), AT_ONCE):
            block = dense(self.images[chosen[first : first + AT_ONCE]], len(self.q))
            total += np.asarray(to_host(block)).sum(axis=0, dtype=np.float64)
        return total / len(chosen)

    @property
    def photons_per_pattern(self) -> float | None:
        """Return the mean number of photons in a pattern, on the pixels used; None where values are no photons."""
        return float(self.mean_pattern.sum()) if self.counts else None


def of_record(record: records.Dataset, read_with: Mapping[str, Any], source: str = "") -> Dataset:
    """Return a data set that shows itself. read_with : how it was read; source : what messages call it."""
    known = {each.name: getattr(record, each.name) for each in fields(records.Dataset)}
    return Dataset(**known | ({"source": source} if source else {}), read_with=read_with)


def read(path: str | Path, *, threads: int | None = None, backend: Backend = "auto", **options: Any) -> Dataset:
    """Read patterns; what a file is, its content decides.

    Parameters
    ----------
    path
        SpiniFEL's HDF5, CXI, any HDF5 with a stack of patterns, Dragonfly's photons, a run folder of European XFEL, or
        a list of files
    threads, backend
        how many threads to read by, all cores if left out; whose arrays, see `reconstruct`
    options
        how to read, by the names of stage `prepare` of the settings: `binning`, `q_min`, `q_max` [1/angstrom], and
        what the file does not say, such as `geometry`, `detector`, `wavelength_angstrom`, `distance_m`, `pixel_um`,
        `centre` ("auto": found in the patterns)

    Returns
    -------
    Dataset
        patterns, (N_IMG, N_PIX) float32 or lists of photons, with positions (N_PIX, 3) float64 [1/angstrom]; the truth
        of a simulated file is not looked at

    Raises
    ------
    InputError
        for a file that cannot be read or used, saying what to do

    Examples
    --------
    >>> coarse = sg.read(folder / "run.h5", binning=2)
    >>> coarse.panel_shape, len(coarse)
    ((1, 14, 14), 100)
    """
    known = reading(options)
    settings = Settings()
    workers = start(backend, threads, settings.compute.split_voxels)
    return read_by(path, workers, known)


def read_by(path: str | Path, workers: Workers, known: Mapping[str, Any]) -> Dataset:
    """Read patterns by these workers; known : checked options."""
    return of_record(beam.read(Path(path), workers=workers, **_whole(known)), known)


def _whole(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of reading, those that are not given as they usually are in a reconstruction."""
    return Settings().prepare.reading | dict(known)
