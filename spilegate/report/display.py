"""What the user sees of a run that goes on."""

from __future__ import annotations

import time

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from spilegate.records import Progress
from spilegate.report.console import Output

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


class Display:
    """A line for every stage and, on a terminal, a bar below them; `first` is written beside it until a stage ends."""

    def __init__(self, output: Output, first: str) -> None:
        self._output = output
        self._begin = time.perf_counter()
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
        self._task = self._bar.add_task(first, total=None, left="")

    def start(self) -> None:
        """Show the bar, on a terminal."""
        self._bar.start()

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def show(self, progress: Progress, left: float | None, *, part: str = "", then: str = "") -> None:
        """Show that a stage has ended.

        left : expected seconds until the last generation has ended, if known
        part : which part of the patterns is reconstructed, "" for all; then : what follows the last generation
        """
        spent = time.perf_counter() - self._begin
        remaining = "" if left is None else f"about {_clock(left)} left{then}"
        clock = f"{_clock(spent)} spent" + (f", {remaining}" if remaining else "")
        before = f"{part}, " if part else ""
        self._output.line(f"{before}{stage_line(progress)}  [{clock}]")
        self._bar.update(
            self._task,
            description=f"{before}generation {progress.generation} of {progress.generations}",
            completed=progress.generation,
            total=progress.generations,
            left=remaining,
        )


def stage_line(progress: Progress) -> str:
    """Return `generation 3/12  match    2.1 s  distance 0.0123  moved 0.32`."""
    known = [name for name in LABELS if name in progress.figures]
    names = known + [name for name in progress.figures if name not in LABELS]
    figures = "  ".join(f"{LABELS.get(name, name)} {number(progress.figures[name])}" for name in names)
    width = len(str(progress.generations))
    return (
        f"generation {progress.generation:{width}d}/{progress.generations}  {progress.stage:6s} "
        f"{progress.seconds:6.2f} s  {figures}"
    )


def number(value: float) -> str:
    """Return a count in full, any other number with three digits."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e6 else f"{value:.3g}"


def _clock(seconds: float) -> str:
    """Return minutes:seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
