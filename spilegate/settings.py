"""The options of a reconstruction: one validated model per stage, unknown keys refused.

Everything that depends on the data (radii, grids, numbers of views, generations) is left out on purpose: the schedule
derives it from the particle's diameter, the detector's reach in q and the number of patterns.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

# The options that a reader of patterns needs.
READING = (
    "binning", "q_min", "q_max", "mask", "photon_unit", "adu_per_photon", "broken_pixels", "saturated", "dataset",
    "detector", "geometry", "mask_file", "wavelength_angstrom", "photon_energy_ev", "distance_m", "pixel_um", "centre",
)  # fmt: skip


def symmetry_name(text: str) -> str:
    """Return the name of a point group of rotations in capitals; raises ValueError, saying what is expected."""
    if not re.fullmatch(r"[CD][1-9][0-9]?|[TOI]", text.upper(), re.ASCII):
        raise ValueError("C1 to C99, D1 to D99, T, O or I")
    return text.upper()


def pattern_list(value: Any) -> Any:
    """Return numbers and ranges of patterns as one text, `3,10:20`; raises ValueError, saying what is expected."""
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    text = ",".join(str(part).strip() for part in parts).replace(" ", "")
    for part in text.split(","):
        first, colon, last = part.partition(":")
        whole = all(re.fullmatch(r"[0-9]{1,15}", end, re.ASCII) for end in (first or "0", last or "0"))
        if not whole or not (first or colon) or (first and last and int(last) <= int(first)):
            raise ValueError("numbers of patterns and ranges, from 0, such as 3,10:20,500:")
    return text


def row_column(value: Any) -> str | None:
    """Return a row and a column as one text, `63.5,63.5`, or auto; raises ValueError, saying what is expected."""
    if value is None or value == "auto":
        return None if value is None else "auto"
    parts = value if isinstance(value, list) else str(value).split(",")
    try:
        row, column = (float(part) for part in parts)
    except (ValueError, TypeError):
        row = column = math.nan
    if not (math.isfinite(row) and math.isfinite(column)):
        raise ValueError("a row and a column, in pixels from 0, such as 63.5,63.5, or auto")
    return f"{row!r},{column!r}"


def pattern_slices(text: str) -> list[slice]:
    """Return the ranges that a list of patterns, as `pattern_list` returns it, consists of."""
    result = []
    for part in filter(None, text.split(",")):
        first, colon, last = part.partition(":")
        begin = int(first or 0)
        result.append(slice(begin, (int(last) if last else None) if colon else begin + 1))
    return result


PatternList = Annotated[str | None, BeforeValidator(pattern_list)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PrepareOptions(_Options):
    """How patterns are read and cut before the first generation."""

    diameter_angstrom: float | None = Field(
        None, gt=0, description="Largest diameter of the particle [angstrom]; estimated from the patterns if left out."
    )
    use: PatternList = Field(
        None, description="Patterns to use, numbered from 0, such as `0:5000`, or a file of numbers; all if left out."
    )
    leave_out: PatternList = Field(
        None, description="Patterns to leave out, such as `3,10:20`, or a file of numbers; they keep their places."
    )
    binning: int = Field(1, ge=1, description="Sum blocks of binning x binning pixels into one.")
    q_min: float = Field(0.0, ge=0, description="Ignore pixels nearer to the beam than this [1/angstrom].")
    q_max: float | None = Field(
        None, gt=0, description="Ignore pixels beyond this [1/angstrom]; the detector's inscribed circle if left out."
    )
    background: Literal["auto", "estimate", "file", "none"] = Field(
        "auto",
        description="Background: the file's, or estimated from how patterns differ in brightness; auto: either.",
    )
    background_from: str | None = Field(
        None,
        description="File of the background, as misses show it: HDF5 with `background`, or .npy; counts per pattern.",
    )
    polarisation: Literal["none", "horizontal", "vertical"] = Field(
        "none", description="Divide by the polarisation factor of a beam polarised this way."
    )
    solid_angle: bool = Field(False, description="Divide by the solid angle of the pixels of a flat detector.")
    mask: Literal["auto", "levels", "good", "bad"] = Field(
        "auto",
        description=(
            "What a mask means: levels 0 use, 1 merge only, 2 never; 1 for good pixels; or all but 0 for bad ones; "
            "auto: what is usual in its format."
        ),
    )
    photon_unit: float | None = Field(
        None, gt=0, description="What one photon is in the file's values; the least step between them if left out."
    )
    adu_per_photon: Annotated[float, Field(gt=0)] | Literal["auto", "none"] = Field(
        "auto",
        description="ADU a photon, where values have readout noise; auto: by the peaks of their histogram; or none.",
    )
    broken_pixels: Literal["mend", "always", "ever"] = Field(
        "mend",
        description=(
            "Pixels never used: those without a value in more than half of the patterns, others get what is expected "
            "(mend); in all, others are refused (always); or in any (ever)."
        ),
    )
    saturated: bool = Field(
        default=True, description="Values in ADU that saturation spoils in single patterns are none: plateaus, streaks."
    )
    dataset: str | None = Field(None, description="Patterns of an HDF5 file that has several datasets of them.")
    detector: str | None = Field(
        None, description="File that says where the pixels lie, for photons that do not: a detector of Dragonfly."
    )
    geometry: str | None = Field(None, description="File that says where the pixels lie: a geometry of CrystFEL.")
    mask_file: str | None = Field(
        None, description="File of a mask (HDF5, .npy, raw bytes), in place of the mask beside the patterns."
    )
    wavelength_angstrom: float | None = Field(
        None, gt=0, description="Wavelength of the beam [angstrom], for files that do not say it."
    )
    photon_energy_ev: float | None = Field(None, gt=0, description="Photon energy [eV], in place of the wavelength.")
    distance_m: float | None = Field(None, gt=0, le=100, description="From the sample to the detector [m].")
    pixel_um: float | None = Field(None, gt=0, le=1e5, description="Edge of a pixel of a flat detector [micrometre].")
    centre: Annotated[str | None, BeforeValidator(row_column)] = Field(
        None,
        description="Row and column, `63.5,63.5`, where the beam goes through a flat detector; pixel centres are whole "
        "numbers; the middle if left out; auto: found in the patterns.",
    )

    hot_pixels: bool = Field(
        default=True, description="Find pixels that are hot in single patterns, and put what is expected there."
    )
    hot_beyond: float | None = Field(
        None,
        ge=0,
        description="Look for them beyond this [1/angstrom]; 4 pixels from the innermost one used if left out.",
    )

    @field_validator("polarisation", "background", "adu_per_photon", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Take the word `none` of a setting, which stands for no value, by its name here."""
        return "none" if value is None else value

    @property
    def reading(self) -> dict[str, Any]:
        """Return what says how patterns are read, as `formats.reader.read` takes it."""
        return {name: getattr(self, name) for name in READING}


