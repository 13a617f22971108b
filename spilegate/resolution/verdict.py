"""The verdict on a reconstruction's resolution: one plain sentence, and every number behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.evaluation.fsc import FscCurve, resolution_angstrom
from spilegate.reconstruction import Certainty
from spilegate.records import Float64

HALF_SET_THRESHOLD = 0.143
PRTF_THRESHOLD = 1 / np.e
# Standard deviations that both halves have to reach: noise does in one of a thousand million bands.
FORESEEN_DEVIATIONS = 4.0
# Agreement on fewer speckles (q x diameter) is agreement on the outline: any two compact bodies, once aligned, have it.
OUTLINE_SPECKLES = 2.5
MASK = (
    "the support that phasing found for each density, its share in the half-set FSC taken off; "
    "no sharpening, no B factor"
)


@dataclass(frozen=True)
class Limit:
    """How far one kind of evidence goes, and how it is said. resolution_angstrom is None if it holds nowhere."""

    name: str
    resolution_angstrom: float | None
    phrase: str


def summarise(certainty: Certainty, diameter_angstrom: float) -> dict[str, Any]:
    """Return the content of `resolution` in `summary.json`: the verdict of all states, the numbers of state 0.

    A resolution is stated only where all evidence goes: half-sets agree, phasings agree, and each half's model foresees
    the other half's patterns. The one that ends first decides.
    """
    states = range(len(certainty.members))
    sentences = [verdict(certainty, state, diameter_angstrom) for state in states]
    text = sentences[0] if len(sentences) == 1 else " ".join(f"State {k}: {s}" for k, s in enumerate(sentences))
    numbers = [_of_state(certainty, state, diameter_angstrom) for state in states]
    return {
        "verdict": text,
        **numbers[0],
        "mask": MASK,
        "held_out": {
            "resolution_angstrom": _foreseen(certainty),
            "threshold_deviations": FORESEEN_DEVIATIONS,
            "bands": [
                {"q_first": float(first), "q_last": float(last), "deviations": round(float(value), 2)}
                for first, last, value in zip(
                    certainty.held_out.q_first, certainty.held_out.q_last, certainty.held_out.deviations, strict=True
                )
            ],
        },
        "other_states": numbers[1:],
    }


def stated_angstrom(certainty: Certainty, state: int, diameter_angstrom: float) -> float | None:
    """Return the resolution that can be stated for a state [angstrom], None if none can."""
    coarsest = _coarsest(_limits(certainty, state))
    if not certainty.members[state] or coarsest is None or coarsest.resolution_angstrom is None:
        return None
    return coarsest.resolution_angstrom if _beyond_outline(coarsest, diameter_angstrom) else None


def verdict(certainty: Certainty, state: int, diameter_angstrom: float) -> str:
    """Return one sentence on the resolution of a state."""
    if not certainty.members[state]:
        return "No resolution: no pattern is in this state; its density is left from earlier generations."
    limits = _limits(certainty, state)
    coarsest = _coarsest(limits)
    if coarsest is None:
        phased = next((f"; {limit.phrase}, which noise can do as well" for limit in limits), "")
        return f"No resolution stated: no half-sets ({certainty.missing}){phased}."
    value = coarsest.resolution_angstrom
    if value is not None and _beyond_outline(coarsest, diameter_angstrom):
        edge = ", the edge of the data" if value <= 1.0001 / certainty.q[-1] else ""
        said = "; ".join(limit.phrase for limit in limits)
        return f"Resolution {value:.3g} Å{edge} ({said}; density inside its own support, no sharpening)."
    if coarsest.name == "held_out":
        return (
            "No resolution: the halves of the patterns do not foresee each other beyond the particle's outline; "
            "whatever the densities agree on, noise or unlike particles agree on as well."
        )
    who = "two halves" if coarsest.name == "half_set" else "phasings"
    where = "anywhere" if value is None else f"beyond the particle's outline (they part at 1/q = {value:.3g} Å)"
    return f"No resolution: the {who} do not agree {where}."


def _limits(certainty: Certainty, state: int) -> list[Limit]:
    """Return all evidence there is on a state."""
    limits = []
    if len(certainty.half_set_fsc):
        value = _crossing(certainty, certainty.half_set_fsc[state], HALF_SET_THRESHOLD)
        first, second = certainty.patterns
        limits.append(Limit("half_set", value, f"half-set FSC 0.143 of {first} + {second} patterns{_at(value)}"))
        value = _foreseen(certainty)
        limits.append(Limit("held_out", value, f"held-out patterns foreseen{_at(value)}"))
    if len(certainty.prtf):
        value = _crossing(certainty, certainty.prtf[state], PRTF_THRESHOLD)
        limits.append(Limit("prtf", value, f"PRTF 1/e of {certainty.phasings} phasings{_at(value)}"))
    return limits


def _coarsest(limits: list[Limit]) -> Limit | None:
    """Return the evidence that ends first; None without half-sets, for phases can be certain and wrong."""
    if not any(limit.name == "half_set" for limit in limits):
        return None
    return max(limits, key=lambda limit: np.inf if limit.resolution_angstrom is None else limit.resolution_angstrom)


def _beyond_outline(limit: Limit, diameter_angstrom: float) -> bool:
    """Tell whether evidence goes further than what any two compact bodies have in common."""
    value = limit.resolution_angstrom
    return value is not None and diameter_angstrom / value > OUTLINE_SPECKLES


def _foreseen(certainty: Certainty) -> float | None:
    """Return 1/q up to where every band is foreseen [angstrom], None if the first one is not, or there is none."""
    failed = np.flatnonzero(certainty.held_out.deviations < FORESEEN_DEVIATIONS)
    foreseen = certainty.held_out.q_last[: failed[0] if len(failed) else None]
    return float(1 / foreseen[-1]) if len(foreseen) else None


def _crossing(certainty: Certainty, values: Float64, threshold: float) -> float | None:
    """Return where a curve first falls below its threshold [angstrom]."""
    return resolution_angstrom(FscCurve(certainty.q, values, certainty.voxels), threshold)


def _at(value: float | None) -> str:
    """Return where evidence ends, in words."""
    return " nowhere" if value is None else f" to {value:.3g} Å"


def _of_state(certainty: Certainty, state: int, diameter_angstrom: float) -> dict[str, Any]:
    """Return the numbers on one state."""
    half_set = prtf = None
    if len(certainty.half_set_fsc):
        half_set = {
            "resolution_angstrom": _crossing(certainty, certainty.half_set_fsc[state], HALF_SET_THRESHOLD),
            "threshold": HALF_SET_THRESHOLD,
            "patterns": list(certainty.patterns),
        }
    if len(certainty.prtf):
        prtf = {
            "resolution_angstrom": _crossing(certainty, certainty.prtf[state], PRTF_THRESHOLD),
            "threshold": round(PRTF_THRESHOLD, 4),
            "phasings": certainty.phasings,
        }
    shells = [
        {
            "q": float(q),
            "resolution_angstrom": float(1 / q),
            "voxels": float(certainty.voxels[index]),
            "half_set_fsc": float(certainty.half_set_fsc[state, index]) if half_set else None,
            "half_set_fsc_plain": float(certainty.half_set_fsc_plain[state, index]) if half_set else None,
            "prtf": float(certainty.prtf[state, index]) if prtf else None,
        }
        for index, q in enumerate(certainty.q)
    ]
    return {
        "resolution_angstrom": stated_angstrom(certainty, state, diameter_angstrom),
        "half_set": half_set,
        "prtf": prtf,
        "shells": shells,
    }
