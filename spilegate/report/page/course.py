"""How the run went: figures of merit over the generations, and where the time went."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from spilegate.report.page import markup, svg
from spilegate.report.page.content import Content
from spilegate.report.progress import Record, seconds_by

# Name of a figure of merit, what it is called, what its axis says, whether that is logarithmic, its colour.
MERITS = (
    ("mean_distance", "Distance of patterns to their slices", "mean squared distance", True, "c1"),
    ("moved", "Orientations that moved", "fraction of patterns", False, "c2"),
    ("merge_residual", "Merge", "relative residual", True, "c4"),
    ("phasing_r", "Phasing", "R factor", False, "c3"),
    ("q_max", "Radius of the detector used", "q [1/Å]", False, "c5"),
)
STAGES = {"start": "c6", "slice": "c3", "match": "c1", "refine": "c5", "merge": "c4", "phase": "c2"}
PARTS = {"read": "reading", "reconstruct": "reconstructing, half-sets and phasings included", "write": "writing"}


def convergence(content: Content) -> str:
    """Return the section of the figures of merit."""
    charts = [_merit(content.records, content.generations, *merit) for merit in MERITS]
    if not any(charts):
        return ""
    said = ""
    if content.summary is not None:
        said = "Converged: " if content.summary["converged"] else "Not converged: "
        said = markup.paragraph(f"{said}{content.summary['convergence']}.")
    return markup.section("convergence", "Convergence", said, markup.grid(*charts))


def _merit(records: list[Record], last: int, name: str, title: str, label: str, logarithmic: bool, colour: str) -> str:
    """Return a figure of merit over the generations; nothing if it was never reported."""
    values = {
        record["generation"]: record["figures"][name]
        for record in records
        if math.isfinite(record["figures"].get(name, math.nan))
    }
    if not values:
        return ""
    series = svg.Line(list(values), list(values.values()), colour=colour, marked=True)
    logarithmic = logarithmic and min(values.values()) > 0
    low, high = svg.log_span(series.y) if logarithmic else svg.span(series.y, low=0.0)
    newest = list(values.values())[-1]
    return markup.figure(
        svg.chart(
            [series], _generations(last), svg.Axis(label, low, high, logarithmic),
            f"{title}: {newest:.3g} in generation {list(values)[-1]}",
        ),
        f"{title}: {newest:.3g}",
    )  # fmt: skip


def _generations(last: int) -> svg.Axis:
    """Return the axis of generations."""
    step = max(1, math.ceil(last / 10))
    ticks = tuple((float(number), str(number)) for number in range(1, last + 1) if (number - 1) % step == 0)
    return svg.Axis("generation (1 = blind start)", 0.5, last + 0.5, ticks=ticks)


def timings(content: Content) -> str:
    """Return the section of the time spent."""
    records = content.records
    if not records:
        return ""
    stages = []
    for name in dict.fromkeys([*STAGES, *(record["stage"] for record in records)]):
        spent = seconds_by([record for record in records if record["stage"] == name], "generation")
        if spent:
            stages.append(svg.Line(list(spent), list(spent.values()), name, STAGES.get(name, "muted")))
    high = 1.06 * max(seconds_by(records, "generation").values())
    axes = _generations(content.generations), svg.Axis("seconds", 0.0, high or 1.0)
    picture = markup.figure(svg.chart([], *axes, "Seconds by stage", bars=stages), "Time of every generation, by stage")
    rows = [(stage, f"{seconds:.1f}") for stage, seconds in seconds_by(records, "stage").items()]
    tables = [markup.table(("stage", "seconds"), rows, "All generations", numbers=True)]
    if content.summary is not None:
        tables.append(_parts(content.summary))
    return markup.section("timings", "Timings", markup.grid(picture, "".join(tables)))


def _parts(summary: Mapping[str, Any]) -> str:
    """Return the table of the run's parts."""
    seconds = summary["seconds"]
    rows = [(said, f"{seconds[name]:.1f}") for name, said in PARTS.items() if name in seconds]
    rows.append(("all", f"{seconds['total']:.1f}"))
    table = markup.table(("part", "seconds"), rows, "The whole run", numbers=True)
    compute = summary["compute"]
    memory = f"{summary['peak_memory_mib']:.0f} MiB at most"
    return table + markup.paragraph(f"{compute['processors']}, {compute['backend']}; {memory}.")
