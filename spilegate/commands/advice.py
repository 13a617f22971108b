"""The command line that `spilegate inspect` suggests: the options it was given, and those that it found wanting."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spilegate.formats.looking import Looked
from spilegate.patterns.outlook import Centre, Particle, spacing

# Speckles wider than this [pixels] are binned until they are no narrower than that.
WIDE, NARROW = 8.0, 4.0
# Options of `inspect` that are not of `reconstruct`: with a value, and without.
OWN, FLAGS = ("--picture", "--log"), ("--quiet", "--debug", "--force")


@dataclass(frozen=True)
class Advice:
    """Options that are wanting.

    lacking : those that the file needs, with what to put in place of a value; binning : 0 if pixels are fine as they
    are; centre : row and column, empty if it is right; diameter : [angstrom], None unless it is rough
    """

    lacking: tuple[str, ...] = ()
    binning: int = 0
    centre: str = ""
    diameter: float | None = None

    @staticmethod
    def of(looked: Looked, particle: Particle, centre: Centre) -> Advice:
        """Return what was found wanting in a file that can be used."""
        wide = 0
        if particle.diameter is not None and (width := 1 / (particle.diameter * spacing(looked))) > WIDE:
            wide = _binning(looked, width)
        return Advice((), wide, centre.mended, particle.diameter if particle.rough else None)

    @property
    def words(self) -> list[str]:
        """Return them as words of a command line."""
        found = [word for option in self.lacking for word in option.split()]
        if self.centre:
            found += ["--centre", self.centre]
        if self.diameter is not None:
            found += ["--diameter-angstrom", f"{self.diameter:.4g}"]
        if self.binning:
            found += ["--set", f"prepare.binning={self.binning}"]
        return found


def _binning(looked: Looked, width: float) -> int:
    """Return by what to bin the file's pixels so that speckles are still NARROW pixels wide; 0 if by nothing more.

    width : of a speckle now
    """
    _, rows, columns = looked.shape
    common = math.gcd(rows, columns)
    fits = [number for number in range(2, common + 1) if common % number == 0 and width / number >= NARROW]
    return max(fits) * looked.binning if fits else 0


def command_line(data: Path, words: Sequence[str], advice: Advice) -> str:
    """Return the command line that reconstructs a file, quoted for a shell.

    words : those of `inspect`, as they were given
    """
    kept, left = [], list(words)
    while left:
        word = left.pop(0)
        name, equals, _ = word.partition("=")
        if name in OWN:
            left = left if equals else left[1:]
        elif word not in FLAGS:
            kept.append(word)
    for own in ("inspect", str(data)):
        if own in kept:
            kept.remove(own)
    replaced = [("--centre",) if advice.centre else (), ("prepare.binning",) if advice.binning else ()]
    kept = _without(kept, {name for names in replaced for name in names})
    return shlex.join(["spilegate", "reconstruct", str(data), "--output", "out/", *kept, *advice.words])


def _without(words: list[str], names: set[str]) -> list[str]:
    """Return words of a command line without options, or settings, of these names."""
    kept, left = [], list(words)
    while left:
        word = left.pop(0)
        value = left[0] if left else ""
        if word in names or (word == "--set" and value.partition("=")[0].strip() in names):
            left.pop(0)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return kept
