"""The files that pictures are drawn from: the checkpoint, the progress records and the curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spilegate.errors import InputError
from spilegate.records import Float64

CHECKPOINT = "checkpoint.h5"
FIGURES = "figures"
# Ending of a picture that is being written.
PART = ".part.png"
SUMMARY = "summary.json"
CURVE_FILES = {
    "reference": "fsc_reference.csv",
    "half_set": "fsc_half_set.csv",
    "half_set_plain": "fsc_half_set_plain.csv",
    "prtf": "prtf.csv",
}


def curve_path(folder: Path, name: str, state: int = 0) -> Path:
    """Return where a curve of a state lies, one of CURVE_FILES; numbered like the state's maps."""
    path = folder / CURVE_FILES[name]
    return path.with_stem(f"{path.stem}_{state}") if state else path


def write_curve(folder: Path, name: str, q: Float64, correlation: Float64, state: int = 0) -> None:
    """Write a curve over shells, one of CURVE_FILES, as two columns of text."""
    np.savetxt(
        curve_path(folder, name, state),
        np.column_stack([q, correlation]),
        fmt="%.6g",
        delimiter=",",
        header="q_inverse_angstrom,correlation",
        comments="",
    )


def read_curves(folder: Path, state: int = 0) -> dict[str, tuple[Float64, Float64]]:
    """Return the curves of a state that are there: name to (q [1/angstrom], correlation)."""
    curves: dict[str, tuple[Float64, Float64]] = {}
    for name in CURVE_FILES:
        path = curve_path(folder, name, state)
        if path.is_file():
            try:
                table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
            except ValueError as error:
                raise InputError(f"{path}: not a table of q and correlation ({error}); evaluate again") from error
            curves[name] = (table[:, 0], table[:, 1])
    return curves
