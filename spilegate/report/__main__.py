"""`python -m spilegate.report OUT [--only NAME ...]`: draw the pictures of an output folder."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from spilegate.errors import InputError
from spilegate.report.terminal import Stream, complain


def main() -> int:
    """Draw, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spilegate.report", description="Draw a run's pictures.")
    parser.add_argument("folder", type=Path, metavar="OUT", help="folder written by spilegate reconstruct")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="draw these pictures only")
    parser.add_argument("--then", nargs="+", metavar="NAME", help="and only these, when a line is read")
    parser.add_argument("--background", action="store_true", help="give way to every other process")
    parser.add_argument("--while-fed", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    told = threading.Event()
    if options.while_fed or options.then:
        threading.Thread(target=_end_with_input, args=(told,), daemon=True).start()
    if options.background and hasattr(os, "nice"):
        os.nice(15)
    output = Stream(sys.stdout)
    try:
        from spilegate.report.pictures import NAMES, draw

        # What it needs is loaded by now, whatever it waits for.
        paths = draw(options.folder, tuple(options.only or NAMES)) if options.only or not options.then else []
        if options.then:
            told.wait()
            paths += draw(options.folder, tuple(options.then))
        for path in paths:
            output.write(f"{path}\n")
    except InputError as error:
        complain(f"error: {error}")
        return 2
    except OSError as error:
        complain(f"error: {error.filename or options.folder}: {error.strerror or error}; check space and permissions")
        return 2
    output.flush()
    return 0


def _end_with_input(told: threading.Event) -> None:
    """Tell what is read from standard input, which the run holds open as long as it lives, and end this with it."""
    while os.read(0, 1):
        told.set()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
