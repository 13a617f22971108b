"""Signals that ask a command to end: it ends as by Ctrl-C, with what is there kept and a line on how to go on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

# Of `kill` and of schedulers, and of a terminal that is closed.
ASKING = ("SIGTERM", "SIGHUP")
CTRL_C = 130


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; `code` is the exit code that tells which one, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


def _stop(number: int, _: FrameType | None) -> None:
    """End whatever is being done, as Ctrl-C would."""
    raise Stopped(number)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Let signals that ask to end do so as Ctrl-C does; what the caller set otherwise (nohup) stays as it is."""
    numbers = [getattr(signal, name) for name in ASKING if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    try:
        for number in numbers:
            signal.signal(number, _stop)
    except ValueError:
        # Only the main thread may; in any other one they end the process as they always did.
        numbers = []
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def enough() -> None:
    """Let no second signal of the kind disturb the last words: schedulers send several."""
    for number in [getattr(signal, name) for name in ASKING if hasattr(signal, name)]:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)


def code_of(error: BaseException) -> int:
    """Return the exit code of a command that an error stopped, by the signal that is behind it."""
    behind = error if isinstance(error, Stopped) else error.__cause__
    return behind.code if isinstance(behind, Stopped) else CTRL_C
