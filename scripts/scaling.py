#!/usr/bin/env python3
"""Measure reconstructions through the real launcher: weak scaling, what Legate adds to NumPy, memory of the ranks.

    python scripts/scaling.py weak     --folder runs --patterns 1000 --pixels 64
    python scripts/scaling.py overhead --folder runs --patterns 1000 --pixels 64 --repeats 3
    python scripts/scaling.py memory   --folder runs --patterns 8000 --pixels 128 --set start.count=1

Data are simulated into the folder unless they are there; every number goes into FOLDER/scaling.json, which
`scripts/scaling_model.py --check` reads. Times are honest only on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from spilegate.kernels.blocks import GROUP, block_rows

ROOT = Path(__file__).resolve().parent.parent
SIMULATION_SEED = 1
STAGES = ("start", "match", "refine", "merge", "phase")
TWO_RANKS = ["--ranks-per-node", "2", "--launcher", "mpirun", "--launcher-extra=--oversubscribe"]

Point = dict[str, Any]


def main() -> int:
    """Measure what was asked for and add it to the file."""
    options = parse_options()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = {"weak": weak, "overhead": overhead, "memory": memory}[options.what](options)
    path = options.output or options.folder / "scaling.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, options.what: found}, indent=1) + "\n", encoding="utf-8")
    print(f"numbers in {path}")
    return 0


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weak", "overhead", "memory"))
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="for data and runs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the numbers  [default: DIR/scaling.json]")
    parser.add_argument("--patterns", type=int, default=1000, help="of the run on one rank")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--resolution-angstrom", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="for reconstruct")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each kind, by turns; medians count")
    launcher = f"{shlex.quote(str(ROOT / 'scripts' / 'legate'))} --environment"
    parser.add_argument("--legate", default=f"{launcher} legate", metavar="COMMAND", help="launcher on one rank")
    parser.add_argument("--mpi", default=f"{launcher} mpi", metavar="COMMAND", help="launcher on several ranks")
    program = shlex.quote(str(ROOT / ".venv" / "bin" / "spilegate"))
    parser.add_argument("--numpy", default=program, metavar="COMMAND", help="spilegate on NumPy")
    return parser.parse_args()


# --- What is measured ------------------------------------------------------------------------------------------------


def weak(options: argparse.Namespace) -> dict[str, Any]:
    """Compare one rank with two ranks on twice the patterns, one CPU each, both in the environment of several ranks."""
    counts = {1: options.patterns, 2: 2 * options.patterns}
    runs: dict[int, list[Point]] = {ranks: [] for ranks in counts}
    diameter: float | None = None
    for repeat in range(options.repeats):
        for ranks, count in counts.items():
            launcher = legate(options, ranks, 1, count)
            point = reconstruct(launcher, options, count, f"weak-{ranks}-{repeat}", diameter)
            runs[ranks].append(point)
            # Every run plans the same generations, though one may converge a generation earlier than another.
            diameter = diameter or point["diameter_angstrom"]
    points = [median(runs[ranks]) for ranks in counts]
    common = min(len(point["generations"]) for point in points)
    one, two = (point["generations"][:common] for point in points)
    for number, seconds in enumerate(zip(one, two, strict=True), start=1):
        print_pair(f"generation {number}{' (blind start)' if number == 1 else ''}", *seconds)
    ratio = print_pair("generations after the start", sum(one[1:]), sum(two[1:]))
    for stage in STAGES:
        print_pair(f"stage {stage}", *(point["stages"].get(stage, 0.0) for point in points))
    return {"points": points, "ratio": ratio, "bar": 1.15}


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """Compare two threads of NumPy with two CPUs of Legate, the same data and seed, start-up apart."""
    launchers = {
        "numpy": [*shlex.split(options.numpy), "reconstruct", "--set", "compute.threads=2"],
        "legate": legate(options, 1, 2, options.patterns),
    }
    runs: dict[str, list[Point]] = {name: [] for name in launchers}
    for repeat in range(options.repeats):
        for name, launcher in launchers.items():
            label = f"overhead-{name}-{repeat}"
            runs[name].append(reconstruct(launcher, options, options.patterns, label))
    numpy, under_legate = (median(runs[name]) for name in launchers)
    for stage in STAGES:
        print_pair(f"stage {stage}", numpy["stages"].get(stage, 0.0), under_legate["stages"].get(stage, 0.0))
    ratio = print_pair("reconstruct, NumPy and Legate", numpy["reconstruct"], under_legate["reconstruct"])
    return {"numpy": numpy, "legate": under_legate, "ratio": ratio}


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Compare the memory that patterns take on one rank and on each of two: what a run with few of them has not."""
    # As many as leave the blocks that are worked on as large as they are, if that is few.
    few = max(GROUP, min(2 * block_rows(options.patterns, options.pixels**2), options.patterns // 8))
    if few >= options.patterns:
        sys.exit(f"scaling.py: --patterns {options.patterns}; expected more than {few} to compare with as few")
    peaks: dict[int, dict[int, list[float]]] = {1: {}, 2: {}}
    diameter: float | None = None
    for ranks, of_count in peaks.items():
        for count in (options.patterns, few):
            # Both get the same share of memory from the launcher.
            launcher = legate(options, ranks, 1, options.patterns)
            point = reconstruct(launcher, options, count, f"memory-{ranks}-{count}", diameter)
            diameter = diameter or point["diameter_angstrom"]
            of_count[count] = point["peak_memory_mib_by_processor"]
    return pattern_memory(peaks, 4 * options.patterns * options.pixels**2 / 2**20)


def pattern_memory(peaks: dict[int, dict[int, list[float]]], all_mib: float) -> dict[str, Any]:
    """Print and return what patterns take on every rank.

    peaks : by number of ranks and of patterns, the peak memory of every rank [MiB]; all_mib : all patterns [MiB]
    """
    each = {}
    for ranks, of_count in peaks.items():
        (few, low), (many, high) = sorted(of_count.items())
        each[ranks] = max(with_many - with_few for with_many, with_few in zip(high, low, strict=True))
        print(
            f"{ranks} rank(s): peak {high} MiB with {many} patterns, {low} MiB with {few}, so the patterns take "
            f"{each[ranks]:.0f} MiB a rank (all of them are {all_mib:.0f} MiB)"
        )
    ratio = each[2] / each[1] if each[1] > 0 else math.nan
    print(f"patterns on each of two ranks over those on one: {ratio:.2f} (bar: 0.60)")
    return {"peak_mib": peaks, "patterns_mib": each, "all_mib": all_mib, "ratio": ratio, "bar": 0.6}


# --- Runs ------------------------------------------------------------------------------------------------------------


def legate(options: argparse.Namespace, ranks: int, cpus: int, patterns: int) -> list[str]:
    """Return the command that starts a reconstruction under the launcher, with memory for the patterns.

    Weak scaling and memory compare ranks, so that one rank runs in the environment of several, too.
    """
    command = options.legate if options.what == "overhead" else options.mpi
    mebibytes = 1000 + math.ceil(2 * 4 * patterns * options.pixels**2 / 2**20)
    return [
        *shlex.split(command),
        *["--cpus", str(cpus), "--gpus", "0", "--sysmem", str(mebibytes)],
        *(TWO_RANKS if ranks > 1 else []),
        str(ROOT / "spilegate" / "main.py"),
        "reconstruct",
    ]


def reconstruct(
    launcher: list[str], options: argparse.Namespace, patterns: int, name: str, diameter_angstrom: float | None = None
) -> Point:
    """Run a reconstruction and return what its summary says of time, memory and size."""
    data, folder = simulated(options, patterns), options.folder / name
    words = [str(data), "--output", str(folder), "--seed", str(options.seed), "--force", "--quiet"]
    if diameter_angstrom is not None:
        words += ["--diameter-angstrom", str(diameter_angstrom)]
    # Half-sets are two more runs of the same kind, which would be timed together with the one that is looked at.
    assignments = ["resolution.half_sets=false", "resolution.phasings=0", *options.set]
    run([*launcher, *words, *(word for text in assignments for word in ("--set", text))])
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    point = read_point(summary)
    print(
        f"{name}: {point['patterns']} patterns, {point['backend']}, {point['ranks']} rank(s), "
        f"reconstruct {point['reconstruct']:.2f} s, generations {point['generations']} s",
        flush=True,
    )
    return point


def read_point(summary: dict[str, Any]) -> Point:
    """Return what counts of a run's summary; "all" sums up the stages of the generations after the start."""
    seconds, compute, settings = summary["seconds"], summary["compute"], summary["settings"]
    later = {stage: seconds["stages"].get(stage, 0.0) for stage in STAGES if stage != "start"}
    return {
        "backend": compute["backend"],
        "ranks": compute["ranks"],
        "processors": int(compute["processors"].partition(" ")[0]),
        "patterns": summary["input"]["patterns"],
        "side": math.isqrt(math.prod(summary["input"]["panel_shape"])),
        "diameter_angstrom": summary["diameter_angstrom"],
        "q_max": summary["q_max_inverse_angstrom"],
        "states": settings["matching"]["states"],
        "candidates": settings["matching"]["candidates"],
        "cycles": settings["phasing"]["cycles"],
        "phasings": settings["phasing"]["starts"],
        "reconstruct": seconds["reconstruct"],
        "generations": seconds["generations"],
        "stages": {**seconds["stages"], "all": sum(later.values())},
        "peak_memory_mib_by_processor": summary["peak_memory_mib_by_processor"],
    }


def median(points: list[Point]) -> Point:
    """Return one point with the median of every time of several runs of one kind, and all times of its reconstruct."""
    stages = {name: statistics.median(point["stages"][name] for point in points) for name in points[0]["stages"]}
    generations = [statistics.median(each) for each in zip(*(point["generations"] for point in points), strict=True)]
    times = [point["reconstruct"] for point in points]
    middle = {"stages": stages, "generations": generations, "reconstruct": statistics.median(times)}
    return {**points[0], **middle, "reconstruct_of_every_run": times}


def simulated(options: argparse.Namespace, patterns: int) -> Path:
    """Return the file of simulated patterns, made if it is not there."""
    path: Path = options.folder / f"{patterns}x{options.pixels}-{options.resolution_angstrom:g}.h5"
    if not path.exists():
        run([
            *shlex.split(options.numpy), "simulate", "--images", str(patterns), "--pixels", str(options.pixels),
            "--resolution-angstrom", str(options.resolution_angstrom), "--photons", "none",
            "--seed", str(SIMULATION_SEED), "--output", str(path), "--quiet",
        ])  # fmt: skip
    return path


def run(command: list[str]) -> None:
    """Run a program to its end; its failure ends this one with the last lines of what it said."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[-10:]
        sys.exit(f"scaling.py: {shlex.join(command)} ended with {done.returncode}:\n" + "\n".join(lines))


def print_pair(name: str, first: float, second: float) -> float:
    """Print two times and their ratio, and return it."""
    ratio = second / first if first else math.nan
    print(f"{name:<40}{first:9.2f} s{second:9.2f} s   ratio {ratio:.2f}")
    return ratio


if __name__ == "__main__":
    sys.exit(main())
