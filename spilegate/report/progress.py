"""The watcher of a run: a line per stage, `progress.jsonl` for the figures, and the expected time left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from spilegate.report.console import Output
from spilegate.state import Progress, State

FILE = "progress.jsonl"

# How a figure of merit is called in a progress line, in this order; any other keeps its own name and comes last.
LABELS = {
    "q_max": "q",
    "views": "views",
    "shifts": "shifts",
    "grid_distance": "grid distance",
    "mean_distance": "distance",
    "moved": "moved",
    "median_turn_deg": "turn [deg]",
    "cg_iterations": "CG",
    "merge_residual": "residual",
    "phasing_r": "R",
}
Record = dict[str, Any]

# Longer by this factor is a generation that reaches a quarter further out: work grows as the cube of the radius at
# most, and its fixed costs do not.
GROWTH = 1.3


class Monitor:
    """Prints, records, saves and draws; it is the `Watcher` of a run and changes nothing in it.

    folder : the output folder; stages are added to its `progress.jsonl`
    save : writes the checkpoint of a generation; draw : starts drawing if nothing is being drawn
    earlier : the records of the generations before a resumed run
    """

    def __init__(
        self,
        output: Output,
        folder: Path,
        *,
        save: Callable[[State], None],
        draw: Callable[[], None],
        earlier: list[Record] | None = None,
    ) -> None:
        self.records: list[Record] = list(earlier or [])
        self.generation_done = max((record["generation"] for record in self.records), default=0)
        self._output, self._path, self._save, self._draw = output, folder / FILE, save, draw
        self._begin = time.perf_counter()
        self._path.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=output.console,
            transient=True,
            refresh_per_second=2,
            disable=not output.console.is_terminal,
        )
        self._task = self._bar.add_task("blind start", total=None, left="")

    def __enter__(self) -> Monitor:
        """Show the bar, on a terminal."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._bar.stop()

    def stage(self, progress: Progress) -> None:
        """Record and print that a stage has ended."""
        record = {
            "generation": progress.generation,
            "generations": progress.generations,
            "stage": progress.stage,
            "seconds": round(progress.seconds, 4),
            "figures": {name: float(f"{value:.6g}") for name, value in progress.figures.items()},
        }
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        spent = time.perf_counter() - self._begin
        left = seconds_left(self.records)
        clock = f"{_clock(spent)} spent" + ("" if left is None else f", about {_clock(left)} left")
        self._output.line(f"{stage_line(progress)}  [{clock}]")
        self._bar.update(
            self._task,
            description=f"generation {progress.generation} of {progress.generations}",
            completed=progress.generation,
            total=progress.generations,
            left="" if left is None else f"about {_clock(left)} left",
        )

    def generation(self, state: State) -> None:
        """Save the checkpoint and, unless the end is near, let figures be drawn."""
        self._save(state)
        self.generation_done = state.generation
        if self.records and state.generation < self.records[-1]["generations"] - 1:
            self._draw()


def read_records(folder: Path, last_generation: int | None = None) -> list[Record]:
    """Return the records of `progress.jsonl` up to a generation; a line cut short by a crash is left out."""
    path = folder / FILE
    records: list[Record] = []
    if not path.is_file():
        return records
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if last_generation is None or record["generation"] <= last_generation:
            records.append(record)
    return records


def stage_line(progress: Progress) -> str:
    """Return `generation 3/12  match    2.1 s  distance 0.0123  moved 0.32`."""
    known = [name for name in LABELS if name in progress.figures]
    names = known + [name for name in progress.figures if name not in LABELS]
    figures = "  ".join(f"{LABELS.get(name, name)} {_number(progress.figures[name])}" for name in names)
    width = len(str(progress.generations))
    return (
        f"generation {progress.generation:{width}d}/{progress.generations}  {progress.stage:6s} "
        f"{progress.seconds:6.2f} s  {figures}"
    )


def _number(value: float) -> str:
    """Return a count in full, any other number with three digits."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e6 else f"{value:.3g}"


def seconds_by(records: list[Record], key: str) -> dict[Any, float]:
    """Return the seconds spent by "stage" or by "generation"."""
    sums: dict[Any, float] = {}
    for record in records:
        sums[record[key]] = sums.get(record[key], 0.0) + record["seconds"]
    return sums


def seconds_left(records: list[Record]) -> float | None:
    """Return the expected seconds until the end of the last generation, None while there is nothing to judge by.

    Every generation to come is taken to last GROWTH times the one before it while the radius grows, and as long as the
    last complete one once it does not; the blind start is of another kind and does not count.
    """
    current, total = records[-1]["generation"], records[-1]["generations"]
    spent = seconds_by(records, "generation")
    complete = [spent[number] for number in sorted(spent) if 1 < number < current]
    if current >= total and complete:
        return max(complete[-1] - spent[current], 0.0)
    if not complete:
        return None
    radii = {record["generation"]: record["figures"]["q_max"] for record in records if "q_max" in record["figures"]}
    growth = GROWTH if radii.get(current, 0.0) > radii.get(current - 1, 0.0) else 1.0
    expected = [complete[-1] * growth**step for step in range(1, total - current + 2)]
    return max(expected[0] - spent[current], 0.0) + sum(expected[1:])


def _clock(seconds: float) -> str:
    """Return minutes:seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
