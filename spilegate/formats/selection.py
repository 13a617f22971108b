"""Which patterns of a file are wanted: numbers and ranges, a file of them, or a condition on what the file says."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.records import Bool, Int64
from spilegate.settings import pattern_list, pattern_slices

COMPARISONS: dict[str, Callable[[Any, float], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
EXPECTED = "numbers and ranges (3,10:20), a text file of them, or conditions such as 'labels == 1 and scale > 0.5'"
CONDITION = re.compile(r"\s*([\w./:-]+?)\s*(==|!=|<=|>=|<|>)\s*([-+0-9.eE]+)\s*")


def chosen(text: str | None, path: Path, count: int) -> Int64:
    """Return the numbers of the patterns that are wanted, ascending, (n,); all if nothing is said.

    text : as EXPECTED says; the names in conditions are those of datasets with a number for each pattern
    path : the file of patterns; count : how many it has
    Raises InputError for anything else, or if no pattern is left.
    """
    if text is None:
        return np.arange(count)
    wanted = by_conditions(text, path, count) if re.search(r"[<>=]", text) else _by_numbers(text, count)
    if not wanted.any():
        raise InputError(f"--select {text}: none of {count} patterns; expected some; select others")
    return np.flatnonzero(wanted)


def _by_numbers(text: str, count: int) -> Bool:
    """Return which patterns a list names, or a text file of one."""
    listed = text
    if is_file(text):
        try:
            listed = ",".join(Path(text).read_text(encoding="utf-8").replace(",", " ").split())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--select {text}: cannot be read ({error}); expected {EXPECTED}") from error
    try:
        parts = pattern_slices(pattern_list(listed) or "")
    except ValueError as error:
        raise InputError(f"--select {text}: found {listed[:60]!r}; expected {EXPECTED}") from error
    wanted = np.zeros(count, np.bool_)
    for part in parts:
        last = part.start if part.stop is None else part.stop - 1
        if last >= count or part.start >= count:
            raise InputError(f"--select {text}: pattern {max(last, part.start)}; expected numbers up to {count - 1}")
        wanted[part] = True
    return wanted


def is_file(text: str) -> bool:
    """Tell whether a text is a file's name; a list of many numbers is longer than a name may be."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def by_conditions(text: str, path: Path, count: int | None = None) -> Bool:
    """Return which patterns meet all of some conditions, as `chosen` takes them, (n,).

    count : how many there are; as many as the first dataset has numbers if that is not known
    Raises InputError for conditions that cannot be told.
    """
    wanted: Bool | None = None
    if not h5py.is_hdf5(path):
        raise InputError(f"--select {text}: {path} is no HDF5 file, which would say more than photons; give a list")
    with files.open_hdf5(path, "HDF5") as file:
        for part in re.split(r"\band\b", text):
            found = CONDITION.fullmatch(part)
            try:
                number = float(found[3]) if found else np.nan
            except ValueError:
                number = np.nan
            if found is None or not np.isfinite(number):
                raise InputError(f"--select {text}: found {part.strip()!r}; expected {EXPECTED}")
            each = "each pattern" if count is None else f"each of {count} patterns"
            dataset = files.dataset(file, found[1], path, f"a number for {each}", kinds="iufb")
            count = len(dataset) if count is None and dataset.ndim else count
            if dataset.shape not in ((count,), (count, 1)):
                raise InputError(
                    f"{path}: dataset {found[1]!r}: shape {dataset.shape}; expected ({count},), one for each pattern"
                )
            meets = np.asarray(COMPARISONS[found[2]](dataset[()].reshape(count), number))
            wanted = meets if wanted is None else wanted & meets
    return np.zeros(0, np.bool_) if wanted is None else wanted
