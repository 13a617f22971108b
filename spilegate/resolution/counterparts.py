"""Which state of one reconstruction is which of another one of the same patterns, and how they go onto each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from spilegate.errors import InputError
from spilegate.evaluation.alignment import Alignment, align
from spilegate.evaluation.orientations import orientation_error
from spilegate.geometry.orientations import matrices
from spilegate.geometry.symmetry import Group
from spilegate.records import Float64, State

# So many patterns tell how two frames are turned to each other to a fraction of a degree.
ENOUGH = 1000
# Where fewer orientations than this part agree on it, within 12 degrees, the densities are asked.
MOST = 0.5


@dataclass(frozen=True)
class Triple:
    """The counterparts of a state in both halves.

    first, second : their numbers there
    onto_first : brings the second half's density onto the first half's; onto_whole : that one onto the state's
    """

    first: int
    second: int
    onto_first: Alignment
    onto_whole: Alignment


def counterparts(
    whole: State, first: State, second: State, q_max: float, symmetry: Group, *, threads: int
) -> list[Triple | None]:
    """Return the counterparts in both halves of each state of all patterns; None for a state that lacks one of them.

    first, second : the states of the even and of the odd patterns; symmetry : imposed on all
    """
    between = paired(first, second, q_max, threads=threads)
    if len(whole.density) > 1:
        onto = paired(whole, first, q_max, threads=threads)
    else:
        near = between_frames(whole, first, symmetry)
        onto = [(0, aligned(whole, first, 0, 0, q_max, near=near, threads=threads))]
    found: list[Triple | None] = []
    for j, onto_whole in onto:
        i, onto_first = between[j]
        found.append(None if onto_whole is None or onto_first is None else Triple(j, i, onto_first, onto_whole))
    return found


def paired(fixed: State, moving: State, q_max: float, *, threads: int) -> list[tuple[int, Alignment | None]]:
    """Return the counterpart in `moving` of each state of `fixed`, and how to lay it onto it, None if it cannot be.

    Two runs number their states as they please: every state is aligned to every other one, and counterparts are the
    pairing with the largest sum of correlations (Kuhn, Nav. Res. Logist. Q. 2:83, 1955).
    """
    states = range(len(fixed.density))
    pairs = [[aligned(fixed, moving, k, j, q_max, threads=threads) for j in states] for k in states]
    merit = [[-1.0 if pair is None else pair.correlation for pair in row] for row in pairs]
    _, best = linear_sum_assignment(merit, maximize=True)
    return [(int(j), pairs[k][j]) for k, j in enumerate(best)]


def aligned(
    fixed: State, moving: State, k: int, j: int, q_max: float, *, near: Float64 | None = None, threads: int
) -> Alignment | None:
    """Return how state j of `moving` goes onto state k of `fixed`; near : as `align` takes it.

    None if one of the two has no patterns, or a density that is constant.
    """
    # What is left of a state that has lost its patterns shows what they all have in common.
    if not (fixed.members[k] and moving.members[j]):
        return None
    try:
        return align(moving.density[j], fixed.density[k], fixed.voxel_angstrom, q_max=q_max, near=near, threads=threads)
    except InputError:
        return None


def between_frames(whole: State, first: State, symmetry: Group) -> Float64 | None:
    """Return the rotation from the frame of the even patterns to that of all, by their orientations in both.

    And all that are equivalent to it, (N_GROUP, 3, 3): the densities need not be as symmetric as what they explain. It
    saves the search, most of the time that an alignment takes. None where orientations do not tell.
    """
    kept = np.flatnonzero((whole.weight[::2] > 0) & (first.weight > 0))
    some = kept[:: max(1, len(kept) // ENOUGH)]
    if not len(some):
        return None
    found = orientation_error(whole.quaternions[::2][some], first.quaternions[some], symmetry=symmetry.name)
    if found.fraction_within_12_deg < MOST:
        return None
    # What R explains, R g does: rho(x) = rho_first(G^T x) and with g G in place of G.
    equivalent: Float64 = symmetry.rotations @ matrices(found.global_quaternion)
    return equivalent
