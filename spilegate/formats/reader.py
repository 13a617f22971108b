"""Patterns read from a file of any layout, and what a file holds; which layout it is, its content decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import faults, masks, pixels, sources
from spilegate.formats.facts import Some, Told
from spilegate.formats.flat import AUTO
from spilegate.formats.looking import Look, look
from spilegate.formats.reading import FEWEST_PATTERNS, Layout, Options, Patterns, read_patterns
from spilegate.kernels.workers import Threads, Workers
from spilegate.records import NEVER, Dataset, Int64

__all__ = ["Look", "describe", "look", "read"]


def read(
    path: Path,
    *,
    workers: Workers | None = None,
    which: Int64 | None = None,
    told: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Dataset:
    """Read patterns and where their pixels lie; the truth, if any, is not looked at.

    workers : every one of them reads its own patterns; this process's one thread if left out
    which : (n,) int64, numbers of the patterns to read; all if left out
    told : called with how many patterns have been read, of how many; those that are read twice count twice
    options : of `reading.Options`
        binning : blocks of binning x binning pixels are summed into one
        q_min, q_max : pixels with |q| outside get level 2 in the mask [1/angstrom]
        mask : what its values mean, see `masks.levels_of`; "auto": what is usual in files of its format
        photon_unit : what a photon is in the file, if known
        adu_per_photon : what it is in values with readout noise; "auto": as their histogram tells, "none": they are not
            taken for photons
        broken_pixels : never used are pixels without a value in all patterns ("always"; those in some are refused), in
            any ("ever") or in more than half ("mend"; where others lack one, the data set says: to be mended)
        saturated : whether values in ADU that saturation spoils are none
        dataset : of the patterns; mask_file : in place of the mask beside them
        detector : where the pixels of Dragonfly's photons lie; geometry : where those of others do
        wavelength_angstrom or photon_energy_ev, distance_m, pixel_um, centre : what the file does not say

    Pixels of level 2 may hold anything in the file; they are set to 0.
    Raises InputError for anything that cannot be used: file, datasets, shapes, types, values, options.
    """
    path, how = Path(path), Options(**options)
    if how.centre == AUTO:
        raise InputError(f"prepare.centre = {AUTO}: expected ROW,COLUMN by now; `patterns.beam.settled` finds it")
    with sources.opened(path, how) as layout:
        if which is not None:
            some = Some(layout.stack.dataset, which)
            origin = layout.origin.some(which, path.name)
            layout = replace(layout, stack=replace(layout.stack, dataset=some), origin=origin)
        if told is not None:
            layout = replace(layout, stack=replace(layout.stack, dataset=Told(layout.stack.dataset, told)))
        return read_layout(layout, how, workers)


def read_layout(layout: Layout, how: Options, workers: Workers | None = None) -> Dataset:
    """Read patterns whose layout is known; layout : of a file that is open, or of arrays."""
    path = layout.path
    count, *panels = layout.stack.shape
    if count < FEWEST_PATTERNS:
        raise InputError(f"{path}: {count} patterns; expected at least {FEWEST_PATTERNS}; merge more runs")
    shape = pixels.binned_shape((panels[0], panels[1], panels[2]), how.binning, path)
    patterns = read_patterns(layout, how, workers or Threads(1), keep=True)
    if patterns.problem:
        raise InputError(f"{path}: {layout.stack.name}: {patterns.problem}")
    mask, background, response = patterns.way.mask, patterns.background, layout.response
    if background is not None:
        background = np.where(mask == NEVER, 0.0, masks.bin_background(background, how.binning).ravel())
    if response is not None:
        response = pixels.blocks(response, how.binning).mean((2, 4)).ravel()
    area = None if patterns.area is None else pixels.blocks(patterns.area, how.binning).mean((2, 4)).ravel()
    return Dataset(
        patterns.found.images,
        pixels.bin_positions(layout.q, how.binning, layout.wavelength).reshape(-1, 3),
        mask,
        shape,
        pixels.bin_index_map(layout.index_map, how.binning).reshape(-1, 2),
        _digest(layout, patterns),
        str(path),
        patterns.way.rule.counts,
        background,
        faults.taken_for(patterns.way),
        patterns.remarks,
        response,
        layout.origin,
        None if layout.flat is None else layout.flat.centre,
        how.binning,
        patterns.missing[0],
        patterns.missing[1],
        area,
    )


def _digest(layout: Layout, patterns: Patterns) -> str:
    """Return the SHA-256 of patterns, positions, mask, background and response."""
    digest = hashlib.sha256(np.ascontiguousarray(layout.q).data)
    digest.update(patterns.found.digests.data)
    if layout.levels is not None:
        digest.update(masks.MASK.encode() + layout.levels.tobytes())
    if patterns.background is not None:
        digest.update(masks.BACKGROUND.encode() + patterns.background.tobytes())
    if layout.response is not None:
        digest.update(b"response" + layout.response.tobytes())
    if patterns.area is not None:
        digest.update(b"area" + patterns.area.tobytes())
    return digest.hexdigest()


def describe(path: Path, **options: Any) -> dict[str, Any]:
    """Return what a file holds, for `spilegate inspect`: sizes, units in the names, and under "usable" yes or why not.

    Of large files some patterns are looked at, which is said.

    options : as for `read`
    Raises InputError if the file or its pixel positions cannot be read; faults of patterns are described.
    """
    return look(path, **options).facts
