"""Classes of a selection kept or dropped by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spilegate.errors import InputError
from spilegate.selection.record import ASKED, Selection

# What takes earlier choices by hand back.
NONE = "none"


def numbers_of(text: str | None, option: str) -> list[int] | None:
    """Return the numbers of classes that an option lists, none of them for "none"; None if it was not given.

    Raises InputError for anything else.
    """
    if text is None:
        return None
    if text.strip().lower() == NONE:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise InputError(f"{option} {text}: expected numbers of classes, such as 0,3, or none; see figures/classes.png")
    return [int(word) for word in words]


def changed(selection: Selection, keep: Sequence[int] | None, drop: Sequence[int] | None) -> Selection:
    """Return a selection with all patterns of some classes kept, and with none of those of others.

    Later choices add to earlier ones; no classes at all take the earlier ones of that kind back; None leaves them.
    Patterns that were left out as asked stay so.
    Raises InputError for classes that there are not, or that are to be kept and dropped, or if nothing is left.
    """
    count = len(selection.class_means)
    for option, numbers in (("--keep", keep), ("--drop", drop)):
        if unknown := [number for number in numbers or () if number >= count]:
            raise InputError(f"{option}: class {unknown[0]}; expected 0 to {count - 1}; see figures/classes.png")
    if both := sorted(set(keep or ()) & set(drop or ())):
        raise InputError(f"--keep and --drop: found class {both[0]} in both; expected it in one of them; leave one out")
    hand, free = selection.hand.copy(), selection.reason != ASKED
    for numbers, value in ((keep, 1), (drop, -1)):
        if numbers is not None and not len(numbers):
            hand[hand == value] = 0
    for numbers, value in ((keep, 1), (drop, -1)):
        hand[np.isin(selection.label, numbers or ()) & free] = value
    result = replace(selection, by_hand=hand)
    if not result.kept.any():
        raise InputError("--drop: no pattern would be left; expected some; drop fewer classes")
    return result


def said(before: Selection, after: Selection) -> list[str]:
    """Return the lines that say what a choice by hand changed."""
    added, removed = int((after.kept & ~before.kept).sum()), int((before.kept & ~after.kept).sum())
    lines = [f"by hand: {added} patterns added, {removed} removed; {after.kept.sum()} of {len(after.kept)} kept"]
    for value, what in ((1, "kept"), (-1, "left out")):
        if classes := np.unique(after.label[after.hand == value]).tolist():
            number = int((after.hand == value).sum())
            lines.append(f"{what} by hand: {number} patterns (class {', '.join(map(str, classes))})")
    lines.append(purity(after))
    return lines


def purity(selection: Selection) -> str:
    """Return the line that states how many of the patterns kept are of single particles, and how many of these miss."""
    return (
        f"by estimate {100 * selection.purity:.1f} % of those kept are single particles (standard deviation "
        f"{100 * selection.purity_error:.1f} %), {100 * selection.lost:.1f} % of the single particles are left out"
    )
