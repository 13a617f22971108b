"""The files of a selection: the record, a table with a row for each pattern, lists of those kept and left out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.formats import files, record
from spilegate.records import Bool, Float64, Origin
from spilegate.selection.record import Selection

RECORD, TABLE, KEPT, LEFT_OUT = "selection.h5", "selection.csv", "kept.txt", "left_out.txt"


def write(folder: Path, selection: Selection, attributes: Mapping[str, str | int | float], origin: Origin) -> None:
    """Write the record, the table and the lists into a folder, replacing older ones; the record last.

    attributes : of the run, see `formats.record.save_record`; origin : what every pattern came from
    Raises InputError if a file cannot be written.
    """
    folder = Path(folder)
    files.replace(folder / TABLE, table(selection, origin).encode("utf-8", "backslashreplace"))
    for name, which in ((KEPT, selection.kept), (LEFT_OUT, ~selection.kept)):
        files.replace(folder / name, _numbers(which))
    record.save_record(folder / RECORD, selection, attributes)


def _numbers(which: Bool) -> bytes:
    """Return numbers of patterns, one on a line, as `prepare.use` and `--select` read them."""
    return "".join(f"{number}\n" for number in np.flatnonzero(which).tolist()).encode()


def table(selection: Selection, origin: Origin) -> str:
    """Return the table of all patterns, with a row of names; what is not known of a pattern is left empty.

    origin : with `index`, the number of each in its file
    """
    shown, compared = selection.shown, selection.compared
    columns: dict[str, list[Any]] = {"number": list(range(len(selection.single))), **_came_from(origin, len(shown))}
    columns |= {
        "kept": selection.kept.astype(int).tolist(),
        "reason": selection.words(),
        "single": _known(selection.single, np.ones_like(shown)),
        "photons": _known(selection.photons, np.ones_like(shown)),
        "diameter_angstrom": _known(selection.diameter_angstrom, shown),
        "aspect": _known(selection.aspect, shown),
        "misfit": _known(selection.misfit, shown),
        "structure": _known(selection.structure, shown),
        "model_misfit": _known(selection.model_misfit, compared),
        "class": [each if each >= 0 else "" for each in selection.label.tolist()],
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _came_from(origin: Origin, count: int) -> dict[str, list[Any]]:
    """Return the columns that say what patterns came from: the file, the number there, and what else is known."""
    values = {name: [_text(each) for each in value.tolist()] for name, value in origin.values.items()}
    return {"file": values.pop("file", [origin.file] * count), **values}


def _text(value: Any) -> Any:
    """Return a name as text, a number as it is."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _known(values: Float64, known: Bool) -> list[str]:
    """Return numbers in as many digits as mean something, nothing where they are not known."""
    return [f"{value:.6g}" if there else "" for value, there in zip(values.tolist(), known.tolist(), strict=True)]
