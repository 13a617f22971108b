#!/usr/bin/env python3
"""Blind reconstruction of patterns as facilities record them: how often, how well, and how honest its resolution.

    .venv/bin/python scripts/real_photons.py --case masked 1000 --seeds 0-19 --output photons
    .venv/bin/python scripts/real_photons.py --pdb open.pdb --other closed.pdb --case states --output photons
    .venv/bin/python scripts/real_photons.py --case 1000 --half-sets --output photons

The particle is adenylate kinase unless said, its second state the closed form; both come with MDAnalysisTests.
A seed is a data set of its own, reconstructed by a run of that seed: one `spilegate simulate`, one `reconstruct`, one
`evaluate`, each a process, as a user would run them. What is finished in DIR is not run again. A success is a
correlation with the truth of at least 0.8 and a resolution (FSC 0.5 against the truth) of at most 2.5 times the edge;
for noise it is that no resolution is stated. The table is printed and written to DIR/table.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from blind_rate import parse_seeds, spilegate

EDGE_ANGSTROM = 8.0
LEAST_CORRELATION = 0.8
COARSEST = 2.5 * EDGE_ANGSTROM
# Patterns, photons per pattern, options of `simulate`, options of `reconstruct`.
CASES: dict[str, tuple[int, int, str, str]] = {
    "masked": (1000, 20_000, "--mask cross,beamstop --scale-decades 1 --background 0.2", ""),
    "20000": (1000, 20_000, "", ""),
    "5000": (1000, 5_000, "", ""),
    "1000": (1000, 1_000, "", ""),
    "300": (4000, 300, "", ""),
    "100": (20_000, 100, "", ""),
    "states": (1000, 20_000, "--populations 0.5,0.5", "--set matching.states=2"),
    "states-80": (1000, 20_000, "--populations 0.8,0.2", "--set matching.states=2"),
    "junk": (1000, 20_000, "--junk 0.1", ""),
    "noise": (1000, 20_000, "", ""),
}


def main() -> int:
    """Run what is missing, print and write the table."""
    options = parse_options()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in options.case:
        with ThreadPoolExecutor(options.jobs) as pool:
            found = list(pool.map(lambda seed, case=case: run_seed(case, seed, options), options.seeds))
        rows.append(table_row(case, found))
        table = "\n".join([*HEADER, *rows]) + "\n"
        (options.output / "table.md").write_text(table, encoding="utf-8")
    print(table, end="")
    return 0


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pdb", help="PDB or mmCIF file; adenylate kinase, open, if left out")
    parser.add_argument("--other", help="atoms of the second state; adenylate kinase, closed, if left out")
    parser.add_argument("--case", nargs="+", choices=CASES, default=["masked"])
    parser.add_argument("--seeds", type=parse_seeds, default=range(1), help="first-last, e.g. 0-19")
    parser.add_argument("--images", type=int, help="in place of the case's number of patterns")
    parser.add_argument(
        "--half-sets", action="store_true", help="three reconstructions a seed, and a resolution stated"
    )
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="for reconstruct")
    parser.add_argument("--jobs", type=int, default=1, help="reconstructions at a time; times are honest only with 1")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    try:
        options.pdb = options.pdb or adenylate_kinase("open")
        if any(case.startswith("states") for case in options.case):
            options.other = options.other or adenylate_kinase("closed")
    except FileNotFoundError as error:
        parser.error(f"--pdb, --other: {error}")
    return options


def adenylate_kinase(form: str) -> Path:
    """Return the file of the atoms of adenylate kinase, "open" (4AKE) or "closed" (1AKE), that MDAnalysisTests has.

    The package is found but not imported: it would bring all of MDAnalysis.
    Raises FileNotFoundError if it is not there.
    """
    package = find_spec("MDAnalysisTests")
    for folder in (package.submodule_search_locations or []) if package else []:
        if (path := Path(folder, "data", f"adk_{form}.pdb")).is_file():
            return path
    raise FileNotFoundError(
        f"adk_{form}.pdb of the package MDAnalysisTests not found; pip install MDAnalysisTests, or name another file"
    )


def run_seed(case: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the summary of one seed, from its file or by running it."""
    images, photons, conditions, settings = CASES[case]
    images = options.images or images
    halves = options.half_sets or case == "noise"
    name = f"{case}-{images}{'-halves' if halves else ''}-{seed}"
    kept, data, out = (options.output / f"{name}{suffix}" for suffix in (".json", ".h5", ""))
    if not kept.exists():
        atoms = ["--states", f"{options.pdb},{options.other}"] if "states" in case else ["--pdb", options.pdb]
        command(
            "simulate", *atoms, *conditions.split(), "--images", str(images), "--photons", str(photons),
            "--resolution-angstrom", str(EDGE_ANGSTROM), "--seed", str(seed), "--output", str(data), "--force",
            "--quiet",
        )  # fmt: skip
        if case == "noise":
            forget_the_particle(data, seed)
        more = [word for text in options.set for word in ("--set", text)]
        command(
            "reconstruct", str(data), "--output", str(out), "--seed", str(seed), "--force", "--quiet",
            "--half-sets" if halves else "--no-half-sets", *settings.split(), *more,
        )  # fmt: skip
        if case != "noise":
            command("evaluate", str(out), "--reference", str(data), "--quiet")
        shutil.move(out / "summary.json", kept)
        shutil.rmtree(out)
        data.unlink()
    summary: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    print(f"{name}: {'success' if success(summary) else 'FAILURE'}, {in_words(summary)}", file=sys.stderr, flush=True)
    return summary


