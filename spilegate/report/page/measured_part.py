"""Patterns beside the slices that explain them, and the background."""

from __future__ import annotations

import numpy as np

from spilegate.geometry.detector import pixel_spacing
from spilegate.patterns.examples import choose
from spilegate.records import NEVER, Float64
from spilegate.report.assembling import assemble, example, log_range
from spilegate.report.measured import background_figures, radial_mean
from spilegate.report.models import model_slices
from spilegate.report.page import markup, raster, svg
from spilegate.report.page.content import Content

# Slices are drawn down to this part of their maximum.
SLICE_SHOWN = 1e-3


def fitting(content: Content) -> str:
    """Return the section of the patterns that fit best, as usual and worst; nothing before the run's end."""
    found, state = content.material.findings, content.state
    if found is None:
        return ""
    chosen = choose(state.distance, found.weight > 0)
    models = model_slices(state, found, [place for _, place, _ in chosen])
    figures = []
    for (name, index, distance), model in zip(chosen, models, strict=True):
        pattern = example(found, index)
        low, top = log_range(pattern[found.mask < NEVER])
        # Where photons are few, a slice expects much less than one of them at most pixels.
        low = min(low, SLICE_SHOWN * max(float(model.max()), low))
        scale = raster.Scale(low, top, "magma", logarithmic=True)
        pictures = "".join(
            f'<div>{raster.image(assemble(found, values), scale, f"{what} {index}")}<p class="caption">{what}</p></div>'
            for what, values in (("measured pattern", pattern), ("slice of the model", model))
        )
        inner = f'<div class="pair">{pictures}</div>{raster.bar(scale, "intensity [counts]")}'
        figures.append(markup.figure(inner, f"{name.capitalize()}: pattern {index}, distance {distance:.3g}"))
    return markup.section("fits", "Best and worst patterns", markup.grid(*figures))


def background(content: Content) -> str:
    """Return the section of the background; nothing before the run's end."""
    found, dark, summary = content.material.findings, content.state.background, content.summary
    if found is None or summary is None:
        return ""
    if not dark.any():
        return markup.section("background", "Background", markup.paragraph(_none(summary["background"]["source"])))
    length, used = content.material.q_length, found.merged & (content.material.q_length <= content.material.q_range[1])
    figures = background_figures(found.mean, dark, length, used)
    spacing = pixel_spacing(found.q[found.merged])
    lines = []
    for values, label, colour, dashed in (
        (found.mean, "mean pattern as measured", "c1", False),
        (found.mean - dark, "mean signal: background taken off", "c3", True),
        (dark, "background", "c2", False),
    ):
        q, counts = radial_mean(values, length, used, spacing)
        lines.append(svg.Line(q, np.where(counts > 0, counts, np.nan), label, colour, dashed=dashed))
    low, high = svg.log_span(*(line.y for line in lines))
    words = f"{figures['fraction']:.1%} of the mean pattern, {figures['fraction_at_edge']:.1%} in the outer tenth"
    chart = svg.chart(
        lines, svg.Axis("|q| [1/Å]", 0.0, 1.03 * float(length[used].max())),
        svg.Axis("counts per pixel and pattern", low, high, True), f"Background over q: {words}",
    )  # fmt: skip
    return markup.section(
        "background", "Background",
        markup.grid(markup.figure(chart, "Mean over rings", f"Background {summary['background']['source']}: {words}."),
                    _picture(assemble(found, dark), "Background on the detector"),
                    _picture(assemble(found, found.mean), "Mean pattern as measured")),
    )  # fmt: skip


def _none(source: str) -> str:
    """Return why there is no background."""
    if source == "estimated":
        return "None was found: how patterns differ in brightness tells it, and it came out as nothing."
    return "None was taken off: the file gives none, and patterns differ too little in brightness to tell one."


def _picture(picture: Float64, title: str) -> str:
    """Return a picture of the detector in counts."""
    known = picture[np.isfinite(picture)]
    positive = known[known > 0]
    low, top = float(np.percentile(positive, 1)), float(known.max())
    steep = top > 10 * float(np.median(positive))
    scale = raster.Scale(low if steep else 0.0, top, "viridis", logarithmic=steep)
    return markup.figure(raster.image(picture, scale, title) + raster.bar(scale, "counts per pixel and pattern"), title)
