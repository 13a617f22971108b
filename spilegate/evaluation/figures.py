"""All that tells a reconstruction from the truth, in numbers: densities, orientations, states, junk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.evaluation.states import (
    Match,
    match_states,
    orientation_figures,
    rejection,
    seen_figures,
    state_accuracy,
)
from spilegate.evaluation.truth import Reference
from spilegate.records import Bool, Float32, Float64, Int64

# Where so many patterns are off by half a turn about the beam, and else by less than that [degrees], they do not tell.
HALF_TURNED, TOLD = 0.1, 30.0

# The part `evaluation` of the summary before anything is known.
NOT_EVALUATED: dict[str, Any] = {
    "reference": None,
    "resolution_angstrom": None,
    "threshold": 0.5,
    "correlation": None,
    "hand": None,
    "orientation_reference": None,
    "orientation_error_deg": None,
    "states": None,
    "state_accuracy": None,
    "junk_found": None,
    "good_lost": None,
    "size_error": None,
    "centre_error_pixels": None,
}


# Quaternions (N_IMG, 4), state (N_IMG,), and which patterns were kept (N_IMG,), None where that is not known.
Patterns = tuple[Float64, Int64, Bool | None]
# Sizes (N_IMG,) and shifts (N_IMG, 2) [1/angstrom] of patterns, None where none were looked for.
Seen = tuple[Float64, Float64] | None


@dataclass(frozen=True)
class Found:
    """What a reconstruction came to, as far as the truth has its like.

    name : of the reconstruction, for messages
    densities : (M, M, M) float32 of each state, of one voxel [angstrom]
    patterns, seen : return what was found of every pattern; asked only where the truth knows of them
    q_max_inverse_angstrom : the largest |q| used; symmetry : imposed
    """

    name: str
    densities: Sequence[Float32]
    voxel_angstrom: float
    patterns: Callable[[], Patterns]
    seen: Callable[[], Seen]
    q_max_inverse_angstrom: float
    symmetry: str


def measure(found: Found, truth: Reference, name: str, *, threads: int) -> tuple[dict[str, Any], list[Match]]:
    """Return the figures that a reference tells, by their names in `summary.json`, and each state's best match.

    name : of the reference
    Raises InputError if densities cannot be compared, or the reference is of other patterns.
    """
    figures = _of_patterns(found, truth, name)
    if not truth.densities:
        return figures, []
    matches = match_states(
        found.densities,
        found.voxel_angstrom,
        truth.densities,
        truth.voxel_angstrom,
        q_max=found.q_max_inverse_angstrom,
        threads=threads,
    )
    first = matches[0].comparison
    figures["reference"] = name
    figures["resolution_angstrom"] = first.resolution_angstrom
    figures["correlation"] = first.correlation
    figures["hand"] = first.hand
    if len(found.densities) > 1 or len(truth.densities) > 1:
        figures["states"] = [_state_figures(match) for match in matches]
    return figures, matches


def _state_figures(match: Match) -> dict[str, Any]:
    """Return what `summary.json` says of a reconstructed state."""
    return {
        "correlation": match.comparison.correlation,
        "resolution_angstrom": match.comparison.resolution_angstrom,
        "true_state": match.true_state,
    }


def _of_patterns(found: Found, truth: Reference, name: str) -> dict[str, Any]:
    """Return the figures of orientations, states and junk, as far as truth and results have them."""
    figures: dict[str, Any] = {}
    known = truth.quaternions if truth.quaternions is not None else truth.state
    if known is None:
        return figures
    quaternions, state, kept = found.patterns()
    if len(quaternions) != len(known):
        raise InputError(
            f"--reference: {len(known)} orientations; expected {len(quaternions)}, as in {found.name}; "
            "give the file that was reconstructed"
        )
    true = np.zeros(len(known), np.int64) if truth.state is None else truth.state
    good = true >= 0
    if truth.quaternions is not None and good.any():
        figures["orientation_reference"] = name
        figures["orientation_error_deg"] = orientation_figures(
            quaternions[good], truth.quaternions[good], state[good], symmetry=found.symmetry
        )
    if truth.state is not None and good.any() and (state.max() > 0 or true.max() > 0):
        figures["state_accuracy"] = state_accuracy(state[good], true[good])
    if truth.state is not None and kept is not None:
        figures["junk_found"], figures["good_lost"] = rejection(kept, ~good)
    seen = found.seen()
    if seen is not None and good.any():
        size, centre = (None if each is None else each[good] for each in (truth.size, truth.centre))
        figures |= seen_figures(seen[0][good], seen[1][good], size, centre, truth.pixel)
    return figures


def of_orientations(error: dict[str, float]) -> str:
    """Return the error of orientations in words, as far as patterns can tell these."""
    # Of patterns that are oriented at random some lie near after half a turn, too: that is nothing to excuse.
    if error.get("half_turned", 0) < HALF_TURNED or error["median_up_to_half_turn"] > TOLD:
        return f"orientation error {error['median']:.2f} degrees (median)"
    return (
        f"orientation error {error['median_up_to_half_turn']:.2f} degrees (median) up to half a turn about the beam, "
        f"which these patterns do not tell: {error['half_turned']:.0%} of them are turned"
    )


def in_words(evaluation: dict[str, Any]) -> str:
    """Return the figures in one line."""
    resolution = evaluation["resolution_angstrom"]
    error = evaluation["orientation_error_deg"]
    parts = []
    if evaluation["correlation"] is not None:
        parts = [
            f"correlation {evaluation['correlation']:.4f}",
            f"resolution {'none' if resolution is None else f'{resolution:.2f} Å'} (FSC 0.5)",
            f"hand {evaluation['hand']}",
        ]
    if error is not None:
        parts.append(of_orientations(error))
    if evaluation["states"] is not None:
        each = ", ".join(
            f"{state['correlation']:.4f} (true state {state['true_state']})" for state in evaluation["states"]
        )
        parts.append(f"correlations of the states {each}")
    parts += [
        f"{what} {evaluation[name]:.1%}"
        for name, what in (
            ("state_accuracy", "patterns in the right state"),
            ("junk_found", "junk found"),
            ("good_lost", "good patterns lost"),
        )
        if evaluation[name] is not None
    ]
    if evaluation["size_error"] is not None:
        size = evaluation["size_error"]
        parts.append(f"sizes {size['rms']:.1%} off (they differ by {size['spread']:.1%})")
    if evaluation["centre_error_pixels"] is not None:
        parts.append(f"beam centres {evaluation['centre_error_pixels']:.3f} pixels off")
    return ", ".join(parts)
