"""Several conformations and junk: which state is which, which patterns are where they belong, what was thrown out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from spilegate.evaluation.comparison import Comparison, compare
from spilegate.evaluation.fsc import FscCurve
from spilegate.evaluation.orientations import orientation_error
from spilegate.geometry.orientations import half_turned
from spilegate.records import Bool, Float32, Float64, Int64


@dataclass(frozen=True)
class Match:
    """A reconstructed state against the true one that it stands for.

    true_state : index of the true state; comparison, curve : against it, see `comparison.compare`
    """

    true_state: int
    comparison: Comparison
    curve: FscCurve


def match_states(
    densities: Sequence[Float32],
    voxel_angstrom: float,
    references: Sequence[Float32],
    reference_voxel_angstrom: float,
    *,
    q_max: float,
    threads: int,
) -> list[Match]:
    """Compare every reconstructed density with every true one and return the best match of each, in their order.

    Matches are one to one where the numbers allow, with the largest sum of correlations (Kuhn and Munkres); densities
    in excess take the true state that fits them best.

    densities : (M, M, M) float32 each, of one voxel; references : (A, A, A) float32 each, of one voxel
    Raises InputError if a density cannot be compared.
    """
    compared = [
        [
            compare(density, voxel_angstrom, reference, reference_voxel_angstrom, q_max=q_max, threads=threads)
            for reference in references
        ]
        for density in densities
    ]
    correlation = np.array([[comparison.correlation for comparison, _ in row] for row in compared])
    best = correlation.argmax(axis=1)
    found, true = linear_sum_assignment(correlation, maximize=True)
    best[found] = true
    return [Match(int(k), *row[k]) for row, k in zip(compared, best, strict=True)]


def state_accuracy(found: Int64, true: Int64) -> float:
    """Return the part of patterns in the right state, for the numbering of the found states that suits best.

    found, true : (N,) int64, from 0, of patterns that show one of the states
    """
    table = np.zeros((found.max() + 1, true.max() + 1), np.int64)
    np.add.at(table, (found, true), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / len(found))


def rejection(kept: Bool, junk: Bool) -> tuple[float | None, float | None]:
    """Return the part of the junk that was thrown out and the part of the good patterns that was; None without any.

    kept, junk : (N_IMG,) bool
    """
    found = float((~kept[junk]).mean()) if junk.any() else None
    lost = float((~kept[~junk]).mean()) if not junk.all() else None
    return found, lost


def orientation_figures(
    quaternions: Float64, truth: Float64, states: Int64, *, symmetry: str = "C1"
) -> dict[str, float]:
    """Return median and mean error [degrees] and fraction_within_12 of orientations (N, 4), ready for JSON.

    Every found state has a particle frame of its own, so each gets the rotation that suits its patterns best; the
    figures are those of all patterns together, whatever their state. And what half a turn about the beam has to do with
    it: where the Ewald sphere is flat and photons are few, a pattern looks the same after it, and no method can tell.

    states : (N,) int64, found state of every pattern; symmetry : as for `orientation_error`
    Also `half_turned`, the part of the patterns that are nearer to the truth after half a turn about the beam, and
    `median_up_to_half_turn` [degrees], the median of the lesser of both errors.
    Raises InputError as `orientation_error` does.
    """
    degrees, turned = np.empty(len(states)), np.empty((2, len(states)))
    for state in np.unique(states):
        chosen = states == state
        found, true = quaternions[chosen], truth[chosen]
        degrees[chosen] = orientation_error(found, true, symmetry=symmetry).degrees
        both = np.concatenate([found, half_turned(found)])
        error = orientation_error(both, np.concatenate([true, true]), symmetry=symmetry)
        turned[:, chosen] = error.degrees.reshape(2, -1)
    return {
        "median": float(np.median(degrees)),
        "mean": float(degrees.mean()),
        "fraction_within_12": float(np.mean(degrees <= 12.0)),
        "half_turned": float(np.mean(turned[1] < turned[0])),
        "median_up_to_half_turn": float(np.median(turned.min(axis=0))),
    }


def seen_figures(
    size: Float64, shift: Float64, true_size: Float64 | None, true_centre: Float64 | None, pixel: float
) -> dict[str, dict[str, float] | float | None]:
    """Return how well sizes and beams of patterns were found.

    size, true_size : (n,); shift : (n, 2) [1/angstrom], along q_x and q_y
    true_centre : (n, 2) [pixels], row and column; pixel : [1/angstrom]
    `size_error`: of the logarithm of size, `spread` of the true one and `rms` of the difference, but for the means;
    `centre_error_pixels`: root mean square along each axis. None for what is not known.
    """
    figures: dict[str, dict[str, float] | float | None] = {"size_error": None, "centre_error_pixels": None}
    if true_size is not None:
        apart = np.log(size / true_size)
        figures["size_error"] = {"spread": float(np.log(true_size).std()), "rms": float(apart.std())}
    if true_centre is not None:
        apart = shift[:, ::-1] / pixel - true_centre
        figures["centre_error_pixels"] = float(np.sqrt((apart**2).mean()))
    return figures
