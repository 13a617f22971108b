"""`spilegate doctor`: what is installed and works, what would run where, what is missing and how to get it."""

from __future__ import annotations

import platform
from pathlib import Path

from spilegate import __version__
from spilegate.kernels import inventory
from spilegate.kernels.launch import cores_and_reason
from spilegate.report.console import Output

MISSING, FAULTY = "missing", "does not work"


def run(*, quiet: bool, log: Path | None) -> None:
    """Print the report; whatever is missing, printing it is a success."""
    with Output(quiet=quiet, product=True, log=log) as out:
        count, reason = cores_and_reason()
        machine = inventory.examine(count)
        parts = inventory.parts(machine)
        memory = f"memory: {machine.memory_mib / 1024:.1f} GiB"
        cores = f"cores: {machine.cores}{f' ({reason})' if reason else ''}"
        out.line(f"spilegate {__version__}, Python {platform.python_version()}, {cores}, {memory}")
        _installed(out, parts)
        _tried(out, machine.trial.lines())
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
    found = [part.found or (FAULTY if part.reason else MISSING) for part in parts]
    found_width = max(map(len, found))
    for part, state in zip(parts, found, strict=True):
        text = f"  {part.name:{name_width}s}  {state:{found_width}s}  {part.purpose}"
        out.line(text, "" if part.found else "yellow")


def _tried(out: Output, lines: list[tuple[str, bool]]) -> None:
    """Print what the processors did; in yellow what is not well."""
    if not lines:
        return
    out.line("")
    out.line("Tried: relative errors, of the largest that is right", "bold")
    for text, well in lines:
        out.line(f"  {text}", "" if well else "yellow")


def _missing(out: Output, parts: list[inventory.Part]) -> None:
    """Print how to get what is missing, once for what one remedy brings."""
    remedies: dict[str, list[str]] = {}
    for part in parts:
        if part.found is None:
            name = f"{part.name} ({part.reason})" if part.reason else part.name
            remedies.setdefault(part.remedy, []).append(name)
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
        names = ", ".join(part.name for part in start.obstacles)
        state = "missing or do not work" if any(part.reason for part in start.obstacles) else "missing"
        out.line(f"    cannot run, because these are {state}: {names}" if names else f"    runs {start.how}")
