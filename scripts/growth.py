#!/usr/bin/env python3
"""How the time of a run grows with patterns, pixels and speckles: a table, and exponents fitted to it.

    .venv/bin/python scripts/growth.py --pdb 3iyf.pdb --output growth

Every set is simulated once; every run is one `spilegate reconstruct` without half-sets, a process of its own, its wall
time that of the command, files and pictures included. What is in DIR is not run again. One thing changes at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Case:
    """One set of patterns; its speckles are those of a resolution."""

    patterns: int = 1000
    pixels: int = 64
    resolution_angstrom: float = 12.7

    @property
    def name(self) -> str:
        """Return the name of its files."""
        return f"{self.patterns}-{self.pixels}-{self.resolution_angstrom:g}"


BASE = Case()
CHANGES: dict[str, list[Case]] = {
    "patterns": [replace(BASE, patterns=number) for number in (500, 1000, 2000, 4000)],
    "pixels": [replace(BASE, pixels=number) for number in (64, 96, 128)],
    "speckles": [replace(BASE, resolution_angstrom=edge) for edge in (25.4, 17.9, 12.7)],
}


def main() -> int:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pdb", type=Path, required=True, metavar="FILE", help="atoms of the particle")
    parser.add_argument("--photons", default="54000", metavar="MEAN", help="per pattern (default: 54000)")
    parser.add_argument("--wavelength-angstrom", default="2.7", metavar="NUMBER", help="default: 2.7")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where everything goes")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for case in dict.fromkeys(case for cases in CHANGES.values() for case in cases):
        simulate(case, options)
    print("| what changes | its values | seconds | exponent |\n|---|---|---|---|")
    for what, cases in CHANGES.items():
        seconds = [measured(case, options) for case in cases]
        values = [1 / case.resolution_angstrom if what == "speckles" else getattr(case, what) for case in cases]
        exponent = np.polyfit(np.log(values), np.log(seconds), 1)[0]
        shown = [
            f"{case.resolution_angstrom:g} A" if what == "speckles" else str(getattr(case, what)) for case in cases
        ]
        print(
            f"| {what} | {', '.join(shown)} | {', '.join(f'{s:.0f}' for s in seconds)} | {exponent:.2f} |", flush=True
        )
    return 0


def simulate(case: Case, options: argparse.Namespace) -> None:
    """Write the patterns of a case unless they are there."""
    path = options.output / f"{case.name}.h5"
    if not path.is_file():
        size = ["--images", case.patterns, "--pixels", case.pixels, "--resolution-angstrom", case.resolution_angstrom]
        beam = ["--photons", options.photons, "--wavelength-angstrom", options.wavelength_angstrom, "--seed", 1]
        run("simulate", "--pdb", options.pdb, *size, *beam, "--output", path)


def measured(case: Case, options: argparse.Namespace) -> float:
    """Return the wall time of a run [s]."""
    record = options.output / f"{case.name}.json"
    if not record.is_file():
        begin = time.perf_counter()
        folder = ["--output", options.output / case.name, "--force"]
        quick = ["--no-half-sets", "--set", "resolution.phasings=0"]
        run("reconstruct", options.output / f"{case.name}.h5", *folder, *quick, "--seed", 1)
        record.write_text(json.dumps({"seconds": time.perf_counter() - begin}))
    return float(json.loads(record.read_text())["seconds"])


def run(*words: object) -> None:
    """Run a command line of spilegate quietly; its own words say what is wrong."""
    subprocess.run([sys.executable, "-m", "spilegate", *map(str, words), "--quiet"], check=True)


if __name__ == "__main__":
    sys.exit(main())
