"""Detectors of which not all counts: gaps, beam stops, dead halves, panels as AGIPD has them."""

from __future__ import annotations

import math

import numpy as np

from spilegate.errors import InputError
from spilegate.records import NEVER, Bool, Float64, UInt8

MASKS = ("cross", "beamstop", "half", "agipd")
# Width of the beam stop in speckles, 1 / diameter in |q|, unless it is said.
STOP_SPECKLES = 3.0
# Width of the gap between panels over the detector's; at least two pixels.
GAP = 1 / 16
# The detector's edge, where background and signal are compared: between these parts of the inscribed circle's |q|.
EDGE = (0.9, 1.0)
# AGIPD 1M: four quadrants of four modules, 128 pixels wide at a pitch of 158, about a square hole; all over half the
# detector's width.
MODULES, MODULE_PITCH, MODULE_WIDTH = 4, 158, 128
HALF_HOLE, HALF_GAP = 0.035, 0.012


def stop_speckles(names: tuple[str, ...]) -> float | None:
    """Return the width of the beam stop in speckles, None without one.

    Raises InputError for names that are not of MASKS, and for widths that are none.
    """
    speckles = None
    for name in names:
        word, colon, width = name.partition(":")
        if word not in MASKS or (colon and word != "beamstop"):
            raise InputError(f"mask = {name!r}; expected any of {','.join(MASKS)} (beamstop:5 for 5 speckles)")
        if word == "beamstop":
            try:
                speckles = float(width) if colon else STOP_SPECKLES
            except ValueError:
                speckles = math.nan
            if not 0 < speckles < math.inf:
                raise InputError(f"mask = {name!r}; expected a positive number of speckles, such as beamstop:5")
    return speckles


def detector_mask(names: tuple[str, ...], q: Float64, diameter_angstrom: float) -> UInt8:
    """Return the levels of the pixels of one square panel, (1, y, x) uint8: 2 where nothing counts, 0 elsewhere.

    names : of MASKS, beamstop also as "beamstop:5"; q : (1, y, x, 3) float64 [1/angstrom]
    diameter_angstrom : the particle's largest diameter
    Raises InputError for other names, and if the stop reaches the detector's edge.
    """
    speckles = stop_speckles(names)
    pixels = q.shape[1]
    mask = np.zeros(q.shape[:-1], np.uint8)
    if "cross" in names:
        # As many pixels on either side of the beam; across the columns one more, as if panels were shifted.
        half = max(1, round(GAP * pixels / 2))
        first, last = pixels // 2 - half, (pixels + 1) // 2 + half
        mask[:, first:last] = mask[:, :, first : last + 1] = NEVER
    if "half" in names:
        mask[:, :, : pixels // 2] = NEVER
    if "agipd" in names:
        mask[0, ~agipd(pixels)] = NEVER
    if speckles is not None:
        mask[np.linalg.norm(q, axis=-1) <= _stop_radius(speckles, q, diameter_angstrom)] = NEVER
    return mask


def _stop_radius(speckles: float, q: Float64, diameter_angstrom: float) -> float:
    """Return the radius of a beam stop [1/angstrom]."""
    radius = speckles / 2 / diameter_angstrom if diameter_angstrom else np.inf
    q_side = float(np.linalg.norm(q[0, q.shape[1] // 2, -1]))
    if radius >= EDGE[0] * q_side:
        raise InputError(
            f"mask = beamstop: a disc {speckles:g} speckles wide, of radius {radius:.3g} 1/angstrom, on a "
            f"detector to {q_side:.3g} 1/angstrom; expected a smaller one; choose a finer resolution or a larger "
            "particle"
        )
    return radius


def agipd(pixels: int) -> Bool:
    """Return which pixels (y, x) of a square detector lie on a module, if it is laid out as AGIPD 1M.

    Four quadrants stand about a square hole, each moved along its neighbour; every one has four modules, as wide as
    itself, with gaps between them a fifth of their width.
    """
    at = np.linspace(-1, 1, pixels)
    y, x = np.meshgrid(at, at, indexing="ij")
    lit = np.zeros((pixels, pixels), np.bool_)
    for turn in range(4):
        across, along = ((x, y), (-y, x), (-x, -y), (y, -x))[turn]
        # Modules lie along x in all quadrants: their gaps are lines of constant y.
        inside = (across > -HALF_HOLE + HALF_GAP) & (along > HALF_HOLE + HALF_GAP)
        start = HALF_HOLE + HALF_GAP if turn % 2 == 0 else -HALF_HOLE + HALF_GAP
        rows = along if turn % 2 == 0 else across
        place = (rows - start) / (1 + 1e-9 - start) * (MODULES - 1 + MODULE_WIDTH / MODULE_PITCH)
        lit |= inside & (place % 1 < MODULE_WIDTH / MODULE_PITCH)
    return lit


def detector_edge(q_length: Float64, used: Bool, resolution_angstrom: float) -> Bool:
    """Return which used pixels (N_PIX,) lie in the outer tenth of the detector's inscribed circle.

    Raises InputError if there are none.
    """
    relative = q_length * resolution_angstrom
    # The pixels in the middle of the sides lie on the circle but for rounding.
    edge: Bool = used & (relative >= EDGE[0]) & (relative <= EDGE[1] * (1 + 1e-9))
    if not edge.any():
        raise InputError(
            "background: no pixel used at the detector's edge; expected some to compare it with; add pixels"
        )
    return edge
