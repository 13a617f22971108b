"""Densities small enough for a page: cut to where they are, sampled more finely or coarsely, eight bits a voxel."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from spilegate.records import Bool, Float32, UInt8

# Voxels along the longest edge of all states together, cubed: of a run that goes on, and of one that has ended.
SMALL, LARGE = 48, 112
# Surfaces look smooth at about this many voxels along the longest edge; more only costs.
SMOOTH = 84
# Nothing is seen of a density below this part of its highest.
FAINT = 0.02
# A surface needs room around it [voxels].
MARGIN = 2
LEVELS = 255


@dataclass(frozen=True)
class Box:
    """A part of a density as the page has it.

    values : (X, Y, Z) uint8, LEVELS for the highest density; step_angstrom : edges of a voxel
    origin_angstrom : where the first one is, from the volume's centre
    """

    values: UInt8
    step_angstrom: tuple[float, float, float]
    origin_angstrom: tuple[float, float, float]
    highest: float

    def plain(self, name: str) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "name": name,
            "shape": self.values.shape,
            "step": [round(value, 5) for value in self.step_angstrom],
            "origin": [round(value, 4) for value in self.origin_angstrom],
            "highest": float(f"{self.highest:.6g}"),
            "data": base64.b64encode(self.values.tobytes()).decode("ascii"),
        }


def boxed(density: Float32, support: Bool, voxel_angstrom: float, most: int) -> Box:
    """Return the part of a density that is not empty, with at most about `most` voxels along an edge.

    density : (M, M, M) float32, centre at M // 2; support : (M, M, M) bool
    """
    size = len(density)
    there = np.argwhere(support & (density > FAINT * density.max()))
    if not len(there):
        return Box(np.zeros((2, 2, 2), np.uint8), (voxel_angstrom,) * 3, (0.0, 0.0, 0.0), 0.0)
    low = np.maximum(there.min(axis=0) - MARGIN, 0)
    high = np.minimum(there.max(axis=0) + 1 + MARGIN, size)
    part = density[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    factor = min(3.0, min(most, max(SMOOTH, max(part.shape))) / max(part.shape))
    fine = np.maximum(resampled(part, factor), 0.0)
    highest = float(fine.max()) or 1.0
    values = (fine * (LEVELS / highest)).round().astype(np.uint8)
    # The first and the last voxel keep their places.
    step = tuple(
        voxel_angstrom * (before - 1) / (after - 1) for before, after in zip(part.shape, fine.shape, strict=True)
    )
    origin = tuple(float(place - size // 2) * voxel_angstrom for place in low)
    return Box(values, step, origin, highest)  # type: ignore[arg-type] # three of each


def resampled(volume: Float32, factor: float) -> Float32:
    """Return a volume at `factor` times as many samples along its axes, by cubic splines.

    Fourier coefficients would do for a density without an edge; one that ends at its support rings outside of it.
    """
    if factor < 1:
        volume = ndimage.gaussian_filter(volume, 0.4 / factor)
    fine: Float32 = ndimage.zoom(volume, factor, order=3 if factor > 1 else 1, mode="nearest")
    return fine


def boxes(density: Float32, support: Bool, voxel_angstrom: float, *, final: bool) -> list[Box]:
    """Return the densities (K, M, M, M) of all states; final : of a run that has ended, or of one that goes on."""
    most = max(24, round((LARGE if final else SMALL) / len(density) ** (1 / 3)))
    return [boxed(one, inside, voxel_angstrom, most) for one, inside in zip(density, support, strict=True)]
