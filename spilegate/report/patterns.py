"""Pictures of patterns: where they were taken from, and examples beside their model slices."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from spilegate.findings import Findings
from spilegate.geometry import orientations
from spilegate.records import NEVER, Float32, Float64
from spilegate.report.assembling import assemble, example, log_range
from spilegate.report.sphere import SHOWN, density_at, directions_of
from spilegate.report.style import BLUE, GREY, colours, few_labels, legend_below

# Slices are drawn down to this part of their maximum.
SLICE_SHOWN = 1e-3


def orientations_figure(quaternions: Float64, title: str) -> Figure:
    """Draw the distribution of view directions over the sphere, and of the angles about the beam.

    quaternions : (N_IMG, 4) float64, particle to laboratory
    """
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    figure.suptitle(title)
    sphere, plane = figure.subplot_mosaic("AAB", per_subplot_kw={"A": {"projection": "mollweide"}}).values()
    rotations = orientations.matrices(quaternions)
    # The beam seen from the particle, R^T z, and the particle's z axis seen along the beam, R z.
    beam, axis = rotations[:, 2, :], rotations[:, :, 2]
    longitude, latitude, share = sphere_density(beam)
    mesh = sphere.pcolormesh(
        longitude, latitude, share, cmap="Blues", vmin=0, vmax=max(2.0, float(share.max())), shading="gouraud"
    )
    shown = beam[:SHOWN]
    sphere.plot(
        np.arctan2(shown[:, 1], shown[:, 0]), np.arcsin(np.clip(shown[:, 2], -1, 1)), ".", markersize=2.2,
        color="#222222", alpha=0.7,
    )  # fmt: skip
    sphere.set_title(f"beam direction in the particle's frame, {len(beam)} patterns")
    sphere.set_xticklabels([])
    sphere.set_yticks(np.radians([-60, -30, 0, 30, 60]))
    sphere.tick_params(axis="y", labelsize=9)
    sphere.grid(alpha=0.25)
    figure.colorbar(
        mesh, ax=sphere, label="patterns per area (1 = uniform)", orientation="horizontal", shrink=0.6, pad=0.04
    )
    angle = np.degrees(np.arctan2(axis[:, 1], axis[:, 0]))
    plane.hist(angle, bins=24, range=(-180, 180), color=BLUE)
    plane.axhline(len(beam) / 24, color=GREY, linestyle="--", linewidth=1, label="uniform")
    plane.set(title="angle about the beam", xlabel="azimuth of the particle's z axis [degrees]", ylabel="patterns")
    plane.set_xticks([-180, -90, 0, 90, 180])
    plane.set_ylim(bottom=0)
    legend_below(plane, 1)
    return figure


def sphere_density(directions: Float64) -> tuple[Float64, Float64, Float64]:
    """Return longitudes (n,) and latitudes (m,) [radians] and the density of directions (m, n) over a uniform one.

    directions : (N, 3) float64, unit
    """
    longitude, latitude = np.linspace(-np.pi, np.pi, 121), np.linspace(-np.pi / 2, np.pi / 2, 61)
    return longitude, latitude, density_at(directions_of(longitude, latitude[:, None]), directions)


def patterns_figure(found: Findings, chosen: list[tuple[str, int, float]], models: Float32, title: str) -> Figure:
    """Draw chosen patterns above their model slices, on one logarithmic scale each.

    chosen : (name, index of the pattern, distance); models : (len(chosen), N_PIX) float32, scaled like the patterns
    """
    figure = Figure(figsize=(4.0 * len(chosen), 8), layout="compressed")
    figure.suptitle(title)
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for column, (name, index, distance) in enumerate(chosen):
        pattern = example(found, index)
        low, top = log_range(pattern[found.mask < NEVER])
        # Where photons are few, a slice expects much less than one of them at most pixels.
        low = min(low, SLICE_SHOWN * max(float(models[column].max()), low))
        norm = LogNorm(low, top)
        for ax, values, what in zip(axes[:, column], (pattern, models[column]), ("measured", "model"), strict=True):
            picture = np.maximum(assemble(found, values), low)
            image = ax.imshow(picture, cmap=colours("magma"), norm=norm)
            ax.set(xlabel="column [pixels]", ylabel="row [pixels]")
            ax.set_title(f"{name}: pattern {index}, distance {distance:.2g}" if what == "measured" else "model slice")
        bar = figure.colorbar(image, ax=list(axes[:, column]), shrink=0.7, label="intensity", orientation="horizontal")
        few_labels(bar.ax.xaxis, low, top)
    return figure
