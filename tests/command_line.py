"""Running the command line from tests, and small inputs for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

import spilegate
from spilegate.cli import app
from spilegate.formats import maps, results

MAIN = Path(spilegate.__file__).resolve().parent / "main.py"
INTERRUPTED = 130
# Few and coarse: four speckles from the beam to the edge are enough to go through every stage.
SMALL = ["--images", "120", "--pixels", "40", "--resolution-angstrom", "18", "--photons", "none", "--seed", "3"]
QUICK = [
    *("--set", "start.iterations=4", "--set", "phasing.cycles=2", "--set", "phasing.starts=1"),
    *("--set", "resolution.half_sets=false", "--set", "resolution.phasings=2", "--seed", "5"),
]
# Single particles in less than half of the patterns, and what is enough to find them.
MIXED = [
    *("--images", "500", "--pixels", "36", "--resolution-angstrom", "12", "--photons", "5000", "--seed", "1"),
    *("--doublets", "0.15", "--aggregates", "0.15", "--droplets", "0.15", "--blank", "0.1"),
]
QUICK_SELECT = [
    *("--set", "start.iterations=8", "--set", "start.count=1", "--set", "phasing.cycles=2"),
    *("--set", "compute.threads=2"),
]


def run(*arguments: object) -> Result:
    """Run a command line in this process; Ctrl-C then stops the tests, and is not taken for the command's end."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exit_code == INTERRUPTED:
        raise KeyboardInterrupt
    return result


def process(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python spilegate/main.py ...` as a process of its own."""
    command = [sys.executable, str(MAIN), *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=540)


def content(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, to see that nothing was overwritten."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_line(code: int, stdout: str, stderr: str, expected: str) -> None:
    """Fail unless a command ended in one clear line and the exit code of bad input."""
    assert code == 2, stderr
    assert stdout == ""
    assert stderr.startswith("spilegate: error: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    assert expected in stderr
    assert "Traceback" not in stderr


def assert_same_results(first: Path, second: Path) -> None:
    """Fail unless two runs came to the same result."""
    for name in ("density.mrc", "autocorrelation.mrc"):
        one, other = maps.read_map(first / name)[0], maps.read_map(second / name)[0]
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())
    one, other = (results.read_orientations(folder / "orientations.h5") for folder in (first, second))
    np.testing.assert_allclose(other, one, atol=1e-6)
