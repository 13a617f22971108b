"""The keys of CrystFEL's geometry files, and what is made of their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats.crystfel_grammar import ENERGIES, LENGTHS, WAVELENGTHS, Line, Location, visible
from spilegate.formats.crystfel_panels import Mask, Panel, Region

# Pixels are 1 micrometre to 10 mm wide.
RES = (100.0, 1e6)
# Steps from pixel to pixel, in pixels, and the sine of the angle between them.
STEP, SINE = (0.1, 10.0), 0.1
# Wavelengths [angstrom] of photons of 100 keV to 10 eV, but for rounding; the farthest a detector is moved [m].
PLAUSIBLE, MOST_SHIFT = (0.123, 1240.0), 1.0
MOST_AXES, MOST_MASKS = 16, 8
AXIS = re.compile(r"dim([0-9]{1,4})")
MASK = re.compile(r"mask([0-9]{1,4})_(data|file|goodbits|badbits)")
OLD_MASK = {"mask": "mask0_data", "mask_file": "mask0_file", "mask_good": "mask0_goodbits", "mask_bad": "mask0_badbits"}
# What means nothing to CrystFEL any more, or nothing here: panels that move together, lists of peaks.
IGNORED = {"badrow_direction", "bandwidth", "peak_list", "peak_list_type"}
GROUPS = ("rigid_group", "group_")


def _res(line: Line) -> float:
    return line.real("pixels per metre, 1 over the size of a pixel: 100 to 1e6", *RES)


def _positive(line: Line) -> float:
    return line.real("a number above 0; write it, or remove the line", 1e-12, 1e12)


def _threshold(line: Line) -> float:
    return line.real(least=-1e300, most=1e300)


# What is made of a value by key, and which keys every panel needs.
READERS: dict[str, Callable[[Line], Any]] = {
    **dict.fromkeys(("min_fs", "max_fs", "min_ss", "max_ss"), Line.index),
    **dict.fromkeys(("fs", "ss"), Line.direction),
    **dict.fromkeys(("corner_x", "corner_y"), Line.real),
    "res": _res,
    "coffset": Line.real,
    "data": Line.data_path,
    "no_index": Line.truth,
    "mask_edge_pixels": Line.index,
    **dict.fromkeys(("adu_per_photon", "adu_per_eV"), _positive),
    **dict.fromkeys(("max_adu", "flag_lessthan", "flag_morethan", "flag_equal"), _threshold),
}
REQUIRED = ("min_fs", "max_fs", "min_ss", "max_ss", "corner_x", "corner_y", "fs", "ss", "res")
BOUNDS = {"min_x": 0, "max_x": 0, "min_y": 1, "max_y": 1, "min_fs": 0, "max_fs": 0, "min_ss": 1, "max_ss": 1}


def take(fields: dict[str, Any], line: Line) -> bool:
    """Put the value of a line into the fields of a panel; False if its key is none of a panel's."""
    key = OLD_MASK.get(line.key, line.key)
    axis, mask = AXIS.fullmatch(key), MASK.fullmatch(key)
    if key in READERS:
        _put(fields, key, READERS[key](line))
    elif axis:
        if int(axis[1]) >= MOST_AXES:
            raise line.error(f"axes dim0 to dim{MOST_AXES - 1}")
        fields[f"dim{int(axis[1])}"] = line.value if line.value in ("ss", "fs", "%") else _index(line)
    elif mask:
        if int(mask[1]) >= MOST_MASKS:
            raise line.error(f"masks mask0 to mask{MOST_MASKS - 1}")
        fields[f"mask{int(mask[1])}_{mask[2]}"] = _of_mask(line, mask[2])
    elif key == "clen":
        raise line.error("one clen for all panels: write clen = ... on a line of its own, and differences as coffset")
    else:
        return key in IGNORED
    return True


def _put(fields: dict[str, Any], key: str, value: Any) -> None:
    """Put a value where the last one counts, but of thresholds all do."""
    if key == "flag_equal":
        value = (*fields.get(key, ()), value)
    elif key in ("flag_lessthan", "flag_morethan"):
        value = (max if key == "flag_lessthan" else min)(fields.get(key, value), value)
    elif key in ("adu_per_photon", "adu_per_eV"):
        fields.pop("adu_per_photon" if key == "adu_per_eV" else "adu_per_eV", None)
    fields[key] = value


def _index(line: Line) -> int:
    return line.whole("ss, fs, % or a whole number, 0 or more", 0)


def _of_mask(line: Line, part: str) -> str | int:
    if part in ("goodbits", "badbits"):
        return line.bits()
    if part == "data" and not line.value.startswith("/"):
        raise line.error("the path of a dataset, which begins with /")
    return line.data_path() if part == "data" else line.text()


