"""What a reconstruction comes to (`Reconstruction`), and how far it can be trusted (`Certainty`).

Capital letters in array shapes are those of `records`; N_SHELL are shells of |q|, N_BAND bands of several.
"""

from __future__ import annotations

from dataclasses import dataclass

from spilegate.findings import Findings
from spilegate.records import Float32, Float64, Int64, State


@dataclass(frozen=True)
class HeldOut:
    """Whether models foresee patterns that they were not made from, band by band of |q|, outwards.

    q_first, q_last : (N_BAND,) float64 [1/angstrom], where each band begins and ends
    deviations : (N_BAND,) float64, agreement of slices and patterns over its standard deviation where there is none, of
        the model that foresees less
    """

    q_first: Float64
    q_last: Float64
    deviations: Float64


@dataclass(frozen=True)
class PointGroup:
    """The point group of rotations that a merged intensity shows.

    name : "C1" for none; agreement : least correlation of the intensity with itself turned by an element
    otherwise : the largest with it turned by anything else
    """

    name: str
    agreement: float
    otherwise: float


@dataclass(frozen=True)
class Certainty:
    """What a reconstruction measures of its own resolution, without any truth.

    members : (K,) int64, how many patterns are in each state
    q : (N_SHELL,) float64 [1/angstrom], centres of the shells as far as patterns were merged
    voxels : (N_SHELL,) float64, independent Fourier voxels of each
    half_set_fsc : (K, N_SHELL) float64, Fourier shell correlation of two independent halves, less what the outlines of
        their supports contribute; half_set_fsc_plain : the same as it is; both (0, N_SHELL) if `missing`
    half_maps : (2, K, M, M, M) float32 in (x, y, z) index order, the densities of both halves, laid over those of all
        patterns, zeros for a state that a half lacks; None if `missing`
    patterns : how many each half had; missing : why there are no halves, empty if there are
    held_out : whether each half's model foresees the other half's patterns
    prtf : (K, N_SHELL) float64, phase retrieval transfer function of `phasings` phasings; (0, N_SHELL) if not measured
    looks : (K,) the point group of each state, None where it cannot be told; empty if one is imposed
    """

    members: Int64
    q: Float64
    voxels: Float64
    half_set_fsc: Float64
    half_set_fsc_plain: Float64
    patterns: tuple[int, int]
    missing: str
    held_out: HeldOut
    prtf: Float64
    phasings: int
    looks: tuple[PointGroup | None, ...] = ()
    half_maps: Float32 | None = None


@dataclass(frozen=True)
class Reconstruction:
    """What `mtip.reconstruct` returns.

    state : the last `State`; its density has the mean of the last generation's independent phasings
    diameter_angstrom, diameter_estimated : the largest diameter used, and whether it came from the patterns
    q_max : the largest q matched and merged [1/angstrom]
    figures : last value of every figure of merit by name
    peak_memory_mib : largest memory of the process behind every processor
    converged : whether the last generation changed nothing that counts; convergence : what it changed, in words
    findings : what was found out about the patterns, with their mean and those that pictures show
    certainty : how far it can be trusted
    """

    state: State
    diameter_angstrom: float
    diameter_estimated: bool
    q_max: float
    figures: dict[str, float]
    peak_memory_mib: list[float]
    converged: bool
    convergence: str
    findings: Findings
    certainty: Certainty
