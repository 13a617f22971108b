"""What commands tell of long work."""

from __future__ import annotations

from collections.abc import Callable

from spilegate.report.console import Output


def told(out: Output, what: str) -> Callable[[int, int], None]:
    """Return what shows how many patterns have been read; those that are read a second time begin anew."""
    return lambda done, total: out.live.count(what, (done - 1) % total + 1, total)
