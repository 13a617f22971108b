"""`python -m spilegate.report OUT [--only NAME ...]`: draw the pictures of an output folder."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from spilegate.errors import InputError


def main() -> int:
    """Draw, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spilegate.report", description="Draw a run's pictures.")
    parser.add_argument("folder", type=Path, metavar="OUT", help="folder written by spilegate reconstruct")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="draw these pictures only")
    parser.add_argument("--background", action="store_true", help="give way to every other process")
    options = parser.parse_args()
    if options.background and hasattr(os, "nice"):
        os.nice(15)
    try:
        from spilegate.report.pictures import NAMES, draw

        for path in draw(options.folder, tuple(options.only or NAMES)):
            sys.stdout.write(f"{path}\n")
    except InputError as error:
        sys.stderr.write(f"spilegate: error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
