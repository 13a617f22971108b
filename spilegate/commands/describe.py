"""`spilegate inspect`: what a file of patterns holds, and whether it can be used."""

from __future__ import annotations

from pathlib import Path

from spilegate.report.console import Output
from spilegate.settings import Settings


def run(data: Path, settings: Settings, *, quiet: bool, log: Path | None) -> None:
    """Print what a file of patterns holds, read as these settings say, one item per line."""
    with Output(quiet=quiet, product=True, log=log) as out:
        from spilegate.formats import reader

        facts = reader.describe(data, **settings.prepare.reading)
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            out.line(f"{name:{width}s}  {_text(value)}")


def _text(value: object) -> str:
    """Return a value as a short text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return " x ".join(_text(item) for item in value)
    return str(value)
