"""Small pictures for notebooks: the mean of patterns, and a density with its curves in one row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from spilegate.records import Float32, Float64
from spilegate.report.assembling import assembled, log_range
from spilegate.report.maps import PLANES, reach
from spilegate.report.style import colours, drawing, few_labels

if TYPE_CHECKING:
    from spilegate.front.dataset import Dataset

DPI = 90
# What is below this part of the maximum, as the ripples of a true density are, is not to be seen.
SEEN = 0.05


def mean_picture(data: Dataset) -> Figure:
    """Draw the mean of the patterns as the detector lies; what is never used is grey."""
    with drawing():
        figure = Figure(figsize=(3.6, 2.9), layout="constrained", dpi=DPI)
        ax = figure.subplots()
        picture = assembled(data.pixel_index_map, data.mask, data.mean_pattern)
        low, top = log_range(picture[np.isfinite(picture)])
        image = ax.imshow(np.maximum(picture, low), cmap=colours("magma"), norm=LogNorm(low, top))
        ax.set(xlabel="column [pixels]", ylabel="row [pixels]", title="mean pattern")
        unit = "photons per pixel" if data.counts else "intensity per pixel"
        bar = figure.colorbar(image, ax=ax, label=unit)
        few_labels(bar.ax.yaxis, low, top)
    return figure


def density_picture(
    density: Float32, voxel_angstrom: float, curves: Mapping[str, tuple[Float64, Float64]] | None = None
) -> Figure:
    """Draw the central slices of a density (M, M, M), and curves over shells beside them if there are any."""
    from spilegate.report.curves import CURVES

    with drawing():
        parts = 4 if curves else 3
        figure = Figure(figsize=(2.7 * parts + (1.9 if curves else 0), 2.7), layout="constrained", dpi=DPI)
        axes = figure.subplots(1, parts)
        size = len(density)
        half, edge = voxel_angstrom * size / 2, reach(density, SEEN) * voxel_angstrom
        cuts = [density.take(size // 2, axis=axis) for axis, *_ in PLANES]
        top = max(float(cut.max()) for cut in cuts) or 1.0
        for ax, cut, (axis, across, up) in zip(axes, cuts, PLANES, strict=False):
            ax.imshow(
                cut.T, origin="lower", extent=(-half, half, -half, half), cmap="viridis", vmin=0, vmax=top,
                interpolation="bicubic",
            )  # fmt: skip
            ax.set(title=f"slice at {'xyz'[axis]} = 0", xlabel=f"{across} [Å]", ylabel=f"{up} [Å]")
            ax.set(xlim=(-edge, edge), ylim=(-edge, edge))
        for name, (q, values) in (curves or {}).items():
            label, threshold, _, colour = CURVES[name]
            if threshold is not None:
                axes[-1].plot(q, values, color=colour, label=label)
                axes[-1].axhline(threshold, color=colour, linestyle="--", linewidth=0.9)
        if curves:
            axes[-1].set(xlabel="q [1/Å]", ylim=(-0.1, 1.08), xlim=(0, None), title="dashed: thresholds")
            axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
            axes[-1].grid(alpha=0.25)
    return figure
