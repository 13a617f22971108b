"""Where pixels lie whose file says so in metres, or that a geometry file, or the user, says it for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import crystfel_layout, ewald, mask_files, masks
from spilegate.formats.crystfel import Geometry
from spilegate.formats.facts import EV_ANGSTROM, STEADY, Facts, bad_to_levels
from spilegate.formats.flat import AUTO, Flat
from spilegate.formats.pixels import PLAUSIBLE_Q
from spilegate.formats.reading import Layout, Options
from spilegate.records import NEVER, Bool, Float64, Int64, UInt8

# Pixels further apart than this many make no picture: panels are shown one above the other.
WIDEST = 8192
# So many rows and columns of every panel tell the distance of neighbours.
CORNER = 64


class LackingError(InputError):
    """A file that does not say where its pixels lie.

    facts : what it does say; lacking : what it does not, and the option that says it
    """

    def __init__(self, facts: Facts, path: Path, lacking: tuple[tuple[str, str], ...]) -> None:
        listed = ", ".join(f"{what} ({option})" for what, option in lacking)
        said = f" ({'; '.join(facts.remarks)})" if facts.remarks else ""
        super().__init__(
            f"{path}: {facts.format}: does not say {listed}{said}; expected where its pixels lie; add these"
        )
        self.facts, self.lacking = facts, lacking


def layout(facts: Facts, path: Path, options: Options, geometry: Geometry | None = None) -> Layout:
    """Return where the pixels of a file lie, by what it says itself, by a geometry, and by what the user says.

    What the user says goes first, then the geometry, and that is said.
    Raises InputError for what is missing, naming all of it.
    """
    placing = _Placing(facts, options, geometry, path)
    wavelength, positions = placing.wavelength(), placing.positions()
    if positions is None or placing.lacking:
        raise LackingError(facts, path, tuple(placing.lacking))
    # Not all facts, positions among them, are kept as long as this.
    background = facts.background
    wavelength = ewald.rounded_wavelength(wavelength)
    q, nowhere = ewald.reciprocal(positions, wavelength)
    largest = float(np.sqrt(np.einsum("...i,...i", q, q).max()))
    if not PLAUSIBLE_Q[0] <= largest <= PLAUSIBLE_Q[1]:
        raise InputError(
            f"{path}: {facts.format}: its pixels reach to {1 / max(largest, 1e-30):.3g} angstrom; expected "
            f"{1 / PLAUSIBLE_Q[1]:g} to {1 / PLAUSIBLE_Q[0]:g}; check wavelength, distance and size of a pixel"
        )
    return Layout(
        path,
        facts.stack,
        q,
        wavelength,
        picture(positions, nowhere),
        _levels(facts, options, placing.bad | nowhere),
        lambda used: None if background is None else _background(background, used, path),
        facts.response,
        format=facts.format,
        origin=facts.origin,
        remarks=tuple(placing.remarks),
        sense=facts.sense if options.mask_file is None else masks.sense(options.mask, masks.SENSE["bad"]),
        agipd=facts.agipd,
        flat=None if placing.flat is None else replace(placing.flat, wavelength=wavelength),
    )


class _Placing:
    """Who says what of a detector, and what nobody does."""

    def __init__(self, facts: Facts, options: Options, geometry: Geometry | None, path: Path) -> None:
        self._facts, self._options, self._geometry, self._path = facts, options, geometry, path
        self._shape = facts.stack.shape[1:]
        self.remarks, self.lacking = list(facts.remarks), list[tuple[str, str]]()
        self.bad = np.zeros(self._shape, np.bool_)
        self.flat: Flat | None = None

    def wavelength(self) -> float:
        """Return the wavelength [angstrom], nan if nobody says it."""
        options = self._options
        of_geometry = None if self._geometry is None else self._geometry.wavelength_angstrom
        given = options.wavelength_angstrom
        if options.photon_energy_ev is not None:
            if given is not None:
                raise InputError(
                    f"prepare.wavelength_angstrom = {given:g} and prepare.photon_energy_ev = "
                    f"{options.photon_energy_ev:g}: found both; expected one; leave one out"
                )
            given = EV_ANGSTROM / options.photon_energy_ev
        how = "--wavelength-angstrom NUMBER, or --energy-ev NUMBER"
        return self._first("wavelength", how, given, of_geometry, self._facts.wavelength)

    def positions(self) -> Float64 | None:
        """Return the positions of pixels (panels, y, x, 3) [m], None if something for them is lacking."""
        options, facts, geometry = self._options, self._facts, self._geometry
        name, how = "distance [m]", "--distance-m NUMBER"
        if geometry is not None:
            self._refuse_flat(str(geometry.path))
            found, self.bad = self._of_geometry(geometry)
            distance = self._first(name, how, options.distance_m, geometry.clen_m, facts.distance_m)
            found[..., 2] += distance - (geometry.clen_m or 0.0)
            self.remarks += [f"{geometry.path}: {remark}" for remark in geometry.remarks]
            return found
        if facts.positions is not None:
            self._refuse_flat("the file")
            found = facts.positions.copy()
            if options.distance_m is not None:
                middle = float(np.nanmedian(found[..., 2]))
                found[..., 2] += self._first(name, how, options.distance_m, None, middle) - middle
            return found
        distance = self._first(name, how, options.distance_m, None, facts.distance_m)
        size = None if options.pixel_um is None else options.pixel_um * 1e-6
        height, width = facts.pixel_m or (None, None)
        width = self._first("size of a pixel [m]", "--pixel-um NUMBER", size, None, width)
        height = width if height is None or size is not None else height
        if self._shape[0] > 1:
            self.lacking.append((f"where its {self._shape[0]} panels lie", "--geometry FILE.geom"))
        if self.lacking:
            return None
        self.flat = Flat(self._shape, distance, (height, width), self._centre())
        return self.flat.positions

    def _of_geometry(self, geometry: Geometry) -> tuple[Float64, Bool]:
        """Return positions (panels, y, x, 3) [m] and which pixels are bad, by a geometry.

        Where a file has some of the detector's modules only, they are found by their numbers.
        """
        shape, modules = self._shape, self._facts.modules
        count = 0 if modules is None else crystfel_layout.modules(geometry.panels, shape[1])
        if modules is None or count < shape[0] or (count == shape[0] and max(modules) < count):
            return geometry.positions(shape), geometry.bad(shape)
        if count == shape[0]:
            numbers = ", ".join(map(str, modules))
            self.remarks.append(f"modules {numbers} are taken to be those of the geometry, in order")
            return geometry.positions(shape), geometry.bad(shape)
        if max(modules) >= count:
            found = f"{count} modules, of which {self._path} has number {max(modules)}, from 0"
            raise crystfel_layout.misfit(geometry.path, found, "all of them")
        whole, which = (count, *shape[1:]), list(modules)
        return geometry.positions(whole)[which], geometry.bad(whole)[which]

    def _first(
        self, name: str, how: str, given: float | None, of_geometry: float | None, of_file: float | None
    ) -> float:
        """Return what the first of these says who says anything; how : the user would say it."""
        known = next((value for value in (given, of_geometry, of_file) if value is not None), None)
        if known is None:
            self.lacking.append((f"the {name}", how))
            return math.nan
        if of_file is not None and not math.isclose(known, of_file, rel_tol=STEADY):
            self.remarks.append(f"{name} {known:.6g} is used in place of {of_file:.6g}, as the file has it")
        return known

    def _centre(self) -> tuple[float, float]:
        """Return (row, column) of the beam on a flat detector: the user's, the file's, or the middle, which is said.

        Where it is to be found in the patterns, the search begins at the file's, or in the middle.
        """
        if self._options.centre not in (None, AUTO):
            row, column = (float(part) for part in self._options.centre.split(","))
            return row, column
        if self._facts.centre is not None:
            return self._facts.centre
        middle = ((self._shape[1] - 1) / 2, (self._shape[2] - 1) / 2)
        if self._options.centre == AUTO:
            return middle
        self.remarks.append(
            "the file does not say where the beam goes through the detector: taken to be its middle, row "
            f"{middle[0]:g}, column {middle[1]:g}; --centre ROW,COLUMN says it, --centre auto finds it"
        )
        return middle

    def _refuse_flat(self, what: str) -> None:
        """Raise InputError for options of a flat detector where positions are known."""
        for name in ("pixel_um", "centre"):
            value = getattr(self._options, name)
            if value is not None:
                raise InputError(
                    f"{self._path}: prepare.{name} = {value}: {what} says where every pixel lies; leave it out"
                )


def picture(positions: Float64, nowhere: Bool) -> Int64:
    """Return (row, column) (panels, y, x, 2) of pixels in a picture as the beam sees the detector."""
    found = positions[..., 1::-1]
    flat_found = found[~nowhere]
    first = flat_found.max(axis=0) if len(flat_found) else np.zeros(2)
    # The distance of neighbours, along rows and along columns.
    part = found[:, :CORNER, :CORNER]
    steps = [np.linalg.norm(np.diff(part, axis=axis), axis=-1) for axis in (1, 2)]
    sizes = np.concatenate([step[np.isfinite(step)].ravel() for step in steps])
    pixel = float(np.median(sizes)) if len(sizes) else 1.0
    number = first - found
    number /= max(pixel, 1e-9)
    number[nowhere] = 0
    places: Int64 = np.rint(number, out=number).astype(np.int64)
    if places.max() >= WIDEST:
        panel, row, column = np.indices(nowhere.shape, np.int64)
        return np.stack([panel * nowhere.shape[1] + row, column], axis=-1)
    return places


def _levels(facts: Facts, options: Options, bad: Bool) -> UInt8 | None:
    """Return levels (panels, y, x) by the file, by a file of a mask, and by geometry; None if nothing is masked."""
    levels = facts.levels
    if options.mask_file is not None:
        levels = mask_files.read(options.mask_file, facts.stack.shape[1:], options.mask)
    if bad.any():
        levels = np.where(bad, np.uint8(NEVER), bad_to_levels(bad) if levels is None else levels)
    return levels


def _background(background: Float64, levels: UInt8, path: Path) -> Float64:
    """Return a background, 0 where pixels are never used."""
    return masks.checked_background(np.where(levels == NEVER, 0.0, background), f"{path}: its background")
