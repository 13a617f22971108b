"""From an open file to patterns: what it says of its pixels, what its values are, and what cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats import agipd, faults, files, gaps, masks, origin, pixels, truth
from spilegate.formats import values as kinds
from spilegate.formats.adu import Given
from spilegate.formats.dead import left_out
from spilegate.formats.flat import Flat
from spilegate.formats.patterns import SPARE, Found, Pass, Stack, passed
from spilegate.kernels import memory
from spilegate.kernels.workers import Workers
from spilegate.records import NEVER, Bool, Float64, Int64, Origin, UInt8

INTENSITIES, RESPONSE = "intensities", "response"
# The patterns themselves, and as much again: those of the half-sets, or with values mended.
COPIES = 2
# Fewer patterns than this leave most of reciprocal space unmeasured at any resolution.
FEWEST_PATTERNS = 6


@dataclass(frozen=True)
class Options:
    """How patterns are read; see `spilegate.formats.reader.read`."""

    binning: int = 1
    q_min: float = 0.0
    q_max: float | None = None
    mask: masks.Means = "auto"
    photon_unit: float | None = None
    adu_per_photon: Given = "auto"
    broken_pixels: kinds.Broken = "always"
    saturated: bool = True
    dataset: str | None = None
    detector: str | None = None
    geometry: str | None = None
    mask_file: str | None = None
    wavelength_angstrom: float | None = None
    photon_energy_ev: float | None = None
    distance_m: float | None = None
    pixel_um: float | None = None
    centre: str | None = None


@dataclass(frozen=True)
class Layout:
    """What a file says of its pixels before any pattern is read.

    q : (panels, y, x, 3) [1/angstrom]; index_map : (panels, y, x, 2)
    levels : (panels, y, x), None if there is no mask
    background : returns that of levels (panels, y, x), in values of the file, None if it has none
    response : (panels, y, x), what pixels count of what they would at the beam, None if it is not known
    format : of the file, and truth : what it knows of the truth, in words
    origin : what patterns came from; remarks : what was decided, a line each
    sense : what values of its mask say, in words
    agipd : whether panels are modules of AGIPD, of which some rows are twice as wide
    flat : a detector without positions of its own, None where every pixel has one
    """

    path: Path
    stack: Stack
    q: Float64
    wavelength: float
    index_map: Int64
    levels: UInt8 | None
    background: Callable[[UInt8], Float64 | None]
    response: Float64 | None = None
    format: str = "SpiniFEL's HDF5"
    truth: str = ""
    origin: Origin = field(default_factory=Origin)
    remarks: tuple[str, ...] = ()
    sense: str = ""
    agipd: bool = False
    flat: Flat | None = None

    def mask(self, broken: Bool, options: Options) -> UInt8:
        """Return the levels of pixels after binning (N_PIX,); InputError if none can be used. broken : never used."""
        shape, binning = self.q.shape[:3], options.binning
        levels = np.zeros(shape, np.uint8) if self.levels is None else self.levels
        binned = masks.bin_mask(np.where(broken, np.uint8(NEVER), levels), binning).ravel()
        q = pixels.bin_positions(self.q, binning, self.wavelength).reshape(-1, 3)
        return masks.limited(binned, q, options.q_min, options.q_max, self.path)


@dataclass(frozen=True)
class Patterns:
    """Patterns as they were read.

    way : how; found : what
    background : (panels, y, x) [photons or intensity units per pattern], None if not known
    problem : why they cannot be used, None if they can; remarks : what was done that nobody asked for
    missing : where values are missing, (2, n): numbers of patterns, ascending, and of pixels; none if patterns were not
        kept
    area : (panels, y, x), what pixels count of what most do, being larger; None if all are alike
    """

    way: Pass
    found: Found
    background: Float64 | None
    problem: str | None
    remarks: tuple[str, ...]
    missing: Int64
    area: Float64 | None = None

    def response(self, layout: Layout) -> Float64 | None:
        """Return what pixels (panels, y, x) count of what they would at the beam, as far as files say it."""
        return self.area if layout.response is None else layout.response


def stack_of(file: h5py.File, path: Path) -> Stack:
    """Return the dataset of patterns, checked but not read."""
    expected = "patterns, shape (patterns, panels, y, x), or (patterns, y, x) of one panel"
    images = files.dataset(file, INTENSITIES, path, expected)
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise InputError(f"{path}: dataset {INTENSITIES!r}: shape {images.shape}; expected {expected}")
    return Stack(images, path, f"dataset {INTENSITIES!r}")


def layout_of(file: h5py.File, path: Path, means: masks.Means) -> Layout:
    """Return what a file says of its pixels; raises InputError for anything that cannot be used."""
    stack = stack_of(file, path)
    shape = stack.shape[1:]
    q, wavelength = pixels.read_positions(file, path, shape)
    index_map = pixels.read_index_map(file, path, shape)
    return Layout(
        path,
        stack,
        q,
        wavelength,
        index_map,
        masks.read_mask(file, path, shape, means),
        lambda levels: masks.read_background(file, path, shape, levels),
        pixels.read_response(file, path, RESPONSE, shape),
        truth=", ".join(truth.names_in(file)),
        origin=origin.of_group(file.get(origin.GROUP), stack.shape[0]),
        sense=masks.sense(means, masks.SENSE["levels"]),
    )


def read_patterns(layout: Layout, options: Options, workers: Workers, *, keep: bool) -> Patterns:
    """Read all patterns, and what the file says of their background.

    keep : whether the patterns themselves are wanted
    Raises InputError if they cannot be read, no pixel can be used, or memory does not suffice.
    """
    stack = layout.stack
    allowed = np.ones(stack.shape[1:], np.bool_) if layout.levels is None else layout.levels < NEVER
    first, larger = _first(layout, options, allowed)
    with files.reading(layout.path, stack.expected):
        levels = np.where(allowed & ~first.rule.broken, 0, NEVER).astype(np.uint8)
        background = layout.background(levels)
    if keep:
        _check_memory(first, layout.path, workers)
    way, found = passed(
        first,
        lambda broken: layout.mask(broken, options),
        workers,
        given=options.photon_unit is not None,
        keep=keep,
    )
    q_length = np.linalg.norm(layout.q, axis=-1)
    dead = masks.dead(found.alive, q_length, way.used, len(found.faults))
    problem = None if layout.levels is None else masks.exchanged(layout.levels, found.alive, options.mask)
    problem = problem or faults.problem_of(way, found)
    remarks = [*layout.remarks, *faults.remarks(way, found, ~allowed, dead)]
    if larger is not None:
        remarks.append(f"AGIPD's rows of double width count {larger[1]:.2f} times as much as others: taken for twice")
    if dead.any() and problem is None:
        way = replace(way, mask=layout.mask(way.rule.broken | dead, options))
        if options.binning > 1:
            # Their blocks are left out whole.
            if keep and not found.lost.any():
                found = left_out(way, found, workers)
            else:
                del found
                found = way.run(workers, keep=keep)
    missing = gaps.places(way, found, workers) if keep and problem is None else gaps.none()
    if files.being_written(layout.path):
        remarks.insert(0, "another program has the file open for writing: read as it is now")
    if background is not None:
        background = background / way.rule.unit
    area = None if larger is None else larger[0]
    return Patterns(way, found, background, problem, tuple(remarks), missing, area)


def _first(layout: Layout, options: Options, allowed: Bool) -> tuple[Pass, tuple[Float64, float] | None]:
    """Return how patterns are to be gone through, by a sample of them, and what `agipd.areas` finds in it.

    allowed : (panels, y, x), not masked
    """
    sample = layout.stack.sample()
    given = options.adu_per_photon
    if options.photon_unit is not None and not isinstance(given, str):
        raise InputError(
            f"{layout.path}: found prepare.photon_unit and prepare.adu_per_photon; expected one of them, the former "
            "for values without readout noise; leave the other out"
        )
    rule = kinds.guess(
        sample,
        allowed,
        options.photon_unit,
        broken_pixels=options.broken_pixels,
        adu_per_photon=given,
        where=f"{layout.path}: {layout.stack.name}",
    )
    judged = allowed & ~rule.broken if options.saturated else None
    mask = layout.mask(rule.broken, options)
    first = Pass(layout.stack, rule, options.binning, mask, options.broken_pixels, judged)
    larger = None
    if layout.agipd and layout.response is None:
        larger = agipd.areas(sample, kinds.missing(sample, rule.codes), allowed & ~rule.broken)
    if not rule.counts:
        return first, larger
    spare = SPARE if len(sample) < layout.stack.shape[0] else 1.0
    return replace(first, rule=replace(rule, length=first.listed(np.ceil(spare * first.longest(sample))))), larger


def _check_memory(way: Pass, path: Path, workers: Workers) -> None:
    """Raise InputError if patterns are larger than the memory of this process's share of them."""
    count, size = way.stack.shape[0], way.mask.size
    pattern = 4.0 * (size if way.rule.length is None else way.rule.length)
    ranks = int(workers.description()["ranks"])

    finer = [number for number in pixels.divisors(way.stack.shape[1:]) if number > way.binning]

    def check() -> None:
        memory.check_host(
            f"{path}: {count} patterns of {size} pixels", COPIES * count * pattern / ranks, finer, way.binning
        )

    workers.once(check)
