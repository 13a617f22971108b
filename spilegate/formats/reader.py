"""Patterns read from a file of any layout, and what a file holds; which layout it is, its content decides."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spilegate.errors import InputError
from spilegate.formats import faults, files, masks, pixels, sources
from spilegate.formats.facts import Some
from spilegate.formats.patterns import Stack
from spilegate.formats.reading import Layout, Options, Patterns, read_patterns
from spilegate.formats.values import EMPTY
from spilegate.kernels.workers import Threads, Workers
from spilegate.records import NEVER, Dataset, Int64

# To describe a file no more than this is read of it, from so many places.
LOOKED_AT_BYTES, PLACES = 1 << 30, 16
# Fewer patterns than this leave most of reciprocal space unmeasured at any resolution.
FEWEST_PATTERNS = 20


def read(path: Path, *, workers: Workers | None = None, **options: Any) -> Dataset:
    """Read patterns and where their pixels lie; the truth, if any, is not looked at.

    workers : every one of them reads its own patterns; this process's one thread if left out
    options : of `reading.Options`
        binning : blocks of binning x binning pixels are summed into one
        q_min, q_max : pixels with |q| outside get level 2 in the mask [1/angstrom]
        mask : "levels", or "good" if 1 stands for good pixels; photon_unit : what a photon is in the file, if known
        adu_per_photon : what it is in values with readout noise; "auto": as their histogram tells, "none": they are not
            taken for photons
        broken_pixels : never used are those without a value in all patterns ("always") or in any ("ever")
        detector, wavelength_angstrom : where the pixels of Dragonfly's photons lie

    Pixels of level 2 may hold anything in the file; they are set to 0.
    Raises InputError for anything that cannot be used: file, datasets, shapes, types, values, options.
    """
    path, how = Path(path), Options(**options)
    with sources.opened(path, how) as layout:
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
    return digest.hexdigest()


def describe(path: Path, **options: Any) -> dict[str, Any]:
    """Return what a file holds, for `spilegate inspect`: sizes, units in the names, and under "usable" yes or why not.

    Of large files some patterns are looked at, which is said.

    options : as for `read`
    Raises InputError if the file or its pixel positions cannot be read; faults of patterns are described.
    """
    path, how = Path(path), Options(**options)
    with sources.opened(path, how) as layout:
        known, (count, *shape) = layout.truth, layout.stack.shape
        facts = _facts(layout)
        some = _some_of(layout.stack)
        if len(some) < count:
            layout = replace(layout, stack=replace(layout.stack, dataset=Some(layout.stack.dataset, some)))
        try:
            pixels.binned_shape((shape[0], shape[1], shape[2]), how.binning, path)
            patterns = read_patterns(layout, how, Threads(1), keep=False)
        except InputError as error:
            # Of the file or of an option; `read` says the same.
            return facts | {"truth": known or "none", "usable": str(error).removeprefix(f"{path}: ")}
    few = f"{count} patterns; expected at least {FEWEST_PATTERNS}" if count < FEWEST_PATTERNS else None
    totals, background = patterns.found.totals, patterns.background
    return facts | {
        "looked_at": "all patterns" if len(some) == count else f"{len(some)} patterns from {PLACES} places",
        "background_per_pattern": "none" if background is None else float(background.sum()),
        "taken_for": faults.taken_for(patterns.way),
        "photons_per_pattern_min": float(totals.min()),
        "photons_per_pattern_mean": float(totals.mean()),
        "photons_per_pattern_max": float(totals.max()),
        "zero_patterns": int((patterns.found.faults == EMPTY).sum()),
        "remarks": "; ".join(patterns.remarks) or "none",
        "truth": known or "none",
        "usable": patterns.problem or few or "yes",
    }


def _some_of(stack: Stack) -> Int64:
    """Return the numbers of the patterns to look at to describe a file: all, or as many as can be read soon."""
    count, tile = stack.shape[0], stack.tile
    pattern_bytes = stack.dataset.dtype.itemsize * math.prod(stack.shape[1:])
    if count * pattern_bytes <= LOOKED_AT_BYTES:
        return np.arange(count)
    places = np.linspace(0, count - tile, PLACES).astype(np.int64)
    number = max(tile, LOOKED_AT_BYTES // PLACES // pattern_bytes // tile * tile)
    return np.unique(np.minimum(places[:, None] + np.arange(number), count - 1))


def _facts(layout: Layout) -> dict[str, Any]:
    """Return what a file says of its pixels."""
    images, q_length = layout.stack.dataset, np.linalg.norm(layout.q, axis=-1)
    count, panels, *size = layout.stack.shape
    return {
        "file": str(layout.path),
        "format": layout.format,
        "size_mib": files.size(layout.path) / 2**20,
        "patterns": count,
        "panels": panels,
        "pixels": size,
        "dtype": str(images.dtype),
        "wavelength_angstrom": layout.wavelength,
        "q_min_inverse_angstrom": float(q_length.min()),
        "q_max_inverse_angstrom": float(q_length.max()),
        "resolution_side_angstrom": 1 / pixels.inscribed_q(layout.q, layout.wavelength),
        "resolution_corner_angstrom": 1 / float(q_length.max()),
        "mask": "none" if layout.levels is None else masks.described(layout.levels),
    }
