"""Part 4 of `scripts/gpu_check`: the command line under the legate launcher against the same command without it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from gpu_check_report import Report
from gpu_check_runs import LEAST_CORRELATION, Size

from spilegate.evaluation.comparison import compare
from spilegate.formats.record import load_record
from spilegate.records import State

PART = "legate"
MAIN = Path(__file__).resolve().parent.parent / "spilegate" / "main.py"
# Of the time without the launcher, at most; and what a run may take [s].
MOST_TIMES, LIMIT = 1.2, 200


def under_the_launcher(report: Report, size: Size, *, dry: bool, free_mib: int) -> None:
    """Reconstruct a file by `--backend cupy` (NumPy if dry), under `legate --gpus 1`, and on two ranks if it can."""
    launcher = shutil.which("legate")
    if find_spec("legate") is None or launcher is None:
        report.note(legate="not installed here: nothing was run under its launcher")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data.h5"
        _run(
            [sys.executable, str(MAIN), "simulate", "--images", str(size.images), "--pixels", str(size.pixels),
             "--resolution-angstrom", str(size.resolution_angstrom), "--photons", "20000", "--output", str(data)]
        )  # fmt: skip
        own = ["--gpus", "0", "--sysmem", "2000"] if dry else ["--gpus", "1", "--fbmem", str(int(0.5 * free_mib))]
        two = [*own[:2], own[2], str(int(own[3]) // 2), "--ranks-per-node", "2", "--launcher", "mpirun"]
        # The first run of all compiles CuPy's kernels, which it keeps for every later one.
        ways = {
            "alone, first": [sys.executable, str(MAIN)],
            "alone": [sys.executable, str(MAIN)],
            "legate, one rank": [launcher, "--cpus", "1", *own, str(MAIN)],
            "legate, two ranks": [launcher, "--cpus", "1", *two, "--launcher-extra=--oversubscribe", str(MAIN)],
        }
        seconds, states = {}, {}
        for way, command in ways.items():
            output = folder / way.replace(" ", "-").replace(",", "")
            options = ["--backend", "numpy" if dry else "cupy"] if way.startswith("alone") else []
            arguments = [*command, "reconstruct", str(data), "--output", str(output), "--no-half-sets", *options]
            try:
                _run(arguments)
            except RuntimeError as error:
                if way == "legate, two ranks":
                    report.note(two_ranks=f"did not run: {error}")
                else:
                    report.check(PART, way, good=False, text=str(error))
                continue
            summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
            seconds[way], states[way] = (
                summary["seconds"]["reconstruct"],
                load_record(output / "checkpoint.h5", State)[0],
            )
            report.speed(f"reconstruct, {way}", seconds[way], seconds.get("alone"), **summary["seconds"]["stages"])
        for way, state in states.items():
            if way.startswith("alone") or "alone" not in states:
                continue
            right = states["alone"]
            found, _ = compare(
                state.density[0], state.voxel_angstrom, right.density[0], right.voxel_angstrom,
                q_max=1 / size.resolution_angstrom, threads=1,
            )  # fmt: skip
            good = found.correlation >= LEAST_CORRELATION
            report.check(PART, f"density, {way}", good, f"correlation {found.correlation:.5f} with that alone")
            times = seconds[way] / seconds["alone"]
            if not dry:
                report.check(PART, f"time, {way}", times <= MOST_TIMES, f"{times:.2f} times that alone")


def _run(command: list[str]) -> None:
    """Run a command; RuntimeError with the last line it printed if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise RuntimeError(f"{' '.join(command[:4])} ... ended with {done.returncode}: {last}")
