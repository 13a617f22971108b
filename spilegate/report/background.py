"""Picture of the background: how much of the mean pattern it is at every |q|, and where it lies on the detector."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from spilegate.records import Bool, Float64
from spilegate.report.measured import EDGE, background_figures, radial_mean
from spilegate.report.style import BLUE, GREEN, GREY, VERMILION, colours, legend_below, plain_logarithmic

# A background that is so many times brighter somewhere than on half of its pixels is shown on a logarithmic scale.
STEEP = 10.0


def background_figure(
    mean: Float64, background: Float64, q_length: Float64, used: Bool, spacing: float, picture: Float64, title: str
) -> Figure:
    """Draw radial means of the mean pattern, its background and what is left, and the background as a picture.

    mean, background : (N_PIX,) [counts per pattern]; q_length : (N_PIX,) [1/angstrom]; used : (N_PIX,)
    spacing : of the pixels [1/angstrom]; picture : (rows, columns), the background assembled, NaN where masked
    """
    found = background_figures(mean, background, q_length, used)
    figure = Figure(figsize=(13, 6.0), layout="constrained")
    figure.suptitle(
        f"{title}: {found['counts_per_pixel']:.3g} counts per pixel, {found['fraction']:.1%} of the mean pattern"
    )
    curves, place = figure.subplots(1, 2, width_ratios=(1.25, 1))
    for values, label, colour, style in (
        (mean, "mean pattern as measured", BLUE, "-"),
        (mean - background, "mean signal: background taken off", GREEN, "--"),
        (background, "background", VERMILION, "-"),
    ):
        q, counts = radial_mean(values, q_length, used, spacing)
        # A logarithmic axis has no place for what noise makes negative.
        curves.plot(q, np.where(counts > 0, counts, np.nan), style, color=colour, label=label)
    _mark_edge(curves, float(q_length[used].max()), found["fraction_at_edge"])
    curves.set(title="mean over rings", xlabel="|q| [1/Å]", ylabel="counts per pixel and pattern", yscale="log")
    plain_logarithmic(curves.yaxis)
    curves.set_xlim(left=0)
    curves.grid(alpha=0.25)
    legend_below(curves)
    _show(place, picture)
    return figure


def _mark_edge(ax: Axes, q_last: float, fraction: float) -> None:
    """Mark the outer part of the radius used and write down how much of the counts there are background."""
    ax.axvspan(EDGE * q_last, q_last, color=GREY, alpha=0.15, linewidth=0,
               label=f"outer tenth: {fraction:.1%} background")  # fmt: skip


def _show(ax: Axes, picture: Float64) -> None:
    """Show the assembled background."""
    known = picture[np.isfinite(picture)]
    top, positive = float(known.max()), known[known > 0]
    steep = top > STEEP * float(np.median(positive))
    norm = LogNorm(float(positive.min()), top, clip=True) if steep else Normalize(0, top)
    image = ax.imshow(picture, cmap=colours("viridis"), norm=norm)
    ax.set(title="on the detector; grey: masked", xlabel="column [pixels]", ylabel="row [pixels]")
    ax.figure.colorbar(image, ax=ax, label="counts per pixel and pattern", shrink=0.9)
