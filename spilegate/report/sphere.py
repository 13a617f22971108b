"""Directions on the sphere: how densely they lie, and maps of it that keep areas (Mollweide's)."""

from __future__ import annotations

import numpy as np

from spilegate.records import Float64

# Directions averaged at most, and how many an average takes in.
SHOWN = 2000
PER_KERNEL = 25
# Newton steps of the projection's angle; it is worse at the poles, where nothing is seen.
STEPS = 12


def density_at(points: Float64, directions: Float64) -> Float64:
    """Return how densely directions lie around points (..., 3), over a uniform distribution: (...) float64.

    directions : (N, 3) float64, unit. A von Mises-Fisher kernel averages over 1 / kappa of the sphere, about
    PER_KERNEL directions, so that chance alone gives a spread of about 1 / sqrt(2 PER_KERNEL).
    """
    used = directions[:SHOWN].astype(np.float32)
    kappa = max(len(used) / PER_KERNEL, 2.0)
    kernel = np.exp(kappa * (points.astype(np.float32) @ used.T - 1)).mean(axis=-1, dtype=np.float64)
    result: Float64 = 2 * kappa * kernel / (1 - np.exp(-2 * kappa))
    return result


def directions_of(longitude: Float64, latitude: Float64) -> Float64:
    """Return unit vectors (..., 3) of longitudes and latitudes [radians]."""
    across = np.cos(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude) + 0 * longitude], axis=-1)


def to_plane(directions: Float64) -> tuple[Float64, Float64]:
    """Return x in [-2, 2] and y in [-1, 1] of unit vectors (N, 3) on Mollweide's map."""
    latitude = np.arcsin(np.clip(directions[:, 2], -1, 1))
    longitude = np.arctan2(directions[:, 1], directions[:, 0])
    theta = latitude.copy()
    for _ in range(STEPS):
        slope = np.maximum(2 + 2 * np.cos(2 * theta), 1e-6)
        theta = np.clip(
            theta - (2 * theta + np.sin(2 * theta) - np.pi * np.sin(latitude)) / slope, -np.pi / 2, np.pi / 2
        )
    return 2 / np.pi * longitude * np.cos(theta), np.sin(theta)


def map_points(rows: int) -> Float64:
    """Return the unit vectors (rows, 2 * rows, 3) behind the pixels of Mollweide's map, north up; NaN outside of it."""
    y = 1 - (np.arange(rows) + 0.5) / rows * 2
    x = ((np.arange(2 * rows) + 0.5) / rows - 1) * 2
    theta = np.arcsin(y)[:, None]
    latitude = np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / np.pi, -1, 1))
    longitude = np.pi * x / (2 * np.cos(theta))
    points = directions_of(longitude, np.broadcast_to(latitude, longitude.shape))
    points[np.abs(longitude) > np.pi] = np.nan
    return points
