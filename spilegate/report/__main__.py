"""`python -m spilegate.report OUT [--only NAME ...]`: draw the pictures of an output folder, and its page."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from spilegate.errors import InputError
from spilegate.report.drawing import PAGE
from spilegate.report.terminal import Stream, complain
from spilegate.report.told import Told


def main() -> int:
    """Draw, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m spilegate.report", description="Draw a run's pictures and its page."
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="folder written by spilegate reconstruct")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"draw these only: pictures, or {PAGE} for the page")
    parser.add_argument("--then", nargs="+", metavar="NAME", help="and only these, when something is read")
    parser.add_argument("--follow", type=float, metavar="SECONDS", help="write the page whenever something is read")
    parser.add_argument("--background", action="store_true", help="give way to every other process")
    parser.add_argument("--while-fed", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    told = Told() if options.while_fed or options.then or options.follow else None
    if hasattr(os, "nice"):
        os.nice(15 if options.background else 0)
    try:
        if options.follow and told is not None:
            return _follow(options.folder, told, options.follow)
        _draw(options.folder, options.only or ([] if options.then else None), options.then, told)
    except InputError as error:
        complain(f"error: {error}")
        return 2
    except OSError as error:
        complain(f"error: {error.filename or options.folder}: {error.strerror or error}; check space and permissions")
        return 2
    return 0


def _draw(folder: Path, names: list[str] | None, then: list[str] | None, told: Told | None) -> None:
    """Draw pictures and the page, all if no names are given, and others later; print their paths."""
    from spilegate.report.page import build
    from spilegate.report.pictures import NAMES, draw

    output = Stream(sys.stdout)
    # What it needs is loaded by now, whatever it waits for.
    for some in ([*NAMES, PAGE] if names is None else names, then or []):
        if some is then and told is not None:
            told.wait()
        paths = draw(folder, tuple(name for name in some if name != PAGE)) if set(some) - {PAGE} else []
        paths += [build.write(folder)[0]] if PAGE in some else []
        for path in paths:
            output.write(f"{path}\n")
    output.flush()


def _follow(folder: Path, told: Told, seconds: float) -> int:
    """Write the page whenever it is told to, until that was the last time; what it needs is loaded after `seconds`."""
    told.wait(seconds)
    from spilegate.report.page import build

    while True:
        last = told.taken()
        try:
            build.write(folder)
        except (InputError, OSError):
            # The next generation has another chance.
            if last:
                raise
        if last:
            return 0


if __name__ == "__main__":
    sys.exit(main())
