"""Where the beam goes through a flat detector, found in the patterns by Friedel's law where it is not known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import pixels, reader
from spilegate.formats.flat import AUTO
from spilegate.formats.looking import Looked, look
from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.kernels.workers import Workers
from spilegate.patterns.centre import Centre, centre, flat_radius
from spilegate.patterns.places import Places, nearest
from spilegate.records import NEVER, USE, Dataset, Float64

# A centre is found when it moves by less than that [pixels], within so many rounds, and is known better than this.
SETTLED, ROUNDS, KNOWN = 0.05, 5, 0.3
# Finer digits mean nothing, and would differ from machine to machine.
DIGITS = 2
# Speckles are two pixels wide or more, or there is nothing to see: pixels to look at without a diameter.
PIXELS_PER_SPECKLE = 2.0


def read(
    path: Path, *, workers: Workers | None = None, told: Callable[[int, int], None] | None = None, **options: Any
) -> Dataset:
    """Read patterns as `formats.reader.read` does, the beam's centre being found first where it is to be.

    Raises InputError as that does, or if no centre is found.
    """
    reading, said = settled(path, options)
    dataset = reader.read(path, workers=workers, told=told, **reading)
    return dataset if not said else replace(dataset, remarks=(*dataset.remarks, said))


def settled(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return options of `formats.reader.read` with a row and a column in place of "auto", and what to say of it.

    All processes of a run find the same: each looks at the same patterns of the file by itself.
    Raises InputError if it cannot be found.
    """
    if options.get("centre") != AUTO:
        return options, ""
    # What is binned tells less.
    found = look(path, **options | {"binning": 1})
    if found.looked is None:
        raise InputError(f"{path}: {found.facts['usable']}")
    row, column = find(found.looked, path)
    text = f"{row!r},{column!r}"
    return options | {"centre": text}, f"beam centre found in the patterns: --centre {text}"


def find(looked: Looked, path: Path) -> tuple[float, float]:
    """Return (row, column) where the mean pattern has its centre, from where its detector is said to have it on.

    Raises InputError if it cannot be found.
    """
    first = flat = looked.flat
    if first is None or flat is None:
        raise InputError(f"prepare.centre = {AUTO}: {path} says where every pixel lies; leave it out")
    for _ in range(ROUNDS):
        found = of_mean(replace(looked, q=pixels.bin_positions(flat.q, looked.binning, flat.wavelength).reshape(-1, 3)))
        if found is None or found[0].error > KNOWN * found[0].pixel:
            break
        _, (down, right) = found[1] or (0, np.full(2, np.inf))
        flat = flat.at(flat.centre[0] + down, flat.centre[1] + right)
        if np.hypot(down, right) < SETTLED * looked.binning:
            return round(float(flat.centre[0]), DIGITS), round(float(flat.centre[1]), DIGITS)
    raise InputError(
        f"{path}: prepare.centre = {AUTO}: no centre found from row {first.centre[0]:g}, column "
        f"{first.centre[1]:g} on; expected pixels on both sides of the beam, lit alike; give --centre ROW,COLUMN"
    )


def of_mean(looked: Looked, diameter: float | None = None) -> tuple[Centre, tuple[Float64, Float64] | None] | None:
    """Return where the mean of patterns looked at has its centre, and where in the picture that is, see `Places.at`.

    None if too few pixels have an opposite to tell.
    diameter : of the particle [angstrom]; if not known, the longest that the pixels would show
    """
    length = np.linalg.norm(looked.q, axis=-1)
    seen = looked.mask < NEVER
    if seen.sum() < 2:
        return None
    inner = looked.q[seen]
    diameter = diameter or 1 / (PIXELS_PER_SPECKLE * pixel_spacing(inner[nearest(inner)]))
    # Far from the beam nothing is asked of: of large detectors that saves seconds.
    near = length <= flat_radius(looked.wavelength, diameter)
    if not (near & (looked.mask == USE)).any():
        return None
    q, mask = looked.q[near], looked.mask[near]
    detector = Detector(q, mask == USE, mask < NEVER, np.ones(len(q)), np.zeros(len(q)))
    found = centre(looked.mean[near], detector, diameter, looked.photon)
    return None if found is None else (found, Places.of(looked).at(looked.q, found.off))
