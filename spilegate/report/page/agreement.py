"""How far the result can be trusted: correlations over shells, and what the half-maps tell beside."""

from __future__ import annotations

from typing import Any

import numpy as np

from spilegate.evaluation.fsc import FscCurve, resolution_angstrom
from spilegate.records import Float64
from spilegate.report.files import read_curves
from spilegate.report.page import half_maps, markup, svg
from spilegate.report.page.content import Content
from spilegate.report.page.half_maps import along_top, over_q
from spilegate.resolution.verdict import HALF_SET_THRESHOLD, PRTF_THRESHOLD

CURVES = {
    "reference": ("FSC against the reference", 0.5, "0.5", "c1"),
    "half_set": ("FSC of two half-sets, corrected", HALF_SET_THRESHOLD, "0.143", "c2"),
    "half_set_plain": ("the same, supports' share left in", None, "", "c2"),
    "prtf": ("PRTF", PRTF_THRESHOLD, "1/e", "c3"),
}
CHARTS = (("Fourier shell correlation", ("reference", "half_set", "half_set_plain")), ("PRTF", ("prtf",)))
ON_PRTF = "Transfer function of independent phasings; near the beam, where nothing is measured, it means nothing."


def section(content: Content) -> str:
    """Return the section on resolution: all states', those with half-maps in detail; nothing before the run's end."""
    if content.summary is None:
        return ""
    parts = [_foreseen(content.summary)]
    for k in range(len(content.state.density)):
        halves = half_maps.read(content, k)
        charts = _curves(content, k)
        if halves is not None:
            charts += [half_maps.intensities(halves), *half_maps.directions(halves)]
        parts.append(markup.grid(*charts))
        if halves is not None:
            parts.append(half_maps.places(halves))
    return markup.section("resolution", "Resolution", *parts)


def _foreseen(summary: dict[str, Any]) -> str:
    """Return what the verdict rests on."""
    held = summary["resolution"]["held_out"]["resolution_angstrom"]
    found = "nowhere" if held is None else f"to {held:.3g} Å"
    return markup.paragraph(
        "A resolution is stated only as far as half-sets agree, phasings agree (PRTF) and each half's model foresees "
        f"the other half's patterns (held-out patterns: {found}). Densities lie inside {summary['resolution']['mask']}."
    )


def _curves(content: Content, k: int) -> list[str]:
    """Return the charts of the curves that were written: correlations, and the transfer function."""
    curves = read_curves(content.folder, k)
    charts = []
    for title, names in CHARTS:
        some = {name: curves[name] for name in names if name in curves}
        if some:
            said = "; ".join(filter(None, (_said(name, *curve) for name, curve in some.items())))
            caption = f"{said}. {ON_PRTF}" if title == "PRTF" else f"{said}."
            picture = _shells(some, content.material.q_range[1], title)
            charts.append(markup.figure(picture, f"{title}{content.of_state(k)}", caption))
    return charts


def _shells(curves: dict[str, tuple[Float64, Float64]], edge: float, title: str) -> str:
    """Return a chart of curves over q with their thresholds."""
    lines, levels = [], []
    for name, (q, values) in curves.items():
        label, threshold, written, colour = CURVES[name]
        plain = threshold is None
        lines.append(svg.Line(q, np.clip(values, -1, 1.2), label, colour, dashed=plain, thin=plain))
        if threshold is not None:
            levels.append(svg.Level(threshold, written, colour))
    said = "; ".join(filter(None, (_said(name, *curve) for name, curve in curves.items())))
    low = min(-0.05, *(float(values.min()) for _, values in curves.values()))
    return svg.chart(
        lines, over_q(edge), svg.Axis("correlation" if title != "PRTF" else "PRTF", max(low, -1.0), 1.05),
        f"{title}: {said}", levels=[*levels, svg.Level(edge, "edge of the data", upright=True)], top=along_top(edge),
    )  # fmt: skip


def _said(name: str, q: Float64, values: Float64) -> str:
    """Return where a curve falls below its threshold, in words."""
    label, threshold, written, _ = CURVES[name]
    if threshold is None:
        return ""
    found = resolution_angstrom(FscCurve(q, values, np.ones_like(q)), threshold)
    if found is None:
        return f"{label}: nowhere above {written}"
    return f"{label}: {'above' if values.min() >= threshold else 'falls below'} {written} at {found:.3g} Å"
