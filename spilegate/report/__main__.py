"""`python -m spilegate.report OUT [--only NAME ...]`: draw the pictures of an output folder, and its page."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from spilegate.errors import InputError
from spilegate.report.drawing import PAGE
from spilegate.report.terminal import Stream, complain
from spilegate.report.told import LAST, Told

# The run goes first: a process of it gets three times as much where there is not enough for both.
GIVES_WAY = 5


def main() -> int:
    """Draw, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m spilegate.report", description="Draw a run's pictures and its page."
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="folder written by spilegate reconstruct")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"draw these only: pictures, or {PAGE} for the page")
    parser.add_argument("--then", nargs="+", metavar="NAME", help=f"and only these, when {LAST!r} is read")
    parser.add_argument("--follow", type=float, metavar="SECONDS", help="write the page whenever something is read")
    parser.add_argument("--while-fed", action="store_true", help="end when standard input does; give way to the run")
    options = parser.parse_args()
    told = Told() if options.while_fed or options.then or options.follow else None
    if options.while_fed and hasattr(os, "nice"):
        os.nice(GIVES_WAY)
    try:
        if options.follow and told is not None:
            _follow(options.folder, told, options.follow)
        elif options.only or not options.then:
            _draw(options.folder, options.only)
        if options.then and told is not None:
            told.wait_for_last()
            _draw(options.folder, options.then)
    except InputError as error:
        complain(f"error: {error}")
        return 2
    except OSError as error:
        complain(f"error: {error.filename or options.folder}: {error.strerror or error}; check space and permissions")
        return 2
    return 0


def _draw(folder: Path, names: list[str] | None) -> None:
    """Draw the page and pictures, all if no names are given; print their paths."""
    from spilegate.report.page import build
    from spilegate.report.pictures import NAMES, draw

    some = [PAGE, *NAMES] if names is None else names
    output = Stream(sys.stdout)
    paths = [build.write(folder)[0]] if PAGE in some else []
    paths += draw(folder, tuple(name for name in some if name != PAGE)) if set(some) - {PAGE} else []
    for path in paths:
        output.write(f"{path}\n")
    output.flush()


def _follow(folder: Path, told: Told, seconds: float) -> None:
    """Write the page whenever it is told to, until the end comes; what it needs is loaded after so many seconds."""
    told.wait(seconds)
    from spilegate.report.page import build

    soon = False
    while not (soon or told.last):
        told.taken()
        # What is told after this is not lost: the end has a word of its own.
        soon = told.soon
        if not told.last:
            # The next generation has another chance.
            with contextlib.suppress(InputError, OSError):
                build.write(folder)
    # What draws pictures is loaded while the run has other things to do.
    from spilegate.report import pictures  # noqa: F401


if __name__ == "__main__":
    sys.exit(main())
