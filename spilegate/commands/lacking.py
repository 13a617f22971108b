"""Options for what files of patterns may not say: the same for every command that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from spilegate.commands.added import taking

# Parameter to option, type, placeholder and help; the setting has the parameter's name.
OPTIONS: dict[str, tuple[str, Any, str | None, str]] = {
    "dataset": ("--dataset", str, "NAME", "Patterns of an HDF5 file that has several datasets of them."),
    "geometry": ("--geometry", str, "FILE", "Where the pixels lie: a geometry of CrystFEL."),
    "detector": ("--detector", str, "FILE", "Where the pixels of Dragonfly's photons lie, .dat or HDF5."),
    "mask_file": ("--mask", str, "FILE", "A mask: HDF5, .npy or raw bytes; what is not 0 is bad."),
    "wavelength_angstrom": ("--wavelength-angstrom", float, None, "Of the beam."),
    "photon_energy_ev": ("--energy-ev", float, None, "Of a photon, in place of the wavelength."),
    "distance_m": ("--distance-m", float, None, "From the sample to the detector."),
    "pixel_um": ("--pixel-um", float, None, "Edge of a pixel of a flat detector."),
    "centre": (
        "--centre",
        str,
        "ROW,COLUMN|auto",
        "Where the beam goes through a flat detector; its middle if left out; auto: found in the patterns.",
    ),
}


# Gives a command these options; it gets them as keywords, and `shorthands_of` makes settings of them.
what_files_lack = taking(
    (name, Annotated[kind | None, typer.Option(option, metavar=placeholder, help=text)], None)
    for name, (option, kind, placeholder, text) in OPTIONS.items()
)


def shorthands_of(given: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return the settings that such options stand for, as `load_settings` takes them."""
    return {OPTIONS[name][0]: (f"prepare.{name}", value) for name, value in given.items()}


def particle_shorthands(
    diameter_angstrom: float | None, symmetry: str | None, half_sets: bool | None
) -> dict[str, tuple[str, Any]]:
    """Return the settings that the options of the particle, and of how far to trust it, stand for."""
    return {
        "--diameter-angstrom": ("prepare.diameter_angstrom", diameter_angstrom),
        "--symmetry": ("symmetry", symmetry),
        "--half-sets": ("resolution.half_sets", half_sets),
    }
