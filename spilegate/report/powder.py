"""Picture of a file of patterns: their mean on the detector and over rings, and how many photons they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from spilegate.formats.looking import Looked
from spilegate.patterns.outlook import spacing
from spilegate.patterns.places import Places
from spilegate.records import NEVER
from spilegate.report.assembling import assembled
from spilegate.report.measured import radial_mean
from spilegate.report.style import (
    BLUE,
    GREEN,
    GREY,
    SKY,
    VERMILION,
    colours,
    drawing,
    few_labels,
    legend_below,
    plain_logarithmic,
    save,
)

# Rings of round resolutions, no more than these; labels lie along this direction [radians], where they cover little.
MOST_RINGS, LABELS_AT = 5, np.pi / 4
ROUND = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
# Pixels that are marked as the hottest: so many standard deviations beyond others of their ring, which differ by this
# part of themselves; not so near the beam [pixels], nor where a ring has fewer pixels.
HOTTEST, DEVIATIONS, UNLIKE, FIRST_RING, FEWEST = 5, 6.0, 0.5, 4, 8
# Decades that are shown below the brightest pixels but for this part.
DECADES, BRIGHTEST = 4.0, 1e-4


def draw(path: Path, looked: Looked, name: str) -> None:
    """Write a PNG of the patterns looked at; raises InputError if it cannot be written."""
    with drawing():
        save(powder_figure(looked, f"{name}: mean of {len(looked.totals)} of {looked.patterns} patterns"), path)


def powder_figure(looked: Looked, title: str) -> Figure:
    """Draw the mean pattern as the detector lies, with rings of resolution and its hottest pixels; curves beside it."""
    figure = Figure(figsize=(13.5, 7.6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplot_mosaic("AAB;AAC", width_ratios=(1, 1, 1.1))
    unit = "photons" if looked.counts else "intensity"
    hot = hottest(looked)
    _show(axes["A"], looked, hot, unit)
    _rings(axes["A"], looked)
    _radial(axes["B"], looked, hot, unit)
    _histogram(axes["C"], looked, unit)
    return figure


def hottest(looked: Looked) -> list[int]:
    """Return the pixels that are far brighter than others at their |q|, the worst first, HOTTEST of them at most."""
    used, length = looked.mask < NEVER, np.linalg.norm(looked.q, axis=-1)
    ring = np.rint(length / spacing(looked)).astype(np.intp)
    number, total = (np.bincount(ring[used], of, int(ring.max()) + 1) for of in (None, looked.mean[used]))
    # Of the others: one pixel may be most of its ring.
    usual = np.maximum(total[ring] - looked.mean, 0) / np.maximum(number[ring] - 1, 1)
    spread = np.sqrt((looked.photon or 0.0) * np.maximum(usual, looked.photon or 0.0) + (UNLIKE * usual) ** 2)
    excess = np.where(used & (ring >= FIRST_RING), (looked.mean - usual) / np.maximum(spread, 1e-30), 0.0)
    excess[number[ring] < FEWEST] = 0.0
    found = np.argsort(-excess, kind="stable")[:HOTTEST]
    return [int(pixel) for pixel in found if excess[pixel] > DEVIATIONS]


def _show(ax: Axes, looked: Looked, hot: list[int], unit: str) -> None:
    """Show the mean pattern in rows and columns, its hottest pixels in circles."""
    picture, (row, column) = assembled(looked.index_map, looked.mask, looked.mean), looked.index_map.min(axis=0)
    positive = picture[np.isfinite(picture) & (picture > 0)]
    top = float(np.quantile(positive, 1 - BRIGHTEST)) if len(positive) else 1.0
    low = max(top * 10.0**-DECADES, float(positive.min()) / 2 if len(positive) else 0.1)
    low = min(low, top / 2)
    rows, columns = picture.shape
    extent = (column - 0.5, column + columns - 0.5, row + rows - 0.5, row - 0.5)
    image = ax.imshow(np.maximum(picture, low), cmap=colours("magma"), norm=LogNorm(low, top, clip=True), extent=extent)
    for number, pixel in enumerate(hot):
        place = looked.index_map[pixel]
        ax.plot(
            place[1], place[0], "o", markersize=9, markerfacecolor="none", markeredgecolor=SKY, markeredgewidth=1.2,
            label="hottest beside others at their |q|" if not number else None,
        )  # fmt: skip
    binned = f" (binned {looked.binning} x {looked.binning})" if looked.binning > 1 else ""
    ax.set(title="on the detector; grey: never used, or no pixel", xlabel=f"column [pixels]{binned}",
           ylabel="row [pixels]")  # fmt: skip
    if hot:
        legend_below(ax, 1)
    bar = ax.figure.colorbar(image, ax=ax, label=f"{unit} per pixel and pattern", shrink=0.85, extend="both")
    few_labels(bar.ax.yaxis, low, top)


def _rings(ax: Axes, looked: Looked) -> None:
    """Draw circles of round resolutions about the beam, where the picture shows reciprocal space as it is."""
    places, step = Places.of(looked), spacing(looked)
    beam = places.at(looked.q, np.zeros(2))
    if beam is None:
        return
    # The place of the beam is in pixels of the file, the picture in binned ones.
    row, column = (beam[0] - (looked.binning - 1) / 2) / looked.binning
    q_max = float(np.linalg.norm(looked.q[looked.mask < NEVER], axis=-1).max())
    sizes = ax.get_xlim(), ax.get_ylim()
    for angstrom in resolutions(q_max):
        across = _across(1 / angstrom, looked.wavelength) / step
        ax.add_patch(Circle((column, row), across, fill=False, edgecolor="white", linewidth=0.8, alpha=0.8))
        ax.annotate(
            f"{angstrom:g} Å", (column + across * np.cos(LABELS_AT), row - across * np.sin(LABELS_AT)), fontsize=10,
            color="white", ha="center", va="center", annotation_clip=True,
            bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
    ax.plot(column, row, "+", color="white", markersize=8, markeredgewidth=0.9)
    ax.set(xlim=sizes[0], ylim=sizes[1])


def resolutions(q_max: float) -> list[float]:
    """Return round resolutions [angstrom] of about evenly spaced rings to q_max [1/angstrom], the finest first."""
    found: list[float] = []
    for part in range(MOST_RINGS, 0, -1):
        wanted = MOST_RINGS / (part * q_max)
        power = 10.0 ** np.floor(np.log10(wanted))
        choice = [float(number * each) for each in (power, 10 * power) for number in ROUND]
        best = choice[int(np.argmin(np.abs(np.array(choice) - wanted)))]
        if best * q_max >= 1 and best not in found:
            found.append(best)
    return found


def _across(q: float, wavelength: float) -> float:
    """Return how far from the beam, on a flat detector, |q| lies; near the beam it is |q| itself [1/angstrom]."""
    angle = 2 * np.arcsin(min(1.0, q * wavelength / 2))
    return float(np.tan(min(angle, 1.5)) / wavelength)


def _radial(ax: Axes, looked: Looked, hot: list[int], unit: str) -> None:
    """Draw the mean over rings, and where the hottest pixels are beside it."""
    used, length = looked.mask < NEVER, np.linalg.norm(looked.q, axis=-1)
    q, counts = radial_mean(looked.mean, length, used, spacing(looked))
    ax.plot(q, np.where(counts > 0, counts, np.nan), color=BLUE, label="mean over rings")
    if hot:
        ax.plot(length[hot], looked.mean[hot], "o", markerfacecolor="none", color=SKY, label="hottest pixels")
    ax.set(title="mean over rings", xlabel="|q| [1/Å]", ylabel=f"{unit} per pixel and pattern", yscale="log")
    plain_logarithmic(ax.yaxis, (1.0,))
    ax.set_xlim(left=0)
    ax.grid(alpha=0.25)
    if hot:
        legend_below(ax)


def _histogram(ax: Axes, looked: Looked, unit: str) -> None:
    """Draw how many patterns have how many photons."""
    mean, middle = float(looked.totals.mean()), float(np.median(looked.totals))
    ax.hist(looked.totals, bins=min(60, max(10, len(looked.totals) // 8)), color=GREEN)
    ax.axvline(mean, color=VERMILION, linewidth=1.2, label=f"mean {mean:.6g}")
    ax.axvline(middle, color=GREY, linewidth=1.2, linestyle="--", label=f"median {middle:.6g}")
    what = "photons in a pattern" if looked.counts else "intensity of a pattern"
    ax.set(title=f"{what}, on the pixels used", xlabel=unit, ylabel="patterns")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    legend_below(ax)
