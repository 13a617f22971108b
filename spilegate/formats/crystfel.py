"""CrystFEL's geometry files (.geom): where the pixels of a detector lie, and how its data are laid out.

The laboratory is CrystFEL's and CXI's: z along the beam, y up, x to the left looking downstream.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.crystfel_grammar import Line, Location, lines, unix, visible
from spilegate.formats.crystfel_keys import BOUNDS, GROUPS, IGNORED, TOP, panel_of, region_of, take
from spilegate.formats.crystfel_layout import Index, indices, misfit
from spilegate.formats.crystfel_panels import Mask, Panel, Region
from spilegate.formats.facts import DISTANCES, EV_ANGSTROM
from spilegate.records import Bool, Float64

EXPECTED = "a geometry of CrystFEL"
# A line of a panel, which only geometries have.
PANEL_LINE = re.compile(r"^[ \t]*(?!bad)[^\s;=/][^;=/\n]*/(?:fs|corner_x)[ \t]*=", re.MULTILINE)
# What is read of a file to tell what it is, and of a geometry.
LOOK_BYTES, MOST_BYTES = 1 << 20, 1 << 26
# Rows of hexagonal pixels are so many pixels apart.
HEXAGONAL = np.sqrt(0.75)


@dataclass(frozen=True)
class Geometry:
    """What a geometry file says of a detector; InputError if a panel is no distance from the sample that they have.

    clen_m : distance [m], None if it is not given as a number; then z of all positions is less by it
    wavelength_angstrom : None if it is not given as a number
    clen_path, wavelength_path : where in the file of the patterns they are, in which unit (`metres` and `angstrom` of
    `crystfel_grammar` convert it); None if they are not there
    shift_m : of the whole detector along x and y; bad_regions : rectangles of bad pixels
    remarks : what of the file is not heeded, a line each
    """

    path: Path
    panels: tuple[Panel, ...]
    clen_m: float | None = None
    clen_path: Location | None = None
    wavelength_angstrom: float | None = None
    wavelength_path: Location | None = None
    shift_m: tuple[float, float] = (0.0, 0.0)
    bad_regions: tuple[Region, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clen_m is None:
            return
        low, high = DISTANCES
        for panel in self.panels:
            if not low <= self.clen_m + panel.coffset <= high:
                raise InputError(
                    f"{self.path}: clen = {self.clen_m:g} m and coffset = {panel.coffset:g} m of panel "
                    f"{visible(panel.name)!r}; expected {low:g} to {high:g} m from the sample; write clen in m, or as "
                    "NUMBER mm; or remove the line and give the distance otherwise"
                )

    @property
    def data_path(self) -> str | None:
        """Return the path of the patterns' dataset, None if panels have several."""
        paths = {panel.data for panel in self.panels}
        return paths.pop() if len(paths) == 1 else None

    @property
    def masks(self) -> tuple[Mask, ...]:
        """Return the masks that any panels have."""
        return tuple(dict.fromkeys(mask for panel in self.panels for mask in panel.masks))

    def blocks(self, shape: tuple[int, ...]) -> list[tuple[Panel, Index]]:
        """Return every panel with the index of its pixels (ss, fs) in a pattern.

        shape : of a pattern, without the axis of patterns. Modules may be an axis in the file and one below the other
        in the pattern, or the other way round, if it is clear which is which.
        Raises InputError if the panels do not fit it, or two of them have the same pixels.
        """
        if self.data_path is None:
            raise misfit(
                self.path, f"panels of {len({panel.data for panel in self.panels})} datasets", "those of one dataset"
            )
        blocks = list(zip(self.panels, indices(self.panels, shape, self.path), strict=True))
        owner = np.full(shape, -1, np.int32)
        for number, (panel, index) in enumerate(blocks):
            taken = owner[index].max()
            if taken >= 0:
                names = " and ".join(repr(visible(each.name)) for each in (self.panels[taken], panel))
                raise misfit(self.path, f"panels {names} have the same pixels of the data", "every pixel in one panel")
            owner[index] = number
        return blocks

    def positions(self, shape: tuple[int, ...]) -> Float64:
        """Return the centre of every pixel of a pattern of a shape: (*shape, 3) float64 [m], NaN in no panel.

        z counts from the sample if `clen_m` is known, and is less by it if it is not. Raises InputError as `blocks`.
        """
        blocks = self.blocks(shape)
        found = np.full((*shape, 3), np.nan)
        for panel, index in blocks:
            found[index] = panel.centres() + np.array([*self.shift_m, self.clen_m or 0.0])
        return found

    def bad(self, shape: tuple[int, ...]) -> Bool:
        """Return which pixels of a pattern of a shape are bad by this file: in no panel, at edges, in bad regions.

        Panels with no_index are bad. Masks and thresholds are not looked at. Raises InputError as `blocks`.
        """
        found = np.ones(shape, np.bool_)
        for panel, index in self.blocks(shape):
            marked = panel.edges() | panel.no_index
            for region in self.bad_regions:
                marked |= region.marked(panel, self.shift_m)
            found[index] = marked
        return found

    def limits(self, shape: tuple[int, ...]) -> tuple[Float64, Float64, Float64] | None:
        """Return below, above and equal to which values of a pixel are bad: (*shape,), (*shape,) and (n, *shape).

        None if there are no such limits. Raises InputError as `blocks`.
        """
        low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
        equal = np.full((max(len(panel.flag_equal) for panel in self.panels), *shape), np.nan)
        for panel, index in self.blocks(shape):
            low[index], high[index] = panel.flag_lessthan, min(panel.flag_morethan, panel.max_adu)
            for each, value in zip(equal, panel.flag_equal, strict=False):
                each[index] = value
        limited = bool((low > -np.inf).any() or (high < np.inf).any())
        return (low, high, equal) if limited or len(equal) else None

    def adu_per_photon(self, shape: tuple[int, ...]) -> Float64 | None:
        """Return what a photon is in the file at every pixel of a pattern, (*shape,); NaN where it is not known.

        None if it is known nowhere: of adu_per_eV it takes `wavelength_angstrom`. Raises InputError as `blocks`.
        """
        found = np.full(shape, np.nan)
        for panel, index in self.blocks(shape):
            if panel.adu_per_photon is not None:
                found[index] = panel.adu_per_photon
            elif panel.adu_per_ev is not None and self.wavelength_angstrom is not None:
                found[index] = panel.adu_per_ev * EV_ANGSTROM / self.wavelength_angstrom
        return None if np.isnan(found).all() else found


