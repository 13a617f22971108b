"""Masks in CXI: bits of every pixel (CXI file format 1.6), for all patterns or for each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.facts import Masked, Metadata
from spilegate.formats.masks import Means, levels_of, sense
from spilegate.formats.patterns import Values
from spilegate.records import MERGE_ONLY, NEVER, Bool, UInt8

# Bits that make a pixel bad: invalid, saturated, hot, dead, shadowed, to be ignored, bad, missing, noisy, in the jet.
# Cheetah has failed corrections where the standard has signal; European XFEL has bits of its own, all bad.
BAD = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x80 | 0x200 | 0x400 | 0x8000
CHEETAH_BAD = BAD | 0x1000
ANY = 2**64 - 1
# What we write: bad, missing, and, in a bit that the standard leaves to its users, only for merging.
WRITTEN_BAD, WRITTEN_MISSING, WRITTEN_MERGE_ONLY = 0x80, 0x200, 1 << 24
NAMES = ("mask", "mask_shared", "good_pixels")


@dataclass(frozen=True)
class Meaning:
    """What values of masks mean. means : as the setting says; bits : those that are bad, by who wrote the file."""

    means: Means
    bits: int

    @property
    def words(self) -> str:
        """Say it in words."""
        usual = "0 good, all else bad" if self.bits == ANY else f"bad where it has a bit of {self.bits:#x}"
        return f"{sense(self.means, usual)}; good_pixels: 1 good, 0 bad"

    def bad(self, values: NDArray[Any]) -> Bool:
        """Return which values mask a pixel."""
        if self.means == "good":
            return np.asarray(values == 0)
        if values.dtype.kind not in "iu" or self.means in ("bad", "levels"):
            return np.asarray(values != 0)
        # Negative numbers are those with their highest bits set.
        return np.asarray((values.astype(np.int64, copy=False).view(np.uint64) & np.uint64(self.bits)) != 0)

    def levels(self, values: NDArray[Any], where: str) -> UInt8:
        """Return the levels of a mask for all patterns; InputError for values that are none."""
        if self.means != "auto":
            return levels_of(values, self.means, where)
        bad = self.bad(values)
        merge = np.zeros(values.shape, np.bool_)
        if values.dtype.kind in "iu" and self.bits != ANY:
            merge = (values.astype(np.int64) & WRITTEN_MERGE_ONLY) != 0
        return np.where(bad, np.uint8(NEVER), np.where(merge, np.uint8(MERGE_ONLY), np.uint8(0)))


def masked(
    metadata: Metadata, groups: tuple[str, str], values: Values, panels: tuple[int, int, int], meaning: Meaning
) -> tuple[UInt8 | None, Values]:
    """Return levels (panels, y, x), None if no mask is for all patterns, and the patterns.

    Where a mask is for each of them, what it masks becomes no value. groups : where masks may be
    Raises InputError for masks of other shapes.
    """
    levels: UInt8 | None = None
    seen: list[Any] = []
    for name in (f"{group}/{each}" for group in dict.fromkeys(groups) for each in NAMES):
        dataset: Any = metadata.file.get(name)
        # One and the same by two names is one.
        if not isinstance(dataset, h5py.Dataset) or any(dataset == other for other in seen):
            continue
        seen.append(dataset)
        where = f"{metadata.path}: dataset {name!r}"
        found = files.dataset(metadata.file, name, metadata.path, "a mask", kinds="iufb")
        own = Meaning("good", ANY) if name.endswith(NAMES[2]) else meaning
        if found.shape[1:] == values.shape[1:] and found.shape[0] >= values.shape[0] and found.ndim > 2:
            values = Masked(values, found, own.bad)
            continue
        of_all = found[()]
        if of_all.size != math.prod(panels) or of_all.shape not in {panels, panels[1:], (1, *panels), (1, *panels[1:])}:
            raise InputError(
                f"{where}: shape {found.shape}; expected {values.shape}, or {values.shape[1:]} for all patterns"
            )
        new = own.levels(of_all.reshape(panels), where)
        levels = new if levels is None else np.maximum(levels, new)
    return levels, values
