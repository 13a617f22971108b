"""Pictures of volumes: the density in real space and the intensity in reciprocal space."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from spilegate.records import Float32, Float64
from spilegate.report.style import UNMEASURED, colours

# The axis across a slice or along a projection, and the two axes left: horizontal, vertical.
PLANES = ((2, "x", "y"), (1, "x", "z"), (0, "y", "z"))
DECADES = 6


def density_figure(density: Float32, voxel_angstrom: float, title: str) -> Figure:
    """Draw central slices and projections of a density, cut to where it is.

    density : (M, M, M) float32, centre at M // 2
    """
    figure = Figure(figsize=(11.5, 7.4), layout="compressed")
    figure.suptitle(title)
    rows = figure.subplots(2, 3)
    size = len(density)
    half = voxel_angstrom * size / 2
    extent = (-half, half, -half, half)
    edge = reach(density) * voxel_angstrom
    pictures = [[density.take(size // 2, axis=axis), density.sum(axis=axis) * voxel_angstrom] for axis, *_ in PLANES]
    units = ("density [arbitrary]", "density along the line [arbitrary x Å]")
    for row, (axes, unit) in enumerate(zip(rows, units, strict=True)):
        top = max(float(pictures[column][row].max()) for column in range(3)) or 1.0
        for column, (ax, (axis, across, up)) in enumerate(zip(axes, PLANES, strict=True)):
            # (x, y) index order: the first index runs to the right.
            image = ax.imshow(
                pictures[column][row].T, origin="lower", extent=extent, cmap="viridis", vmin=0, vmax=top,
                interpolation="bicubic",
            )  # fmt: skip
            kind = f"slice at {'xyz'[axis]} = 0" if row == 0 else f"projection along {'xyz'[axis]}"
            ax.set(title=kind, xlabel=f"{across} [Å]", ylabel=f"{up} [Å]", xlim=(-edge, edge), ylim=(-edge, edge))
        figure.colorbar(image, ax=list(axes), label=unit, shrink=0.9)
    return figure


def intensity_figure(
    autocorrelation: Float32, voxel_angstrom: float, q_first: float, q_last: float, title: str
) -> Figure:
    """Draw central slices of the intensity on a logarithmic scale; what no pixel measures is grey.

    autocorrelation : (M, M, M) float32, centre at M // 2
    q_first, q_last : |q| of the pixels nearest to and furthest from the beam that are used [1/angstrom]
    """
    figure = Figure(figsize=(13, 4.9), layout="compressed")
    figure.suptitle(f"{title}; grey: no pixel there, |q| < {q_first:.2g} or > {q_last:.3g} 1/Å")
    axes = figure.subplots(1, 3)
    slices = [central_slice(autocorrelation, voxel_angstrom, axis) for axis, *_ in PLANES]
    measured = [_measured(values, q, q_first, q_last) for values, q in slices]
    # A state without patterns has no intensity.
    top = max(float(np.nanmax(values, initial=0.0)) for values in measured) or 1.0
    floor = top * 10.0**-DECADES
    norm = LogNorm(floor, top, clip=True)
    for ax, values, (_, q), (axis, across, up) in zip(axes, measured, slices, PLANES, strict=True):
        step = q[1] - q[0]
        extent = (q[0] - step / 2, q[-1] + step / 2) * 2
        # Noise and ripples below the scale, and below zero, take its lowest colour; NaN stays NaN.
        shown = np.maximum(values, floor)
        image = ax.imshow(shown.T, origin="lower", extent=extent, cmap=colours("magma"), norm=norm)
        ax.add_patch(Circle((0, 0), q_first, fill=False, edgecolor="white", linewidth=0.8))
        ax.set(title=f"slice at q$_{'xyz'[axis]}$ = 0", xlabel=f"q$_{across}$ [1/Å]", ylabel=f"q$_{up}$ [1/Å]")
        ax.set(xlim=(-1.02 * q_last, 1.02 * q_last), ylim=(-1.02 * q_last, 1.02 * q_last), facecolor=UNMEASURED)
    figure.colorbar(image, ax=list(axes), label="intensity [pattern units]", shrink=0.9, extend="min")
    return figure


def central_slice(autocorrelation: Float32, voxel_angstrom: float, axis: int) -> tuple[Float64, Float64]:
    """Return the intensity in the plane through q = 0 normal to `axis`, and q along its edges [1/angstrom].

    By the projection theorem it is the 2-D transform of the autocorrelation summed along the axis; zeros around it
    make the sampling twice as fine.
    """
    projection = autocorrelation.sum(axis=axis, dtype=np.float64)
    size = len(projection)
    padded = 2 * size + 1
    before = padded // 2 - size // 2
    projection = np.pad(projection, (before, padded - size - before))
    values: Float64 = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(projection))).real
    return values, np.fft.fftshift(np.fft.fftfreq(padded, voxel_angstrom))


def _measured(values: Float64, q: Float64, q_first: float, q_last: float) -> Float64:
    """Return the values with NaN where no pixel measures."""
    length = np.hypot(q[:, None], q[None, :])
    return np.where((length >= q_first) & (length <= q_last), values, np.nan)


def reach(density: Float32, level: float = 0.01) -> float:
    """Return how far from the centre a picture has to reach [voxels]: what is above a part of the maximum, and more."""
    size = len(density)
    where = np.argwhere(density > level * density.max()) if density.max() > 0 else np.empty((0, 3))
    if not len(where):
        return size / 2
    return min(float(np.abs(where - size // 2).max()) * 1.15 + 1.5, size / 2)
