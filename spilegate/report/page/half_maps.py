"""What two half-maps tell beside their shell correlation: by direction, by place, and of their intensities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spilegate.errors import InputError
from spilegate.formats.maps import read_map
from spilegate.records import Bool, Float32, Float64
from spilegate.report.page import markup, raster, svg
from spilegate.report.page.content import Content
from spilegate.report.page.spheres import sphere
from spilegate.report.sphere import map_points
from spilegate.resolution.directional import HALF_ANGLE_DEG, cone_correlations, crossings, half_sphere
from spilegate.resolution.intensities import intensity_correlation
from spilegate.resolution.local import THRESHOLD, local_resolution
from spilegate.resolution.verdict import HALF_SET_THRESHOLD

# Directions of cones: neighbours are nearer than a cone is wide.
DIRECTIONS = 150
MAP_ROWS = 90
# The particle is where the density is above this part of its highest; pictures of it are so many times finer.
INSIDE, FINER = 0.1, 6
# Volumes of more voxels along an edge are cut to where the density is above this part of its highest.
LARGE, FAINT = 96, 0.01
# What spreads by less than this part of itself is the same everywhere.
SAME = 0.01
# Resolutions marked along the top [angstrom].
MARKED = (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 40, 60, 100, 200, 400)
# The axis across a slice, those that run to the right and upwards, and its name.
PLANES = ((2, "x", "y", "z"), (1, "x", "z", "y"), (0, "y", "z", "x"))


@dataclass(frozen=True)
class Halves:
    """The densities of both halves of the patterns, (M, M, M) each, over that of all.

    edge : of the data [1/angstrom]; of_state : what titles end in
    """

    first: Float32
    second: Float32
    whole: Float32
    voxel_angstrom: float
    edge: float
    of_state: str

    @property
    def inside(self) -> Bool:
        """Return where the particle is."""
        found: Bool = self.whole > INSIDE * self.whole.max()
        return found


def read(content: Content, k: int) -> Halves | None:
    """Return the half-maps of a state; None if there are none that can be read."""
    whole = content.state.density[k]
    try:
        (first, voxel), (second, _) = (
            read_map(content.folder / f"half_{half}{f'_{k}' if k else ''}.mrc") for half in (1, 2)
        )
    except InputError:
        return None
    if not first.shape == second.shape == whole.shape:
        return None
    cut = _cut(whole)
    return Halves(first[cut], second[cut], whole[cut], voxel, content.material.q_range[1], content.of_state(k))


def _cut(whole: Float32) -> tuple[slice, slice, slice]:
    """Return the middle of a large volume, as much of it as the particle takes: more would only cost."""
    size = len(whole)
    there = np.argwhere(whole > FAINT * whole.max())
    reach = int(np.abs(there - size // 2).max(initial=0)) + 2
    half = min(size // 2, max(reach, LARGE // 2))
    part = slice(size // 2 - half, size // 2 + half + 1)
    return part, part, part


def over_q(edge: float) -> svg.Axis:
    """Return the axis of q up to a little more than the data's edge."""
    return svg.Axis("q = 1/d [1/Å]", 0.0, 1.05 * edge)


def along_top(edge: float) -> svg.Axis:
    """Return the axis of resolutions along the upper edge of a chart over q."""
    ticks: list[tuple[float, str]] = []
    for resolution in MARKED:
        if 1 / resolution <= 1.05 * edge and (not ticks or ticks[-1][0] - 1 / resolution > 0.07 * edge):
            ticks.append((1 / resolution, f"{resolution:g}"))
    return svg.Axis("resolution d [Å]", 0.0, 1.05 * edge, ticks=tuple(ticks))


def intensities(halves: Halves) -> str:
    """Return how far the intensities of both agree."""
    q, curve = intensity_correlation(halves.first, halves.second, halves.voxel_angstrom, threads=1)
    reached = q <= halves.edge * (1 + 1e-6)
    picture = svg.chart(
        [svg.Line(q[reached], curve[reached], colour="c4")], over_q(halves.edge),
        svg.Axis("correlation of intensities", min(-0.05, float(curve[reached].min())), 1.05),
        f"Correlation of the intensities of both half-maps, {curve[reached][-1]:.2f} at the edge",
        top=along_top(halves.edge),
    )  # fmt: skip
    return markup.figure(
        picture,
        f"Intensities of half-sets{halves.of_state}",
        "Pearson correlation of |F|² over each shell: agreement of the speckle, whatever the phases.",
    )


