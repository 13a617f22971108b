"""What the user sees of a run that goes on."""

from __future__ import annotations

import time

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

# What is done in a stage.
DOING = {
    "start": "blind start",
    "slice": "slicing",
    "match": "matching",
    "refine": "refining",
    "merge": "merging",
    "phase": "phasing",
}


class Display:
    """A line for every stage that has ended and, on a terminal, one below them for what is being done."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._begin = time.perf_counter()
        self._after = ""
        self._left: float | None = None
        self._told = self._begin

    def stop(self) -> None:
        """Take the line of what is being done away."""
        self._output.live.clear()

    def begin(self, generation: int, generations: int, stage: str, *, part: str = "") -> None:
        """Show that a stage begins. part : of the patterns, "" for all."""
        what = DOING.get(stage, stage)
        if generation == 1:
            # Of other patterns than those before.
            self._left, self._after = None, ""
        self.doing(f"{f'{part}, ' if part else ''}generation {generation} of {generations}: {what}")

    def doing(self, what: str) -> None:
        """Show what is being done, with the time that is expected to be left."""
        now = time.perf_counter()
        left = None if self._left is None else max(self._left - (now - self._told), 0.0)
        self._output.live.show(what, spent=now - self._begin, left=left, after=self._after)

    def show(self, progress: Progress, left: float | None, *, part: str = "", then: str = "") -> None:
        """Show that a stage has ended.

        left : expected seconds until the last generation has ended, if known
        part : which part of the patterns is reconstructed, "" for all; then : what follows the last generation
        """
        self._told = time.perf_counter()
        self._left = left
        spent = self._told - self._begin
        self._after = "" if left is None else f"about {_clock(left)} left{then}"
        clock = f"{_clock(spent)} spent" + (f", {self._after}" if self._after else "")
        before = f"{part}, " if part else ""
        self._output.line(f"{before}{stage_line(progress)}  [{clock}]")


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
