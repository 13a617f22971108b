"""What a run found out about the patterns as they were measured, in numbers: background, scales, states."""

from __future__ import annotations

import numpy as np

from spilegate.records import Bool, Float64, Int64

# The detector's edge is beyond this part of the radius used.
EDGE = 0.9
PERCENTILES = (5, 50, 95)


def background_figures(mean: Float64, background: Float64, q_length: Float64, used: Bool) -> dict[str, float]:
    """Return `counts_per_pixel` of a background and which part of the mean pattern it is, overall and at the edge.

    mean : (N_PIX,) [counts], mean pattern as measured, background included; background : (N_PIX,) [counts]
    q_length : (N_PIX,) [1/angstrom]; used : (N_PIX,), the pixels that count, at least one
    """
    edge = used & (q_length >= EDGE * q_length[used].max())

    def part(pixels: Bool) -> float:
        whole = float(mean[pixels].sum())
        return float(background[pixels].sum()) / whole if whole > 0 else 0.0

    return {
        "counts_per_pixel": float(background[used].mean()),
        "fraction": part(used),
        "fraction_at_edge": part(edge),
    }


def radial_mean(values: Float64, q_length: Float64, used: Bool, spacing: float) -> tuple[Float64, Float64]:
    """Return the mean of pixels over shells of |q|: (N_SHELL,) mean radius [1/angstrom] and (N_SHELL,) value.

    values, q_length, used : (N_PIX,); spacing : of the shells [1/angstrom]; shells without pixels are left out
    """
    q = q_length[used]
    shell = ((q - q.min()) / spacing).astype(np.int64)
    number = np.bincount(shell)
    filled = number > 0
    centre, mean = (np.bincount(shell, each)[filled] / number[filled] for each in (q, values[used]))
    return centre, mean


def scale_figures(scale: Float64, weight: Float64) -> dict[str, float]:
    """Return percentiles of the scales (N_IMG,) of patterns whose weight (N_IMG,) is not 0."""
    found = np.percentile(scale[weight > 0], PERCENTILES)
    return {f"percentile_{rank}": float(value) for rank, value in zip(PERCENTILES, found, strict=True)}


def populations(members: Int64) -> list[float]:
    """Return the part of the patterns that is in each state, from their numbers (K,)."""
    parts: list[float] = (members / members.sum()).tolist()
    return parts
