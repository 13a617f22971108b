"""The files that pictures are drawn from: the checkpoint, the progress records and the curves."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from io import BytesIO
from pathlib import Path

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.records import Float64

CHECKPOINT = "checkpoint.h5"
FINDINGS = "findings.h5"
FIGURES = "figures"
REPORT = "report.html"
# What the name of a picture that is being written ends in, for `glob`.
PART = files.PARTIALS
SUMMARY = "summary.json"
# No curve has larger values; they would not fit into a picture either.
LARGEST = 1e6
CURVE_FILES = {
    "reference": "fsc_reference.csv",
    "half_set": "fsc_half_set.csv",
    "half_set_plain": "fsc_half_set_plain.csv",
    "prtf": "prtf.csv",
}
# Curves that are written as EMDB's XML as well, and what they are called there.
XML_TITLES = {"half_set": "FSC of two half-sets, less what their supports contribute"}


def curve_path(folder: Path, name: str, state: int = 0) -> Path:
    """Return where a curve of a state lies, one of CURVE_FILES; numbered like the state's maps."""
    path = folder / CURVE_FILES[name]
    return path.with_stem(f"{path.stem}_{state}") if state else path


def write_curve(folder: Path, name: str, q: Float64, correlation: Float64, state: int = 0) -> set[str]:
    """Write a curve over shells, one of CURVE_FILES, as two columns of text, replacing an older one.

    Those of XML_TITLES are written as XML besides, as EMDB takes them. Returns the names of the files.
    Raises InputError if a file cannot be written.
    """
    path, rows = curve_path(folder, name, state), np.column_stack([q, correlation])
    text, header = BytesIO(), "q_inverse_angstrom,correlation"
    np.savetxt(text, rows, fmt="%.6g", delimiter=",", header=header, comments="")
    files.replace(path, text.getvalue())
    if name not in XML_TITLES:
        return {path.name}
    files.replace(path.with_suffix(".xml"), _as_xml(XML_TITLES[name], rows))
    return {path.name, path.with_suffix(".xml").name}


def _as_xml(title: str, rows: Float64) -> bytes:
    """Return a curve, rows of q [1/angstrom] and correlation, as depositions of maps with EMDB have it."""
    root = ET.Element("fsc", title=title, xaxis="Resolution (A-1)", yaxis="Correlation Coefficient")
    for q, correlation in rows:
        point = ET.SubElement(root, "coordinate")
        ET.SubElement(point, "x").text = f"{q:.6g}"
        ET.SubElement(point, "y").text = f"{correlation:.6g}"
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def read_curves(folder: Path, state: int = 0) -> dict[str, tuple[Float64, Float64]]:
    """Return the curves of a state that are there: name to (q [1/angstrom], correlation)."""
    curves: dict[str, tuple[Float64, Float64]] = {}
    for name in CURVE_FILES:
        path = curve_path(folder, name, state)
        if path.is_file():
            curves[name] = _read_curve(path)
    return curves


def _read_curve(path: Path) -> tuple[Float64, Float64]:
    """Return the two columns of a curve: at least one row of finite numbers, q positive and ascending."""
    expected = "expected rows of q and correlation; remove it, or evaluate or resume the run again"
    try:
        # Of a file without rows NumPy warns; it is refused below.
        rows = path.read_text(encoding="ascii").splitlines()[1:]
        table = np.loadtxt(rows, delimiter=",", ndmin=2) if any(row.strip() for row in rows) else np.empty((0, 2))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a table ({' '.join(str(error).split())}); {expected}") from error
    if table.shape[1] != 2 or not len(table) or not np.isfinite(table).all():
        raise InputError(f"{path}: {table.shape[0]} rows of {table.shape[1]}, or no finite numbers; {expected}")
    q, correlation = table.T
    if q[0] <= 0 or (np.diff(q) <= 0).any() or np.abs(table).max() > LARGEST:
        raise InputError(f"{path}: q that does not ascend from above 0, or values above {LARGEST:g}; {expected}")
    return q, correlation
