#!/usr/bin/env python3
"""How often, how well and how fast blind reconstruction succeeds: the table of particles, photons and seeds.

    .venv/bin/python scripts/blind_rate.py --particle demo --pdb protein.pdb --output rates
    .venv/bin/python scripts/blind_rate.py --photons none 20000 --seeds 0-4 --output rates

Every data set is simulated once (one fixed seed); every seed is one `spilegate reconstruct` and one `spilegate
evaluate`, each a process of its own, as a user would run them. What is finished in DIR is not run again. The table is
printed and written to DIR/table.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

SIMULATION_SEED = 1
LEAST_CORRELATION = 0.9
# Photons per pattern to the largest median orientation error [degrees] of a success; others take the widest.
ERROR_LIMITS = {"none": 0.7, "20000": 1.5, "5000": 3.0}
WIDEST = 3.0


@dataclass(frozen=True)
class Result:
    """One reconstruction: how well, how fast."""

    seed: int
    correlation: float
    orientation_error_deg: float
    resolution_angstrom: float | None
    seconds: float
    peak_memory_mib: float
    failure: str = ""

    def success(self, photons: str) -> bool:
        """Tell whether it is as good as its row of the table asks for."""
        limit = ERROR_LIMITS.get(photons, WIDEST)
        return self.correlation >= LEAST_CORRELATION and self.orientation_error_deg <= limit


def main() -> int:
    """Run what is missing, print and write the table."""
    options = parse_options()
    options.output.mkdir(parents=True, exist_ok=True)
    sources = [("--particle", name) for name in options.particle] + [("--pdb", path) for path in options.pdb]
    rows: list[str] = []
    for source in sources or [("--particle", "demo")]:
        for photons in options.photons:
            found = run_row(source, photons, options)
            rows.append(table_row(Path(source[1]).stem, photons, found))
            table = "\n".join([*HEADER, *rows]) + "\n"
            (options.output / "table.md").write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--particle", action="append", default=[], help="built-in particle; may be repeated")
    parser.add_argument("--pdb", action="append", default=[], help="PDB or mmCIF file; may be repeated")
    parser.add_argument("--photons", nargs="+", default=list(ERROR_LIMITS), help="mean per pattern, or none")
    parser.add_argument("--seeds", type=parse_seeds, default=range(20), help="first-last, e.g. 0-19")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--resolution-angstrom", type=float, default=8.0)
    parser.add_argument("--wavelength-angstrom", type=float, default=1.0)
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="for reconstruct")
    parser.add_argument("--jobs", type=int, default=1, help="reconstructions at a time; times are honest only with 1")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    return parser.parse_args()


def parse_seeds(text: str) -> range:
    """Read `0-19` or `7`."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def spilegate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the package, by this Python."""
    command = [sys.executable, str(Path(__file__).resolve().parent.parent / "spilegate" / "main.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_row(source: tuple[str, str], photons: str, options: argparse.Namespace) -> list[Result]:
    """Simulate a data set if it is not there, and reconstruct it with every seed that is not finished."""
    folder = options.output / f"{Path(source[1]).stem}-{options.images}x{options.pixels}-{photons}"
    folder.mkdir(exist_ok=True)
    data = folder / "data.h5"
    if not data.exists():
        done = spilegate(
            "simulate", *source, "--images", str(options.images), "--pixels", str(options.pixels),
            "--resolution-angstrom", str(options.resolution_angstrom),
            "--wavelength-angstrom", str(options.wavelength_angstrom),
            "--photons", photons, "--seed", str(SIMULATION_SEED), "--output", str(data), "--quiet",
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr.strip())

    def run_and_tell(seed: int) -> Result:
        latest = run_seed(data, seed, photons, folder, options.set)
        good = "success" if latest.success(photons) else f"FAILURE {latest.failure}".strip()
        print(
            f"{folder.name} seed {seed}: {good}, correlation {latest.correlation:.4f}, "
            f"{latest.orientation_error_deg:.2f} degrees, {latest.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
        return latest

    with ThreadPoolExecutor(options.jobs) as pool:
        return list(pool.map(run_and_tell, options.seeds))


def run_seed(data: Path, seed: int, photons: str, folder: Path, assignments: list[str]) -> Result:
    """Return the result of one seed, from its file or by running it; the full output of a failure is kept."""
    kept = folder / f"seed-{seed}.json"
    if kept.exists():
        return Result(**json.loads(kept.read_text(encoding="utf-8")))
    out = folder / f"seed-{seed}"
    # The truth is known here: no need to measure agreement.
    assignments = ["resolution.half_sets=false", "resolution.phasings=0", *assignments]
    settings = [word for text in assignments for word in ("--set", text)]
    begin = time.perf_counter()
    done = spilegate(
        "reconstruct", str(data), "--output", str(out), "--seed", str(seed), "--force", "--quiet", *settings
    )
    seconds = time.perf_counter() - begin
    if not done.returncode:
        done = spilegate("evaluate", str(out), "--reference", str(data), "--quiet")
    if done.returncode:
        result = Result(seed, 0.0, 180.0, None, seconds, 0.0, (done.stderr.strip().splitlines() or ["no message"])[-1])
    else:
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        evaluation = summary["evaluation"]
        result = Result(
            seed,
            evaluation["correlation"],
            evaluation["orientation_error_deg"]["median"],
            evaluation["resolution_angstrom"],
            seconds,
            summary["peak_memory_mib"],
        )
        shutil.copy(out / "summary.json", folder / f"seed-{seed}.summary.json")
        if result.success(photons):
            shutil.rmtree(out)
    kept.write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
    return result


HEADER = (
    "| particle | photons per pattern | successes | correlation, median (worst) | "
    "median orientation error, median (worst) [degrees] | FSC-0.5 resolution, median (worst) [angstrom] | "
    "seconds, median (most) | peak memory, most [MiB] |",
    "|---|---|---|---|---|---|---|---|",
)


def table_row(name: str, photons: str, results: list[Result]) -> str:
    """Return the line of the table for one data set."""
    wins = sum(result.success(photons) for result in results)
    limit = ERROR_LIMITS.get(photons, WIDEST)
    resolutions = [result.resolution_angstrom or float("inf") for result in results]
    errors = [result.orientation_error_deg for result in results]
    correlations = [result.correlation for result in results]
    seconds = [result.seconds for result in results]
    return (
        f"| {name} | {photons} (limit {limit:g} degrees) | {wins} of {len(results)} "
        f"| {statistics.median(correlations):.4f} ({min(correlations):.4f}) "
        f"| {statistics.median(errors):.2f} ({max(errors):.2f}) "
        f"| {statistics.median(resolutions):.2f} ({max(resolutions):.2f}) "
        f"| {statistics.median(seconds):.1f} ({max(seconds):.1f}) "
        f"| {max(result.peak_memory_mib for result in results):.0f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
