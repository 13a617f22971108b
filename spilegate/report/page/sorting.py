"""Which patterns were used: the funnel from the file to the states, what was left out, and how bright patterns are."""

from __future__ import annotations

import numpy as np

from spilegate.generation.poses import OUTLYING, wide_limit
from spilegate.patterns.examples import examples, fits
from spilegate.records import Float64
from spilegate.report.assembling import assemble, example, log_range
from spilegate.report.page import markup, raster, selected, svg
from spilegate.report.page.content import Content

BINS = 40


def section(content: Content) -> str:
    """Return the section of what was used and left out."""
    return markup.section(
        "patterns", "Patterns used and left out", markup.grid(_funnel(content), _distances(content), _scales(content)),
        _outliers(content), *selected.parts(content),
    )  # fmt: skip


def _funnel(content: Content) -> str:
    """Return how many patterns are left after each step."""
    state, summary = content.state, content.summary
    count, kept = len(state.weight), int((state.weight > 0).sum())
    rows: list[tuple[str, int, str]] = [("patterns read", count, "100 %")]
    if summary is not None:
        left = summary["left_out"]
        rows.append(("left out before the start: unlike the others", left["before"], _part(left["before"], count)))
        rows.append(("left out since: fit no orientation", left["since"], _part(left["since"], count)))
    else:
        rows.append(("left out so far", count - kept, _part(count - kept, count)))
    rows.append(("kept", kept, _part(kept, count)))
    if len(state.members) > 1:
        rows += [(f"in state {k}", int(members), _part(int(members), count)) for k, members in enumerate(state.members)]
    table = markup.table(("step", "patterns", "part"), rows, "From the file to the density", numbers=True)
    words = "Lists of them: selected.txt, outliers.txt." if summary is not None else ""
    size = "" if summary is None else (
        f"Largest diameter {summary['diameter_angstrom']:.3g} Å, "
        f"{'estimated from the patterns' if summary['diameter_estimated'] else 'given'}. "
    )  # fmt: skip
    return f"<div>{table}{markup.paragraph(size + words) if size + words else ''}</div>"


def _part(number: int, count: int) -> str:
    """Return a number as a part of all."""
    return f"{100 * number / max(count, 1):.3g} %"


def _distances(content: Content) -> str:
    """Return the chart of how badly patterns fit, over their brightness."""
    state, found = content.state, content.material.findings
    kept = state.weight > 0
    brightness: Float64 = state.scale if found is None else found.scale
    lines = [svg.Line(brightness[kept], state.distance[kept], f"kept: {kept.sum()}", "c1", dotted=True)]
    if not kept.all():
        lines.append(
            svg.Line(brightness[~kept], state.distance[~kept], f"left out: {(~kept).sum()}", "c2", dotted=True)
        )
    if found is not None and content.material.settings.matching.outliers:
        how = fits(state, found.scale, OUTLYING, wide_limit(state.distance))
        order = np.argsort(how.brightness)
        limit = (how.most * how.usual)[order]
        # A limit far above all patterns would leave them no room.
        if limit.min() < 3 * state.distance.max():
            lines.append(svg.Line(how.brightness[order], limit, "limit of distances", "muted", dashed=True, thin=True))
    low, high = svg.log_span(brightness)
    bottom, top = svg.span(state.distance, low=0.0)
    logarithmic = 0 < 5 * float(state.distance.min()) < float(state.distance.max())
    if logarithmic:
        bottom, top = svg.log_span(state.distance)
    chart = svg.chart(
        lines, svg.Axis("brightness (mean of those kept = 1)", low, high, True),
        svg.Axis("distance (0: perfect)", bottom, top, logarithmic),
        f"Distance of every pattern to its best slice; {int((~kept).sum())} of {len(kept)} were left out",
    )  # fmt: skip
    return markup.figure(chart, "Distance of every pattern to its slice", "1: no better than the mean of all patterns.")


def _scales(content: Content) -> str:
    """Return the histogram of the scales of patterns kept."""
    scale = content.state.scale[content.state.weight > 0]
    if not len(scale) or scale.max() <= scale.min():
        return ""
    edges = np.geomspace(scale.min() * 0.999, scale.max() * 1.001, BINS + 1)
    counts, _ = np.histogram(scale, edges)
    low, middle, high = np.percentile(scale, (5, 50, 95))
    places = np.arange(BINS, dtype=np.float64)
    marks = [edges[0], np.sqrt(edges[0] * edges[-1]), edges[-1]]
    ticks = tuple(zip((-0.5, (BINS - 1) / 2, BINS - 0.5), (f"{mark:.3g}" for mark in marks), strict=True))
    chart = svg.chart(
        [], svg.Axis("scale of the fit (mean 1)", -0.5, BINS - 0.5, ticks=ticks),
        svg.Axis("patterns", 0.0, 1.08 * float(counts.max())), f"Scales of the fit, half below {middle:.3g}",
        bars=[svg.Line(places, counts.astype(np.float64))],
    )  # fmt: skip
    caption = f"5 % are below {low:.3g}, half below {middle:.3g}, 95 % below {high:.3g}."
    return markup.figure(chart, "Scales of the patterns kept", caption)


def _outliers(content: Content) -> str:
    """Return pictures of patterns that were left out, beside a usual one."""
    found, state = content.material.findings, content.state
    if found is None or not content.material.settings.matching.outliers:
        return ""
    middle, chosen = examples(fits(state, found.scale, OUTLYING, wide_limit(state.distance)))
    if not len(chosen):
        return ""
    named = [(f"Left out: pattern {index}", int(index)) for index in chosen]
    if middle is not None:
        named.insert(0, (f"A usual one: pattern {middle}", middle))
    figures = []
    for name, index in named:
        picture = assemble(found, example(found, index))
        low, top = log_range(picture[np.isfinite(picture)])
        scale = raster.Scale(low, top, "magma", logarithmic=True)
        alt = f"{name}, distance {state.distance[index]:.2g}"
        figures.append(
            markup.figure(raster.image(picture, scale, alt) + raster.bar(scale, "counts"), name,
                          f"distance {state.distance[index]:.2g}")
        )  # fmt: skip
    return markup.grid(*figures, kind="narrow")