def command(*arguments: str) -> None:
    """Run a command of the package; end with its error if it has one."""
    done = spilegate(*arguments)
    if done.returncode:
        sys.exit(f"spilegate {' '.join(arguments)}: {done.stderr.strip()}")


def forget_the_particle(path: Path, seed: int) -> None:
    """Draw new photons in every pattern, all from the mean of all patterns and their rings: no particle is left."""
    with h5py.File(path, "r+") as file:
        images, q = file["intensities"], file["pixel_position_reciprocal"][()]
        bins = np.rint(np.linalg.norm(q, axis=-1).ravel() / np.abs(q).max() * 32).astype(int)
        ring = np.bincount(bins, images[()].mean(axis=0).ravel()) / np.maximum(np.bincount(bins), 1)
        mean = np.broadcast_to(ring[bins].reshape(images.shape[1:]), images.shape)
        images[...] = np.random.default_rng(seed).poisson(mean)


def success(summary: dict[str, Any]) -> bool:
    """Tell whether it is as good as it has to be."""
    found = summary.get("evaluation")
    if not found:
        return summary["resolution"]["resolution_angstrom"] is None
    fine = (found["resolution_angstrom"] or np.inf) <= COARSEST
    return bool(fine and found["correlation"] >= LEAST_CORRELATION)


def bias(summary: dict[str, Any]) -> float | None:
    """Return by what part the half-sets' resolution (FSC 0.143) is coarser than the truth's (FSC 0.5)."""
    halves = (summary["resolution"]["half_set"] or {}).get("resolution_angstrom")
    truth = (summary.get("evaluation") or {}).get("resolution_angstrom")
    return halves / truth - 1 if halves and truth else None


def in_words(summary: dict[str, Any]) -> str:
    """Return what a seed gave, in one line."""
    found = summary.get("evaluation") or {}
    parts = [f"{key.replace('_', ' ')} {found[key]:.4g}" for key in SHOWN if found.get(key) is not None]
    if found.get("orientation_error_deg"):
        parts.append(f"{found['orientation_error_deg']['median']:.2f} degrees")
    if (difference := bias(summary)) is not None:
        parts.append(f"half-sets {100 * difference:+.0f} %")
    parts += [f"stated {summary['resolution']['resolution_angstrom']}", f"{summary['seconds']['total']:.0f} s"]
    return ", ".join(parts)


SHOWN = ("correlation", "resolution_angstrom", "state_accuracy", "junk_found", "good_lost")
HEADER = (
    "| case | patterns | successes | correlation, median (worst) | FSC-0.5 resolution, median (worst) [angstrom] "
    "| half-sets against truth [%] | states right, least | junk found, least; good lost, most | seconds, median |",
    "|---|---|---|---|---|---|---|---|---|",
)


def table_row(case: str, summaries: list[dict[str, Any]]) -> str:
    """Return the line of the table for one case."""
    found = [summary.get("evaluation") or {} for summary in summaries]

    def column(key: str) -> list[float]:
        return [one[key] for one in found if one.get(key) is not None]

    resolutions = [one["resolution_angstrom"] or np.inf for one in found if one]
    correlations, junk, lost = column("correlation"), column("junk_found"), column("good_lost")
    biases = ", ".join(f"{100 * value:+.0f}" for value in map(bias, summaries) if value is not None)
    cells = [
        case,
        str(summaries[0]["input"]["patterns"]),
        f"{sum(map(success, summaries))} of {len(summaries)}",
        f"{statistics.median(correlations):.4f} ({min(correlations):.4f})" if correlations else "",
        f"{statistics.median(resolutions):.2f} ({max(resolutions):.2f})" if resolutions else "",
        biases,
        f"{min(column('state_accuracy')):.4f}" if case.startswith("states") and column("state_accuracy") else "",
        f"{min(junk):.3f}; {max(lost):.3f}" if junk else "",
        f"{statistics.median(summary['seconds']['total'] for summary in summaries):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
