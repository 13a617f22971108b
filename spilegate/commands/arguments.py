"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spilegate.kernels.launch import Backend

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Patterns: SpiniFEL's HDF5, CXI, any HDF5, Dragonfly's photons, a run folder, or a list of files.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Log = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="Add the same lines, with time stamps, to this file.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
BackendOption = Annotated[
    Backend,
    typer.Option("--backend", help="Whose arrays to use; auto: the launcher's if started by one, else NumPy's."),
]
Assembly = Annotated[
    str | None,
    typer.Option(
        "--assembly", metavar="NAME", help="Copies that make the particle: 1 ... of the file of atoms, models, or ncs."
    ),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings, TOML.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.KEY=VALUE", help="One setting; may be given more than once."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Diameter = Annotated[
    float | None, typer.Option("--diameter-angstrom", help="Largest diameter of the particle; estimated if left out.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random number.  [default: 0]")]
Symmetry = Annotated[
    str | None,
    typer.Option("--symmetry", metavar="NAME", help="Point group imposed: C4, D2, T, O, I ...  [default: C1]"),
]
HalfSets = Annotated[
    bool | None,
    typer.Option("--half-sets/--no-half-sets", help="Reconstruct two halves as well to state the resolution."),
]
BackgroundFrom = Annotated[
    str | None,
    typer.Option("--background-from", metavar="FILE", help="The background, as misses show it: HDF5 or .npy."),
]
Select = Annotated[
    str | None,
    typer.Option(
        "--select",
        metavar="LIST",
        help="Patterns: 3,10:20, a file of numbers, a selection.h5 of spilegate select, or 'labels == 1'.",
    ),
]
