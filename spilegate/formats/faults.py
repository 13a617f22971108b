"""What is wrong with patterns, and what they were taken for, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spilegate.formats.patterns import Found, Pass
from spilegate.formats.values import BROKEN, EMPTY

ADVICE = {
    BROKEN: "with values that are none ({codes}) on {pixels} pixels that have values in others; expected values in all "
    "patterns or in none; {remedy}",
    EMPTY: "without any signal on the pixels used; expected photons; check the mask, prepare.q_min, prepare.q_max",
}


def problem_of(way: Pass, found: Found) -> str | None:
    """Return the worst of all faults of patterns in words, None if there is none."""
    for fault, text in ADVICE.items():
        which = np.flatnonzero(found.faults == fault)
        # Some frames without any signal are nothing to worry about: they are not used.
        if len(which) and (fault != EMPTY or len(which) == len(found.faults)):
            pixels, used = (found.lost > 0) & way.used, way.used
            some = f"{int(pixels.sum())} ({_percent(pixels[used])})"
            remedy = "--set prepare.broken_pixels=ever leaves these pixels out, =mend puts what is expected there"
            if pixels.sum() > used.sum() / 2:
                remedy = "--set prepare.broken_pixels=mend puts what is expected there"
            text = text.format(codes=_codes(way, found), pixels=some, remedy=remedy)
            return f"{len(which)} of the patterns (the first: number {which[0]}, from 0) {text}"
    return None


def taken_for(way: Pass) -> str:
    """Return what the values of a file are taken for in a few words."""
    if way.rule.adu is not None:
        return way.rule.adu.said
    if not way.rule.counts:
        unit = f" of {way.rule.unit:.6g} units of the file" if way.rule.unit != 1 else ""
        return f"intensities{unit or ' in arbitrary units'}, not whole numbers of photons"
    return "photons" if way.rule.unit == 1 else f"photons; one photon is {way.rule.unit:.6g} units of the file"


def remarks(way: Pass, found: Found, masked: NDArray[np.bool_], dead: NDArray[np.bool_]) -> list[str]:
    """Return what was done to patterns that nobody asked for, a line each.

    masked : (panels, y, x), pixels that the mask or the limits leave out anyway; dead : those found to be dead
    """
    lines = []
    broken = way.rule.broken & ~masked
    if broken.any():
        often = " in more than half of the patterns" if way.broken == "mend" else ""
        text = (
            f"{int(broken.sum())} pixels ({_percent(broken)}) without values ({_codes(way, found)}){often}: never used"
        )
        lines.append(text)
    if way.rule.scatter is not None and way.rule.counts:
        lines.append(
            f"values of a pixel scatter by {way.rule.scatter:.2g} of what photons would: if they are ADU on a "
            "pedestal, take it off, pixel by pixel (the mean of frames without light)"
        )
    some = np.flatnonzero(found.spoilt)
    if len(some):
        number = f"{found.spoilt.sum():.0f} values in {len(some)} of {len(found.spoilt)} patterns"
        lines.append(f"{number} (the first: number {some[0]}, from 0) are spoilt by saturation: taken for none")
    lines += _gaps(way, found)
    dead = dead & ~masked & ~broken
    if dead.any():
        lines.append(f"{int(dead.sum())} pixels ({_percent(dead)}) are 0 in all patterns, others there not: never used")
    negative = float(found.negative.sum())
    if negative:
        part = 100 * negative / (len(found.negative) * max(1, int(way.used.sum())))
        what = "taken for 0" if way.rule.counts else "taken for readout noise about zero, as they are"
        lines.append(f"{negative:.0f} values ({part:.2g} %) are negative: {what}")
    return lines


def _gaps(way: Pass, found: Found) -> list[str]:
    """Return what was done about values that single patterns lack, a line each."""
    lines, empty = [], way.empty(found.lacking)
    some, of = (found.lacking > 0) & ~empty, len(empty)
    if way.broken == "mend" and some.any():
        number = f"{found.lacking[some].sum():.0f} values in {int(some.sum())} of {of} patterns"
        lines.append(f"{number} are none ({_codes(way, found)}): what is expected is put there")
    if way.broken == "mend" and empty.any():
        number = f"{int(empty.sum())} of {of} patterns (the first: number {int(np.argmax(empty))}, from 0)"
        lines.append(f"{number} lack more than half of the pixels used: taken for empty")
    return lines


def _codes(way: Pass, found: Found) -> str:
    """Return what stands for no value."""
    dtype, codes = way.stack.dataset.dtype, [f"{code:.0f}" for code in way.rule.codes]
    if found.spoilt.any():
        codes.append("saturated")
    if dtype.kind == "f":
        return ", ".join(["not finite", *codes])
    return ", ".join(dict.fromkeys([*codes, f"{np.iinfo(dtype).max}"]))


def _percent(pixels: NDArray[np.bool_]) -> str:
    """Return the part of pixels that are true."""
    return f"{100 * float(pixels.mean()):.2g} %"
