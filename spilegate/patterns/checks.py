"""What patterns and settings come to before a run: enough pixels, patterns, signal and speckles, or why not."""

from __future__ import annotations

import numpy as np

from spilegate.errors import InputError
from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.records import Bool, Dataset, Float64
from spilegate.settings import PrepareOptions, pattern_slices

# Fewer pixels do not even determine the local fits that lay rings over them.
FEWEST_PIXELS = 16
# From the innermost to the outermost of them, in pixels, so that there are rings at all.
FEWEST_PIXELS_ACROSS = 2.0
# From the beam to the edge; fewer say nothing about a shape.
FEWEST_SPECKLES = 2
# Beyond the innermost pixel; within one speckle all patterns are alike.
FEWEST_BEYOND = 1.0
# Signal over its own standard deviation from counting, over all patterns, below which there may as well be none.
LEAST_SEEN = 5.0
# The same of intensities, as a part of what was measured.
LEAST_PART = 1e-3
# Patterns that are neither left out nor without the particle; of a symmetric one very few will do.
FEWEST_GOOD = 6
# Units that lengths come in, in angstrom.
UNITS = {"pm": 0.01, "nm": 10.0}


def check_pixels(detector: Detector, q_max: float, source: str) -> None:
    """Raise InputError if the pixels for matching up to q_max [1/angstrom] are too few to find orientations on."""
    q_length = np.linalg.norm(detector.q, axis=-1)
    used = detector.matched & (q_length <= q_max)
    number = int(used.sum())
    across = 0.0
    if number >= FEWEST_PIXELS:
        spacing = pixel_spacing(detector.q[used])
        across = float(np.ptp(q_length[used])) / max(spacing, 1e-30)
    if across < FEWEST_PIXELS_ACROSS:
        raise InputError(
            f"{source}: {number} pixels to match patterns on, {across:.1f} pixels from the innermost to the outermost; "
            f"expected at least {FEWEST_PIXELS}, {FEWEST_PIXELS_ACROSS:g} pixels across; choose a smaller "
            "prepare.binning or prepare.q_min, or a larger prepare.q_max; or mask less"
        )


def chosen(dataset: Dataset, options: PrepareOptions) -> Bool:
    """Return which patterns (N_IMG,) the user wants: those of `use` that are not among those to leave out.

    Raises InputError for numbers of patterns that there are not, or if none is left.
    """
    count = len(dataset.images)
    kept = np.ones(count, np.bool_) if options.use is None else np.zeros(count, np.bool_)
    for name, value in (("use", True), ("leave_out", False)):
        for part in pattern_slices(getattr(options, name) or ""):
            if part.start >= count or (part.stop is not None and part.stop > count):
                raise InputError(
                    f"prepare.{name}: found patterns to {max(part.start, (part.stop or 1) - 1)}; expected numbers up "
                    f"to {count - 1}, as {dataset.source} has them, from 0; correct the list"
                )
            kept[part] = value
    return kept


def check_patterns(weight: Float64, source: str) -> None:
    """Raise InputError if too few of the patterns, weights (N_IMG,), are left to reconstruct anything from."""
    good = int((weight > 0).sum())
    if good < FEWEST_GOOD:
        raise InputError(
            f"{source}: {good} of {len(weight)} patterns left, the others being without signal, of something else or "
            f"in prepare.leave_out; expected at least {FEWEST_GOOD}; leave out fewer, set matching.outliers=false, or "
            "give more patterns"
        )


def check_signal(sums: Float64, background: float, *, counts: bool, known: bool, source: str) -> None:
    """Raise InputError if what is left of patterns without their background is no signal.

    sums : (n,), of the patterns on the pixels used, and that of the background; counts : whether they are photons
    known : whether the background is the file's
    """
    total = float(sums.mean())
    least = LEAST_SEEN * np.sqrt(max(total, background) / len(sums)) if counts else LEAST_PART * max(total, background)
    if total - background > least:
        return
    remedy = "set prepare.background=estimate, or none" if known else "set prepare.background=none"
    raise InputError(
        f"{source}: found {total:.4g} counts in a pattern, of which {background:.4g} are to be background "
        f"({'the file' if known else 'estimated'}); expected a signal of more than {least:.2g}; "
        + (remedy if background else "give patterns with more signal, or more of them")
    )


def check_diameter(diameter: float, *, q_min: float, q_max: float, longest: float, source: str, given: bool) -> None:
    """Raise InputError if a particle of that diameter [angstrom] would show too few speckles, or too narrow ones.

    q_min, q_max : where the pixels used begin and end [1/angstrom]
    longest : diameter whose speckles are two pixels wide [angstrom]
    """
    # Speckles as wide as a pixel.
    most, least = 2 * longest, FEWEST_SPECKLES / q_max
    units = [name for name, unit in UNITS.items() if least <= diameter * unit <= most]
    hint = f"; is {diameter:g} in {units[0]}? prepare.diameter_angstrom is in angstrom" if given and units else ""
    if diameter > most:
        raise InputError(
            f"{source}: found a particle of {diameter:.4g} angstrom (prepare.diameter_angstrom); expected at most "
            f"{most:.3g} angstrom, whose speckles are as wide as a pixel{hint or '; give its largest diameter'}"
        )
    if q_max * diameter < FEWEST_SPECKLES or (q_max - q_min) * diameter < FEWEST_BEYOND:
        raise InputError(
            f"{source}: the detector ends at 1/q = {1 / q_max:.3g} angstrom"
            f"{f' and begins at {1 / q_min:.3g}' if q_max * diameter >= FEWEST_SPECKLES else ''}, found a particle of "
            f"{diameter:.3g} angstrom; expected at least {FEWEST_SPECKLES} speckles (q x diameter >= "
            f"{FEWEST_SPECKLES}), {FEWEST_BEYOND:g} of them beyond the innermost pixel; "
            f"check diameter_angstrom, q_min and q_max{hint}"
        )


def inscribed_radius(q: Float64, usable: Bool) -> float:
    """Return the largest |q| [1/angstrom] up to which usable pixels, or their opposites, surround the beam.

    Friedel's law: at low q a pixel shows what the opposite one does, so that a beam that is not in the middle, a module
    that is missing or half a detector leave no direction out. The directions about the beam are cut into sectors, each
    as wide as two pixels at the edge of a square detector; the sector that ends first decides. Sectors without pixels
    (a gap through the beam) do not count.
    """
    q_length = np.linalg.norm(q[usable], axis=-1)
    angle = np.arctan2(q[usable, 1], q[usable, 0])
    half = max(4, int(np.sqrt(len(q_length))))
    sector = np.floor((angle / np.pi + 1) * half).astype(int) % half
    furthest = np.zeros(half)
    np.maximum.at(furthest, sector, q_length)
    return float(furthest[furthest > 0].min())
