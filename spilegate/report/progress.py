"""The watcher of a run: it shows every stage, keeps the figures in `progress.jsonl` and expects the time left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.records import Progress, State
from spilegate.report.console import Output
from spilegate.report.display import Display

FILE = "progress.jsonl"

Record = dict[str, Any]
# What follows the last generation.
STATING = "stating the resolution"


class Line(BaseModel):
    """What a line of `progress.jsonl` holds; what is read from a file is held against it."""

    generation: Annotated[int, Field(ge=1, le=10**6)]
    generations: Annotated[int, Field(ge=1, le=10**6)]
    stage: str
    seconds: Annotated[float, Field(ge=0, le=1e9)]
    figures: dict[str, float]


# Longer by this factor is a generation that reaches further out, by up to 1.6: work grows as the cube of the radius at
# most, and its fixed costs do not.
GROWTH = 1.9


class Monitor:
    """Prints, records, saves and draws; it is the `Watcher` of a run and changes nothing in it.

    Only a checkpoint that cannot be saved ends the run; records that cannot be written are said once.

    folder : the output folder; stages are added to its `progress.jsonl`
    save : writes the checkpoint of a generation; draw : starts drawing, told whether this was the last generation
    done : the generation that a resumed run goes on from; half_sets : whether these follow the run
    """

    def __init__(
        self,
        output: Output,
        folder: Path,
        *,
        save: Callable[[State], None],
        draw: Callable[[bool], None],
        done: int = 0,
        half_sets: bool = False,
    ) -> None:
        self.records: list[Record] = read_records(folder, done) if done else []
        self.generation_done = done
        self._path, self._save, self._draw, self._output = folder / FILE, save, draw, output
        self._then = ", then half-sets" if half_sets else ""
        self._begin_anew()
        self._display, self._half_sets = Display(output), half_sets

    def __enter__(self) -> Monitor:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the line of what is being done away."""
        self._display.stop()

    def begin(self, generation: int, generations: int, stage: str) -> None:
        """Show that a stage begins."""
        self._display.begin(generation, generations, stage)

    def stage(self, progress: Progress) -> None:
        """Record and show that a stage has ended."""
        record = as_record(progress)
        self.records.append(record)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            self._output.warn(str(self._path), error)
        self._display.show(progress, seconds_left(self.records), then=self._then)

    def generation(self, state: State, *, last: bool) -> None:
        """Save the checkpoint and let it be shown."""
        self._save(state)
        self.generation_done = state.generation
        self._draw(last)
        if last and not self._half_sets:
            self._display.doing(STATING)

    def _begin_anew(self) -> None:
        """Write the records that are kept, in place of all there were; after an error those are still there."""
        try:
            files.replace(self._path, "".join(json.dumps(record) + "\n" for record in self.records).encode())
        except InputError as error:
            self._output.warn(str(self._path), error)

    def half(self, number: int) -> HalfMonitor:
        """Return the watcher of a half of the patterns."""
        return HalfMonitor(self._display, number)


class HalfMonitor:
    """Shows how the reconstruction of a half of the patterns goes on; the run's records and checkpoint are not its."""

    def __init__(self, display: Display, number: int) -> None:
        self._display = display
        self._records: list[Record] = []
        self._number, self._part = number, f"half {number}/2"
        self._then = ", then half 2" if number == 1 else ""

    def begin(self, generation: int, generations: int, stage: str) -> None:
        """Show that a stage begins."""
        self._display.begin(generation, generations, stage, part=self._part)

    def stage(self, progress: Progress) -> None:
        """Show that a stage has ended."""
        self._records.append(as_record(progress))
        self._display.show(progress, seconds_left(self._records), part=self._part, then=self._then)

    def generation(self, state: State, *, last: bool) -> None:  # noqa: ARG002 - a half has no checkpoint
        """Keep nothing: a half is not resumed."""
        if last and self._number == 2:
            self._display.doing(STATING)

    def half(self, number: int) -> None:
        """Return nobody: halves are not halved."""


def as_record(progress: Progress) -> Record:
    """Return the line of `progress.jsonl` that says a stage has ended."""
    return {
        "generation": progress.generation,
        "generations": progress.generations,
        "stage": progress.stage,
        "seconds": round(progress.seconds, 4),
        "figures": {name: float(f"{value:.6g}") for name, value in progress.figures.items()},
    }


def read_records(folder: Path, last_generation: int | None = None) -> list[Record]:
    """Return the records of `progress.jsonl` up to a generation; lines that are none, or cut short, are left out."""
    path = folder / FILE
    records: list[Record] = []
    if not path.is_file():
        return records
    for line in path.read_bytes().splitlines():
        try:
            record = Line.model_validate_json(line).model_dump()
        except ValidationError:
            continue
        if last_generation is None or record["generation"] <= last_generation:
            records.append(record)
    return records


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
