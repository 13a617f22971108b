"""Pictures of curves: convergence over the generations, and Fourier shell correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spilegate.evaluation.fsc import FscCurve, resolution_angstrom
from spilegate.records import Float64
from spilegate.report.progress import Record
from spilegate.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, legend_below, plain_logarithmic
from spilegate.resolution.verdict import HALF_SET_THRESHOLD, PRTF_THRESHOLD

# (name of the figure of merit, title, axis label, logarithmic)
MERITS = (
    ("mean_distance", "Mean distance of patterns to their slices", "squared distance / squared norm", True),
    ("moved", "Orientations that moved", "fraction of patterns", False),
    ("merge_residual", "Merge", "relative residual of CG", True),
    ("phasing_r", "Phasing", "R factor", False),
)
STAGE_COLOURS = {"start": SKY, "slice": GREEN, "match": BLUE, "refine": PURPLE, "merge": ORANGE, "phase": VERMILION}
# Name of a curve, what it is called, its threshold if it has one, how that is written, and its colour.
MARKS = {"reference": "s", "half_set": "o", "prtf": "^"}
CURVES: dict[str, tuple[str, float | None, str, str]] = {
    "reference": ("FSC against the reference", 0.5, "0.5", BLUE),
    "half_set": ("FSC between half-sets", HALF_SET_THRESHOLD, f"{HALF_SET_THRESHOLD:g}", VERMILION),
    "half_set_plain": ("the same, supports' share left in", None, "", VERMILION),
    "prtf": ("PRTF", PRTF_THRESHOLD, "1/e", GREEN),
}


def convergence_figure(records: Sequence[Record], title: str) -> Figure:
    """Draw the figures of merit, the radius used and the time of every generation."""
    figure = Figure(figsize=(12.5, 7.2), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(2, 3).ravel()
    for ax, (name, heading, label, logarithmic), colour in zip(
        axes, MERITS, (BLUE, VERMILION, ORANGE, GREEN), strict=False
    ):
        _merit(ax, *_series(records, name), colour, logarithmic=logarithmic)
        ax.set(title=heading, ylabel=label)
    _merit(axes[4], *_series(records, "q_max"), PURPLE, logarithmic=False)
    axes[4].set(title="Radius of the detector used", ylabel="q [1/Å]")
    axes[4].set_ylim(bottom=0)
    _times(axes[5], records)
    for ax in axes:
        ax.set_xlabel("generation (1 = blind start)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlim(0.4, max((record["generation"] for record in records), default=1) + 0.6)
    return figure


def _series(records: Sequence[Record], name: str) -> tuple[list[int], list[float]]:
    """Return the last finite value of a figure of merit in every generation that has one."""
    values = {
        record["generation"]: record["figures"][name]
        for record in records
        if math.isfinite(record["figures"].get(name, math.nan))
    }
    return list(values), list(values.values())


def _merit(ax: Axes, generations: list[int], values: list[float], colour: str, *, logarithmic: bool) -> None:
    """Draw one figure of merit."""
    if not values:
        ax.text(0.5, 0.5, "not reported", ha="center", va="center", color=GREY, transform=ax.transAxes)
        return
    ax.plot(generations, values, marker="o", markersize=4, color=colour)
    if logarithmic and min(values) > 0:
        ax.set_yscale("log")
        plain_logarithmic(ax.yaxis)
    else:
        ax.set_ylim(0, 1.08 * max(*values, 1e-12))
    ax.grid(axis="y", alpha=0.3)


def _times(ax: Axes, records: Sequence[Record]) -> None:
    """Draw the seconds of every generation, stacked by stage."""
    last = max((record["generation"] for record in records), default=1)
    bottom = np.zeros(last)
    for stage in dict.fromkeys([*STAGE_COLOURS, *(record["stage"] for record in records)]):
        seconds = np.zeros(last)
        for record in records:
            if record["stage"] == stage:
                seconds[record["generation"] - 1] += record["seconds"]
        if seconds.any():
            ax.bar(np.arange(1, last + 1), seconds, bottom=bottom, color=STAGE_COLOURS.get(stage, GREY), label=stage)
            bottom += seconds
    ax.set(title="Time by stage", ylabel="seconds")
    if bottom.any():
        # Room for the legend above the highest.
        ax.set_ylim(0, 1.45 * bottom.max())
        ax.legend(ncols=3, loc="upper center", handlelength=1.0, columnspacing=1.0)


def fsc_figure(curves: Mapping[str, tuple[Float64, Float64]], q_edge: float | None, title: str) -> Figure:
    """Draw curves over shells, each with its threshold and where it falls below.

    curves : some of CURVES, each (q [1/angstrom], correlation or transfer); q_edge : the largest q measured
    """
    figure = Figure(figsize=(8.2, 6.4), layout="constrained")
    figure.suptitle(title)
    ax = figure.subplots()
    for name, (q, values) in curves.items():
        label, threshold, written, colour = CURVES[name]
        if threshold is None:
            ax.plot(q, values, color=colour, linewidth=0.9, alpha=0.6, label=label)
            continue
        resolution = resolution_angstrom(FscCurve(q, values, np.ones_like(q)), threshold)
        if resolution is None:
            reached = f"nowhere above {written}"
        elif values.min() >= threshold:
            reached = f"above {written} as far as it goes, {resolution:.2f} Å"
        else:
            reached = f"{resolution:.2f} Å at {written}"
        ax.plot(q, values, color=colour, marker=MARKS[name], markersize=4.5, label=f"{label}: {reached}")
        ax.axhline(threshold, color=colour, linestyle="--", linewidth=0.9)
        ax.annotate(written, (1.0, threshold), xycoords=("axes fraction", "data"), xytext=(3, 0),
                    textcoords="offset points", color=colour, va="center", fontsize=10)  # fmt: skip
        if resolution is not None and values.min() < threshold:
            ax.plot([1 / resolution], [threshold], marker="o", markersize=10, markerfacecolor="none",
                    markeredgecolor=colour, markeredgewidth=2)  # fmt: skip
    if q_edge is not None:
        ax.axvline(q_edge, color=GREY, linestyle=":", linewidth=1.2, label=f"edge of the data used: {1 / q_edge:.2f} Å")
    top = 1.02 * max(*(float(q[-1]) for q, _ in curves.values()), q_edge or 0.0)
    ax.set(xlim=(0, top), ylim=(min(-0.05, *(float(c.min()) for _, c in curves.values())), 1.08))
    ax.set(xlabel="q = 1/d [1/Å]", ylabel="Fourier shell correlation, PRTF")
    ax.grid(alpha=0.25)
    legend_below(ax, 1)
    _resolution_axis(ax, top)
    return figure


def _resolution_axis(ax: Axes, q_top: float) -> None:
    """Mark resolutions in angstrom along the top."""
    candidates = np.array([1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 40, 60, 100, 200])
    kept: list[Any] = []
    for resolution in candidates[candidates >= 1 / q_top]:
        if not kept or 1 / kept[-1] - 1 / resolution > 0.055 * q_top:
            kept.append(resolution)
    top = ax.twiny()
    top.spines["top"].set_visible(True)
    top.set(xlim=ax.get_xlim(), xlabel="resolution d [Å]")
    top.set_xticks([1 / resolution for resolution in kept], [f"{resolution:g}" for resolution in kept])