class StartOptions(_Options):
    """The blind start by annealed soft assignment."""

    iterations: int = Field(24, ge=3, description="Iterations of the soft assignment.")
    count: int = Field(
        default=5,
        ge=1,
        description=(
            "Most starts tried, fewer if two come out equally good; with a symmetry all of up to 6 times as many."
        ),
    )
    patterns: int | None = Field(
        None, ge=1, description="Patterns it is made from at least; as many as their photons ask for if left out."
    )
    temperature_first: float = Field(
        0.3, gt=0, description="First temperature, as a fraction of the spread of the distances."
    )
    temperature_last: float = Field(
        0.015, gt=0, description="Last temperature, as a fraction of the spread of the distances."
    )


class MatchingOptions(_Options):
    """Orientation search and local refinement."""

    method: Literal["polar", "gemm"] = Field(
        "polar", description="Grid search by angular correlation (polar) or by brute force (gemm)."
    )
    statistics: Literal["auto", "gaussian", "poisson"] = Field(
        "auto",
        description="Squared distances (gaussian) or photon statistics (poisson); auto: by the photons there are.",
    )
    assignment: Literal["auto", "hard", "soft"] = Field(
        "auto",
        description="The best orientation of each pattern (hard) or all by probability (soft); auto: by the photons.",
    )
    outliers: bool = Field(True, description="Find patterns that fit no orientation and leave them out of the merge.")
    differ: bool = Field(
        True, description="Refine sizes and beam centres with the orientations, where patterns differ in them."
    )
    states: int = Field(1, ge=1, description="Number of conformations K.")
    candidates: int = Field(3, ge=1, description="Candidates per pattern that enter local refinement.")
    refine_iterations: int = Field(4, ge=0, description="Most Gauss-Newton steps of local refinement per generation.")


