"""Built-in particles: synthetic, asymmetric, protein-like heaps of atoms, the same on every machine; no file needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from spilegate.errors import InputError
from spilegate.records import Bool, Float64

# Heavy atoms of a protein by element, and the volume that one of them takes [angstrom^3].
COMPOSITION = {"C": 0.630, "N": 0.172, "O": 0.190, "S": 0.008}
VOLUME_PER_ATOM = 20.0
# No two atoms nearer than this [angstrom].
SPACING = 1.4
# Length [angstrom], number and strength of the waves that modulate the atoms' density, in place of packed helices and
# sheets: without them a heap of atoms scatters far less at 8 to 12 angstrom than a protein does.
PACKING_ANGSTROM = 10.0
PACKING_WAVES = 24
PACKING_STRENGTH = 0.25
# Points tried per atom wanted; less than half of them are used.
TRIES = 6


@dataclass(frozen=True)
class Lobe:
    """An ellipsoid [angstrom]: its centre, half axes, and the direction its first axis points in."""

    centre: tuple[float, float, float]
    half_axes: tuple[float, float, float]
    turn: tuple[float, float, float]


# The first name is the default: globular, four unequal lobes; the dumbbell is elongated.
LOBES = {
    "demo": (
        Lobe((0.0, 0.0, 0.0), (23.5, 18.0, 16.0), (0.3, 0.2, 0.0)),
        Lobe((17.0, 13.0, 5.0), (16.5, 14.0, 12.5), (1.2, -0.5, 0.3)),
        Lobe((-12.0, 10.0, -12.0), (13.5, 12.0, 10.0), (-0.7, 0.9, 0.4)),
        Lobe((-4.0, -13.0, 11.0), (10.0, 9.5, 9.0), (0.5, 1.1, -0.8)),
    ),
    "dumbbell": (
        Lobe((-28.0, 0.0, 0.0), (20.0, 15.5, 13.0), (0.9, 0.4, 0.0)),
        Lobe((27.0, 4.0, -3.0), (16.5, 12.5, 11.0), (-0.6, 1.0, 0.2)),
        Lobe((0.0, -2.0, 2.0), (18.0, 7.5, 7.0), (0.1, 0.1, 0.0)),
        Lobe((35.5, 9.0, 9.0), (8.0, 6.5, 6.0), (0.2, -0.9, 0.5)),
    ),
}
NAMES = tuple(LOBES)
DEFAULT = NAMES[0]


def built_in_atoms(name: str) -> tuple[Float64, list[str]]:
    """Return positions (N_ATOM, 3) float64 [angstrom] and elements of the heavy atoms of a built-in particle.

    They have a protein's density and composition. Raises InputError for a name that is not built in.
    """
    if name not in LOBES:
        raise InputError(f"particle {name!r}: not built in; expected one of {', '.join(NAMES)}")
    rng = np.random.Generator(np.random.PCG64(NAMES.index(name)))
    positions = _positions(LOBES[name], rng)
    edges = np.cumsum(list(COMPOSITION.values()))
    draw = np.searchsorted(edges, rng.random(len(positions)) * edges[-1], side="right")
    return positions, [list(COMPOSITION)[i] for i in draw]


def _positions(lobes: tuple[Lobe, ...], rng: np.random.Generator) -> Float64:
    """Return positions [angstrom] that fill the lobes, (N_ATOM, 3): spaced, modulated by waves of random direction."""
    centre, reach = np.array([lobe.centre for lobe in lobes]), max(max(lobe.half_axes) for lobe in lobes)
    low, edges = centre.min(0) - reach, np.ptp(centre, axis=0) + 2 * reach
    tries = int(TRIES * edges.prod() / VOLUME_PER_ATOM)
    points = low + edges * rng.random((tries, 3))
    inside = _inside(points, lobes)
    count = round(inside.mean() * edges.prod() / VOLUME_PER_ATOM)
    waves = rng.standard_normal((3, PACKING_WAVES))
    waves *= 2 * np.pi / PACKING_ANGSTROM / np.linalg.norm(waves, axis=0)
    field = np.cos(points @ waves + 2 * np.pi * rng.random(PACKING_WAVES)).sum(1) / np.sqrt(PACKING_WAVES / 2)
    chosen = inside & (rng.random(tries) < 0.5 + PACKING_STRENGTH * field)
    return _spaced(points[chosen], count)


def _inside(points: Float64, lobes: tuple[Lobe, ...]) -> Bool:
    """Tell which points (n, 3) lie in any lobe."""
    inside = np.zeros(len(points), np.bool_)
    for lobe in lobes:
        axes = Rotation.from_rotvec(lobe.turn).as_matrix()
        inside |= (((points - lobe.centre) @ axes / lobe.half_axes) ** 2).sum(-1) < 1
    return inside


def _spaced(points: Float64, count: int) -> Float64:
    """Return the first `count` points that are no nearer than SPACING to an earlier one that is kept."""
    neighbours = cKDTree(points).query_ball_point(points, SPACING)
    kept: list[int] = []
    free = np.ones(len(points), np.bool_)
    for i, near in enumerate(neighbours):
        if free[i]:
            kept.append(i)
            free[near] = False
    return points[kept[:count]]
