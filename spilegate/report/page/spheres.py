"""The sphere as a map that keeps areas, with its grid and, where asked for, directions as dots."""

from __future__ import annotations

import numpy as np

from spilegate.geometry.orientations import matrices
from spilegate.records import Float64
from spilegate.report.page import markup, raster, svg
from spilegate.report.page.content import Content
from spilegate.report.sphere import density_at, map_points, to_plane

# Dots on a map, and rows of pixels of one of a run that goes on.
DOTS, ROWS = 800, 60
BINS = 24


def sphere(values: Float64, scale: raster.Scale, alt: str, directions: Float64 | None = None) -> str:
    """Return a map (rows, 2 rows) of the sphere; directions : (n, 3) unit vectors, drawn as dots."""
    lines = "".join(f'<path class="graticule" d="{_line(*line)}"/>' for line in _graticule())
    spots = ""
    if directions is not None:
        x, y = to_plane(directions)
        # Two digits are a hundredth of the map's height.
        route = "".join(f"M{a:.2f} {-b:.2f}h0" for a, b in zip(x, y, strict=True))
        spots = f'<path class="directions" d="{route}"/>'
    outline = '<ellipse class="outline" rx="2" ry="1" fill="none"/>'
    return (
        f'<div class="sphere">{raster.image(values, scale, alt, smooth=True)}'
        f'<svg viewBox="-2 -1 4 2" aria-hidden="true">{lines}{spots}{outline}</svg></div>'
    )


def orientations(content: Content) -> str:
    """Return the section of the orientations found."""
    state = content.state
    kept = np.flatnonzero(state.weight > 0)
    if not len(kept):
        return ""
    rotations = matrices(state.quaternions[kept])
    # The beam seen from the particle, R^T z, and the particle's z axis seen along the beam, R z.
    beam, axis = rotations[:, 2, :], rotations[:, :, 2]
    points = map_points(ROWS)
    some = beam[:: max(1, len(beam) // 1500)]
    values = np.where(np.isnan(points[..., 0]), np.nan, density_at(np.nan_to_num(points), some))
    scale = raster.Scale(0.0, max(2.0, float(np.nanmax(values))), "cividis")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    alt = f"Map of beam directions of {len(kept)} patterns: {low:.2g} to {high:.2g} times a uniform distribution"
    picture = markup.figure(
        sphere(values, scale, alt, beam[:: max(1, len(beam) // DOTS)])
        + raster.bar(scale, "patterns per area (1 = uniform)"),
        "Beam direction in the particle's frame",
        "Dots: patterns" + (f", {DOTS} of {len(kept)}" if len(kept) > DOTS else "") + "; z is up.",
    )
    counts, edges = np.histogram(np.degrees(np.arctan2(axis[:, 1], axis[:, 0])), BINS, (-180, 180))
    places = np.arange(BINS, dtype=np.float64)
    ticks = tuple((place - 0.5, f"{edge:.0f}") for place, edge in enumerate(edges) if edge % 90 == 0)
    chart = svg.chart(
        [], svg.Axis("azimuth of the particle's z axis [degrees]", -0.5, BINS - 0.5, ticks=ticks),
        svg.Axis("patterns", 0.0, 1.15 * max(int(counts.max()), 1)), f"Angles about the beam: {counts.min()} to "
        f"{counts.max()} patterns in 15 degrees", bars=[svg.Line(places, counts.astype(np.float64))],
        levels=[svg.Level(len(kept) / BINS, "uniform")],
    )  # fmt: skip
    return markup.section(
        "orientations", "Orientations", markup.grid(picture, markup.figure(chart, "Angle about the beam"))
    )


def _graticule() -> list[tuple[Float64, Float64]]:
    """Return meridians and parallels as longitudes and latitudes [radians]."""
    fine = np.linspace(-np.pi / 2, np.pi / 2, 31)
    meridians = [(np.full_like(fine, np.radians(degrees)), fine) for degrees in (-120, -60, 0, 60, 120)]
    parallels = [(2 * fine, np.full_like(fine, np.radians(degrees))) for degrees in (-60, -30, 0, 30, 60)]
    return meridians + parallels


def _line(longitude: Float64, latitude: Float64) -> str:
    """Return a line on the map as a path."""
    across = np.cos(latitude)
    points = np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=-1)
    # At the map's edge the same direction is at both ends; the line stays on its side.
    points[:, 1] = np.where(np.abs(longitude) > np.pi - 1e-6, np.sign(longitude) * 1e-6 * across, points[:, 1])
    x, y = to_plane(points)
    return "M" + "L".join(f"{a:.3f} {-b:.3f}" for a, b in zip(x, y, strict=True))
