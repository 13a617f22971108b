"""What a selection of patterns shows for a look: classes with their means, and what is known of every pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spilegate.formats import files
from spilegate.records import Bool, Float32, Float64, Int64
from spilegate.report.page import gallery_page, shell
from spilegate.selection.record import REASONS, Selection

GALLERY = "gallery.html"


@dataclass(frozen=True)
class Gallery:
    """Classes of patterns, which of these are kept, and why.

    Capital letters: K classes, P pixels along the edge of a picture, N patterns, n examples.

    source : the file of the patterns, for messages
    means : (K, P, P) float32 [photons per pixel, or what patterns are in], NaN where nothing is measured
    logarithms : whether means are logarithms, from 0 to 1
    kinds : (K,) what each class is of, such as "single particles", "several", "empty"
    member : (N,) int64, the class of each pattern, -1 for none
    kept : (N,) bool, what is proposed; reasons : (N,) why a pattern is left out, "" for those kept
    single : (N,) float64, probability of being of a single particle, NaN if unknown
    diameter_angstrom, photons : (N,) float64, NaN if unknown
    examples : (n, P, P) float32, some patterns as they are; example_of : (n,) int64, their numbers
    """

    source: str
    means: Float32
    kinds: Sequence[str]
    member: Int64
    kept: Bool
    reasons: Sequence[str]
    single: Float64
    diameter_angstrom: Float64
    photons: Float64
    examples: Float32
    example_of: Int64
    logarithms: bool = False

    @property
    def counts(self) -> Int64:
        """Return how many patterns each class has, (K,)."""
        return np.bincount(self.member[self.member >= 0], minlength=len(self.means)).astype(np.int64)

    def faults(self) -> Iterator[str]:
        """Yield what does not go together."""
        count, classes = len(self.member), len(self.means)
        for name in ("kept", "reasons", "single", "diameter_angstrom", "photons"):
            if len(getattr(self, name)) != count:
                yield f"{name}: {len(getattr(self, name))}; expected {count}, one for each pattern"
        if len(self.kinds) != classes:
            yield f"kinds: {len(self.kinds)}; expected {classes}, one for each class"
        if count and not (self.member.min() >= -1 and self.member.max() < classes):
            yield f"member: {self.member.min()} to {self.member.max()}; expected -1 to {classes - 1}"
        if len(self.example_of) != len(self.examples):
            yield f"example_of: {len(self.example_of)}; expected {len(self.examples)}, one for each example"
        if len(self.example_of) and not (self.example_of.min() >= 0 and self.example_of.max() < count):
            yield f"example_of: up to {self.example_of.max()}; expected numbers of patterns, below {count}"


def of_selection(selection: Selection, source: str, examples: Float32, example_of: Int64) -> Gallery:
    """Return the gallery of a selection; a class is of what most of its patterns are.

    source : the file of the patterns; examples : (n, P, P) some of them, example_of : (n,) int64, their numbers
    """
    return Gallery(
        source=source,
        means=selection.class_means,
        kinds=[_kind(selection.reason[selection.label == k]) for k in range(len(selection.class_means))],
        member=selection.label,
        kept=selection.kept,
        reasons=["" if kept else why for kept, why in zip(selection.kept, selection.words(), strict=True)],
        single=selection.single,
        diameter_angstrom=np.where(selection.diameter_angstrom > 0, selection.diameter_angstrom, np.nan),
        photons=selection.photons,
        examples=examples,
        example_of=example_of,
        logarithms=True,
    )


def _kind(reasons: Int64) -> str:
    """Return what most patterns of a class are, and which part of them."""
    if not len(reasons):
        return "no patterns"
    number = np.bincount(reasons, minlength=len(REASONS))
    return f"{REASONS[int(number.argmax())]} ({number.max() / len(reasons):.0%})"


def write_gallery(path: Path, gallery: Gallery) -> None:
    """Write a gallery as one page that stands alone: classes are kept or dropped by clicks, and the choice is a list.

    The list, of numbers one on a line, is what `prepare.use` and `--select` take.
    Raises ValueError if parts of the gallery do not go together, InputError if the page cannot be written.
    """
    for fault in gallery.faults():
        raise ValueError(fault)
    title = f"{Path(gallery.source).name}: {int(gallery.kept.sum())} of {len(gallery.kept)} patterns proposed"
    page = shell.document(title, gallery_page.content(gallery), programs=("gallery.js",), viewer=False)
    files.replace(path, page.encode("utf-8", "backslashreplace"))
