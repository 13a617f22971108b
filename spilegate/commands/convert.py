"""`spilegate convert`: patterns from one format to another, all or some of them, cut or summed on the way."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Literal

from spilegate.commands.choice import picked
from spilegate.errors import InputError
from spilegate.formats import dragonfly_writer, files, writers
from spilegate.formats.outgoing import Crop, Outgoing, outgoing
from spilegate.formats.reading import Options
from spilegate.formats.selection import chosen
from spilegate.patterns.beam import settled
from spilegate.records import Int64
from spilegate.report.console import Output
from spilegate.settings import Settings

Target = Literal["auto", "spinifel", "cxi", "emc", "dragonfly"]
ENDINGS: dict[str, Target] = {".h5": "spinifel", ".hdf5": "spinifel", ".cxi": "cxi", ".emc": "emc"}


def run(
    data: Path, output: Path, settings: Settings, *, to: Target, select: str | None, crop: str | None, force: bool,
    quiet: bool, log: Path | None,
) -> None:  # fmt: skip
    """Write the patterns of a file in another format.

    to : the format, by the name's ending if "auto"; select, crop : which patterns, and which part of every panel
    Raises InputError, with nothing written, if the input is bad or the output is there already.
    """
    target = _target(output, to)
    part = None if crop is None else _crop(crop)
    lists = target in ("emc", "dragonfly")
    if output.resolve() == data.resolve():
        raise InputError(f"{output}: the file that is to be converted; expected another name; choose one")
    for path in (output, *([dragonfly_writer.detector_path(output)] if lists else [])):
        files.check_target(path, force=force)
    choice = picked(select, data)
    reading, found = settled(data, settings.prepare.reading)
    options = Options(**reading)

    def choose(count: int) -> Int64:
        choice.check_count(count)
        return chosen(choice.listed, data, count)

    with (
        Output(quiet=quiet, log=log) as out,
        outgoing(data, options, choose=choose, crop=part) as patterns,
    ):
        for remark in (*patterns.remarks, *([found] if found else [])):
            out.line(remark, "yellow")
        if target == "spinifel":
            writers.write_spinifel(output, patterns, force=force)
        elif target == "cxi":
            writers.write_cxi(output, patterns, force=force)
        elif target == "emc":
            dragonfly_writer.write_binary(output, patterns, force=force)
        else:
            dragonfly_writer.write_hdf5(output, patterns, force=force)
        out.line(_said(patterns, output, data))
        if lists:
            detector = shlex.quote(str(dragonfly_writer.detector_path(output)))
            wavelength = f"--wavelength-angstrom {patterns.wavelength:.12g}"
            out.line(f"to read it: spilegate inspect {shlex.quote(str(output))} --detector {detector} {wavelength}")


def _said(patterns: Outgoing, output: Path, data: Path) -> str:
    """Return what was written, in words."""
    panels, rows, columns = patterns.shape
    return (
        f"{output}: {patterns.count} patterns of {panels} x {rows} x {columns} pixels ({patterns.taken_for}) of {data}"
    )


def _target(output: Path, to: Target) -> Target:
    """Return the format to write; InputError if the name's ending tells none."""
    if to != "auto":
        return to
    try:
        return ENDINGS[output.suffix.lower()]
    except KeyError:
        raise InputError(
            f"{output}: ends in {output.suffix!r}; expected {', '.join(ENDINGS)}; give --to spinifel, cxi, emc or "
            "dragonfly"
        ) from None


def _crop(text: str) -> Crop:
    """Return the part of panels that `--crop` names."""
    found = re.fullmatch(r"(\d{1,6}):(\d{1,6}),(\d{1,6}):(\d{1,6})", text.replace(" ", ""), re.ASCII)
    first, last, left, right = (int(number) for number in found.groups()) if found else (0, 0, 0, 0)
    if first >= last or left >= right:
        raise InputError(f"--crop {text}: expected rows and columns from 0, the last not included, such as 10:90,0:80")
    return slice(first, last), slice(left, right)
