"""What can be said of patterns before a run starts: where the beam is, how large the particle, how fine its speckle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import reader
from spilegate.formats.looking import Looked
from spilegate.geometry.detector import pixel_spacing
from spilegate.patterns import beam
from spilegate.patterns.checks import inscribed_radius
from spilegate.patterns.places import Places, nearest
from spilegate.patterns.prepare import prepare
from spilegate.records import NEVER, USE, Int64
from spilegate.settings import Settings

# The diameter is looked for in so many values at most, and in patterns of so many pixels: more take minutes.
MOST_VALUES, MOST_PIXELS = 1 << 27, 1 << 17


@dataclass(frozen=True)
class Centre:
    """Where the beam's centre is, in words; mended : the row and column to give, empty if there is nothing to mend."""

    said: str
    mended: str = ""


@dataclass(frozen=True)
class Particle:
    """How large the particle is.

    diameter : [angstrom], None if it is not known; how : it was found, or why it was not
    rough : whether it may be off by half of itself
    """

    diameter: float | None
    how: str
    rough: bool = False

    def facts(self, looked: Looked) -> dict[str, Any]:
        """Return what it means for the speckles on a detector."""
        if self.diameter is None:
            return dict.fromkeys(("diameter_angstrom", "speckle_pixels", "speckles_to_edge"), self.how)
        return {
            "diameter_angstrom": f"{self.diameter:.6g} ({self.how})",
            "speckle_pixels": 1 / (self.diameter * spacing(looked)),
            "speckles_to_edge": self.diameter * reach(looked, None),
        }


def spacing(looked: Looked) -> float:
    """Return the distance between neighbouring pixels near the beam [1/angstrom]."""
    seen = looked.q[looked.mask < NEVER]
    return pixel_spacing(seen[nearest(seen)])


def reach(looked: Looked, q_max: float | None) -> float:
    """Return |q| [1/angstrom] up to which a run would go, by the setting if there is one."""
    used = looked.mask == USE
    if q_max is None:
        return inscribed_radius(looked.q, used)
    return min(q_max, float(np.linalg.norm(looked.q[used], axis=-1).max()))


def centre_of(looked: Looked, diameter: float | None) -> Centre:
    """Return where the mean of the patterns looked at has its centre, diameter [angstrom] if it is known."""
    found = beam.of_mean(looked, diameter)
    if found is None:
        return Centre("cannot be told: too few pixels near the beam have an opposite")
    centre, place = found
    error = centre.error / centre.pixel * looked.binning
    if centre.wrong:
        mended = "" if place is None or not Places.of(looked).flat else ",".join(f"{part:.1f}" for part in place[0])
        return Centre(centre.note(looked.q, Places.of(looked)), mended)
    if place is None:
        off = float(np.hypot(*centre.off)) / centre.pixel
        return Centre(f"where positions say: off by {off:.1f} +- {error:.1f} pixels")
    (row, column), (down, right) = place
    return Centre(
        f"row {row:.1f}, column {column:.1f}: where positions say (off by {np.hypot(down, right):.1f} +- {error:.1f} "
        "pixels)"
    )


def particle(path: Path, looked: Looked, reading: dict[str, Any], settings: Settings) -> Particle:
    """Return the diameter: the one given, or as a run finds it, from the patterns looked at.

    reading : the options by which they were read
    """
    given = settings.prepare.diameter_angstrom
    if given is not None:
        return Particle(given, "given")
    if len(looked.q) > MOST_PIXELS:
        return Particle(
            None, f"not looked for in patterns of {len(looked.q)} pixels: --diameter-angstrom NUMBER, or "
            "--set prepare.binning=NUMBER",
        )  # fmt: skip
    which = _numbers(looked)
    prepared = settings.prepare.model_copy(update={"use": None, "leave_out": None} if which is not None else {})
    try:
        dataset = reader.read(path, **reading, which=which)
        experiment = prepare(dataset, settings.model_copy(update={"prepare": prepared}))
    except InputError as error:
        return Particle(None, f"unknown: {str(error).removeprefix(f'{path}: ')}")
    some = "" if which is None else f" from {len(which)} patterns"
    what = "a rough estimate, photons being few and the centre hidden" if experiment.diameter_rough else "estimated"
    return Particle(experiment.diameter_angstrom, f"{what}{some}", experiment.diameter_rough)


def _numbers(looked: Looked) -> Int64 | None:
    """Return the numbers of the patterns to look for the diameter in; None for all."""
    step = -(-len(looked.numbers) * len(looked.q) // MOST_VALUES)
    if looked.whole and step == 1:
        return None
    return looked.numbers[::step]
