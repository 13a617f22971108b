"""What every pattern came from (file, number there, train, pulse): kept through conversions, up to the results."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate import __version__
from spilegate.records import Origin

GROUP, FILE = "origin", "file"
# What facilities number patterns by, in an entry of CXI.
IDENTIFIERS = ("trainId", "pulseId", "cellId", "memoryCell", "experiment_identifier", "event_identifiers")
# Longer names than this tell nothing more.
LETTERS = 64


def of_entry(file: h5py.File, entry: str, count: int) -> Origin:
    """Return what an entry of CXI says of its patterns, or what we wrote into it."""
    own = of_group(file.get(f"{entry}/{GROUP}"), count)
    found = {name: _values(file.get(f"{entry}/{name}"), count) for name in IDENTIFIERS}
    return Origin(own.file, {**own.values, **{name: value for name, value in found.items() if value is not None}})


def of_group(group: Any, count: int) -> Origin:
    """Return what we wrote into a group; of anything else what can be read of it."""
    if not isinstance(group, h5py.Group):
        return Origin()
    found = {name: _values(group.get(name), count) for name in group}
    name = group.attrs.get(FILE, "")
    return Origin(
        name if isinstance(name, str) else "", {name: value for name, value in found.items() if value is not None}
    )


def write(group: h5py.Group, origin: Origin) -> None:
    """Write what patterns came from into a group."""
    for name, values in origin.values.items():
        group.create_dataset(name, data=values)
    group.attrs[FILE], group.attrs["program"] = origin.file, f"spilegate {__version__}"


def _values(found: Any, count: int) -> NDArray[Any] | None:
    """Return a whole number or a name for each pattern, None if a dataset is something else, or not to be read."""
    if not isinstance(found, h5py.Dataset) or found.ndim != 1 or len(found) < count:
        return None
    try:
        if h5py.check_string_dtype(found.dtype):
            return np.asarray(found.asstr("utf-8", "replace")[:count], f"U{LETTERS}").astype(f"S{LETTERS}")
        return np.asarray(found[:count]) if found.dtype.kind in "iu" else None
    except (OSError, RuntimeError, UnicodeError, ValueError):
        # Nothing depends on it.
        return None
