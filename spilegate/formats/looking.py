"""A look at a file of patterns: what it holds, whether it can be used, and the mean of the patterns looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import faults, files, masks, pixels, sources
from spilegate.formats import values as kinds
from spilegate.formats.facts import Some
from spilegate.formats.flat import Flat
from spilegate.formats.patterns import Stack, Values
from spilegate.formats.placed import LackingError
from spilegate.formats.reading import FEWEST_PATTERNS, Layout, Options, Patterns, read_patterns
from spilegate.formats.values import EMPTY
from spilegate.kernels.workers import Threads
from spilegate.records import NEVER, Float64, Int64, UInt8

# To describe a file no more than this is read of it, from so many places.
LOOKED_AT_BYTES, PLACES = 1 << 28, 16


@dataclass(frozen=True)
class Looked:
    """The pixels of a file as its options bin and mask them, and what patterns were seen on them.

    q : (N_PIX, 3) float64 [1/angstrom]; mask : (N_PIX,) levels; shape : (panels, y, x); index_map : (N_PIX, 2)
    wavelength : [angstrom]; flat, binning : see `Dataset`
    mean : (N_PIX,) float64, of the patterns looked at [photons or intensity units]; totals : (n,), of each of them
    counts : whether they are photons
    stored : values kept of every pattern: its pixels, or a list of its photons
    numbers : (n,), of the patterns looked at, from 0; patterns : how many the file has
    """

    q: Float64
    mask: UInt8
    shape: tuple[int, int, int]
    index_map: Int64
    wavelength: float
    flat: Flat | None
    binning: int
    mean: Float64
    totals: Float64
    counts: bool
    stored: int
    numbers: Int64
    patterns: int

    @property
    def whole(self) -> bool:
        """Tell whether all patterns were looked at."""
        return len(self.totals) == self.patterns

    @property
    def photon(self) -> float | None:
        """Return what a photon adds to the mean, None for intensities."""
        return 1 / len(self.totals) if self.counts else None


@dataclass(frozen=True)
class Look:
    """What a look at a file found.

    facts : for the user, in this order; looked : None if there is something that keeps it from being used
    lacking : options that the file needs, each with what to put in its place
    """

    facts: dict[str, Any]
    looked: Looked | None = None
    lacking: tuple[str, ...] = ()


class Summed:
    """Values of a stack, which adds up patterns when they are read for the first time.

    total : (...) float64, of the values that are there; what stands for none is none
    """

    def __init__(self, values: Values) -> None:
        self._values, self._seen = values, np.zeros(values.shape[0], np.bool_)
        self.shape, self.dtype, self.chunks = values.shape, values.dtype, values.chunks
        self.total = np.zeros(values.shape[1:])

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns."""
        block = np.asarray(self._values[part])
        new = ~self._seen[part]
        if new.any():
            fresh = block if new.all() else block[new]
            lost = kinds.missing(fresh, ())
            self.total += (np.where(lost, fresh.dtype.type(0), fresh) if lost.any() else fresh).sum(0, dtype=np.float64)
            self._seen[part] = True
        return block


def look(path: Path, **options: Any) -> Look:
    """Look at a file; of large ones at some patterns, which is said.

    options : of `reading.Options`
    Raises InputError if the file or its pixel positions cannot be read; faults of patterns are described, and so is
    what it does not say of its pixels.
    """
    path, how = Path(path), Options(**options)
    try:
        with sources.opened(path, how) as layout:
            return _look(layout, how)
    except LackingError as error:
        facts = _first_facts(path, error.facts.format, error.facts.stack)
        facts["missing"] = "; ".join(f"{what}: give {option}" for what, option in error.lacking)
        facts["usable"] = str(error).removeprefix(f"{path}: ")
        return Look(facts, None, tuple(option.partition(",")[0] for _, option in error.lacking))