class MergingOptions(_Options):
    """Least-squares autocorrelation by conjugate gradients."""

    iterations: int = Field(40, ge=1, description="Most CG iterations per generation.")
    tolerance: float = Field(1e-4, gt=0, lt=1, description="Relative residual at which CG stops.")
    regularisation: float = Field(
        1e-4, ge=0, description="Penalty on |A|^2, relative to the largest eigenvalue of the normal operator."
    )


class PhasingOptions(_Options):
    """Iterative phasing of the merged intensities."""

    method: Literal["hio", "raar"] = Field("raar", description="The global update between error-reduction runs.")
    beta: float | None = Field(
        None, gt=0, le=1, description="Feedback of HIO and RAAR; if left out 0.9, or falling from 0.95 to 0.75."
    )
    cycles: int = Field(6, ge=1, description="Cycles of ER, HIO or RAAR, ER and shrink-wrap per generation.")
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Part of the maximum that shrink-wrap keeps; if left out 0.08, below 10,000 photons 0.12.",
    )
    starts: int = Field(
        12,
        ge=1,
        description="Most phasings in the last generation; soft ones, and misfits above 0.2, are averaged.",
    )


class ResolutionOptions(_Options):
    """How the run states its own resolution."""

    half_sets: bool = Field(
        default=True, description="Reconstruct two disjoint halves as well; without them no resolution is stated."
    )
    phasings: int = Field(5, ge=0, description="Independent phasings for the PRTF; fewer than 2 leave it out.")


class ConvergenceOptions(_Options):
    """When the run stops: generations at the full radius go on until two of them agree."""

    most_generations: int = Field(8, ge=2, description="Most generations at the full radius.")
    moved: float = Field(0.02, ge=0, le=1, description="Part of the orientations that may still move.")
    distance: float = Field(
        0.005,
        ge=0,
        description=(
            "Relative change of the mean distance (or 1 less it, if that is less; or 0.05, if it is less) that still "
            "counts as none."
        ),
    )


class ComputeOptions(_Options):
    """Machine resources; they change the time a run takes, not what it computes."""

    threads: int | None = Field(
        None, ge=1, description="Threads for NUFFT, FFT and GEMM; all available cores if left out."
    )
    split_voxels: int = Field(
        128**3, ge=0, description="Volumes with as many voxels are split over all processors of a launcher's run."
    )


class SelectionOptions(_Options):
    """Which patterns a reconstruction is made of."""

    mode: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Single particles are selected first: always, never, or if patterns are of more than one thing.",
    )


class Settings(_Options):
    """All options of a reconstruction; `scripts/REFERENCE.md` has them with their meaning and defaults.

    >>> settings = sg.Settings(seed=3, prepare={"diameter_angstrom": 65.0})
    >>> settings.prepare.diameter_angstrom, settings.matching.method
    (65.0, 'polar')
    """

    seed: int = Field(0, ge=0, le=2**63 - 1, description="Seed of every random number of the run.")
    symmetry: Annotated[str, AfterValidator(symmetry_name)] = Field(
        "C1", description="Point group of the particle's rotations: C1 (none), C4, D2, T, O, I ..."
    )
    prepare: PrepareOptions = PrepareOptions()
    selection: SelectionOptions = SelectionOptions()
    start: StartOptions = StartOptions()
    matching: MatchingOptions = MatchingOptions()
    merging: MergingOptions = MergingOptions()
    phasing: PhasingOptions = PhasingOptions()
    resolution: ResolutionOptions = ResolutionOptions()
    convergence: ConvergenceOptions = ConvergenceOptions()
    compute: ComputeOptions = ComputeOptions()
