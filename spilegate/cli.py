"""The command line: options and their help, and one way for every error to end. The work is in `spilegate.commands`."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from spilegate import __version__
from spilegate.commands import Interrupted
from spilegate.commands.arguments import (
    Assembly,
    Assignments,
    BackendOption,
    BackgroundFrom,
    Config,
    Data,
    Debug,
    Diameter,
    Force,
    HalfSets,
    Log,
    Quiet,
    Seed,
    Select,
    Symmetry,
)  # fmt: skip
from spilegate.commands.departing import Departures, departing
from spilegate.commands.lacking import particle_shorthands, shorthands_of, what_files_lack
from spilegate.commands.select import select
from spilegate.commands.stopping import code_of, enough, heeded
from spilegate.commands.watch import watch
from spilegate.errors import InputError
from spilegate.kernels import launch
from spilegate.report.terminal import complain, say

# The base of every usage error (unknown option, missing value ...); Typer gives no public name to it.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Front(TyperGroup):
    """The command group whose errors end in one line on stderr and a code.

    2 bad input, 130 Ctrl-C, 143 and 129 signals that ask to end, 1 a fault.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002 - always our own name
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - errors always end here
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run a command line and exit."""
        words = sys.argv[1:] if args is None else list(args)
        with heeded():
            try:
                code = super().main(words, "spilegate", complete_var, False, windows_expand_args, obj=words, **extra)
            except (InputError, UsageError) as error:
                _end(error, f"error: {_message(error)}", 2, debug="--debug" in words)
            except (Interrupted, KeyboardInterrupt, typer.Abort) as error:
                enough()
                _end(error, str(error) or "interrupted", code_of(error), debug=False)
            except Exception as error:
                text, code = _unchecked(error)
                _end(error, f"error: {text}", code, debug="--debug" in words)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Typer itself would end without a word where the command has none for an interruption."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted") from error


def _message(error: Exception) -> str:
    """Return the text of bad input or of a usage error."""
    return str(error.format_message() if isinstance(error, UsageError) else error)  # type: ignore[attr-defined] # Typer's


def _unchecked(error: Exception) -> tuple[str, int]:
    """Return the text and exit code of an error that nobody checked for: of a file that the user named, or a fault."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; check the path, its permissions and the space left", 2
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{error.strerror}; make room where the output goes", 2
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text} (not foreseen; --debug shows where)", 1


def _end(error: BaseException, message: str, code: int, *, debug: bool) -> NoReturn:
    """Print one line (after the traceback, if asked for) and exit."""
    if launch.is_writer():
        if debug:
            for line in "".join(traceback.format_exception(error)).splitlines():
                say(line)
        complain(" ".join(part.strip() for part in message.splitlines()))
    launch.leave(code)


app = typer.Typer(
    cls=Front,
    name="spilegate",
    help="From single-particle X-ray diffraction patterns at unknown orientations to the particle's 3-D density.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(f"spilegate {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def front(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From single-particle X-ray diffraction patterns at unknown orientations to the particle's 3-D density."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@what_files_lack
def reconstruct(
    context: typer.Context,
    data: Data,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for the results.")],
    config: Config = None,
    assignments: Assignments = None,
    seed: Seed = None,
    diameter_angstrom: Diameter = None,
    symmetry: Symmetry = None,
    half_sets: HalfSets = None,
    background_from: BackgroundFrom = None,
    select: Select = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in DIR, if there is one.")
    ] = False,
    backend: BackendOption = "auto",
    force: Force = False,
    quiet: Quiet = False,
    log: Log = None,
    debug: Debug = False,
    **lacking: Any,
) -> None:
    """Reconstruct the density from the patterns alone."""
    from spilegate.commands import reconstruct as command
    from spilegate.commands.choice import picked
    from spilegate.commands.configuration import load_settings
    from spilegate.commands.job import Job

    choice = picked(select, data)
    shorthands = {
        "--select": ("prepare.use", choice.listed),
        **shorthands_of(lacking),
        "--seed": ("seed", seed),
        "--background-from": ("prepare.background_from", background_from),
        **particle_shorthands(diameter_angstrom, symmetry, half_sets),
    }
    settings = load_settings(config, assignments or [], shorthands)
    job = Job(data, output, settings, launch.resuming(context.obj or []), choice)
    command.run(job, backend=backend, resume=resume, force=force, quiet=quiet, log=log)


@app.command()
@departing
def simulate(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="HDF5 file to write.")],
    pdb: Annotated[Path | None, typer.Option("--pdb", metavar="FILE", help="Atoms, PDB or mmCIF.")] = None,
    particle: Annotated[
        str | None, typer.Option("--particle", metavar="NAME", help="A built-in particle, in place of --pdb.")
    ] = None,
    assembly: Assembly = None,
    symmetry: Annotated[
        str, typer.Option("--symmetry", metavar="NAME", help="Point group of a complex of copies: C4, D2, T, O, I ...")
    ] = "C1",
    images: Annotated[int, typer.Option("--images", min=1, help="Number of patterns.")] = 1000,
    pixels: Annotated[int, typer.Option("--pixels", min=4, help="Pixels along one side of the detector.")] = 64,
    resolution_angstrom: Annotated[
        float, typer.Option("--resolution-angstrom", help="Resolution at the middle of the detector's sides.")
    ] = 8.0,
    wavelength_angstrom: Annotated[float, typer.Option("--wavelength-angstrom", help="Wavelength.")] = 1.0,
    photons: Annotated[
        str, typer.Option("--photons", metavar="MEAN|none", help="Mean photons per pattern; none: no noise.")
    ] = "none",
    states: Annotated[
        str | None, typer.Option("--states", metavar="FILE,FILE", help="Atoms of several states, in place of --pdb.")
    ] = None,
    populations: Annotated[
        str | None,
        typer.Option("--populations", metavar="PART,PART", help="Parts of the states.  [default: all the same]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of orientations and noise.")] = 0,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads; all cores if left out.")] = None,
    force: Force = False,
    quiet: Quiet = False,
    log: Log = None,
    debug: Debug = False,
    **departures: Any,
) -> None:
    """Simulate patterns of a particle at random orientations, with their truth."""
    if not launch.is_writer():
        return
    from spilegate.commands import simulate as command

    experiment = command.Experiment(
        images, pixels, resolution_angstrom, wavelength_angstrom, command.parse_photons(photons), seed, symmetry
    )
    shown = command.Shown(pdb, particle, states, assembly, populations)
    command.run(output, shown, experiment, Departures(**departures), threads=threads, force=force, quiet=quiet, log=log)


