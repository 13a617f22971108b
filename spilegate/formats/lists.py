"""Lists of files of patterns, read as one file: a path a line, as Dragonfly's `in_photons_list` (Ayyer et al., 2016).

Paths are relative to the list's folder; a second word is the name of the dataset.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats.facts import STEADY
from spilegate.formats.patterns import EXPECTED, Stack
from spilegate.formats.reading import Layout
from spilegate.records import NEVER, Float64, Origin, UInt8

# Longer text is no list.
MOST_BYTES = 1 << 24
# Of longer lists not all files are held open.
MOST_OPEN = 64


@dataclass(frozen=True)
class Entry:
    """A line of a list: a file or a folder of patterns, and the dataset's name, if it is given."""

    path: Path
    dataset: str | None = None


Open = Callable[[Entry], AbstractContextManager[Layout]]


def entries(path: Path) -> list[Entry] | None:
    """Return the files that a list names; None if a file is no list: text of which a line is a path that there is.

    Raises InputError if some of them are not there.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if "\0" in text or len(content) > MOST_BYTES:
        return None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    found = [_entry(path.parent, line) for _, line in lines]
    if not any(found):
        return None
    for (number, line), each in zip(lines, found, strict=True):
        if each is None:
            raise InputError(
                f"{path}: line {number}: {line[:200]!r}: not found in {path.resolve().parent}; expected a path, and "
                "perhaps the name of a dataset; check the path"
            )
    return [each for each in found if each is not None]


def _entry(folder: Path, line: str) -> Entry | None:
    """Return what a line names, None if there is no such file."""
    if _there(folder / line):
        return Entry(folder / line)
    words = line.rsplit(None, 1)
    return Entry(folder / words[0], words[1]) if len(words) > 1 and _there(folder / words[0]) else None


def _there(path: Path) -> bool:
    """Tell whether there is a file or a folder of some name, which may be none at all."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class Joined:
    """The patterns of several files as those of one, one file after the other.

    shape, dtype, chunks : as of a dataset; `joined[part]` are some of the patterns
    """

    def __init__(self, listed: list[Entry], open_one: Open) -> None:
        self._listed, self._open_one = listed, open_one
        self._open: OrderedDict[int, tuple[ExitStack, Stack]] = OrderedDict()
        # Files that are in use must not be closed meanwhile.
        self._lock: Any = threading.Lock() if len(listed) > MOST_OPEN else nullcontext()
        self._edges = np.zeros(1, np.int64)
        self.shape: tuple[int, ...] = ()
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.chunks: tuple[int, ...] | None = None

    def layouts(self) -> Iterator[Layout]:
        """Open every file and yield what it says of its pixels; to be gone through once, before any pattern is read."""
        counts = []
        for number in range(len(self._listed)):
            layout = self._opened(number)
            counts.append(layout.stack.shape[0])
            if number == 0:
                self.dtype = layout.stack.dataset.dtype
            if layout.stack.dataset.chunks and (self.chunks is None or layout.stack.dataset.chunks[0] > self.chunks[0]):
                self.chunks = layout.stack.dataset.chunks
            self.shape = (sum(counts), *layout.stack.shape[1:])
            yield layout
        self._edges = np.append(0, np.cumsum(counts))

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1][0].close()

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns; OSError, which names the file, if they cannot be read."""
        first, last, _ = part.indices(self.shape[0])
        files = range(
            int(np.searchsorted(self._edges, first, "right")) - 1, int(np.searchsorted(self._edges, last, "left"))
        )
        blocks = [np.zeros((0, *self.shape[1:]), self.dtype)]
        with self._lock:
            for number in files:
                begin, end = (int(edge) for edge in self._edges[number : number + 2])
                own = slice(max(first, begin) - begin, min(last, end) - begin)
                if own.stop > own.start:
                    blocks.append(self._block(number, own))
        return np.concatenate(blocks)

    def _block(self, number: int, part: slice) -> NDArray[Any]:
        """Return some of the patterns of one file."""
        try:
            stack = self._open[number][1] if number in self._open else self._opened(number).stack
            return stack.block(part)
        except (OSError, RuntimeError, InputError) as error:
            raise OSError(f"{self._listed[number].path}: {error}") from error

    def _opened(self, number: int) -> Layout:
        """Open a file; the one that has been open for longest is closed if there are too many."""
        if len(self._open) >= MOST_OPEN:
            self._open.popitem(last=False)[1][0].close()
        closing = ExitStack()
        layout = closing.enter_context(self._open_one(self._listed[number]))
        self._open[number] = (closing, layout.stack)
        return layout


@contextmanager
def joined(path: Path, listed: list[Entry], open_one: Open) -> Iterator[Layout]:
    """Open the files of a list and give what all of them say of their pixels.

    open_one : opens one of them
    Raises InputError if they are not patterns of one format and one detector, and names the file that differs.
    """
    values = Joined(listed, open_one)
    try:
        layouts = values.layouts()
        first = next(layouts)
        background = _background(first)
        levels, remarks = first.levels, list(first.remarks)
        masked_alike, parts = True, [(first.origin, listed[0].path.name, first.stack.shape[0])]
        for entry, layout in zip(listed[1:], layouts, strict=True):
            _refuse_other(layout, entry, first, listed[0], background)
            masked_alike &= _same(layout.levels, first.levels)
            levels = _either(levels, layout.levels)
            remarks += layout.remarks
            parts.append((layout.origin, entry.path.name, layout.stack.shape[0]))
        if not masked_alike:
            remarks.append("masks differ from file to file: what is masked in any is masked in all")
        yield replace(
            first,
            path=path,
            stack=Stack(values, path, f"patterns of {len(listed)} files", EXPECTED),
            levels=levels,
            format=f"{len(listed)} files of {first.format}",
            truth="",
            origin=Origin.joined(parts),
            remarks=tuple(dict.fromkeys(remarks)),
        )
    finally:
        values.close()


def _refuse_other(layout: Layout, entry: Entry, first: Layout, of_first: Entry, background: Float64 | None) -> None:
    """Raise InputError if a file has other patterns than the first one."""
    largest = float(np.linalg.norm(first.q, axis=-1).max())
    same_shape = layout.stack.shape[1:] == first.stack.shape[1:]
    # What follows a comma is of one file only.
    formats = [each.format.partition(",")[0] for each in (layout, first)]
    dtypes = [each.stack.dataset.dtype.newbyteorder("=") for each in (layout, first)]
    differs = [
        (formats[0] != formats[1], "format", *formats),
        (not same_shape, "patterns (panels, y, x)", layout.stack.shape[1:], first.stack.shape[1:]),
        (dtypes[0] != dtypes[1], "type of values", *dtypes),
        (
            abs(layout.wavelength / first.wavelength - 1) > STEADY, "wavelength [angstrom]",
            f"{layout.wavelength:.6g}", f"{first.wavelength:.6g}",
        ),
        (
            same_shape and float(np.abs(layout.q - first.q).max()) > STEADY * largest, "positions of pixels",
            "others", "the same",
        ),
        (not _same(layout.response, first.response), "response of pixels", "another", "the same"),
        (not _same(_background(layout), background), "background", "another", "the same"),
    ]  # fmt: skip
    for different, what, found, expected in differs:
        if different:
            raise InputError(
                f"{entry.path}: {what}: {found}; expected {expected}, as {of_first.path} has: a list is of one "
                "detector; take the file off it"
            )


def _background(layout: Layout) -> Float64 | None:
    """Return the background of a file where its mask lets pixels be used."""
    return layout.background(np.zeros(layout.q.shape[:3], np.uint8) if layout.levels is None else layout.levels)


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    """Tell whether two arrays that may not be there are the same."""
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=STEADY, atol=0, equal_nan=True))


def _either(one: UInt8 | None, other: UInt8 | None) -> UInt8 | None:
    """Return the levels of pixels by two masks, of which one may not be there."""
    if one is None or other is None:
        return other if one is None else one
    return np.minimum(np.maximum(one, other), np.uint8(NEVER))
