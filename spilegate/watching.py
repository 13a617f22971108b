"""Timing and figures of the stages, passed on to whoever watches. No part of the method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

from spilegate.records import Progress, State, Watcher

Result = TypeVar("Result")


class Note:
    """Takes the figures off what a step returns, and notes them."""

    def __init__(self, figures: dict[str, float]) -> None:
        self._figures = figures

    def __call__(self, returned: tuple[Result, dict[str, float]]) -> Result:
        """Return what there is besides the figures."""
        result, figures = returned
        self._figures.update(figures)
        return result


class Recorder:
    """Times stages and keeps the last value of every figure.

    figures : last value of every figure of merit by name; generations : how many there are, as far as is known
    """

    def __init__(self, watcher: Watcher | None) -> None:
        self.figures: dict[str, float] = {}
        self.generations = 0
        self._watcher = watcher

    @contextmanager
    def stage(self, generation: int, name: str) -> Iterator[Note]:
        """Time the block as stage `name`; the figures of what the yielded function is given are the stage's."""
        if self._watcher is not None:
            self._watcher.begin(generation, max(generation, self.generations), name)
        begin = perf_counter()
        figures: dict[str, float] = {}
        yield Note(figures)
        seconds = perf_counter() - begin
        self.figures.update(figures)
        if self._watcher is not None:
            self._watcher.stage(Progress(generation, max(generation, self.generations), name, seconds, figures))

    def generation(self, state: State, *, last: bool) -> None:
        """Tell the watcher that a generation has ended."""
        if self._watcher is not None:
            self._watcher.generation(state, last=last)
