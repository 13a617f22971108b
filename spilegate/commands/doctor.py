"""`spilegate doctor`: what is installed, what would run where, what is missing and how to get it."""

from __future__ import annotations

import platform
from pathlib import Path

from spilegate import __version__
from spilegate.kernels import inventory
from spilegate.kernels.launch import available_cores
from spilegate.report.console import Output

MISSING = "missing"


def run(*, quiet: bool, log: Path | None) -> None:
    """Print the report; whatever is missing, printing it is a success."""
    with Output(quiet=quiet, log=log) as out:
        machine = inventory.examine(available_cores())
        parts = inventory.parts(machine)
        memory = f"memory: {machine.memory_mib / 1024:.1f} GiB"
        out.line(f"spilegate {__version__}, Python {platform.python_version()}, cores: {machine.cores}, {memory}")
        _installed(out, parts)
        _missing(out, parts)
        _starts(out, inventory.starts(machine))
        out.line("")
        for remark in inventory.remarks(machine):
            out.line(remark)


def _installed(out: Output, parts: list[inventory.Part]) -> None:
    """Print a line for everything that some run needs."""
    out.line("")
    out.line("Installed", "bold")
    name_width = max(len(part.name) for part in parts)
    found_width = max(len(part.found or MISSING) for part in parts)
    for part in parts:
        text = f"  {part.name:{name_width}s}  {part.found or MISSING:{found_width}s}  {part.purpose}"
        out.line(text, "" if part.found else "yellow")


def _missing(out: Output, parts: list[inventory.Part]) -> None:
    """Print how to get what is missing, once for what one remedy brings."""
    remedies: dict[str, list[str]] = {}
    for part in parts:
        if part.found is None:
            remedies.setdefault(part.remedy, []).append(part.name)
    if not remedies:
        return
    out.line("")
    out.line("To get what is missing", "bold")
    for remedy, names in remedies.items():
        out.line(f"  {', '.join(names)}: {remedy}")


def _starts(out: Output, starts: list[inventory.Start]) -> None:
    """Print every way to start a reconstruction, and whether it would run."""
    out.line("")
    out.line("Runs here", "bold")
    for start in starts:
        out.line(f"  {start.command}", "yellow" if start.obstacles else "green")
        missing = ", ".join(part.name for part in start.obstacles)
        out.line(f"    cannot run, because these are missing: {missing}" if missing else f"    runs {start.how}")
