"""Which frames are patterns of the particle as far as brightness tells, how bright they are, and on what background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.geometry.calibration import brightness, calibrate, dark, pattern_sums, strangers
from spilegate.geometry.checks import check_patterns, check_signal
from spilegate.geometry.detector import Detector
from spilegate.kernels.workers import Workers
from spilegate.state import Bool, Float64


@dataclass(frozen=True)
class Frames:
    """What brightness tells of frames.

    weight : (N_IMG,), 0 for those that are not used; scale : (N_IMG,), of mean 1 among the others
    detector : with the background; notes : what to say of frames that are not used, a line each
    """

    weight: Float64
    scale: Float64
    detector: Detector
    notes: tuple[str, ...]


def sorted_out(
    images: Any,
    detector: Detector,
    wanted: Bool,
    q_max: float,
    *,
    outliers: bool,
    estimate: bool,
    counts: bool,
    source: str,
    workers: Workers,
) -> Frames:
    """Return which frames are used, and how bright these are.

    wanted : (N_IMG,), those that the user wants; outliers : whether to look for frames without the particle at all
    estimate, counts : as `calibrate` takes them; source : the file, for messages
    Raises InputError if too few frames are left, or no signal in them.
    """
    used = detector.matched & (np.linalg.norm(detector.q, axis=-1) <= q_max)
    sums = pattern_sums(images, detector, used, workers=workers)
    shown = wanted & (sums > 0)
    notes = [*counted(~wanted, "left out as asked"), *counted(wanted & ~shown, "without signal on the pixels used")]
    weight, ground = shown.astype(np.float64), float(detector.background[used].sum())
    check_patterns(weight, source)
    check_signal(sums[shown], ground, counts=counts, known=True, source=source)
    if outliers:
        among = shown & ~dark(sums, ground, weight, counts=counts)
        weight = strangers(images, detector, q_max, among=among, workers=workers)
    scale, found = calibrate(
        images, detector, weight, q_max, estimate=estimate, counts=counts, sums=sums, workers=workers
    )
    ground = float(found.background[used].sum())
    check_signal(sums[shown], ground, counts=counts, known=not estimate, source=source)
    if outliers:
        empty = shown & dark(sums, ground, weight, counts=counts)
        notes += counted(empty, "without the particle, being so dark")
        if (weight[empty] > 0).any():
            weight[empty] = 0
            scale = brightness(sums, ground, weight, counts=counts)
    check_patterns(weight, source)
    return Frames(weight, scale, found, tuple(notes))


def counted(frames: Bool, what: str) -> list[str]:
    """Return a line that says how many frames (N_IMG,) are what, none if there are none."""
    index = np.flatnonzero(frames)
    if not len(index):
        return []
    return [f"{len(index)} of {len(frames)} patterns (the first: number {index[0]}, from 0) {what}: not used"]
