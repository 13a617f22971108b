"""Coarse to fine: radius, grid and views of every generation, from the particle's diameter and the detector alone.

A particle of diameter d has speckles 1 / d wide, so that `q d` counts speckles from the beam outwards, 1 / (q d) is the
angle that moves the outermost speckle by its own width, and 2 pi q d is the highest angular harmonic of a slice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from spilegate.kernels.fft import fast_odd_size

# The blind start uses this many speckles, and each generation reaches further by this factor. With the extent below the
# start has 11^3 voxels; a finer grid fits more noise, and has been seen to end in a wrong start more often.
START_SPECKLES = 2.5
START_RING = 1.75
# Where that does not tell orientations (cages and shells are balls or cylinders there), it goes out further by this
# factor, at most so many times.
START_GROWTH, START_STEPS = 1.9, 1
GROWTH = 1.6
# Extent of the volumes over the diameter: the autocorrelation spans two, and a margin keeps it from its copies.
EXTENT_DIAMETERS = 2.2
# Angle between views times q d: the polar search ends this near to the best orientation, refinement does the rest.
VIEW_SPACING = 0.6
FEWEST_SHIFTS = 32
# The same for patterns that are assigned to many views at once, each view to many patterns; how often at each radius.
SOFT_SPACING = 0.8
SOFT_REPEATS = 2
# All patterns are searched for as long as models are rough, so many generations, and where the full radius is reached:
# on the way there every second one, in turn, and every fourth one in what is repeated; powers of two. The others are
# refined where they are, which costs a third of it.
ROUGH, SEARCH_OUTWARDS, SEARCH_AGAIN = 3, 2, 4
# Angle between views times q d once models are not rough: what is found competes with what was refined before.
AGAIN_SPACING = 0.8
# The same for a blind start: while it is warm a pattern is assigned to so many views that coarser ones will do. (2CEX,
# ten starts: as many right ones with 1.0 and 0.7 as with 0.6 throughout, in 0.4 of the time.)
WARM_SPACING, COLD_SPACING = 1.0, 0.7


@dataclass(frozen=True)
class Plan:
    """One generation.

    number : from 1, the blind start
    q_match, q_merge : radius of the detector matched and merged [1/angstrom]
    size : voxels along an edge, M; voxel_angstrom : their edge
    n_views, n_phi : the search grid; highest : highest angular harmonic
    view_spacing : angle between neighbouring views [radians]
    search_every : every so manieth pattern is searched for, the others are refined where they are
    """

    number: int
    q_match: float
    q_merge: float
    size: int
    voxel_angstrom: float
    n_views: int
    n_phi: int
    highest: int
    view_spacing: float
    search_every: int = 1


def plan(
    diameter_angstrom: float,
    number: int,
    q_match: float,
    q_merge: float,
    *,
    soft: bool = False,
    spacing: float | None = None,
) -> Plan:
    """Return the generation that matches up to q_match and merges up to q_merge.

    soft : by probabilities; spacing : angle between views times speckles, if it is not the usual one
    """
    speckles = q_match * diameter_angstrom
    size = grid_size(diameter_angstrom, q_merge)
    spacing = (spacing or (SOFT_SPACING if soft else VIEW_SPACING)) / speckles
    harmonics = int(np.ceil(2 * np.pi * speckles)) + 2
    # Slices that are merged themselves have to carry all of their harmonics.
    shifts = max(2 * np.pi / spacing, 2 * harmonics if soft else FEWEST_SHIFTS)
    n_phi = max(FEWEST_SHIFTS, 8 * int(np.ceil(shifts / 8)))
    return Plan(
        number=number,
        q_match=q_match,
        q_merge=q_merge,
        size=size,
        voxel_angstrom=EXTENT_DIAMETERS * diameter_angstrom / size,
        n_views=int(np.ceil(4 * np.pi / spacing**2)),
        n_phi=n_phi,
        highest=min(harmonics, n_phi // 2),
        view_spacing=spacing,
    )


def grid_size(diameter_angstrom: float, q: float) -> int:
    """Return M so that voxels of the volumes' extent over M carry all |q| up to `q`."""
    # Less a hair, so that rounding of a whole number of voxels does not add one.
    return fast_odd_size(int(np.ceil(2 * EXTENT_DIAMETERS * diameter_angstrom * q - 1e-6)))


def start_radius(diameter_angstrom: float, q_max: float, q_min: float, step: int) -> float:
    """Return how far out a blind start goes that went on outwards `step` times [1/angstrom]."""
    first = max(START_SPECKLES / diameter_angstrom, q_min + START_RING / diameter_angstrom)
    return min(first * START_GROWTH ** min(step, START_STEPS), q_max)


def schedule(
    diameter_angstrom: float, q_max: float, q_min: float = 0.0, *, soft: bool = False, start: int = 0
) -> list[Plan]:
    """Return the generations of a run: the blind start, then outwards; the last, at full radius, is to be repeated.

    q_min : where the detector begins; the start needs a ring of some speckles beyond it
    soft : whether patterns are assigned to many views: these merge as far as they match, SOFT_REPEATS times each radius
    start : how many times the blind start went on outwards
    A generation of the march matches as far as the one before it merged, and merges as far as the next one matches.
    """
    first = start_radius(diameter_angstrom, q_max, q_min, start)
    steps = int(np.ceil(np.log(q_max / first) / np.log(GROWTH)))
    march = [first * (q_max / first) ** (i / max(steps, 1)) for i in range(steps)]
    radii = [*march, q_max, q_max]
    plans = [plan(diameter_angstrom, 1, radii[0], radii[0])]
    if soft:
        repeated = [radius for radius in [*march, q_max] for _ in range(SOFT_REPEATS)]
        return plans + [plan(diameter_angstrom, number, q, q, soft=True) for number, q in enumerate(repeated, start=2)]
    for number, (here, after) in enumerate(pairwise(radii), start=2):
        spacing = VIEW_SPACING if number <= ROUGH else AGAIN_SPACING
        every = SEARCH_OUTWARDS if number > ROUGH and after > here else 1
        plans.append(replace(plan(diameter_angstrom, number, here, after, spacing=spacing), search_every=every))
    return plans


def again(diameter_angstrom: float, last: Plan, number: int) -> Plan:
    """Return the plan of a generation that repeats the last one of a schedule."""
    repeated = plan(diameter_angstrom, number, last.q_match, last.q_merge, spacing=AGAIN_SPACING)
    return replace(repeated, search_every=SEARCH_AGAIN)
