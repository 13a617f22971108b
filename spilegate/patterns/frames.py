"""Which frames are patterns of the particle as far as brightness tells, how bright they are, and on what background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.geometry.detector import Detector
from spilegate.patterns.background import calibrated
from spilegate.patterns.brightness import brightness, dark
from spilegate.patterns.checks import check_patterns, check_signal
from spilegate.patterns.statistics import Sums
from spilegate.patterns.strangers import strangers
from spilegate.records import Bool, Float64


@dataclass(frozen=True)
class Frames:
    """What brightness tells of frames.

    weight : (N_IMG,), 0 for those that are not used; scale : (N_IMG,), of mean 1 among the others
    background : (N_PIX,) [counts]; notes : what to say of frames that are not used, a line each
    """

    weight: Float64
    scale: Float64
    background: Float64
    notes: tuple[str, ...]


def sorted_out(
    sums: Sums, detector: Detector, wanted: Bool, *, outliers: bool, estimate: bool, counts: bool, source: str
) -> Frames:
    """Return which frames are used, and how bright these are.

    wanted : (N_IMG,), those that the user wants; outliers : whether to look for frames without the particle at all
    estimate, counts : as `calibrated` takes them; source : the file, for messages
    Raises InputError if too few frames are left, or no signal in them.
    """
    used = sums.shells.compared
    pixels, totals = sums.shells.pixels(used), sums.over(used)
    shown = wanted & (totals > 0)
    notes = [*counted(~wanted, "left out as asked"), *counted(wanted & ~shown, "without signal on the pixels used")]
    weight, ground = shown.astype(np.float64), float(detector.background[pixels].sum())
    check_patterns(weight, source)
    check_signal(totals[shown], ground, counts=counts, known=True, source=source)
    if outliers:
        among = shown & ~dark(totals, ground, weight, counts=counts)
        weight = strangers(sums, among)
    found = calibrated(sums, detector, weight, estimate=estimate, counts=counts)
    scale, ground = found.scale, float(found.background[pixels].sum())
    check_signal(totals[shown], ground, counts=counts, known=not estimate, source=source)
    if outliers:
        empty = shown & dark(totals, ground, weight, counts=counts)
        notes += counted(empty, "without the particle, being so dark")
        if (weight[empty] > 0).any():
            weight[empty] = 0
            scale = brightness(totals, ground, weight, counts=counts)
    check_patterns(weight, source)
    return Frames(weight, scale, found.background, tuple(notes))


def counted(frames: Bool, what: str) -> list[str]:
    """Return a line that says how many frames (N_IMG,) are what, none if there are none."""
    index = np.flatnonzero(frames)
    if not len(index):
        return []
    return [f"{len(index)} of {len(frames)} patterns (the first: number {index[0]}, from 0) {what}: not used"]
