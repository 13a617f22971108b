"""HDF5 files of no known layout: a stack of patterns, which may have a mask beside it, and nothing else is known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py

from spilegate.errors import InputError
from spilegate.formats import files, masks
from spilegate.formats.facts import Facts, Metadata, bad_to_levels
from spilegate.formats.patterns import EXPECTED, Stack
from spilegate.formats.pixels import of_panels

SHAPES = "patterns, shape (patterns, y, x) or (patterns, panels, y, x)"
FEWEST_PATTERNS = 2
# PR772 at LCLS (Reddy et al., Sci. Data 4:170079, 2017), and what else that converter wrote.
CXIDB_58_GROUP = "photonConverter"
CXIDB_58 = re.compile(rf"{CXIDB_58_GROUP}/[^/]+/photonCount")


def read(file: h5py.File, path: Path, means: masks.Means, name: str | None) -> Facts:
    """Return the stack of patterns of an HDF5 file, and the mask beside it.

    name : of the dataset; if not given it is the only one there that may be patterns
    Raises InputError if there is none, or several.
    """
    name = name or _photon_counts(file) or _only(file, path)
    found = files.dataset(file, name, path, SHAPES)
    if found.ndim not in (3, 4) or 0 in found.shape:
        raise InputError(f"{path}: dataset {name!r}: shape {found.shape}; expected {SHAPES}; --dataset NAME names them")
    stack = Stack(found, path, f"dataset {name!r}", EXPECTED)
    levels = None
    beside = f"{name.rpartition('/')[0]}/{masks.MASK}".lstrip("/")
    if isinstance(file.get(beside), h5py.Dataset):
        mask = files.dataset(file, beside, path, "a mask", kinds="iufb")
        values, where = of_panels(mask, stack.shape[1:]), f"{path}: dataset {beside!r}"
        if values is None:
            raise InputError(f"{where}: shape {mask.shape}; expected {stack.shape[1:]}, as the patterns have")
        levels = bad_to_levels(values != 0) if means == "auto" else masks.levels_of(values, means, where)
    metadata = Metadata(file, path)
    kind = "CXIDB 58's HDF5" if CXIDB_58.fullmatch(name.strip("/")) else "HDF5"
    return Facts(
        stack,
        f"{kind}, patterns in {name!r}",
        levels=levels,
        sense=masks.sense(means, masks.SENSE["bad"]),
        remarks=tuple(metadata.remarks),
    )


def _photon_counts(file: h5py.File) -> str | None:
    """Return the name of the photon counts that a converter wrote, as CXIDB 58 has them; None if there are none."""
    group: Any = file.get(CXIDB_58_GROUP)
    names = (
        [f"{CXIDB_58_GROUP}/{each}/photonCount" for each in files.names_in(group)]
        if isinstance(group, h5py.Group)
        else []
    )
    found = [name for name in names if isinstance(file.get(name), h5py.Dataset)]
    return found[0] if len(found) == 1 else None


def _only(file: h5py.File, path: Path) -> str:
    """Return the name of the only dataset that may be patterns; InputError if there is none, or several."""
    found: list[str] = []
    others: list[str] = []
    for name, item in files.datasets_in(file):
        if item.shape is None or item.dtype.kind not in "iuf":
            continue
        large = item.ndim in (3, 4) and item.shape[0] >= FEWEST_PATTERNS and min(item.shape[-2:]) >= FEWEST_PATTERNS
        if large:
            found.append(name)
        else:
            others.append(f"{name} {item.shape}")
    if len(found) == 1:
        return found[0]
    if not found:
        names = files.shown(others or files.names_in(file))
        raise InputError(
            f"{path}: no dataset of patterns; expected {EXPECTED}: 'intensities', or any stack of them; the file holds "
            f"{names}"
        )
    raise InputError(f"{path}: several datasets that may be patterns: {files.shown(found)}; --dataset NAME names them")
