"""Which layout a file of patterns has, decided by its content and never by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats import (
    crystfel,
    cxi,
    dragonfly,
    dragonfly_detector,
    euxfel,
    ewald,
    files,
    geometry_file,
    lcls,
    lists,
    masks,
    pixel_maps,
    placed,
    plain,
    singles,
)
from spilegate.formats.crystfel import Geometry
from spilegate.formats.dragonfly import Photons
from spilegate.formats.facts import Facts, Flagged, bad_to_levels
from spilegate.formats.patterns import EXPECTED, Stack
from spilegate.formats.pixels import POSITION
from spilegate.formats.reading import INTENSITIES, Layout, Options, layout_of
from spilegate.records import NEVER, Float64, UInt8

# What says where pixels lie, where a file of patterns does not.
PLACING = ("dataset", "geometry", "distance_m", "pixel_um", "photon_energy_ev", "centre", "mask_file")


@contextmanager
def opened(path: Path, options: Options) -> Iterator[Layout]:
    """Open a file of patterns and say what it says of its pixels, before any pattern is read.

    Raises InputError if it is none, or if what is needed besides it is missing, or is there twice.
    """
    listed = None
    if not path.is_dir():
        files.check_readable(path, EXPECTED)
        listed = None if h5py.is_hdf5(path) or dragonfly.header_of(path) else lists.entries(path)
    if listed is None:
        with _one(path, options) as layout:
            if layout.stack.shape[0] == 1 and layout.format == singles.ONE:
                raise InputError(
                    f"{path}: {singles.ONE}, which holds one pattern; expected many; write the names of such files "
                    "into a text file, one a line, and give that"
                )
            yield layout
        return

    def open_one(entry: lists.Entry) -> AbstractContextManager[Layout]:
        return _one(entry.path, replace(options, dataset=entry.dataset or options.dataset))

    with lists.joined(path, listed, open_one) as layout:
        yield layout


@contextmanager
def _one(path: Path, options: Options) -> Iterator[Layout]:
    """Open a file or a folder of patterns that is no list."""
    if path.is_dir():
        with _of_run(path, options) as layout:
            yield layout
        return
    files.check_readable(path, EXPECTED)
    header = None if h5py.is_hdf5(path) else dragonfly.header_of(path)
    if header:
        yield _dragonfly(
            path, options, header.pixels, lambda shape: dragonfly.binary(path, header, shape), "Dragonfly's, binary"
        )
        return
    if lcls.is_xtc(path) and not h5py.is_hdf5(path):
        _refuse(path, _given(options, "detector"), "no photons of Dragonfly")
        placed_by = _given(options, "distance_m", "geometry")
        facts = lcls.read(path, options.dataset, placed=bool(placed_by))
        yield _by_geometry(facts, None, path, options, _geometry(None, options))
        return
    if crystfel.is_geometry(path):
        raise InputError(f"{path}: a geometry of CrystFEL; expected patterns; give it as --geometry, and the patterns")
    with files.opened(path, EXPECTED) as file:
        with files.reading(path, EXPECTED):
            layout = _of_hdf5(file, path, options)
        yield layout


@contextmanager
def _of_run(path: Path, options: Options) -> Iterator[Layout]:
    """Open a run folder of European XFEL."""
    with euxfel.gathered(path, options.dataset) as (virtual, name), files.opened(virtual, EXPECTED) as file:
        with files.reading(path, EXPECTED):
            _refuse(path, _given(options, "detector"), "no photons of Dragonfly")
            own = replace(options, dataset=None)
            layout = _placed(file, path, own, cxi.read, format=f"European XFEL's run of {name}")
        yield layout


def _of_hdf5(file: h5py.File, path: Path, options: Options) -> Layout:
    """Return what an HDF5 file says of its pixels."""
    if dragonfly.is_photons(file):
        number = dragonfly.pixels_of(file, path)
        return _dragonfly(path, options, number, lambda shape: dragonfly.hdf5(file, path, shape), "Dragonfly's, HDF5")
    if dragonfly.is_detector(file):
        raise InputError(f"{path}: a detector of Dragonfly; expected patterns; give it as --detector, and its photons")
    if options.detector is not None and options.dataset is not None:
        return _dense(file, path, replace(options, dataset=None), options.dataset)
    given = _given(options, *PLACING)
    own = files.holds(file, POSITION) or (files.holds(file, INTENSITIES) and not given)
    if own:
        _refuse(path, _given(options, "detector", "wavelength_angstrom", *PLACING), "says itself where its pixels lie")
        return layout_of(file, path, options.mask)
    _refuse(path, _given(options, "detector"), "no photons of Dragonfly")
    if singles.is_image(file):
        _refuse(path, _given(options, "dataset"), "holds one pattern")
        return _by_geometry(singles.image(file, path, options.mask), file, path, options, _geometry(file, options))
    if singles.is_simex(file):
        facts = singles.simex(file, path, options.mask, options.dataset)
        layout = _by_geometry(facts, file, path, options, _geometry(file, options))
        return replace(layout, truth=singles.truth(file))
    if options.dataset is None and euxfel.is_part(file):
        raise InputError(f"{path}: one file of a run of European XFEL; expected the whole run; give its folder")
    return _placed(file, path, options, cxi.read if cxi.is_cxi(file) else plain.read)


def _placed(file: h5py.File, path: Path, options: Options, read: Callable[..., Facts], **instead: Any) -> Layout:
    """Return what a file, a geometry and options say of its pixels. read : the file; instead : of what it says."""
    geometry = _geometry(file, options)
    name = options.dataset
    if name is None and geometry is not None:
        name = geometry_file.dataset_of(geometry, file)
    facts = replace(read(file, path, options.mask, name), **instead)
    return _by_geometry(facts, file, path, options, geometry)


def _geometry(file: h5py.File | None, options: Options) -> Geometry | None:
    """Return the geometry of CrystFEL that is given, None if there is none, or a pixel map."""
    if options.geometry is None or pixel_maps.is_map(Path(options.geometry)):
        return None
    return geometry_file.read(Path(options.geometry), file)


def _by_geometry(
    facts: Facts, file: h5py.File | None, path: Path, options: Options, geometry: Geometry | None
) -> Layout:
    """Return what facts, a geometry or a pixel map, and options say of pixels. file : of the patterns, if HDF5."""
    shape = facts.stack.shape[1:]
    if options.geometry is not None and geometry is None:
        size = None if options.pixel_um is None else options.pixel_um * 1e-6
        pixel = size or (None if facts.pixel_m is None else facts.pixel_m[1])
        positions = pixel_maps.read(Path(options.geometry), shape, options.distance_m or facts.distance_m, pixel)
        facts, options = replace(facts, positions=positions), replace(options, pixel_um=None)
    if geometry is not None:
        bad, said = geometry_file.masked(geometry, file, shape)
        if bad.any():
            facts = replace(facts, levels=np.maximum(bad_to_levels(bad), 0 if facts.levels is None else facts.levels))
        facts = replace(facts, remarks=(*facts.remarks, *said, *geometry_file.gain(geometry, facts, options)))
    layout = placed.layout(facts, path, options, geometry)
    limits = None if geometry is None else geometry_file.limits(geometry, facts)
    if limits is None:
        return layout
    return replace(layout, stack=replace(layout.stack, dataset=Flagged(layout.stack.dataset, *limits)))


def _dense(file: h5py.File, path: Path, options: Options, name: str) -> Layout:
    """Return what the detector of Dragonfly says of photons that are no lists (Dragonfly's "dense" ones)."""
    found = files.dataset(file, name, path, "photons, shape (patterns, ...)")
    if found.ndim < 2 or 0 in found.shape:
        raise InputError(f"{path}: dataset {name!r}: shape {found.shape}; expected (patterns, pixels), or more of them")
    number = math.prod(found.shape[1:])
    return _dragonfly(path, options, number, lambda shape: dragonfly.Photons(found, shape), "Dragonfly's, dense HDF5")


def _given(options: Options, *names: str) -> dict[str, Any]:
    """Return those of some options that are given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _refuse(path: Path, given: dict[str, Any], why: str) -> None:
    """Raise InputError if options are given that a file leaves no room for."""
    for name, value in given.items():
        raise InputError(f"{path}: {why}; found prepare.{name} = {value} besides; leave it out")


def _dragonfly(
    path: Path, options: Options, number: int, photons: Callable[[tuple[int, int, int]], Photons], name: str
) -> Layout:
    """Return what the detector of Dragonfly's photons says of their pixels; number : how many these are."""
    _refuse(path, _given(options, *PLACING), "its pixels lie where the detector's file says")
    if options.detector is None:
        raise InputError(
            f"{path}: {dragonfly.EXPECTED}, which do not say where their pixels lie; expected their detector's file as "
            "well; add --detector FILE (.dat or .h5)"
        )
    if options.wavelength_angstrom is None:
        raise InputError(
            f"{path}: {dragonfly.EXPECTED}, which do not say the wavelength; expected it as well; add "
            "--wavelength-angstrom NUMBER"
        )
    wavelength = ewald.rounded_wavelength(options.wavelength_angstrom)
    found = dragonfly_detector.read(Path(options.detector), number, wavelength, options.mask)
    shape = (found.levels.shape[0], found.levels.shape[1], found.levels.shape[2])

    def background(levels: UInt8) -> Float64 | None:
        if found.background is None:
            return None
        return masks.checked_background(np.where(levels == NEVER, 0.0, found.background), str(options.detector))

    return Layout(
        path,
        Stack(photons(shape), path, "photons", dragonfly.EXPECTED),
        ewald.same_bits(found.q, wavelength),
        wavelength,
        found.index_map,
        found.levels,
        background,
        ewald.rounded(found.response),
        name,
        sense=masks.sense(options.mask, masks.SENSE["levels"]),
    )
