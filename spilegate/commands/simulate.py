"""`spilegate simulate`: patterns of a known particle at random orientations, with their truth."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from spilegate.commands.departing import Departures, parse_picture
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


@dataclass(frozen=True)
class Shown:
    """What is in the beam: atoms of a file, a built-in particle by name, or files of its states; None: not given.

    assembly : which copies of a file's atoms make the particle; populations : parts of the states, as given
    """

    pdb: Path | None
    particle: str | None
    states: str | None
    assembly: str | None = None
    populations: str | None = None


def _words(text: str | None) -> tuple[str, ...]:
    """Return the parts of a list with commas; () for None."""
    return () if text is None else tuple(part.strip() for part in text.split(","))


def parse_populations(text: str | None) -> tuple[float, ...]:
    """Return the parts of patterns by state, () if not given."""
    try:
        return tuple(float(part) for part in _words(text))
    except ValueError as error:
        raise InputError(f"--populations: found {text!r}; expected numbers such as 0.5,0.5") from error


def _check(shown: Shown, experiment: Experiment) -> None:
    """Refuse options that do not go together, and lengths that are none."""
    given = [f"--{name}" for name in ("pdb", "particle", "states") if getattr(shown, name) is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: found together; expected one of them; leave out the others")
    if shown.assembly is not None and shown.pdb is None and shown.states is None:
        raise InputError("--assembly: found without a file of atoms; expected --pdb or --states; leave it out")
    if shown.populations is not None and shown.states is None:
        raise InputError("--populations: found without --states; expected both or neither; give the states' files")
    if shown.states is not None and len(_words(shown.states)) < 2:
        raise InputError(f"--states: found {shown.states!r}; expected two files or more, with commas; else use --pdb")
    for option in ("resolution_angstrom", "wavelength_angstrom"):
        value = getattr(experiment, option)
        if not 0 < value < math.inf:
            raise InputError(f"--{option.replace('_', '-')}: found {value:g}; expected a positive number of angstrom")


def run(
    output: Path,
    shown: Shown,
    experiment: Experiment,
    departures: Departures,
    *,
    threads: int | None,
    force: bool,
    quiet: bool,
    log: Path | None,
) -> None:
    """Simulate patterns and write them with their truth in SpiniFEL's HDF5 layout."""
    _check(shown, experiment)
    populations = parse_populations(shown.populations)
    picture = parse_picture(departures.background_picture)
    with Output(quiet=quiet, log=log) as out:
        from spilegate.formats import files, masks, spinifel
        from spilegate.simulation import experiment as simulation
        from spilegate.simulation import particle
        from spilegate.simulation.conditions import Conditions
        from spilegate.simulation.symmetric import symmetric_particle

        begin, pixels = time.perf_counter(), experiment.pixels
        files.check_target(output, force=force)
        conditions = Conditions(
            mask=_words(departures.mask),
            background_picture=picture if isinstance(picture, float) else 0.0,
            populations=populations,
            **departures.numbers(),
        )
        paths = _words(shown.states) if shown.pdb is None else (str(shown.pdb),)
        read = [particle.read_particle(Path(path), shown.assembly) for path in paths]
        for note in (note for atoms in read for note in atoms.notes):
            out.line(note, "yellow")
        first, *others = [
            symmetric_particle(atoms, experiment.symmetry)
            for atoms in read or [particle.built_in_particle(shown.particle or particle.DEFAULT_PARTICLE)]
        ]
        out.live.show("simulating patterns")
        result = simulation.simulate(
            first,
            images=experiment.images,
            pixels=experiment.pixels,
            resolution_angstrom=experiment.resolution_angstrom,
            wavelength_angstrom=experiment.wavelength_angstrom,
            photons=experiment.photons,
            seed=experiment.seed,
            threads=threads or available_cores(),
            others=tuple(others),
            conditions=conditions,
            picture=masks.read_picture(picture, (1, pixels, pixels))[0] if isinstance(picture, Path) else None,
        )
        out.live.show("writing them")
        spinifel.write(output, result, force=force)
        out.live.clear()
        out.line(
            f"{output}: {result.particle}, {experiment.images} patterns of "
            f"{experiment.pixels}x{experiment.pixels} pixels, in {time.perf_counter() - begin:.1f} s"
        )