def _look(layout: Layout, how: Options) -> Look:
    """Return what is found in an open file."""
    path, known, (count, *shape) = layout.path, layout.truth or "none", layout.stack.shape
    facts = _facts(layout)
    some = some_of(layout.stack)
    values = Summed(layout.stack.dataset if len(some) == count else Some(layout.stack.dataset, some))
    layout = replace(layout, stack=replace(layout.stack, dataset=values))
    try:
        binned = pixels.binned_shape((shape[0], shape[1], shape[2]), how.binning, path)
        patterns = read_patterns(layout, how, Threads(1), keep=False)
    except InputError as error:
        # Of the file or of an option; `read` says the same.
        return Look(facts | {"truth": known, "usable": str(error).removeprefix(f"{path}: ")})
    few = f"{count} patterns; expected at least {FEWEST_PATTERNS}" if count < FEWEST_PATTERNS else None
    totals, background = patterns.found.totals, patterns.background
    facts |= {
        "looked_at": "all patterns" if len(some) == count else f"{len(some)} patterns from {PLACES} places",
        "background_per_pattern": "none" if background is None else float(background.sum()),
        "taken_for": faults.taken_for(patterns.way),
        "photons_per_pattern_min": float(totals.min()),
        "photons_per_pattern_mean": float(totals.mean()),
        "photons_per_pattern_max": float(totals.max()),
        "zero_patterns": int((patterns.found.faults == EMPTY).sum()),
        "remarks": "; ".join(patterns.remarks) or "none",
        "truth": known,
        "usable": patterns.problem or few or "yes",
    }
    mean = values.total / len(some)
    looked = _looked(layout, how, patterns, binned, mean, some) if facts["usable"] == "yes" else None
    return Look(facts, None if looked is None else replace(looked, patterns=count))


def _looked(
    layout: Layout, how: Options, patterns: Patterns, shape: tuple[int, int, int], mean: Float64, numbers: Int64
) -> Looked:
    """Return pixels, and what was seen on them. mean : of the values in the file, of one panel maybe (y, x)."""
    used, rule, mask = patterns.way.used, patterns.way.rule, patterns.way.mask
    of_file = np.where(used, np.maximum(mean.reshape(used.shape), 0 if rule.counts else -np.inf), 0.0) / rule.unit
    binned = pixels.blocks(of_file, how.binning).sum((2, 4)).ravel()
    return Looked(
        pixels.bin_positions(layout.q, how.binning, layout.wavelength).reshape(-1, 3),
        mask,
        shape,
        pixels.bin_index_map(layout.index_map, how.binning).reshape(-1, 2),
        layout.wavelength,
        layout.flat,
        how.binning,
        np.where(mask == NEVER, 0.0, binned),
        patterns.found.totals,
        rule.counts,
        rule.length or len(mask),
        numbers,
        layout.stack.shape[0],
    )


def some_of(stack: Stack) -> Int64:
    """Return the numbers of the patterns to look at to describe a file: all, or as many as can be read soon."""
    count, tile = stack.shape[0], stack.tile
    pattern_bytes = stack.dataset.dtype.itemsize * math.prod(stack.shape[1:])
    if count * pattern_bytes <= LOOKED_AT_BYTES:
        return np.arange(count)
    places = np.linspace(0, count - tile, PLACES).astype(np.int64)
    number = max(tile, LOOKED_AT_BYTES // PLACES // pattern_bytes // tile * tile)
    return np.unique(np.minimum(places[:, None] + np.arange(number), count - 1))


def _first_facts(path: Path, name: str, stack: Stack) -> dict[str, Any]:
    """Return what a file says of its patterns."""
    count, panels, *size = stack.shape
    return {
        "file": str(path),
        "format": name,
        "size_mib": files.size(path) / 2**20,
        "patterns": count,
        "panels": panels,
        "pixels": size,
        "dtype": str(stack.dataset.dtype),
    }


def _facts(layout: Layout) -> dict[str, Any]:
    """Return what a file says of its pixels."""
    q_length = np.linalg.norm(layout.q, axis=-1)
    return _first_facts(layout.path, layout.format, layout.stack) | {
        "missing": "nothing",
        "wavelength_angstrom": layout.wavelength,
        "q_min_inverse_angstrom": float(q_length.min()),
        "q_max_inverse_angstrom": float(q_length.max()),
        "resolution_side_angstrom": 1 / pixels.inscribed_q(layout.q, layout.wavelength),
        "resolution_corner_angstrom": 1 / float(q_length.max()),
        "mask": "none" if layout.levels is None else masks.described(layout.levels),
        "mask_means": "nothing is masked" if layout.levels is None else layout.sense or masks.SENSE["levels"],
    }
