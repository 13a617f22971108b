"""Which patterns `--select` names: a list, a file of one, a selection that `spilegate select` made, or conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import record
from spilegate.formats.selection import by_conditions
from spilegate.records import Bool, Dataset
from spilegate.selection.record import Selection

HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Choice:
    """Patterns that are wanted.

    listed : their numbers, or a file of them, as `prepare.use` and `formats.selection.chosen` take them; None for all
    where : what messages begin with; count, digest : of the patterns that it was made of, None if that is not known
    """

    listed: str | None = None
    where: str = ""
    count: int | None = None
    digest: str | None = None

    def check_count(self, count: int) -> None:
        """Raise InputError if this is of another number of patterns."""
        if self.count not in (None, count):
            raise InputError(
                f"{self.where}: of {self.count} patterns; expected a selection of the {count} given; give theirs, or "
                "select again"
            )

    def check(self, dataset: Dataset) -> None:
        """Raise InputError if this is of other patterns than those of a data set."""
        self.check_count(len(dataset.images))
        if self.digest not in (None, dataset.digest):
            raise InputError(
                f"{self.where}: of other patterns than those of {dataset.source}, or of these read with other options "
                "(--mask, --geometry ...); expected the same; select again, or give kept.txt, which is taken as it is"
            )


ALL = Choice()


def picked(text: str | None, data: Path) -> Choice:
    """Return what `--select` names.

    data : the file of patterns, which conditions are about
    Raises InputError for a file that is no selection, conditions that cannot be told, or if nothing is left.
    """
    if text is None:
        return ALL
    where = f"--select {text}"
    if re.search(r"[<>=]", text):
        wanted = by_conditions(text, data)
        return Choice(listed(wanted, where), where, len(wanted))
    if not _is_hdf5(Path(text)):
        return Choice(text, where)
    selection, attributes = record.load_record(Path(text), Selection)
    digest = attributes.get("digest")
    return Choice(
        listed(selection.kept, where), where, len(selection.single), digest if isinstance(digest, str) else None
    )


def _is_hdf5(path: Path) -> bool:
    """Tell whether a file begins as HDF5 does."""
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5)) == HDF5
    except (OSError, ValueError):
        # It is no file's name, or what is wrong with it is said where the list is read.
        return False


def listed(wanted: Bool, where: str) -> str:
    """Return the numbers of patterns (N_IMG,) in as few ranges as there are."""
    if not wanted.any():
        raise InputError(f"{where}: none of {len(wanted)} patterns; expected some; select others")
    steps = np.diff(np.concatenate([[0], wanted.astype(np.int8), [0]]))
    ends = zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True)
    return ",".join(str(first) if last == first + 1 else f"{first}:{last}" for first, last in ends)
