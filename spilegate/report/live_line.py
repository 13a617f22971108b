"""The line at the bottom of a terminal that says what is being done, with a bar; pipes and files have none."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar

WIDTH = 24
# A bar of expected time is full only when it is over.
MOST = 0.99
# No reds: nothing is wrong.
STYLES: dict[str, Any] = {
    "style": "bright_black", "complete_style": "blue", "finished_style": "blue", "pulse_style": "blue",
}  # fmt: skip


class _Bar(BarColumn):
    """A bar that is filled by what has been counted, or goes on by itself with the time that is expected."""

    def render(self, task: Task) -> ProgressBar:
        """Return the bar: moving to and fro where nothing is known."""
        left, at = task.fields["left"], task.fields["at"]
        if left is None or task.total is not None:
            return ProgressBar(
                total=task.total, completed=task.completed, width=WIDTH, pulse=task.total is None, **STYLES
            )
        spent = task.fields["spent"] + (task.elapsed or 0.0) - at
        whole = task.fields["spent"] + left
        return ProgressBar(total=1.0, completed=min(MOST, spent / whole) if whole > 0 else MOST, width=WIDTH, **STYLES)


class LiveLine:
    """What is being done at this moment; the line goes when it is cleared, and lines printed stay above it.

    console : of a terminal, or the line is not shown
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._what = ""

    @property
    def shown(self) -> bool:
        """Tell whether there is such a line, on this console."""
        return self._console.is_terminal and not self._console.is_dumb_terminal and not self._console.quiet

    def show(self, what: str, *, spent: float = 0.0, left: float | None = None, after: str = "") -> None:
        """Say what is being done.

        spent, left : seconds of the whole that it is part of, None where that is not known; after : said behind the bar
        """
        if not self.shown:
            return
        bar = self._started()
        if what != self._what:
            for old in bar.task_ids:
                bar.remove_task(old)
            bar.add_task(what, total=None, left=None, spent=0.0, at=0.0, after="")
            self._what = what
        task = bar.tasks[0]
        bar.update(task.id, spent=spent, left=left, at=task.elapsed or 0.0, after=after)
        bar.start()

    def count(self, what: str, done: int, total: int) -> None:
        """Say what is being done, and how much of it is done."""
        self.show(what)
        if self._bar is not None:
            self._bar.update(self._bar.tasks[0].id, completed=done, total=total)

    def clear(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._what = None, ""

    def _started(self) -> Progress:
        """Return the bar, on the terminal."""
        if self._bar is None:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                _Bar(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[after]}"),
                console=self._console,
                transient=True,
                refresh_per_second=4,
            )
        return self._bar
