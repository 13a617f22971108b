"""Histograms of what is known of every pattern: of those that are kept, and of those left out."""

from __future__ import annotations

import numpy as np

from spilegate.records import Bool, Float64
from spilegate.report.page import markup, svg

BINS = 32


def histogram(values: Float64, kept: Bool, title: str, label: str, *, logarithmic: bool) -> str:
    """Return the histogram of values (N,), stacked, as a figure; nothing where they are unknown or all the same.

    values : NaN, or if logarithmic not above 0, where they are unknown; label : of the axis, with the unit
    """
    known = np.isfinite(values) & ((values > 0) | (not logarithmic))
    if not known.any() or values[known].max() <= values[known].min():
        return ""
    low, high = float(values[known].min()), float(values[known].max())
    edges = np.geomspace(low, high, BINS + 1) if logarithmic else np.linspace(low, high, BINS + 1)
    # Rounding must not leave out the ends.
    edges[[0, -1]] = low, high
    places = np.arange(BINS, dtype=np.float64)
    stacks = [np.histogram(values[known & part], edges)[0].astype(np.float64) for part in (kept, ~kept)]
    shape = ".0f" if high >= 1000 else ".3g"
    marks = tuple((float(place) - 0.5, f"{edges[place]:{shape}}") for place in range(0, BINS + 1, BINS // 4))
    bars = [
        svg.Line(places, stack, name, colour)
        for stack, name, colour in zip(stacks, ("kept", "left out"), ("c1", "c4"), strict=True)
        if stack.any()
    ]
    most = float((stacks[0] + stacks[1]).max())
    chart = svg.chart(
        [], svg.Axis(label, -0.5, BINS - 0.5, ticks=marks), svg.Axis("patterns", 0.0, 1.08 * most),
        f"{title}, {low:.3g} to {high:.3g}", bars=bars,
    )  # fmt: skip
    return markup.figure(chart, title)
