"""Pixels that turn out to be dead once all patterns are read: their blocks are left out, without reading again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spilegate.backend import from_host, to_host
from spilegate.formats.patterns import Found, Pass
from spilegate.formats.values import EMPTY
from spilegate.kernels.blocks import GROUP, pattern_bytes
from spilegate.kernels.events import dense, events
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here, Workers
from spilegate.records import NEVER


def left_out(way: Pass, found: Found, workers: Workers) -> Found:
    """Return what a pass found, with 0 on pixels that its mask leaves out by now.

    found : of a pass that kept patterns, which lack no values
    """
    never, size, length = way.mask == NEVER, len(way.mask), way.rule.length

    def clear(here: Here, part: slice, block: Any) -> tuple[Any, Any]:  # noqa: ARG001 - the signature of every body
        values = np.array(to_host(dense(block, size)))
        values[:, never] = 0
        kept = values if length is None else events(values, length)
        return values.sum(1, dtype=np.float64), from_host(kept, block)

    outputs = [Rows((), np.float64), Rows(found.images.shape[1:], found.images.dtype, split=True)]
    totals, images = workers.run(
        clear, len(found.totals), outputs, tile=GROUP, split=[found.images], row_bytes=pattern_bytes(size)
    )
    return replace(found, images=images, totals=totals, faults=np.where(totals > 0, 0, EMPTY).astype(np.uint8))
