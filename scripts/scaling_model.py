#!/usr/bin/env python3
"""A model of one generation on many processors: bytes moved, operations, seconds, and what saturates first.

    python scripts/scaling_model.py                             1 to 1024 GPUs, 10^4 to 10^8 patterns
    python scripts/scaling_model.py --machine here --measure    the same for cores like this machine's, measured first
    python scripts/scaling_model.py --measure --check scaling.json    the model against what scripts/scaling.py measured

What is counted is in spilegate/forecast/counts.py, the machines are in scaling_machines.py; --rate changes a constant.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scaling_machines import GPU_NODE, THIS_MACHINE, Machine, measured

from spilegate.forecast.counts import HOST_BYTES_PER_PATTERN, Load, Term, at_plan, full_radius, phasing_updates, terms
from spilegate.generation.models import FURTHER_STARTS
from spilegate.kernels import fft
from spilegate.schedule import schedule

PROCESSORS = (1, 4, 64, 1024)
PATTERNS = (10**4, 10**6, 10**8)
# Candidates that have to be refined to choose among them, where a pattern shows fewer speckles than these from the beam
# to the edge: counted in a run of 300 patterns.
AMBIGUOUS, FEW_SPECKLES = 2.0, 5.0
# Resources of the host's Python: the processors of a rank wait for each other there.
ONE_AT_A_TIME = ("call", "step")
WORDS = {
    "evaluate": "NUFFT points, type 2",
    "gather": "NUFFT points, type 1",
    "gemm": "GEMM",
    "fft": "FFT",
    "memory": "memory bandwidth",
    "call": "Python's array calls",
    "link": "copies from host to GPU",
    "host": "the host's memory bandwidth",
    "pattern": "bookkeeping on the host",
    "step": "Gauss-Newton steps on the host",
    "launch": "launches",
    "latency": "network latency",
    "network": "network bandwidth",
}


@dataclass(frozen=True)
class Estimate:
    """One generation on so many processors.

    parts : seconds by term and resource; moved : bytes that a rank receives over the network
    linked : bytes between a rank's host and its processors; processor_bytes, host_bytes : largest memory of a processor
    (0 where that is the host's) and of a rank's host
    """

    parts: dict[str, dict[str, float]]
    moved: float
    linked: float
    processor_bytes: float
    host_bytes: float

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by term."""
        return {name: sum(part.values()) for name, part in self.parts.items()}

    @property
    def total(self) -> float:
        """Seconds of the generation."""
        return sum(self.seconds.values())

    @property
    def first(self) -> str:
        """Name the term that takes longest, its part of the time, and what takes longest in it."""
        seconds = self.seconds
        name = max(seconds, key=lambda term: seconds[term])
        part = self.parts[name]
        return f"{name} ({seconds[name] / self.total:.0%}): {WORDS[max(part, key=lambda key: part[key])]}"

    def too_small(self, machine: Machine) -> list[str]:
        """Name the memories that do not suffice."""
        found = {
            "processor memory": self.processor_bytes - machine.processor_bytes,
            "host memory": self.host_bytes - machine.host_bytes,
        }
        return [name for name, excess in found.items() if excess > 0]


def estimate(load: Load, machine: Machine, processors: int) -> Estimate:
    """Return a generation on processors of a machine; ranks are filled one after the other."""
    parts, linked = {}, 0.0
    for term in terms(load, device=machine.gpu):
        share, together = _share(term, load, machine, processors)
        parts[term.name] = {
            resource: machine.seconds(resource, amount) * share * (together if resource in ONE_AT_A_TIME else 1)
            for resource, amount in term.amounts.items()
        }
        linked += term.amounts.get("link", 0.0) * share * together
    network = _network(load, machine, math.ceil(processors / machine.per_rank))
    for name, amounts in network.items():
        parts[name] = {resource: machine.seconds(resource, amount) for resource, amount in amounts.items()}
    moved = sum(amounts.get("network", 0.0) for amounts in network.values())
    return Estimate(parts, moved, linked, *_memory(load, machine, processors))


def _share(term: Term, load: Load, machine: Machine, processors: int) -> tuple[float, int]:
    """Return the busiest processor's share of a term, and how many processors of its rank work at once."""
    workers, pieces = processors, term.pieces
    if term.place == "rank":
        workers = pieces = 1
    elif term.place == "volumes" and load.split:
        pieces = processors
    elif term.place != "patterns" and not machine.gpu:
        # Every rank does it by itself, with the threads that it has.
        workers = pieces = min(processors, machine.per_rank)
    return math.ceil(pieces / workers) / pieces, min(machine.per_rank, workers, pieces)


def _network(load: Load, machine: Machine, ranks: int) -> dict[str, dict[str, float]]:
    """Return what launches and communication take of every resource, by term."""
    levels, elsewhere = math.ceil(math.log2(ranks)), 1 - 1 / ranks
    match, refine = (float(load.patterns * size) for size in load.row_bytes)
    launches = {"match": 1, "refine": 1, "merge": 1, "phase": 0}
    volumes = 0.0
    if machine.gpu:
        # Views and volumes are shared among GPUs, and what they return goes to every rank.
        launches = {"match": 2 + load.states, "refine": 1, "merge": 2, "phase": 1}
        match += load.slice_bytes + load.stack_bytes
        volumes = 4.0 * load.states * load.plan.size**3 * (1 + load.phasings)
    if load.split:
        launches["merge"] += 10 * load.states * (load.cg + 3)
        launches["phase"] += 10 * load.states * load.phasings * phasing_updates(load)

    def exchanged(stage: str, gathered: float, summed: float = 0.0) -> dict[str, float]:
        return {
            "launch": launches[stage],
            "network": gathered * elsewhere + 2 * levels * summed,
            "latency": levels * (launches[stage] + bool(gathered) + 2 * bool(summed)),
        }

    return {
        "match: launches, rows to every rank": exchanged("match", match),
        "refine: launches, rows to every rank": exchanged("refine", refine),
        "merge: launches, kernels to every rank": exchanged("merge", 0.0, load.sum_bytes),
        "phase: launches, volumes to every rank": exchanged("phase", volumes + _transposed(load) / ranks),
    }


def _transposed(load: Load) -> float:
    """Return the bytes of all spectra that transforms of split volumes bring from slabs of planes to slabs of lines."""
    if not load.split:
        return 0.0
    solve = 2 * (load.cg + 3) * 8 * fft.fast_size(2 * load.plan.size - 1) ** 3
    return float(load.states * (solve + 2 * load.phasings * phasing_updates(load) * 4 * load.plan.size**3))


def _memory(load: Load, machine: Machine, processors: int) -> tuple[float, float]:
    """Return the largest memory of a processor (0 if that is the host's) and of a rank's host."""
    rows = min(load.patterns, math.ceil(load.blocks / processors) * load.block)
    grid = fft.fast_size(2 * (2 * load.plan.size - 1))
    points = min(load.block, load.patterns) * load.used_merge
    merging = 16 * grid**3 + 100 * points + 2 * load.sum_bytes
    own = 4.0 * rows * load.stored + max(merging, load.stack_bytes)
    host = float(HOST_BYTES_PER_PATTERN * load.patterns + 3 * load.slice_bytes + load.stack_bytes + 4 * load.sum_bytes)
    if machine.gpu:
        return own, host
    return 0.0, host + own * min(processors, machine.per_rank)


def report(machine: Machine, cases: list[tuple[Load, int]]) -> Table:
    """Return the table of all cases."""
    word, load = "GPU" if machine.gpu else "CPU", cases[0][0]
    side = math.isqrt(load.stored)
    table = Table(
        title=f"One generation at full radius: {machine.name}\n{side}x{side} pixels, volumes of {load.plan.size}^3, "
        f"{load.views} views x {load.plan.n_phi} angles\n{machine.source}"
    )
    numbers = ["patterns", f"{word}s", "seconds", "network, a rank", "host to GPUs, a rank"]
    for column in [*numbers, f"memory, a {word}", "memory, a host", "efficiency"]:
        table.add_column(column, justify="right")
    table.add_column("saturates first (part of the time)")
    for load, processors in cases:
        found, alone = (estimate(load, machine, count) for count in (processors, 1))
        lacking = found.too_small(machine)
        table.add_row(
            powers(load.patterns),
            str(processors),
            f"{found.total:.3g}",
            with_unit(found.moved),
            with_unit(found.linked) if machine.gpu else "-",
            with_unit(found.processor_bytes) if machine.gpu else "-",
            with_unit(found.host_bytes),
            f"{alone.total / found.total / processors:.1%}",
            f"{' and '.join(lacking)}; then {found.first}" if lacking else found.first,
        )
    return table


def remarks(machine: Machine, cases: list[tuple[Load, int]]) -> list[str]:
    """Return what has to be known to read the table."""
    load = max((load for load, _ in cases), key=lambda load: load.patterns)
    rows = sum(load.row_bytes)
    idle = [
        f"{n} at {powers(other.patterns)} patterns ({other.blocks} blocks)" for other, n in cases if n > other.blocks
    ]
    return [
        "Nothing of this has been run on a GPU. Times are sums over terms: nothing overlaps.",
        f"State per pattern is replicated: in a generation {rows} bytes of rows of every pattern go to every rank, and "
        f"every rank's host keeps about {HOST_BYTES_PER_PATTERN} bytes of each (rows, candidates, quaternions). At "
        f"{powers(load.patterns)} patterns these are {with_unit(rows * load.patterns)} and "
        f"{with_unit(HOST_BYTES_PER_PATTERN * load.patterns)} a rank, and {machine.pattern * load.patterns:.0f} s of "
        "bookkeeping that no other processor takes over. Where enough processors hold the patterns, it breaks first.",
        "The number of blocks of patterns is about a power of two, and no block is divided. Processors beyond the "
        f"blocks idle: {'; '.join(idle) or 'in none of these cases'}.",
        "Efficiency compares with one processor, as if its memory sufficed.",
    ]


def powers(number: int) -> str:
    """Write a number of patterns: 1e4."""
    return f"{number:.3g}".replace("e+0", "e") if number >= 10**6 else f"{number:.0e}".replace("e+0", "e")


def with_unit(number: float) -> str:
    """Write bytes with a unit."""
    power = min(5, max(0, int(math.log10(max(number, 1)) // 3)))
    return f"{number / 1000**power:.3g} {['B', 'kB', 'MB', 'GB', 'TB', 'PB'][power]}"


def check(path: Path, machine: Machine) -> Table:
    """Return the model over what was measured, stage by stage, for the points that `scripts/scaling.py weak` wrote."""
    points = json.loads(path.read_text(encoding="utf-8")).get("weak", {}).get("points", [])
    if not points:
        raise ValueError(f"--check {path}: no measured points; expected what scripts/scaling.py weak writes")
    table = Table(title=f"Model over measurement: {path.name}\n{machine.source}")
    for column in ("ranks", "CPUs", "patterns", "seconds of", "model [s]", "measured [s]", "model / measured"):
        table.add_column(column, justify="right")
    for point in points:
        expected = modelled(point, machine)
        for name in expected:
            seconds = point["stages"][name]
            table.add_row(
                str(point["ranks"]),
                str(point["processors"]),
                str(point["patterns"]),
                name,
                f"{expected[name]:.2f}",
                f"{seconds:.2f}",
                f"{expected[name] / seconds:.2f}" if seconds else "-",
                end_section=name == "all",
            )
    return table


def modelled(point: dict[str, Any], machine: Machine) -> dict[str, float]:
    """Return the seconds of every stage, and of "all", in the generations after the start of a measured point."""
    here = replace(machine, per_rank=point["processors"] // point["ranks"])
    stages = dict.fromkeys(("match", "refine", "merge", "phase"), 0.0)
    plans = schedule(point["diameter_angstrom"], point["q_max"])
    # The generation at the full radius is repeated until nothing changes.
    plans += [replace(plans[-1], number=number) for number in range(len(plans) + 1, len(point["generations"]) + 1)]
    plans = plans[1:]
    for plan in plans:
        load = at_plan(plan, point["patterns"], point["side"], point["diameter_angstrom"], point["q_max"])
        load = replace(
            load,
            states=point["states"],
            candidates=point["candidates"],
            contested=AMBIGUOUS if plan.q_match * point["diameter_angstrom"] < FEW_SPECKLES else load.contested,
            cycles=point["cycles"],
            # The first phasing and the last one start several times.
            phasings=point["phasings"] if plan is plans[-1] or plan.number == 2 else 1 + FURTHER_STARTS,
        )
        for name, seconds in estimate(load, here, point["processors"]).seconds.items():
            stages[name.partition(":")[0]] += seconds
    return {**stages, "all": sum(stages.values())}


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", choices=("gpu", "here"), help="which machine's table  [default: gpu]")
    parser.add_argument("--measure", action="store_true", help="measure this machine's rates first, a few seconds")
    parser.add_argument("--rate", action="append", default=[], metavar="NAME=NUMBER", help="a constant; repeatable")
    parser.add_argument("--check", type=Path, metavar="FILE", help="what scripts/scaling.py weak wrote")
    parser.add_argument("--pixels", type=int, default=128, help="along a side of the detector")
    parser.add_argument("--speckles", type=float, default=8.0, help="diameter times q_max: half of those across")
    parser.add_argument("--states", type=int, default=1)
    parser.add_argument("--patterns", type=float, nargs="+", default=PATTERNS)
    parser.add_argument("--processors", type=int, nargs="+", default=PROCESSORS)
    parser.add_argument("--terms", action="store_true", help="also all terms of the last case")
    return parser.parse_args()


def main() -> int:
    """Print the table, or the model against measurements."""
    options, console = parse_options(), Console(width=None if sys.stdout.isatty() else 200)
    loads = [
        replace(full_radius(int(count), options.pixels, options.speckles), states=options.states)
        for count in options.patterns
    ]
    here = options.machine == "here" or options.check is not None
    machine = GPU_NODE if not here else measured(loads[0]) if options.measure else THIS_MACHINE
    try:
        machine = machine.changed(options.rate)
        if options.check is not None:
            console.print(check(options.check, machine))
            return 0
    except (ValueError, OSError) as error:
        sys.exit(f"scaling_model.py: {error}")
    cases = [(load, processors) for load in loads for processors in options.processors]
    console.print(report(machine, cases))
    for text in remarks(machine, cases):
        console.print(f"- {text}", highlight=False)
    if options.terms:
        load, processors = cases[-1]
        for name, seconds in estimate(load, machine, processors).seconds.items():
            console.print(f"{name:<45}{seconds:12.3g} s", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
