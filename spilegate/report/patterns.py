"""Pictures of patterns: where they were taken from, and examples beside their model slices."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from spilegate.findings import Findings
from spilegate.geometry import orientations
from spilegate.records import NEVER, Float32, Float64, Int64, UInt8
from spilegate.report.style import BLUE, GREY, colours, few_labels, legend_below

# Directions marked and averaged (more would only blacken the picture), and how many an average takes in.
SHOWN = 2000
PER_KERNEL = 25
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

    directions : (N, 3) float64, unit. A von Mises-Fisher kernel averages over 1 / kappa of the sphere, about
    PER_KERNEL directions, so that chance alone gives a spread of about 1 / sqrt(2 PER_KERNEL).
    """
    used = directions[:SHOWN].astype(np.float32)
    kappa = max(len(used) / PER_KERNEL, 2.0)
    longitude, latitude = np.linspace(-np.pi, np.pi, 121), np.linspace(-np.pi / 2, np.pi / 2, 61)
    across = np.cos(latitude)[:, None]
    points = np.stack(
        [across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)[:, None] + 0 * longitude], axis=-1
    )
    kernel = np.exp(kappa * (points.astype(np.float32) @ used.T - 1)).mean(axis=-1, dtype=np.float64)
    return longitude, latitude, 2 * kappa * kernel / (1 - np.exp(-2 * kappa))


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


def example(found: Findings, index: int) -> Float32:
    """Return the pattern (N_PIX,) of that number, one of those that are shown."""
    pattern: Float32 = found.examples[int(np.searchsorted(found.shown, index))]
    return pattern


def assemble(found: Findings, values: Float32 | Float64) -> Float64:
    """Return pixel values (N_PIX,) as the assembled picture, NaN, drawn grey, where no pixel is or the mask is 2."""
    return assembled(found.pixel_index_map, found.mask, values)


def assembled(index_map: Int64, mask: UInt8, values: Float32 | Float64) -> Float64:
    """Return pixel values (N_PIX,) in their rows and columns (N_PIX, 2), from the first ones on; NaN as `assemble`."""
    row, column = (index_map - index_map.min(axis=0)).T
    picture = np.full((row.max() + 1, column.max() + 1), np.nan)
    picture[row, column] = np.where(mask < NEVER, values, np.nan)
    return picture


def log_range(values: Float32 | Float64) -> tuple[float, float]:
    """Return the ends of a pattern's logarithmic scale: four decades at most, less if its smallest count says so."""
    positive = values[values > 0]
    top = float(positive.max()) if len(positive) else 1.0
    low = max(top * 1e-4, float(positive.min()) / 3 if len(positive) else 0.1)
    return min(low, top / 2), top
