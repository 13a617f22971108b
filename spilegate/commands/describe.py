"""`spilegate inspect`: what a file of patterns holds, whether it can be used, and what a reconstruction would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spilegate.commands.advice import Advice, binning, command_line
from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.kernels import host_memory
from spilegate.report.console import Output
from spilegate.settings import Settings


def run(
    data: Path, settings: Settings, words: Sequence[str], *, picture: Path | None, force: bool, quiet: bool,
    log: Path | None,
) -> None:  # fmt: skip
    """Print what a file of patterns holds, read as these settings say, one item per line, and what to type next.

    words : of the command line, as the user gave them
    """
    host_memory.lean()
    if picture is not None:
        files.check_target(picture, force=force)
    with Output(quiet=quiet, product=True, log=log) as out:
        facts, advice = described(data, settings, picture)
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            out.line(f"{name:{width}s}  {_text(value)}")
        out.line(command_line(data, words, advice))


def described(data: Path, settings: Settings, picture: Path | None = None) -> tuple[dict[str, Any], Advice]:
    """Return all facts of a file, and what the options given lack.

    picture : where to draw the mean of its patterns, None if not wanted
    """
    from spilegate.forecast.estimate import forecast
    from spilegate.formats import reader
    from spilegate.patterns import beam, outlook

    try:
        reading, found = beam.settled(data, settings.prepare.reading)
    except InputError:
        # A file that cannot be used for another reason is described all the same, and tells that reason.
        look = reader.look(data, **settings.prepare.reading | {"centre": None})
        if look.looked is not None:
            raise
    else:
        look = reader.look(data, **reading)
    facts, looked = dict(look.facts), look.looked
    usable = facts.pop("usable")
    if looked is None:
        if picture is not None:
            raise InputError(f"--picture {picture}: {data}: {usable}")
        return facts | {"usable": usable}, Advice(lacking=look.lacking)
    particle = outlook.particle(data, looked, reading, settings)
    centre = outlook.centre_of(looked, particle.diameter)
    finer = binning(looked, particle)
    needs = forecast(looked, particle, settings, finer)
    facts |= {"beam_centre": found or centre.said, **particle.facts(looked), **needs.facts, "usable": usable}
    if picture is not None:
        from spilegate.report.powder import draw

        draw(picture, looked, data.name)
    return facts, Advice.of(looked, particle, centre, finer, needs.remedy)


def _text(value: object) -> str:
    """Return a value as a short text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return " x ".join(_text(item) for item in value)
    return str(value)
