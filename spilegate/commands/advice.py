"""The command line that `spilegate inspect` suggests: the options it was given, and those that it found wanting."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spilegate.formats import pixels
from spilegate.formats.looking import Looked
from spilegate.patterns.outlook import Centre, Particle, spacing

# Speckles wider than this [pixels] are binned until they are no narrower than that.
WIDE, NARROW = 8.0, 4.0
# Options of `inspect` that are not of `reconstruct`: with a value, and without.
REPLACED = {"--centre", "--diameter-angstrom", "prepare.binning", "prepare.q_max"}
OWN, FLAGS = ("--picture", "--log"), ("--quiet", "--debug", "--force")


@dataclass(frozen=True)
class Advice:
    """Options that are wanting.

    lacking : those that the file needs, with what to put in place of a value; binning : 0 if pixels are fine as they
    are; centre : row and column, empty if it is right; diameter : [angstrom], None unless it is rough
    fitting : words that make a run fit into the memory there is
    """

    lacking: tuple[str, ...] = ()
    binning: int = 0
    centre: str = ""
    diameter: float | None = None
    fitting: tuple[str, ...] = ()

    @staticmethod
    def of(looked: Looked, particle: Particle, centre: Centre, finer: int, fitting: tuple[str, ...]) -> Advice:
        """Return what was found wanting in a file that can be used; `finer` is what `binning` says."""
        rough = particle.diameter if particle.rough and "--diameter-angstrom" not in fitting else None
        return Advice((), 0 if fitting else (finer > 1) * finer * looked.binning, centre.mended, rough, fitting)

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
        return [*found, *self.fitting]


def binning(looked: Looked, particle: Particle) -> int:
    """Return by what to bin the pixels further where speckles are wide, so that they are still NARROW pixels wide."""
    width = 0.0 if particle.diameter is None else 1 / (particle.diameter * spacing(looked))
    fits = [number for number in pixels.divisors(looked.shape) if width / number >= NARROW]
    return max(fits, default=1) if width > WIDE else 1


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
    kept = _without(kept, {word.partition("=")[0] for word in advice.words} & REPLACED)
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
