"""Where single patterns lack values: found in a pass of its own, over files that have any."""

from __future__ import annotations

from typing import Any

import numpy as np

from spilegate.formats.patterns import Found, Pass
from spilegate.kernels.exact import Output, Rows
from spilegate.kernels.workers import Here, Workers
from spilegate.records import Bool, Int64


def none() -> Int64:
    """Return that nothing is missing."""
    return np.zeros((2, 0), np.int64)


def places(way: Pass, found: Found, workers: Workers) -> Int64:
    """Return where values are missing that are to be mended, (2, n): numbers of patterns, ascending, and of pixels.

    Of patterns that lack too many to be used there are none. Every process gets rows of one length, whatever patterns
    it reads: pixels, or where that is less a bit for each of them.
    """
    count, size = len(found.lacking), way.mask.size
    wanted = (found.lacking > 0) & ~way.empty(found.lacking)
    if way.broken != "mend" or not wanted.any():
        return none()
    most = int(found.lacking[wanted].max())
    packed = 32 * most > size
    row = Rows((-(-size // 8),), np.uint8) if packed else Rows((most,), np.int32)
    outputs: list[Output] = [row, Rows((), np.bool_)]

    def look(here: Here, part: slice) -> tuple[Any, ...]:  # noqa: ARG001 - the signature of every body
        number = part.stop - part.start
        rows, bad = np.full((number, *row.shape), 0 if packed else -1, row.dtype), np.zeros(number, np.bool_)
        if wanted[part].any():
            try:
                block = way.stack.block(part)
            except (OSError, RuntimeError):
                return rows, ~bad
            lacking: Bool = way.lacking(way.lost(block)[0]) & wanted[part, None]
            if packed:
                rows[:] = np.packbits(lacking, axis=1)
            else:
                pattern, pixel = np.nonzero(lacking)
                rows[pattern, np.arange(len(pattern)) - np.searchsorted(pattern, pattern)] = pixel
        return rows, bad

    rows, unreadable = workers.run(look, count, outputs, tile=way.stack.tile, on_host=True)
    if unreadable.any():
        way.stack.refuse(int(np.argmax(unreadable)))
    rows = np.asarray(rows)
    if packed:
        # Unpacked one by one: together they would take as much memory as the patterns.
        pixels = [np.flatnonzero(np.unpackbits(each, count=size)) for each in rows]
        return np.stack([np.repeat(np.arange(count), [len(each) for each in pixels]), np.concatenate(pixels)])
    pattern, place = np.nonzero(rows >= 0)
    return np.stack([pattern, rows[pattern, place].astype(np.int64)])
