"""Where pixels lie whose file says so in metres, or that a geometry file, or the user, says it for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import crystfel, ewald, mask_files, masks
from spilegate.formats.facts import EV_ANGSTROM, Facts, bad_to_levels
from spilegate.formats.pixels import PLAUSIBLE_Q
from spilegate.formats.reading import Layout, Options
from spilegate.records import NEVER, Bool, Float64, Int64, UInt8

# Pixels further apart than this many make no picture: panels are shown one above the other.
WIDEST = 8192


def layout(facts: Facts, path: Path, options: Options) -> Layout:
    """Return where the pixels of a file lie, by what it says itself, by a geometry file, and by what the user says.

    What the user says goes first, and that is said. Raises InputError for what is missing, naming all of it.
    """
    shape = facts.stack.shape[1:]
    remarks = list(facts.remarks)
    geometry = None if options.geometry is None else crystfel.read(Path(options.geometry))
    lacking: list[str] = []

    def chosen(name: str, given: float | None, of_file: float | None, of_geometry: float | None, how: str) -> float:
        known = next((value for value in (given, of_geometry, of_file) if value is not None), None)
        if known is None:
            lacking.append(f"the {name} ({how})")
            return math.nan
        if of_file is not None and not math.isclose(known, of_file, rel_tol=1e-3):
            remarks.append(f"{name} {known:.6g} is used in place of {of_file:.6g}, as the file has it")
        return known

    given = options.wavelength_angstrom
    if options.photon_energy_ev is not None:
        if given is not None:
            raise InputError(
                f"prepare.wavelength_angstrom = {given:g} and prepare.photon_energy_ev = {options.photon_energy_ev:g}: "
                "found both; expected one; leave one out"
            )
        given = EV_ANGSTROM / options.photon_energy_ev
    wavelength = chosen(
        "wavelength", given, facts.wavelength, None if geometry is None else geometry.wavelength_angstrom,
        "--wavelength-angstrom NUMBER, or --energy-ev NUMBER",
    )  # fmt: skip
    distance_of = "--distance-m NUMBER"
    bad = np.zeros(shape, np.bool_)
    if geometry is not None:
        _refuse_flat(options, "the geometry file")
        positions, bad = geometry.positions(shape), geometry.bad(shape)
        distance = chosen("distance [m]", options.distance_m, facts.distance_m, geometry.clen_m, distance_of)
        positions[..., 2] += distance - (geometry.clen_m or 0.0)
        remarks += geometry.remarks
    elif facts.positions is not None:
        _refuse_flat(options, "the file")
        positions = facts.positions.copy()
        if options.distance_m is not None:
            middle = float(np.nanmedian(positions[..., 2]))
            chosen("distance [m]", options.distance_m, middle, None, distance_of)
            positions[..., 2] += options.distance_m - middle
    else:
        distance = chosen("distance [m]", options.distance_m, facts.distance_m, None, distance_of)
        pixel = facts.pixel_m
        if options.pixel_um is not None:
            size = options.pixel_um * 1e-6
            chosen("pixel size [m]", size, None if pixel is None else pixel[1], None, "--pixel-um NUMBER")
            pixel = (size, size)
        elif pixel is None:
            lacking.append("the size of a pixel (--pixel-um NUMBER)")
        if shape[0] > 1:
            lacking.append(f"where its {shape[0]} panels lie (--geometry FILE.geom)")
        if not lacking:
            positions = flat(shape, distance, pixel or (1.0, 1.0), _centre(facts, options, shape, remarks))
    if lacking:
        said = f" ({'; '.join(facts.remarks)})" if facts.remarks else ""
        raise InputError(
            f"{path}: {facts.format}: does not say {', '.join(lacking)}{said}; expected where its pixels lie; add these"
        )
    wavelength = ewald.rounded_wavelength(wavelength)
    q, nowhere = ewald.reciprocal(positions, wavelength)
    largest = float(np.linalg.norm(q, axis=-1).max())
    if not PLAUSIBLE_Q[0] <= largest <= PLAUSIBLE_Q[1]:
        raise InputError(
            f"{path}: {facts.format}: its pixels reach to {1 / max(largest, 1e-30):.3g} angstrom; expected "
            f"{1 / PLAUSIBLE_Q[1]:g} to {1 / PLAUSIBLE_Q[0]:g}; check wavelength, distance and size of a pixel"
        )
    levels = _levels(facts, options, shape, bad | nowhere)
    return Layout(
        path,
        facts.stack,
        q,
        wavelength,
        picture(positions, nowhere),
        levels,
        lambda used: None if facts.background is None else _background(facts.background, used, path),
        facts.response,
        format=facts.format,
        remarks=tuple(remarks),
    )


def flat(
    shape: tuple[int, int, int], distance: float, pixel: tuple[float, float], centre: tuple[float, float]
) -> Float64:
    """Return positions (panels, y, x, 3) [m] of a flat detector across the beam.

    Rows go down and columns to the right as the beam sees it (CXI 1.6): y and x get less.
    distance, pixel : [m], height and width; centre : (row, column)
    """
    _, row, column = np.indices(shape, np.float64)
    return np.stack([(centre[1] - column) * pixel[1], (centre[0] - row) * pixel[0], np.full(shape, distance)], axis=-1)


def picture(positions: Float64, nowhere: Bool) -> Int64:
    """Return (row, column) (panels, y, x, 2) of pixels in a picture as the beam sees the detector."""
    found = positions[..., 1::-1]
    flat_found = found[~nowhere]
    first = flat_found.max(axis=0) if len(flat_found) else np.zeros(2)
    # The distance of neighbours, along rows and along columns.
    steps = [np.linalg.norm(np.diff(found, axis=axis), axis=-1) for axis in (1, 2)]
    sizes = np.concatenate([step[np.isfinite(step)].ravel() for step in steps])
    pixel = float(np.median(sizes)) if len(sizes) else 1.0
    places: Int64 = np.rint(np.where(nowhere[..., None], 0.0, (first - found) / max(pixel, 1e-9))).astype(np.int64)
    if places.max() >= WIDEST:
        panel, row, column = np.indices(nowhere.shape, np.int64)
        return np.stack([panel * nowhere.shape[1] + row, column], axis=-1)
    return places


def _centre(facts: Facts, options: Options, shape: tuple[int, int, int], remarks: list[str]) -> tuple[float, float]:
    """Return (row, column) of the beam on a flat detector: the user's, the file's, or the middle, which is said."""
    if options.centre is not None:
        row, column = (float(part) for part in options.centre.split(","))
        return row, column
    if facts.centre is not None:
        return facts.centre
    middle = ((shape[1] - 1) / 2, (shape[2] - 1) / 2)
    remarks.append(
        f"the file does not say where the beam goes through the detector: taken to be its middle, row {middle[0]:g}, "
        f"column {middle[1]:g}; --centre ROW,COLUMN says it"
    )
    return middle


def _refuse_flat(options: Options, what: str) -> None:
    """Raise InputError for options of a flat detector where positions are known."""
    for name, value in (("prepare.pixel_um", options.pixel_um), ("prepare.centre", options.centre)):
        if value is not None:
            raise InputError(f"{name} = {value}: {what} says where every pixel lies; leave it out")


def _levels(facts: Facts, options: Options, shape: tuple[int, int, int], bad: Bool) -> UInt8 | None:
    """Return levels (panels, y, x) by the file, by a file of a mask, and by geometry; None if nothing is masked."""
    levels = facts.levels
    if options.mask_file is not None:
        levels = mask_files.read(options.mask_file, shape, options.mask)
    if bad.any():
        levels = np.where(bad, np.uint8(NEVER), bad_to_levels(bad) if levels is None else levels)
    return levels


def _background(background: Float64, levels: UInt8, path: Path) -> Float64:
    """Return a background, 0 where pixels are never used."""
    return masks.checked_background(np.where(levels == NEVER, 0.0, background), f"{path}: its background")
