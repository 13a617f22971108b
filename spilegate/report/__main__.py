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
    parser.add_argument("--background", action="store_true", help="give way to every other process")
    parser.add_argument("--while-fed", action="store_true", help="end when standard input does")
    options = parser.parse_args()
    if options.while_fed:
        threading.Thread(target=_end_with_input, daemon=True).start()
    if options.background and hasattr(os, "nice"):
        os.nice(15)
    output = Stream(sys.stdout)
    try:
        from spilegate.report.pictures import NAMES, draw

        for path in draw(options.folder, tuple(options.only or NAMES)):
            output.write(f"{path}\n")
    except InputError as error:
        complain(f"error: {error}")
        return 2
    except OSError as error:
        complain(f"error: {error.filename or options.folder}: {error.strerror or error}; check space and permissions")
        return 2
    output.flush()
    return 0


def _end_with_input() -> None:
    """Wait for the end of standard input, which the run holds open as long as it lives, and end this process."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