def panel_of(name: str, fields: dict[str, Any], place: str) -> Panel:
    """Make a panel of its fields; InputError if any are missing or make no sense. place : where it begins."""
    where = f"{place}: panel {visible(name)!r}"
    missing = [key for key in REQUIRED if key not in fields]
    if missing:
        raise InputError(f"{where}: no {', '.join(missing)}; expected {visible(name)}/{missing[0]} = ... in the file")
    for low, high in (("min_fs", "max_fs"), ("min_ss", "max_ss")):
        if fields[low] > fields[high]:
            raise InputError(
                f"{where}: {low} = {fields[low]}, {high} = {fields[high]}; expected {high} not below {low}"
            )
    fs, ss = np.array(fields["fs"]), np.array(fields["ss"])
    steps = [float(np.linalg.norm(step)) for step in (fs, ss)]
    if not all(STEP[0] <= step <= STEP[1] for step in steps):
        raise InputError(f"{where}: fs and ss of length {steps[0]:g} and {steps[1]:g}; expected about 1 pixel")
    if np.linalg.norm(np.cross(fs, ss)) < SINE * steps[0] * steps[1]:
        raise InputError(f"{where}: fs and ss are along the same line; expected ss across fs")
    masks = _masks(fields, where)
    if any(mask.path.count("%") > fields.get("data", "").count("%") for mask in masks):
        raise InputError(f"{where}: more % in the path of a mask than in data; expected as many at most")
    known = {key: value for key, value in fields.items() if key in READERS and key != "adu_per_eV"}
    return Panel(name=name, dims=_dims(fields, where), masks=masks, adu_per_ev=fields.get("adu_per_eV"), **known)


def _dims(fields: dict[str, Any], where: str) -> tuple[str | int, ...]:
    """Return what the axes of the data are."""
    found = {"dim0": "ss", "dim1": "fs"} | {key: value for key, value in fields.items() if AXIS.fullmatch(key)}
    dims = tuple(found.get(f"dim{index}") for index in range(1 + max(int(key[3:]) for key in found)))
    text = ", ".join(f"dim{index} = {value}" for index, value in enumerate(dims) if value is not None)
    if None in dims or dims.count("ss") != 1 or dims.count("fs") != 1 or dims.index("ss") > dims.index("fs"):
        raise InputError(f"{where}: {text}; expected all axes from dim0 on, one of them ss, and one after it fs")
    return tuple(value for value in dims if value is not None)


def _masks(fields: dict[str, Any], where: str) -> tuple[Mask, ...]:
    """Return the masks of a panel."""
    masks = []
    for index in range(MOST_MASKS):
        path, file, good, bad = (fields.get(f"mask{index}_{part}") for part in ("data", "file", "goodbits", "badbits"))
        if path is not None:
            masks.append(Mask(path, file, good or 0, bad or 0))
        elif file or good or bad:
            raise InputError(f"{where}: mask{index} without a path; expected mask{index}_data = /path of its dataset")
    return tuple(masks)


def region_of(name: str, found: dict[str, Line]) -> Region:
    """Make a bad region of its lines by key; InputError if they make no sense. Bounds without a line are NaN or 0."""
    line = next(iter(found.values()))
    bounds = {key: each for key, each in found.items() if key in BOUNDS}
    in_data = [key[-1] == "s" for key in bounds]
    if not bounds or len(set(in_data)) > 1:
        raise line.error("min_x, max_x, min_y, max_y of a bad region, or min_fs, max_fs, min_ss, max_ss, not of both")
    axes, default = (("fs", "ss"), 0.0) if in_data[0] else (("x", "y"), np.nan)
    low, high = (
        tuple(_bound(bounds.get(f"{end}_{axis}"), whole=in_data[0], default=default) for axis in axes)
        for end in ("min", "max")
    )
    if low[0] > high[0] or low[1] > high[1]:
        raise line.error("no minimum of a bad region above its maximum; exchange the two")
    # In the laboratory a region is one of all panels, whichever it names.
    panel = found["panel"].text() if in_data[0] and "panel" in found else None
    return Region(name, panel, in_data[0], (low[0], low[1]), (high[0], high[1]))


def _bound(line: Line | None, *, whole: bool, default: float) -> float:
    if line is None:
        return default
    return float(line.whole()) if whole else line.real()


def _clen(line: Line) -> float | Location:
    return line.quantity(LENGTHS, "m", "mm")


def _shift(line: Line) -> float:
    found = line.quantity(LENGTHS, "m", "m")
    if isinstance(found, Location) or not abs(found) <= MOST_SHIFT:
        raise line.error("a number in m, or in mm, such as '1.5 mm', which is the same for all patterns")
    return found


def _photon_energy(line: Line) -> float | Location:
    return _wavelength(line, line.quantity(ENERGIES, "eV", "eV"), "a photon's energy of 10 eV to 100 keV, in eV or keV")


def _length_of_wave(line: Line) -> float | Location:
    return _wavelength(line, line.quantity(WAVELENGTHS, None, None), "a wavelength of 0.124 to 1240 A, in A or m")


def _wavelength(line: Line, found: float | Location, expected: str) -> float | Location:
    if isinstance(found, float) and not PLAUSIBLE[0] <= found <= PLAUSIBLE[1]:
        raise line.error(f"{expected}; or remove the line and give it otherwise")
    return found


def _electrons(line: Line) -> float:
    raise line.error("X-rays: photon_energy or wavelength; patterns of electrons cannot be reconstructed")


# What is said once for the whole detector: the name it gets, and what is made of the value.
TOP: dict[str, tuple[str, Callable[[Line], Any]]] = {
    "clen": ("clen", _clen),
    "photon_energy": ("wavelength", _photon_energy),
    "wavelength": ("wavelength", _length_of_wave),
    "electron_voltage": ("wavelength", _electrons),
    "detector_shift_x": ("shift_x", _shift),
    "detector_shift_y": ("shift_y", _shift),
}
