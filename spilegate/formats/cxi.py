"""CXI, as the programs that write it really do (Maia, Nat. Methods 9:854, 2012; CXI file format 1.6).

Patterns are where the standard has them, or anywhere in the first entry; what is in SI by the standard is in what the
attribute `units` says. Read are: the standard's examples, Cheetah, hummingbird and h5writer, Condor, cdtools, NXptycho,
EXtra-data's virtual files, and hits of European XFEL's SPB with positions of their own (`xyz_map`, `good_pixels`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats import agipd, cxi_detector, cxi_masks, cxi_modules, files
from spilegate.formats.facts import DISTANCES, PIXELS, Facts, Metadata, Some
from spilegate.formats.masks import Means
from spilegate.formats.origin import of_entry
from spilegate.formats.patterns import Stack, Values
from spilegate.formats.pixels import read_response
from spilegate.formats.reading import RESPONSE

EXPECTED = "patterns in CXI"
# Where patterns are, by preference; {} is the entry.
PLACES = (
    "{}/data_1/data", "{}/instrument_1/detector_1/data", "{}/detector_1/data", "{}/image_1/data", "{}/data_1",
)  # fmt: skip
EUROPEAN_XFEL = "European XFEL"
# How many of the patterns were ever written.
WRITTEN = "numEvents"


def is_cxi(file: h5py.File) -> bool:
    """Tell whether an HDF5 file is of the family: it has an entry. What it says of its version tells nothing."""
    return _entry(file) is not None


def read(file: h5py.File, path: Path, means: Means, name: str | None) -> Facts:
    """Return what a CXI file says. means : what its mask does; name : of the dataset of patterns, if given.

    Raises InputError if there are no patterns in it, or what it says makes no sense.
    """
    entry = _entry(file) or "entry_1"
    name = name or _patterns(file, path, entry)
    found = files.dataset(file, name, path, "patterns, shape (patterns, y, x) or (patterns, panels, y, x)")
    writer, bits = _writer(file, entry)
    metadata = Metadata(file, path)
    modules = cxi_modules.Modules(file, entry, found)
    values = _whole_stack(found, path, name, metadata)
    shape = (*[1] * (4 - len(values.shape)), *values.shape[1:])
    panels = (shape[-3], shape[-2], shape[-1])
    detector = _detector(file, entry, name)
    meaning = cxi_masks.Meaning(means, bits)
    levels, values = cxi_masks.masked(metadata, (name.rpartition("/")[0], detector), values, panels, meaning)
    origin = of_entry(file, entry, values.shape[0])
    if (complete := modules.complete(metadata.remarks)) is not None:
        values, origin = Some(values, complete), origin.some(complete, path.name)
    distance = metadata.number(
        [f"{detector}/distance", f"{entry}/instrument_1/detector_1/distance", "detector/distance"], DISTANCES
    )
    rows, columns = (
        metadata.number([f"{detector}/{axis}_pixel_size", f"{detector}/pixel_size", "detector/pixel_size"], PIXELS)
        for axis in ("y", "x")
    )
    return Facts(
        Stack(values, path, f"dataset {name!r}", EXPECTED),
        f"CXI{f' of {writer}' if writer else ''}",
        wavelength=metadata.wavelength(
            [f"{entry}/instrument_1/source_1", f"{entry}/instrument_1/beam_1", f"{entry}/source_1", "source"],
            [("LCLS/photon_wavelength_A", 1e-10), (f"{detector}/wavelength", 1.0)],
        ),
        distance_m=distance,
        pixel_m=None if rows is None or columns is None else (rows, columns),
        centre=cxi_detector.centre(entry, detector, (rows, columns), metadata),
        positions=cxi_detector.positions(detector, panels, distance, metadata),
        levels=levels,
        background=cxi_detector.background(detector, panels, metadata),
        origin=origin,
        response=read_response(file, path, f"{detector}/{RESPONSE}", panels),
        agipd=writer.startswith(EUROPEAN_XFEL) and panels[1:] == agipd.MODULE,
        modules=modules.numbers(f"{name.rpartition('/')[0]}/{cxi_modules.NUMBERS}", panels[0]),
        sense=meaning.words,
        remarks=tuple(metadata.remarks),
    )


def _entry(file: h5py.File) -> str | None:
    """Return the name of the first entry, None if there is none."""
    names = [name for name in files.names_in(file) if name.startswith("entry_")]
    names = [name for name in names if isinstance(file.get(name), h5py.Group)]
    numbered = sorted((int(name[6:]), name) for name in names if name[6:].isdecimal())
    return numbered[0][1] if numbered else None


def _patterns(file: h5py.File, path: Path, entry: str) -> str:
    """Return the name of the dataset of patterns; InputError if there is none, or which it is cannot be told."""
    for place in PLACES:
        name = place.format(entry)
        if isinstance(file.get(name), h5py.Dataset):
            return name
        if file.get(name) is None and files.holds(file, name):
            # A link that leads nowhere; what is wrong with it is said by whoever opens the dataset.
            return name
    found = [
        f"{entry}/{name}"
        for name, item in files.datasets_in(file[entry])
        if item.ndim in (3, 4) and name.rpartition("/")[2] == "data"
    ]
    if len(found) != 1:
        what = f"several datasets that may be them: {files.shown(found)}" if found else "no dataset of patterns"
        raise InputError(
            f"{path}: CXI: {what}; expected patterns at {PLACES[0].format(entry)}; --dataset NAME names them"
        )
    return found[0]


def _writer(file: h5py.File, entry: str) -> tuple[str, int]:
    """Return who wrote a file, if that can be told, and which bits of its masks are bad."""
    if "LCLS" in file or "cheetah" in file:
        return "Cheetah", cxi_masks.CHEETAH_BAD
    if f"{entry}/trainId" in file:
        hits = f"{entry}/instrument_1/detector_1/xyz_map" in file
        return (f"{EUROPEAN_XFEL}'s hits" if hits else EUROPEAN_XFEL), cxi_masks.ANY
    if "particles" in file or ("source/wavelength" in file and "detector/cx" in file):
        return "Condor", cxi_masks.BAD
    definition: Any = file.get(f"{entry}/definition")
    if isinstance(definition, h5py.Dataset) and definition.shape == () and h5py.check_string_dtype(definition.dtype):
        return definition.asstr()[()], cxi_masks.BAD
    return "", cxi_masks.BAD


def _whole_stack(found: h5py.Dataset, path: Path, name: str, metadata: Metadata) -> Values:
    """Return the patterns of a dataset, those that were written; InputError if its shape is none of patterns."""
    where = f"{path}: dataset {name!r}"
    if found.ndim == 5:
        raise InputError(
            f"{where}: shape {found.shape}, raw values with their gain; expected corrected ones (patterns, panels, y, "
            "x); make the file of the corrected (PROC) run"
        )
    if found.ndim not in (2, 3, 4) or 0 in found.shape:
        raise InputError(f"{where}: shape {found.shape}; expected (patterns, y, x) or (patterns, panels, y, x)")
    if found.ndim == 2:
        raise InputError(f"{where}: shape {found.shape}, one pattern; expected a stack of them; put them into one file")
    values: Values = found
    number = np.asarray(found.attrs.get(WRITTEN, len(found))).ravel()
    count = int(number[0]) if number.size and number.dtype.kind in "iu" else len(found)
    if count >= len(found):
        return values
    if count < 1:
        raise InputError(
            f"{where}: its attribute {WRITTEN} is {count}, as a program leaves it that did not end; expected how many "
            "patterns there are; let it write the file again"
        )
    metadata.remarks.append(
        f"{count} of {len(found)} patterns were written, as {WRITTEN} says: the others are left out"
    )
    return Some(found, np.arange(count))


def _detector(file: h5py.File, entry: str, name: str) -> str:
    """Return the group that describes the detector of patterns: theirs, if it has anything to say, or the first."""
    own = name.rpartition("/")[0]
    said = ("distance", "x_pixel_size", "basis_vectors", "corner_position", "corner_positions", "xyz_map")
    if any(f"{own}/{each}" in file for each in said):
        return own
    others = (f"{entry}/instrument_1/detector_1", f"{entry}/detector_1")
    return next((group for group in others if isinstance(file.get(group), h5py.Group)), own)
