"""`spilegate.simulate`: patterns of a known particle in a program, with their truth kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import arrays, reader, spinifel
from spilegate.formats.reading import Options
from spilegate.front.dataset import Dataset, of_record
from spilegate.front.page import Picture, page
from spilegate.kernels.launch import available_cores
from spilegate.records import Float64
from spilegate.settings import Settings
from spilegate.simulation import experiment
from spilegate.simulation.conditions import IDEAL, Conditions
from spilegate.simulation.particle import PARTICLES, Particle, built_in_particle, read_particle
from spilegate.simulation.symmetric import symmetric_particle

Shown = str | Path | Particle


@dataclass(frozen=True, repr=False)
class Simulation(experiment.Simulation):
    """Simulated patterns with their truth, as `simulate` returns them.

    `dataset` : what an experimenter would have of them, a `Dataset` without the truth
    `intensities` : (N_IMG, 1, y, x) float32 [photons, or electrons^2 without noise]
    `orientations` : (N_IMG, 4) float64, the true unit quaternions (w, x, y, z), particle to laboratory
    `volume` : (M, M, M) float32 [electrons/angstrom^3], the true density, with `voxel_angstrom`
    `save(path)` : SpiniFEL's HDF5, with the truth beside the patterns
    """

    @cached_property
    def dataset(self) -> Dataset:
        """Return the patterns without the truth."""
        layout = arrays.layout(
            self.intensities, self.pixel_position, mask=self.mask, background=self.background, means="levels"
        )
        record = reader.read_layout(layout, Options(**Settings().prepare.reading))
        return of_record(record, {}, source=self.particle)

    @property
    def orientations(self) -> Float64:
        """Return the true orientations, (N_IMG, 4) float64, unit quaternions (w, x, y, z), particle to laboratory."""
        return self.quaternions

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write patterns and truth in SpiniFEL's HDF5, and return the path.

        Raises
        ------
        InputError
            if the file exists and `force` is not set, or it cannot be written

        Examples
        --------
        >>> simulation.save(folder / "run.h5", force=True).name
        'run.h5'
        """
        spinifel.write(Path(path), self, force=force)
        return Path(path)

    def __len__(self) -> int:
        """Return the number of patterns."""
        return len(self.intensities)

    def __repr__(self) -> str:
        """Say in a line what it is."""
        noise = "without noise" if self.photons is None else f"of {self.photons:g} photons"
        return f"<Simulation of {self.particle}: {len(self)} patterns {noise}, seed {self.seed}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the true density and what was simulated."""
        from spilegate.front.pictures import density_picture

        rows, columns = self.intensities.shape[-2:]
        facts = {
            "patterns": len(self),
            "pixels": f"{rows} x {columns}",
            "wavelength": f"{self.wavelength_angstrom:g} Å",
            "photons per pattern": "no noise" if self.photons is None else f"{self.photons:g}",
            "seed": self.seed,
        }
        picture = Picture(density_picture(self.volume, self.voxel_angstrom))
        return page(f"Simulation of {self.particle}", facts, picture, "central slices of the true density")


def simulate(
    particle: Shown | Sequence[Shown] = "demo",
    *,
    images: int = 1000,
    pixels: int = 64,
    resolution_angstrom: float = 8.0,
    wavelength_angstrom: float = 1.0,
    photons: float | None = None,
    seed: int = 0,
    symmetry: str = "C1",
    assembly: str | None = None,
    threads: int | None = None,
    **conditions: Any,
) -> Simulation:
    """Simulate patterns of a particle at random orientations, on the true Ewald sphere, with photon noise.

    Parameters
    ----------
    particle
        "demo" or "dumbbell", which are built in; the path of a PDB or mmCIF file; or several, one per conformation
    images, pixels
        number of patterns, and of pixels along a side of the flat square detector
    resolution_angstrom, wavelength_angstrom
        at the middle of the detector's sides; of the beam [angstrom]
    photons
        mean per pattern; None: no noise
    seed
        of orientations and noise
    symmetry, assembly
        point group of a complex of copies, "C4", "D2" ...; which copies of a file's atoms make the particle
    threads
        all cores if left out
    conditions
        what is not ideal: `mask` ("cross", "beamstop" ...), `scale_decades`, `background`, `known_background`, `junk`,
        `populations`, `polarisation`, `solid_angle`, `hot_pixels` ... (`scripts/REFERENCE.md` defines each)

    Returns
    -------
    Simulation
        `.intensities` (N_IMG, 1, y, x) float32, the truth, and `.dataset` without it

    Raises
    ------
    InputError
        for a particle that is none, numbers and conditions that cannot be

    Examples
    --------
    >>> masked = sg.simulate("dumbbell", images=30, pixels=24, resolution_angstrom=30, photons=5000, mask=["beamstop"])
    >>> masked.intensities.shape
    (30, 1, 24, 24)
    """
    names = [particle] if isinstance(particle, str | Path | Particle) else list(particle)
    if not names:
        raise InputError("particle: found none; expected a name, a path, or several of them")
    for name, value in (("images", images), ("pixels", pixels), ("seed", seed)):
        if not isinstance(value, int | np.integer):
            raise InputError(f"{name}: found {value!r}; expected a whole number")
    first, *others = [symmetric_particle(_particle(each, assembly), symmetry) for each in names]
    made = experiment.simulate(
        first,
        images=images,
        pixels=pixels,
        resolution_angstrom=resolution_angstrom,
        wavelength_angstrom=wavelength_angstrom,
        photons=photons,
        seed=seed,
        threads=threads or available_cores(),
        others=tuple(others),
        conditions=_conditions(conditions),
    )
    return Simulation(**{each.name: getattr(made, each.name) for each in fields(made)})


def _conditions(given: dict[str, Any]) -> Conditions:
    """Return conditions by their names; raises InputError for what is none, or is of another kind."""
    usual = {each.name: getattr(IDEAL, each.name) for each in fields(Conditions)}
    known: dict[str, Any] = {}
    for name, value in given.items():
        if name not in usual:
            raise InputError(f"{name}: not a condition of an experiment; expected one of {', '.join(sorted(usual))}")
        if isinstance(usual[name], tuple):
            if not isinstance(value, str | Sequence):
                raise InputError(f"{name}: found {value!r}; expected several of them, or one")
            known[name] = (value,) if isinstance(value, str) else tuple(value)
        elif isinstance(usual[name], float) and not isinstance(value, int | float | np.number):
            raise InputError(f"{name}: found {value!r}; expected a number")
        else:
            known[name] = value
    return Conditions(**known)


def _particle(shown: Shown, assembly: str | None) -> Particle:
    """Return the atoms of a particle by its name or its file."""
    if isinstance(shown, Particle):
        return shown
    if isinstance(shown, str) and shown in PARTICLES:
        return built_in_particle(shown)
    if not Path(shown).is_file():
        raise InputError(f"particle {str(shown)!r}: not found; expected a file of atoms, or {' or '.join(PARTICLES)}")
    return read_particle(Path(shown), assembly)