def is_geometry(path: Path) -> bool:
    """Tell whether a file is a geometry by its content: text in which a panel has a direction or a corner."""
    try:
        with path.open("rb") as file:
            content = file.read(LOOK_BYTES)
    except OSError:
        return False
    return b"\0" not in content and PANEL_LINE.search(unix(content.decode(errors="replace"))) is not None


def read(path: Path) -> Geometry:
    """Read a geometry file; InputError if it is none, or cannot be used: its line, and what was expected."""
    files.check_readable(path, EXPECTED)
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if b"\0" in content or len(content) > MOST_BYTES:
        raise InputError(f"{path}: found a file that is no text; expected {EXPECTED}, lines panel/key = value")
    found = _Reading(path)
    for line in lines(content.decode("utf-8-sig", errors="replace"), path):
        found.take(line)
    return found.geometry()


class _Reading:
    """What the lines of a file have said so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._top: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        # The last line that set what only panels first mentioned after it have.
        self._unused: Line | None = None
        self._panels: dict[str, tuple[Line, dict[str, Any]]] = {}
        self._regions: dict[str, dict[str, Line]] = {}
        self._unknown: Counter[str] = Counter()

    def take(self, line: Line) -> None:
        """Take one line more."""
        if line.owner is None:
            if line.key in TOP:
                key, reader = TOP[line.key]
                self._top[key] = reader(line)
            elif line.key.startswith(GROUPS) or line.key in IGNORED:
                pass
            elif take(self._defaults, line):
                self._unused = line
            else:
                self._unknown[line.key] += 1
        elif line.owner.startswith("bad"):
            if line.key in BOUNDS or line.key == "panel":
                self._regions.setdefault(line.owner, {})[line.key] = line
            else:
                self._unknown[line.key] += 1
        else:
            if line.owner not in self._panels:
                self._panels[line.owner] = (line, dict(self._defaults))
                self._unused = None
            if not take(self._panels[line.owner][1], line):
                self._unknown[line.key] += 1

    def geometry(self) -> Geometry:
        """Return what all lines together say; InputError if they make no sense."""
        if not self._panels:
            raise InputError(f"{self._path}: no panels; expected {EXPECTED}, lines panel/key = value")
        if self._unused:
            raise self._unused.error("it before the first line of the panels it is for, or of a panel: panel/key = ...")
        panels = tuple(panel_of(name, fields, line.place) for name, (line, fields) in self._panels.items())
        regions = tuple(self._region(name, found, panels) for name, found in self._regions.items())
        clen, wavelength = self._top.get("clen"), self._top.get("wavelength")
        return Geometry(
            path=self._path,
            panels=panels,
            clen_m=clen if isinstance(clen, float) else None,
            clen_path=clen if isinstance(clen, Location) else None,
            wavelength_angstrom=wavelength if isinstance(wavelength, float) else None,
            wavelength_path=wavelength if isinstance(wavelength, Location) else None,
            shift_m=(self._top.get("shift_x", 0.0), self._top.get("shift_y", 0.0)),
            bad_regions=regions,
            remarks=tuple(self._remarks(panels, regions)),
        )

    def _region(self, name: str, found: dict[str, Line], panels: tuple[Panel, ...]) -> Region:
        """Return a bad region, which has to be of a panel that there is."""
        region = region_of(name, found)
        of_it = [panel for panel in panels if region.panel in (None, panel.name)]
        if not of_it:
            raise found["panel"].error("the name of a panel of this file")
        if region.in_data and not any(region.overlaps(panel) for panel in of_it):
            line = next(iter(found.values()))
            raise line.error("min_fs, max_fs, min_ss, max_ss of pixels of its panel, counted as in the data")
        return region

    def _remarks(self, panels: tuple[Panel, ...], regions: tuple[Region, ...]) -> list[str]:
        """Return what of the file is not heeded."""
        remarks = []
        for key, times in self._unknown.items():
            often = f" ({times} times)" if times > 1 else ""
            remarks.append(f"{visible(key)!r}{often}: not known, not heeded")
        if any(abs(np.linalg.norm(panel.ss) / np.linalg.norm(panel.fs) / HEXAGONAL - 1) < 1e-3 for panel in panels):
            remarks.append(
                "rows 0.866 pixels apart: of hexagons? a geometry cannot say that every other row is displaced"
            )
        modules = len({panel.dims for panel in panels}) > 1
        for region in regions:
            if np.isnan([*region.low, *region.high]).any():
                remarks.append(f"{visible(region.name)!r}: lacks a bound: marks no pixels")
            elif region.in_data and region.panel is None and modules:
                remarks.append(f"{visible(region.name)!r}: names no panel: marks pixels of every module")
        return remarks
