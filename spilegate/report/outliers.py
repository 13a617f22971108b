"""Picture of the outliers: how badly every pattern fits at its brightness, what was left out, how scales spread."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from spilegate.patterns.examples import Fits
from spilegate.records import Float64
from spilegate.report.assembling import log_range
from spilegate.report.measured import scale_figures
from spilegate.report.style import BLUE, GREY, VERMILION, colours, few_labels, legend_below, plain_logarithmic

BINS = 40
# Distances that span less than this factor would leave a logarithmic axis with next to no labels.
LEAST_RANGE = 5.0


def outliers_figure(fits: Fits, shown: list[tuple[str, Float64]], when: str) -> Figure:
    """Draw distances over brightness with the outliers marked, the spread of scales, and examples if there are any.

    shown : name and assembled picture (rows, columns) [counts] of each example, NaN where masked
    """
    count, total = int((~fits.kept).sum()), len(fits.kept)
    figure = Figure(figsize=(12, 10.6 if shown else 7.0), layout="constrained")
    said = f"{count} outlier{'' if count == 1 else 's'} among {total} patterns" if count else (
        f"No outliers among {total} patterns"
    )  # fmt: skip
    figure.suptitle(f"{said}, {when}")
    if not shown:
        _fits(figure, fits)
        return figure
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.75, 1))[:, 0]
    _fits(upper, fits)
    _pictures(lower, shown)
    return figure


def _fits(figure: Figure | SubFigure, fits: Fits) -> None:
    """Draw the distances and, above them, the scales."""
    spread, scatter = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.6))
    _scales(spread, fits)
    _distances(scatter, fits)


def _scales(ax: Axes, fits: Fits) -> None:
    """Draw the histogram of scales with its percentiles."""
    scale = fits.scale[fits.kept]
    edges = np.geomspace(scale.min() * 0.999, scale.max() * 1.001, BINS + 1)
    ax.hist(scale, bins=list(edges), color=BLUE)
    found = scale_figures(fits.scale, fits.kept.astype(np.float64))
    for value in found.values():
        ax.axvline(value, color=GREY, linestyle="--", linewidth=1)
    low, middle, high = found.values()
    said = f"5 % are below {low:.3g}, half below {middle:.3g}, 95 % below {high:.3g}"
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set(title=f"scales in the fit of the patterns kept: {said}", ylabel="patterns")


def _distances(ax: Axes, fits: Fits) -> None:
    """Draw distances over brightness, what is usual, and the limit."""
    size = 9 if len(fits.kept) <= 2000 else 3
    above = fits.distance > fits.most * fits.usual
    for which, colour, marker, label in (
        (fits.kept, BLUE, "o", "kept"),
        (~fits.kept & above, VERMILION, "X", "outliers above the limit"),
        # Before the first generation, for how they fall off with |q|, which is nothing like that of the others.
        (~fits.kept & ~above, VERMILION, "D", "outliers told by their radial mean"),
    ):
        if which.any():
            ax.scatter(
                fits.brightness[which], fits.distance[which], s=size * (1 if marker == "o" else 3), linewidths=0,
                color=colour, marker=marker, alpha=0.6 if marker == "o" else 0.95, label=f"{label}: {which.sum()}",
            )  # fmt: skip
    order = np.argsort(fits.brightness)
    x, usual = fits.brightness[order], fits.usual[order]
    ax.plot(x, usual, color=GREY, linewidth=1, label="usual at this brightness")
    ax.plot(x, fits.most * usual, color=GREY, linewidth=1, linestyle="--", label="limit of distances")
    ax.set(
        xscale="log",
        xlabel="brightness: counts less background (above: scale of the fit), mean of the patterns kept = 1",
        ylabel="distance to the best slice\n(0: perfect, 1: as the mean pattern)",
    )
    plain_logarithmic(ax.xaxis)
    if 0 < LEAST_RANGE * fits.distance.min() < fits.distance.max():
        ax.set_yscale("log")
        plain_logarithmic(ax.yaxis)
    ax.grid(alpha=0.25)
    legend_below(ax, 3)


def _pictures(figure: Figure | SubFigure, shown: list[tuple[str, Float64]]) -> None:
    """Draw the examples in a row, each on its own logarithmic scale."""
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, (name, picture) in zip(axes, shown, strict=True):
        low, top = log_range(picture[np.isfinite(picture)])
        image = ax.imshow(np.maximum(picture, low), cmap=colours("magma"), norm=LogNorm(low, top))
        ax.set(title=name, xlabel="column [pixels]")
        bar = figure.colorbar(image, ax=ax, orientation="horizontal", shrink=0.9, label="counts")
        few_labels(bar.ax.xaxis, low, top)
    axes[0].set_ylabel("row [pixels]")
