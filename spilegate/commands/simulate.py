"""`spilegate simulate`: patterns of a known particle at random orientations, with their truth."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from spilegate.errors import InputError
from spilegate.kernels.launch import available_cores
from spilegate.report.console import Output


@dataclass(frozen=True)
class Experiment:
    """What is measured, and how; units in the names. `photons` is the mean per pattern, None without noise."""

    images: int
    pixels: int
    resolution_angstrom: float
    wavelength_angstrom: float
    photons: float | None
    seed: int
    symmetry: str = "C1"


def parse_photons(text: str) -> float | None:
    """Return the mean photons per pattern, or None for `none`."""
    if text.strip().lower() == "none":
        return None
    try:
        photons = float(text)
    except ValueError:
        photons = math.nan
    if not 0 < photons < math.inf:
        raise InputError(f"--photons: found {text!r}; expected a positive number or none")
    return photons


def run(
    output: Path,
    pdb: Path | None,
    particle_name: str | None,
    experiment: Experiment,
    *,
    threads: int | None,
    force: bool,
    quiet: bool,
    log: Path | None,
) -> None:
    """Simulate patterns and write them with their truth in SpiniFEL's HDF5 layout."""
    if pdb is not None and particle_name is not None:
        raise InputError("--pdb and --particle: found both; expected one of them; leave one out")
    for option in ("resolution_angstrom", "wavelength_angstrom"):
        value = getattr(experiment, option)
        if not 0 < value < math.inf:
            raise InputError(f"--{option.replace('_', '-')}: found {value:g}; expected a positive number of angstrom")
    with Output(quiet=quiet, log=log) as out:
        from spilegate.formats import files, spinifel
        from spilegate.simulation import experiment as simulation
        from spilegate.simulation import particle
        from spilegate.simulation.symmetric import symmetric_particle

        begin = time.perf_counter()
        files.check_target(output, force=force)
        atoms = (
            particle.read_particle(pdb)
            if pdb is not None
            else particle.built_in_particle(particle_name or particle.DEFAULT_PARTICLE)
        )
        atoms = symmetric_particle(atoms, experiment.symmetry)
        result = simulation.simulate(
            atoms,
            images=experiment.images,
            pixels=experiment.pixels,
            resolution_angstrom=experiment.resolution_angstrom,
            wavelength_angstrom=experiment.wavelength_angstrom,
            photons=experiment.photons,
            seed=experiment.seed,
            threads=threads or available_cores(),
        )
        spinifel.write(output, result, force=force)
        out.line(
            f"{output}: {atoms.name}, {experiment.images} patterns of {experiment.pixels}x{experiment.pixels} pixels, "
            f"in {time.perf_counter() - begin:.1f} s"
        )
