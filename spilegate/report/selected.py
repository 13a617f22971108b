"""Pictures of a selection: sizes and shapes of what the patterns show, and their 2-D classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spilegate.records import Bool
from spilegate.report.files import FIGURES
from spilegate.report.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    colours,
    drawing,
    plain_logarithmic,
    save,
)
from spilegate.selection.record import BY_HAND, REASONS, SINGLE, Selection

BINS = 48
# Classes beside each other; points of a scatter beyond which they are drawn smaller.
COLUMNS, MANY = 8, 2000
# Labels of sizes that differ little, in multiples of powers of ten.
FINE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
# Of patterns by why they are kept or not, in the order of REASONS; grey would be taken for nothing measured.
COLOURS = (BLUE, GREY, GREY, GREY, ORANGE, GREEN, VERMILION)
OF_HAND = {1: SKY, -1: PURPLE}


def draw(folder: Path, selection: Selection, source: str) -> list[Path]:
    """Draw `sizes.png` and `classes.png` into `folder/figures` and return their paths.

    Raises InputError if one cannot be written.
    """
    target = Path(folder) / FIGURES
    target.mkdir(exist_ok=True)
    done = []
    with drawing():
        for name, painter in (("sizes", sizes_figure), ("classes", classes_figure)):
            save(painter(selection, source), target / f"{name}.png")
            done.append(target / f"{name}.png")
    return done


def sizes_figure(selection: Selection, source: str) -> Figure:
    """Draw how many patterns show which size, kept and left out, and their aspects."""
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    shown = selection.shown
    figure.suptitle(f"{source}: spheroids of {shown.sum()} of {len(shown)} patterns that show something")
    left, right = figure.subplots(1, 2)
    parts = _parts(selection)
    values = selection.diameter_angstrom
    low, high = float(values[shown].min()) / 1.02, float(values[shown].max()) * 1.02
    edges = np.geomspace(low, high, BINS + 1)
    left.hist(
        [values[which] for _, which, _ in parts], bins=list(edges), stacked=True, color=[each for *_, each in parts],
        label=[f"{name}: {which.sum()}" for name, which, _ in parts],
    )  # fmt: skip
    left.set(title="diameters", ylabel="patterns")
    size = 10 if shown.sum() <= MANY else 3
    for name, which, colour in parts:
        right.scatter(values[which], selection.aspect[which], s=size, color=colour, alpha=0.6, linewidths=0, label=name)
    right.set(title="shapes", ylabel="aspect: larger over smaller diameter seen")
    for ax, bottom in ((left, 0.0), (right, 1.0)):
        _size_axis(ax, selection, (low, high), bottom)
    left.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    return figure


def _size_axis(ax: Axes, selection: Selection, ends: tuple[float, float], bottom: float) -> None:
    """Give a picture its axis of diameters, with the window on it, and room for what that is."""
    low, high = ends
    first, last = selection.window_angstrom
    ax.axvspan(first, last, color=BLUE, alpha=0.1, linewidth=0)
    ax.annotate(
        f"95 % of those found single:\n{first:.4g} to {last:.4g} Å", (last, 1.0), (4, -4), fontsize=7.5,
        xycoords=("data", "axes fraction"), textcoords="offset points", ha="left", va="top",
    )  # fmt: skip
    ax.set(xscale="log", xlim=(low, high), xlabel="diameter [Å], of the circle of equal area")
    plain_logarithmic(ax.xaxis, FINE if high < 10 * low else (1.0, 2.0, 5.0))
    ax.set_ylim(bottom, ax.get_ylim()[1] + 0.2 * (ax.get_ylim()[1] - bottom))
    ax.grid(alpha=0.25)


def _parts(selection: Selection) -> list[tuple[str, Bool, str]]:
    """Return (why, which patterns (N_IMG,), colour) of all that show something, those kept first."""
    hand, result = selection.hand, []
    for number, (name, colour) in enumerate(zip(REASONS, COLOURS, strict=True)):
        which = selection.shown & (hand == 0) & (selection.reason == number)
        result.append((f"kept: {name}" if number == SINGLE else name, which, colour))
    result += [(name, selection.shown & (hand == value), OF_HAND[value]) for value, name in BY_HAND.items()]
    return [part for part in result if part[1].any()]


def classes_figure(selection: Selection, source: str) -> Figure:
    """Draw the means of the 2-D classes, the largest first, with how many patterns each has and how many are kept."""
    means, label = selection.class_means, selection.label
    rows = max(1, -(-len(means) // COLUMNS))
    figure = Figure(figsize=(11.5, 0.5 + 1.85 * rows), layout="constrained")
    reach = 1 / selection.class_extent if selection.class_extent > 0 else np.inf
    figure.suptitle(f"{source}: {len(means)} classes, to {reach:.3g} Å; logarithmic, each on a scale of its own")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for number, ax in enumerate(axes):
        ax.set_axis_off()
        if number >= len(means):
            continue
        mine = label == number
        count, kept = int(mine.sum()), int((mine & selection.kept).sum())
        ax.imshow(means[number], cmap=colours("magma"), vmin=0, vmax=1)
        ax.set_title(f"class {number}\n{count}, kept {kept}", fontsize=8, color=BLUE if 2 * kept > count else VERMILION)
    return figure