@app.command()
def evaluate(
    results: Annotated[Path, typer.Argument(metavar="DIR", help="Folder written by reconstruct.")],
    reference: Annotated[
        Path, typer.Option("--reference", metavar="FILE", help="The truth: .mrc, .pdb, .cif, or simulated .h5.")
    ],
    assembly: Assembly = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads; all cores if left out.")] = None,
    quiet: Quiet = False,
    log: Log = None,
    debug: Debug = False,
) -> None:
    """Compare a reconstruction with a reference: correlation, resolution, orientation error."""
    if not launch.is_writer():
        return
    from spilegate.commands import evaluate as command

    command.run(results, reference, assembly=assembly, threads=threads, quiet=quiet, log=log)


@app.command()
@what_files_lack
def inspect(
    context: typer.Context,
    data: Data,
    config: Config = None,
    assignments: Assignments = None,
    diameter_angstrom: Diameter = None,
    symmetry: Symmetry = None,
    half_sets: HalfSets = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw the mean of the patterns, PNG.")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    log: Log = None,
    debug: Debug = False,
    **lacking: Any,
) -> None:
    """Say what a file of patterns holds, whether it can be used, and what a reconstruction would take."""
    if not launch.is_writer():
        return
    from spilegate.commands import describe as command
    from spilegate.commands.configuration import load_settings

    shorthands = {
        **shorthands_of(lacking),
        **particle_shorthands(diameter_angstrom, symmetry, half_sets),
    }
    settings = load_settings(config, assignments or [], shorthands)
    command.run(data, settings, context.obj or [], picture=picture, force=force, quiet=quiet, log=log)


@app.command()
@what_files_lack
def convert(
    data: Data,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .h5 (SpiniFEL's), .cxi or .emc.")],
    to: Annotated[
        Literal["auto", "spinifel", "cxi", "emc", "dragonfly"],
        typer.Option("--to", help="Format; auto: by the ending of OUT. dragonfly: its HDF5."),
    ] = "auto",
    select: Select = None,
    binning: Annotated[int | None, typer.Option("--bin", min=1, help="Sum blocks of so many pixels squared.")] = None,
    crop: Annotated[
        str | None, typer.Option("--crop", metavar="ROWS,COLUMNS", help="Part of every panel, such as 10:90,0:80.")
    ] = None,
    config: Config = None,
    assignments: Assignments = None,
    force: Force = False,
    quiet: Quiet = False,
    log: Log = None,
    debug: Debug = False,
    **lacking: Any,
) -> None:
    """Write patterns in another format, all or some of them."""
    if not launch.is_writer():
        return
    from spilegate.commands import convert as command
    from spilegate.commands.configuration import load_settings

    shorthands = {**shorthands_of(lacking), "--bin": ("prepare.binning", binning)}
    settings = load_settings(config, assignments or [], shorthands)
    command.run(data, output, settings, to=to, select=select, crop=crop, force=force, quiet=quiet, log=log)


@app.command()
def doctor(quiet: Quiet = False, log: Log = None, debug: Debug = False) -> None:
    """Say what is installed, what would run where, what is missing and how to get it."""
    if not launch.is_writer():
        return
    from spilegate.commands import doctor as command

    command.run(quiet=quiet, log=log)


app.command()(select)
app.command()(watch)


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    app()
    sys.exit(0)
