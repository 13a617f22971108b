"""Patterns read in one pass: values, their faults and digests, and what they turn out to be."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from spilegate.formats import adu, files, saturated
from spilegate.formats import values as kinds
from spilegate.formats.pixels import blocks
from spilegate.formats.values import BROKEN, EMPTY, Broken, Rule
from spilegate.kernels.events import LONGEST, entries, events
from spilegate.kernels.exact import Output, Rows, Total
from spilegate.kernels.workers import Here, Workers
from spilegate.records import NEVER, Bool, Float32, Float64, UInt8

EXPECTED = "patterns in SpiniFEL's HDF5 layout, CXI, or Dragonfly's"
# Patterns are read in blocks of about this size, so that no second copy of all of them ever exists.
BLOCK_BYTES = 8 << 20
# Patterns are held as lists of photons where these are shorter than the patterns by this factor.
SPARSE_GAIN = 2
# What values are is told by so many patterns from so many places, fewer if they are large, and checked by all.
SAMPLE, FEWEST_SAMPLED, FEWEST_PLACES = 64, 12, 4
SAMPLE_BYTES = 48 << 20
# Lists are longer than those of the sample by this factor, so that patterns are hardly ever read again.
SPARE = 1.25
# The sample may be wrong about broken pixels, about the unit, and about the length.
MOST_PASSES = 4


class Values(Protocol):
    """What patterns are read from: an HDF5 dataset, or what shows itself as one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N_IMG, ...)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the values."""

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Return the shape of what is read at once, None if there is none."""

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns."""


@dataclass(frozen=True)
class Stack:
    """The patterns of a file: a dataset of shape (N_IMG, panels, y, x), or (N_IMG, y, x) of one panel.

    name : of the dataset, and expected : what the file should be, for messages
    """

    dataset: Values
    path: Path
    name: str
    expected: str = EXPECTED

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return (N_IMG, panels, y, x)."""
        count, *panels = self.dataset.shape
        panels = [1] * (3 - len(panels)) + panels
        return count, panels[0], panels[1], panels[2]

    @property
    def tile(self) -> int:
        """Return how many patterns to read at once: whole HDF5 chunks of about BLOCK_BYTES."""
        chunk = int(self.dataset.chunks[0]) if self.dataset.chunks else 1
        # They are worked on in single precision.
        chunk_bytes: int = max(4, self.dataset.dtype.itemsize) * math.prod(self.shape[1:]) * chunk
        return max(1, BLOCK_BYTES // chunk_bytes) * chunk

    def block(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns as they are in the file, (n, panels, y, x)."""
        values: NDArray[Any] = np.ascontiguousarray(self.dataset[part])
        return values.reshape(-1, *self.shape[1:])

    def sample(self) -> NDArray[Any]:
        """Return some patterns spread over the file, or all if there are no more, (n, panels, y, x)."""
        count, pattern_bytes = self.shape[0], self.dataset.dtype.itemsize * math.prod(self.shape[1:])
        wanted = max(FEWEST_SAMPLED, min(SAMPLE, SAMPLE_BYTES // pattern_bytes))
        with files.reading(self.path, self.expected):
            if count <= wanted:
                return self.block(slice(0, count))
            # A chunk is read as a whole, so several patterns come from each. Not evenly: they may have a period.
            chunk = int(self.dataset.chunks[0]) if self.dataset.chunks else 1
            places = np.arange(0, count, chunk)
            number = min(len(places), max(FEWEST_PLACES, -(-wanted // chunk)))
            chosen = np.sort(np.random.default_rng(0).choice(places, number, replace=False)).tolist()
            size = min(chunk, -(-wanted // number))
            parts = [slice(first, min(first + size, count)) for first in chosen]
            result = np.empty((sum(part.stop - part.start for part in parts), *self.shape[1:]), self.dataset.dtype)
            done = 0
            for part in parts:
                result[done : done + part.stop - part.start] = self.block(part)
                done += part.stop - part.start
            return result

    def refuse(self, index: int) -> NoReturn:
        """Raise InputError for a pattern that a worker could not read: here, so that all processes of a run meet it."""
        with files.reading(self.path, self.expected):
            self.block(slice(index, min(index + self.tile, self.shape[0])))
            raise OSError(f"pattern {index} cannot be read")


@dataclass(frozen=True)
class Found:
    """What a pass over all patterns found.

    images : patterns, spread over the workers; None if they were not to be kept
    faults, digests : (N_IMG,) and (N_IMG, 32) uint8; digests are 0 where patterns are not kept
    totals : (N_IMG,) [photons or intensity units], on the pixels used
    negative : (N_IMG,) values below 0 on the pixels used; whole : (N_IMG,) bool, whether the others are whole numbers
    length : (N_IMG,) entries of the list of photons
    lacking : (N_IMG,) pixels used, after binning, without a value
    spoilt : (N_IMG,) values of the file that saturation spoils
    lost, alive : (panels, y, x), in how many patterns a pixel has no value, or one that is not 0
    """

    images: Any
    faults: UInt8
    digests: UInt8
    totals: Float64
    negative: Float64
    whole: Bool
    length: Float64
    lacking: Float64
    spoilt: Float64
    lost: Float64
    alive: Float64


@dataclass(frozen=True)
class Pass:
    """How all patterns are gone through; `rule` is what they are taken for.

    binning : blocks of pixels that are summed into one; mask : (N_PIX,) levels after binning
    broken : which pixels are never used that lack values; if others are mended, patterns may lack values
    judged : (panels, y, x), pixels that are looked at for what saturation spoils; None for none
    """

    stack: Stack
    rule: Rule
    binning: int
    mask: UInt8
    broken: Broken = "always"
    judged: Bool | None = None

    @property
    def used(self) -> Bool:
        """Return which pixels of the file are used, (panels, y, x)."""
        _, panels, rows, columns = self.stack.shape
        shape = (panels, rows // self.binning, columns // self.binning)
        used: Bool = (self.mask.reshape(shape) < NEVER).repeat(self.binning, 1).repeat(self.binning, 2)
        return used & ~self.rule.broken

    def listed(self, needed: float) -> int | None:
        """Return how long lists of photons are, made for `needed` entries; None if patterns are shorter."""
        sparse = self.rule.counts and self.mask.size < LONGEST and needed * SPARSE_GAIN <= self.mask.size
        return max(1, int(needed)) if sparse else None

    def lost(self, block: NDArray[Any]) -> tuple[Bool, Float64]:
        """Return which values (n, panels, y, x) are none, and how many of each pattern (n,) saturation spoils."""
        lost = kinds.missing(block, self.rule.codes)
        if self.rule.adu is None or self.judged is None:
            return lost, np.zeros(len(block))
        spoilt = saturated.bad(block, self.judged & ~lost, self.rule.adu)
        return lost | spoilt, np.count_nonzero(spoilt, axis=(1, 2, 3)).astype(np.float64)

    def numbers(self, block: NDArray[Any]) -> tuple[Float32, Bool, Bool, Float64, Float64]:
        """Return patterns in photons or intensity units, and what their values in the file were.

        block : (n, panels, y, x) as in the file; the first result is (n, N_PIX), pixels not used are 0
        So are values that are missing, with all of their block, and patterns that lack more than half of those used.
        The others: which values are missing (n, panels, y, x); of those used and not negative, whether all are whole
        numbers of photons (n,), for values taken for photons; how many are negative (n,); how many saturation spoils
        (n,). In ADU the others are as they should be.
        """
        rule, used = self.rule, self.used
        lost, spoilt = self.lost(block)
        if not used.all() or lost.any():
            block = np.where(lost | ~used, block.dtype.type(0), block)
        if rule.adu is not None:
            nothing = np.zeros(len(block))
            return self._binned(adu.photons(block, rule.adu), lost), lost, nothing == 0, nothing, spoilt
        signed = block.dtype.kind != "u"
        negative = np.count_nonzero(block < 0, axis=(1, 2, 3)) if signed else np.zeros(len(block))
        eps, whole = kinds.precision(block.dtype), np.ones(block.shape, np.bool_)
        if rule.unit != 1:
            number = block.astype(np.float64) / rule.unit
            whole = np.asarray(kinds.whole(number, eps) | (number < 0))
            block = np.rint(number) if rule.counts else number
        elif eps and rule.counts:
            whole = np.asarray((block == np.rint(block)) | (block < 0))
        if rule.counts and signed:
            block = np.maximum(block, 0)
        every = np.asarray(whole.all((1, 2, 3)))
        return self._binned(block, lost), lost, every, np.asarray(negative, np.float64), spoilt

    def lacking(self, lost: Bool) -> Bool:
        """Return which pixels used, after binning, lack a value (n, N_PIX), of those of the file (n, panels, y, x).

        A block lacks a value if any of its pixels does.
        """
        gaps = (lost & self.used).reshape(-1, *lost.shape[2:])
        return np.asarray(blocks(gaps, self.binning).any((2, 4))).reshape(len(lost), -1)

    def empty(self, lacking: NDArray[Any]) -> Bool:
        """Return which patterns (n,) lack so many pixels (n,) that they are not used: more than half of those used."""
        return np.asarray(2 * lacking > np.count_nonzero(self.mask < NEVER))

    def _binned(self, block: NDArray[Any], lost: Bool) -> Float32:
        """Return the sums over blocks of pixels (n, N_PIX) of patterns (n, panels, y, x), 0 where values are lost."""
        result: Float32 = block.astype(np.float32, copy=False).reshape(-1, *block.shape[2:])
        if self.binning > 1:
            # One axis after the other is several times as fast.
            result = result.reshape(len(result), -1, self.binning, result.shape[2]).sum(2)
            result = result.reshape(*result.shape[:2], -1, self.binning).sum(3)
        result = result.reshape(len(block), -1)
        if self.broken == "mend" and lost.any():
            gaps = self.lacking(lost)
            result[gaps | self.empty(gaps.sum(1))[:, None]] = 0
        return result

    def longest(self, sample: NDArray[Any]) -> float:
        """Return the entries of the longest list of photons of patterns (n, panels, y, x)."""
        return max(float(entries(self.numbers(sample[index : index + 1])[0]).max()) for index in range(len(sample)))

    def run(self, workers: Workers, *, keep: bool) -> Found:
        """Go through all patterns; InputError if some cannot be read. keep : whether they are wanted themselves."""
        (count, *pixel), length = self.stack.shape, self.rule.length
        one, times = Rows((), np.float64), Total(tuple(pixel), 2.0 * count)
        outputs: list[Output] = [Rows((), np.uint8), Rows((32,), np.uint8), one, one, Rows((), np.bool_), one, one]
        outputs += [one, times, times, Rows((), np.bool_)]
        if keep:
            size, dtype = (self.mask.size, np.float32) if length is None else (length, np.int32)
            outputs.append(Rows((size,), dtype, split=True))

        def read_tile(here: Here, part: slice) -> tuple[Any, ...]:
            number = part.stop - part.start
            try:
                block = self.stack.block(part)
            except (OSError, RuntimeError):
                rows = [o.shape if isinstance(o, Total) else (number, *o.shape) for o in outputs]
                nothing = [np.zeros(shape, getattr(o, "dtype", float)) for shape, o in zip(rows, outputs, strict=True)]
                nothing[10][:] = True
                return (*nothing[:11], *(here.array(patterns) for patterns in nothing[11:]))
            patterns, *seen = self._look(block, digested=keep)
            seen.append(np.zeros(number, np.bool_))
            return (*seen, here.array(self._kept(patterns, seen[5]))) if keep else tuple(seen)

        *seen, unreadable = (found := workers.run(read_tile, count, outputs, tile=self.stack.tile, on_host=True))[:11]
        if unreadable.any():
            self.stack.refuse(int(np.argmax(unreadable)))
        return Found(found[11] if keep else None, *seen)

    def _look(self, block: NDArray[Any], *, digested: bool) -> list[NDArray[Any]]:
        """Return patterns (n, N_PIX) and what else `Found` tells of them, in its order."""
        digests = np.zeros((len(block), 32), np.uint8)
        if digested:
            for row, pattern in zip(digests, block, strict=True):
                row[:] = np.frombuffer(hashlib.sha256(pattern.data).digest(), np.uint8)
        patterns, lost, whole, negative, spoilt = self.numbers(block)
        totals = patterns.sum(1, dtype=np.float64)
        faults = np.where(totals > 0, 0, EMPTY).astype(np.uint8)
        needed = entries(patterns) if self.rule.counts else np.zeros(len(block))
        hit, gaps = block != 0, np.zeros(len(block))
        times: NDArray[Any] = np.zeros(block.shape[1:], np.uint8)
        if lost.any():
            gaps = self.lacking(lost).sum(1, dtype=np.float64)
            if self.broken != "mend":
                faults[gaps > 0] = BROKEN
            hit, times = hit & ~lost, lost.sum(0, dtype=np.int32)
        alive = hit.sum(0, dtype=np.int32)
        return [patterns, faults, digests, totals, negative, whole, needed, gaps, spoilt, times, alive]

    def _kept(self, patterns: Float32, needed: Float64) -> NDArray[Any]:
        """Return patterns (n, N_PIX) as they are kept; if any needs more entries than there are, all are read again."""
        length = self.rule.length
        if length is None:
            return patterns
        patterns[needed > length] = 0
        return events(patterns, length)

    def corrected(self, found: Found, remask: Callable[[Bool], UInt8], *, given: bool) -> Pass:
        """Return how patterns should have been gone through, by what a pass over all of them found.

        remask : returns levels (N_PIX,) for broken pixels (panels, y, x); given : whether the unit of photons is given
        """
        count, rule = self.stack.shape[0], self.rule
        broken = kinds.broken_of(found.lost, count, self.broken)
        few = float(found.negative.sum()) <= kinds.RARE * count * max(1, int(self.used.sum()))
        counts = rule.counts and few and bool(found.whole.all())
        unit = rule.unit
        if rule.counts and not counts and unit != 1 and not given:
            # What some patterns were multiples of is none for all: whole numbers are photons all the same.
            unit, counts = 1.0, few and self.stack.dataset.dtype.kind != "f"
        needed = float(found.length.max())
        new = replace(self, rule=replace(rule, broken=broken, counts=counts, unit=unit), mask=remask(broken))
        length = rule.length if rule.length is not None and needed <= rule.length else new.listed(needed)
        return replace(new, rule=replace(new.rule, length=length if counts else None))

    def same(self, other: Pass) -> bool:
        """Tell whether another pass would find the same."""
        return (
            replace(self.rule, broken=other.rule.broken) == other.rule
            and np.array_equal(self.rule.broken, other.rule.broken)
            and np.array_equal(self.mask, other.mask)
        )


def passed(
    first: Pass, remask: Callable[[Bool], UInt8], workers: Workers, *, given: bool, keep: bool
) -> tuple[Pass, Found]:
    """Go through all patterns, and again where what the sample promised does not hold for all; see `Pass.corrected`."""
    now, found = first, first.run(workers, keep=keep)
    for _ in range(MOST_PASSES):
        better = now.corrected(found, remask, given=given)
        if better.same(now):
            break
        # Two copies of all patterns might not fit.
        del found
        now, found = better, better.run(workers, keep=keep)
    return now, found
