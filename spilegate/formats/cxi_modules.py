"""Modules of European XFEL's detectors in CXI, as EXtra-data gathers them: which there are, and in which patterns.

Its files are virtual: what a module did not record is in no file, and reads as no value.
"""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

from spilegate.records import Bool, Int64

# By these patterns are told apart; JUNGFRAU numbers memory cells, and its modules from 1.
TRAINS, CELLS, NUMBERS = "trainId", "memoryCell", "module_identifier"


class Modules:
    """What the first entry of a file says of modules; nothing if it is not European XFEL's.

    found : the patterns; trains : (N_IMG,), None if it does not say
    """

    def __init__(self, file: h5py.File, entry: str, found: h5py.Dataset) -> None:
        self._file, self._found = file, found
        self.trains = self._of_patterns(f"{entry}/{TRAINS}")
        self._from_one = f"{entry}/{CELLS}" in file

    def numbers(self, name: str, panels: int) -> tuple[int, ...] | None:
        """Return which modules the panels are, from 0; None if a dataset of that name does not say."""
        found: Any = self._file.get(name)
        if self.trains is None or not isinstance(found, h5py.Dataset) or found.shape != (panels,):
            return None
        if found.dtype.kind not in "iu":
            return None
        values = found[()].astype(np.int64) - self._from_one
        good = len(np.unique(values)) == panels and values.min() >= 0
        return tuple(values.tolist()) if good else None

    def complete(self, remarks: list[str]) -> Int64 | None:
        """Return the numbers of the patterns that have every module that any has; None for all, or if none has.

        What is left out is said.
        """
        there = None if self.trains is None else _recorded(self._found)
        if there is None or there.all():
            return None
        used: Bool = np.any(there, axis=0)
        whole: Bool = np.all(there[:, used], axis=1)
        if not used.all():
            remarks.append(f"panels {_listed(~used)} are in no file: never used")
        if whole.all() or not whole.any():
            return None
        lacking = int(np.argmax(~whole))
        remarks.append(
            f"{int((~whole).sum())} of {len(whole)} patterns are left out, which lack panels that others have (the "
            f"first: number {lacking}, without {_listed(used & ~there[lacking])})"
        )
        return np.flatnonzero(whole)

    def _of_patterns(self, name: str) -> Int64 | None:
        """Return a whole number of every pattern; None if there is none."""
        found: Any = self._file.get(name)
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iu" or found.shape != self._found.shape[:1]:
            return None
        return np.asarray(found[()]).astype(np.int64)


def _recorded(found: h5py.Dataset) -> Bool | None:
    """Return which modules of which patterns are in a file (N_IMG, panels); None if the dataset is not so made."""
    if not found.is_virtual or found.ndim != 4:
        return None
    result = np.zeros(found.shape[:2], np.bool_)
    for source in found.virtual_sources():
        first, last = source.vspace.get_select_bounds()
        size = [high - low + 1 for low, high in zip(first, last, strict=True)]
        if source.vspace.get_select_npoints() != math.prod(size) or tuple(size[2:]) != found.shape[2:]:
            return None
        result[first[0] : last[0] + 1, first[1] : last[1] + 1] = True
    return result


def _listed(which: Bool) -> str:
    """Return the numbers of some panels in words."""
    return ", ".join(str(number) for number in np.flatnonzero(which))
