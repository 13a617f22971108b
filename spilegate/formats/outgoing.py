"""Patterns on their way from one format to another: what they are taken for, cut, summed, and given block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import faults, masks, pixels, sources
from spilegate.formats.facts import Some
from spilegate.formats.patterns import Pass, Stack, Values
from spilegate.formats.reading import Layout, Options, read_patterns
from spilegate.kernels.workers import Threads
from spilegate.records import USE, Float32, Float64, Int64, Origin, UInt8

# Rows and columns of a part of every panel, from the first to before the last.
Crop = tuple[slice, slice]
# Tells which patterns are wanted, by how many there are.
Choice = Callable[[int], Int64]


@dataclass(frozen=True)
class Outgoing:
    """Patterns to be written, and all that is known of their pixels.

    way : how they are read; counts : whether they are photons; taken_for, remarks : in words
    q : (panels, y, x, 3) [1/angstrom]; index_map : (panels, y, x, 2)
    levels, background, response : (panels, y, x), None if not known
    count : how many; missing : values that single patterns lack; origin : what they came from
    """

    way: Pass
    counts: bool
    taken_for: str
    remarks: tuple[str, ...]
    wavelength: float
    q: Float64
    index_map: Int64
    levels: UInt8 | None
    background: Float64 | None
    response: Float64 | None
    count: int
    missing: int
    origin: Origin

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (panels, y, x) of their pixels."""
        return self.q.shape[0], self.q.shape[1], self.q.shape[2]

    def blocks(self) -> Iterator[Float32]:
        """Yield all patterns, (n, panels, y, x) at a time, also what lies under the mask.

        What is no value there is 0; what single patterns lack elsewhere is not a number.
        """
        everything = np.full(math.prod(self.shape), USE, np.uint8)
        broken = np.zeros(self.way.rule.broken.shape, np.bool_)
        unmasked = replace(self.way, mask=everything, rule=replace(self.way.rule, broken=broken), broken="always")
        for first in range(0, self.count, self.way.stack.tile):
            block = self.way.stack.block(slice(first, min(first + self.way.stack.tile, self.count)))
            values, lost, *_ = unmasked.numbers(block)
            values = np.where(self.way.lacking(lost), np.float32(np.nan), values)
            yield values.reshape(-1, *self.shape)


class Cropped:
    """A part of every panel of a stack of patterns."""

    def __init__(self, values: Values, part: Crop) -> None:
        self._values, self._part = values, part
        rows, columns = (each.stop - each.start for each in part)
        self.shape, self.dtype, self.chunks = (*values.shape[:-2], rows, columns), values.dtype, values.chunks

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of them."""
        return np.asarray(self._values[part])[..., self._part[0], self._part[1]]


@contextmanager
def outgoing(path: Path, options: Options, *, choose: Choice, crop: Crop | None) -> Iterator[Outgoing]:
    """Open a file of patterns, go through those that are wanted, and give them to be written.

    options : how they are read, and summed; choose : which are wanted; crop : which part of every panel
    Raises InputError as `formats.reader.read` does.
    """
    with sources.opened(path, options) as whole:
        layout = whole if crop is None else _cropped(whole, crop)
        which = choose(layout.stack.shape[0])
        if len(which) != layout.stack.shape[0]:
            layout = replace(layout, stack=replace(layout.stack, dataset=Some(layout.stack.dataset, which)))
        shape = layout.stack.shape[1:]
        binning = options.binning
        pixels.binned_shape(shape, binning, path)
        patterns = read_patterns(layout, options, Threads(1), keep=False)
        if patterns.problem:
            raise InputError(f"{path}: {layout.stack.name}: {patterns.problem}")
        background, response = patterns.background, patterns.response(layout)
        yield Outgoing(
            way=patterns.way,
            counts=patterns.way.rule.counts,
            taken_for=faults.taken_for(patterns.way),
            remarks=patterns.remarks,
            wavelength=layout.wavelength,
            q=pixels.bin_positions(layout.q, binning, layout.wavelength),
            index_map=pixels.bin_index_map(layout.index_map, binning),
            levels=None if layout.levels is None else masks.bin_mask(layout.levels, binning),
            background=None if background is None else masks.bin_background(background, binning),
            response=None if response is None else pixels.blocks(response, binning).mean((2, 4)),
            count=len(which),
            missing=int(patterns.found.lost[patterns.way.used].sum()),
            origin=layout.origin.some(which, path.name),
        )


def _cropped(layout: Layout, part: Crop) -> Layout:
    """Return a part of every panel; InputError if panels are smaller."""
    size = layout.stack.shape[2:]
    if any(each.stop > length for each, length in zip(part, size, strict=True)):
        rows, columns = (f"{each.start}:{each.stop}" for each in part)
        raise InputError(f"--crop {rows},{columns}: beyond panels of {size[0]} x {size[1]} pixels; give a part of them")
    cut = (slice(None), *part)
    whole = layout.background

    def background(levels: UInt8) -> Float64 | None:
        everywhere = np.full(layout.q.shape[:3], 2, np.uint8)
        everywhere[cut] = levels
        found = whole(everywhere)
        return None if found is None else found[cut]

    stack: Stack = replace(layout.stack, dataset=Cropped(layout.stack.dataset, part))
    return replace(
        layout,
        stack=stack,
        q=layout.q[cut],
        index_map=layout.index_map[cut],
        levels=None if layout.levels is None else layout.levels[cut],
        background=background,
        response=None if layout.response is None else layout.response[cut],
    )
