"""The options of `spilegate select`; the work is in `selecting`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spilegate.commands.arguments import Assignments, Config, Data, Debug, Diameter, Force, Log, Quiet, Seed, Symmetry
from spilegate.commands.lacking import particle_shorthands, shorthands_of, what_files_lack
from spilegate.kernels import launch


@what_files_lack
def select(
    data: Data,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for lists, table and pictures.")],
    config: Config = None,
    assignments: Assignments = None,
    seed: Seed = None,
    diameter_angstrom: Diameter = None,
    symmetry: Symmetry = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="CLASSES", help="Keep all of these classes, in a selection that is in DIR."),
    ] = None,
    drop: Annotated[
        str | None,
        typer.Option("--drop", metavar="CLASSES", help="Keep none of these; none: no such choice any more."),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    log: Log = None,
    debug: Debug = False,  # noqa: ARG001 - read before a command runs
    **lacking: Any,
) -> None:
    """Tell which patterns show single particles, which do not and why; by hand, keep or drop classes of them."""
    if not launch.is_writer():
        return
    from spilegate.commands import selecting
    from spilegate.commands.configuration import load_settings

    shorthands = {
        **shorthands_of(lacking),
        "--seed": ("seed", seed),
        **particle_shorthands(diameter_angstrom, symmetry, None),
    }
    settings = load_settings(config, assignments or [], shorthands)
    if keep is None and drop is None:
        selecting.run(data, output, settings, force=force, quiet=quiet, log=log)
    else:
        selecting.change(data, output, settings, keep=keep, drop=drop, force=force, quiet=quiet, log=log)