def directions(halves: Halves) -> list[str]:
    """Return the correlation by direction: its spread, and the resolution on the sphere."""
    around = np.concatenate([np.eye(3), half_sphere(DIRECTIONS)])
    q, curves = cone_correlations(
        halves.first, halves.second, halves.voxel_angstrom, around, q_max=halves.edge, threads=1
    )
    known = np.isfinite(curves).all(axis=0)
    spread = (q[known], curves[:, known].min(axis=0), curves[:, known].max(axis=0))
    found = crossings(q, curves, HALF_SET_THRESHOLD)
    words = _span(float(found.min()), float(found.max())) if np.isfinite(found).all() else "nowhere in some directions"
    colours = ("c1", "c2", "c3")
    picture = svg.chart(
        [svg.Line(q, curves[axis], f"along {'xyz'[axis]}", colour) for axis, colour in enumerate(colours)],
        over_q(halves.edge), svg.Axis("correlation in cones", min(-0.05, float(spread[1].min(initial=0))), 1.05),
        f"Directional correlation of half-sets at {HALF_SET_THRESHOLD}: {words}", band=spread,
        levels=[svg.Level(HALF_SET_THRESHOLD, "0.143")], top=along_top(halves.edge),
    )  # fmt: skip
    caption = (
        f"In cones of {HALF_ANGLE_DEG:.0f}° about {DIRECTIONS} directions: 0.143 at {words}. Area: all directions. "
        "As the densities are: what their supports contribute is left in."
    )
    chart = markup.figure(picture, f"Directional correlation{halves.of_state}", caption)
    return [chart, _on_sphere(around, found, halves.of_state)] if np.isfinite(found).all() else [chart]


def _span(low: float, high: float) -> str:
    """Return from where to where resolutions [angstrom] go, in words."""
    return f"{low:.3g} Å everywhere" if high <= (1 + SAME) * low else f"{low:.3g} to {high:.3g} Å"


def _on_sphere(around: Float64, found: Float64, of_state: str) -> str:
    """Return the map of the resolution by direction."""
    points = map_points(MAP_ROWS)
    # Of the nearest direction, or its opposite.
    values: Float64 = found[np.abs(np.nan_to_num(points) @ around.T).argmax(axis=-1)]
    values[np.isnan(points[..., 0])] = np.nan
    low, high = float(found.min()), float(found.max())
    scale = raster.Scale(low, max(high, (1 + SAME) * low), "viridis")
    alt = f"Map of the sphere: resolution by direction, {_span(low, high)}"
    return markup.figure(
        sphere(values, scale, alt) + raster.bar(scale, "resolution [Å]"),
        f"Resolution by direction{of_state}",
        "Half-set correlation of 0.143 in a cone about each direction of the particle's frame; z is up.",
    )


def places(halves: Halves) -> str:
    """Return the slices of local resolution."""
    middle, inside = len(halves.whole) // 2, halves.inside
    axes = [axis for axis, *_ in PLANES]
    found = local_resolution(halves.first, halves.second, halves.voxel_angstrom, halves.edge, axes, threads=1)
    slices = [np.where(inside.take(middle, axis=axis), each, np.nan) for axis, each in zip(axes, found, strict=True)]
    known = np.concatenate([values[np.isfinite(values)] for values in slices])
    if not len(known):
        return markup.paragraph("Local resolution: the half-maps agree nowhere inside the particle.")
    low, high = float(known.min()), float(np.percentile(known, 98))
    scale = raster.Scale(low, max(high, (1 + SAME) * low), "viridis")
    there = np.argwhere(inside)
    cut = slice(max(int(there.min()) - 1, 0), int(there.max()) + 2)
    figures = []
    for values, (axis, right, up, across) in zip(slices, PLANES, strict=True):
        density = np.asarray(halves.whole.take(middle, axis=axis))
        shown = _finer(values[cut, cut], density[cut, cut], INSIDE * float(halves.whole.max()))
        picture = raster.image(shown.T[::-1], scale, f"Local resolution at {across} = 0, {_span(low, high)}")
        title = f"Local resolution at {across} = 0{halves.of_state}"
        bar = raster.bar(scale, "local resolution [Å]")
        figures.append(markup.figure(picture + bar, title, f"{right} to the right, {up} upwards."))
    note = (
        f"Local resolution inside the density, {_span(low, high)}: where the half-maps' correlation, in a window about "
        f"as wide as the length that is resolved, falls below {THRESHOLD:g}. It ends at the edge of the data, "
        f"{1 / halves.edge:.3g} Å. A particle a few such lengths across has hardly more than one value of it."
    )
    return markup.paragraph(note) + markup.grid(*figures, kind="three")


def _finer(values: Float64, density: Float32, least: float) -> Float64:
    """Return values (n, n) on a grid so much finer that their outline, where the density is `least`, looks smooth."""
    lacking = ~np.isfinite(values)
    if lacking.all():
        return values
    nearest = ndimage.distance_transform_edt(lacking, return_distances=False, return_indices=True)
    fine = ndimage.zoom(values[tuple(nearest)], FINER, order=1)
    inside = ndimage.zoom(density, FINER, order=1) > least
    # What has no value although it is inside.
    unknown = ndimage.zoom((lacking & (density > least)).astype(np.uint8), FINER, order=0)
    return np.where(inside & (unknown == 0), fine, np.nan)
