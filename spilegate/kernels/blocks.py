"""How many patterns make a block and a tile: by the data alone, so that sums are the same wherever they are made."""

from __future__ import annotations

import math
from collections.abc import Iterator

# Patterns that always stay together: whatever is summed over a tile of patterns uses a tile that divides this.
GROUP = 64
# Copies of a pattern, in single precision, that a body makes, unless told otherwise.
SCRATCH = 16
# Detector pixels of a block of patterns at most; a NUFFT of fewer points is mostly the FFT of its grid.
BLOCK_POINTS = 4_000_000


def block_rows(count: int, n_pixel: int) -> int:
    """Return how many of `count` patterns make a block: sums of blocks are the same wherever they are made.

    The number of blocks is about a power of two, or the largest that leaves every block GROUP patterns; it depends on
    the data alone. Large blocks can be halved several times.
    """
    blocks = 2 ** math.ceil(math.log2(max(2.0, count * n_pixel / BLOCK_POINTS)))
    groups = max(1, math.ceil(count / blocks / GROUP))
    unit = 1 << max(0, groups.bit_length() - 4)
    return int(math.ceil(groups / unit) * unit * GROUP)


def pattern_bytes(n_pixel: int) -> float:
    """Return the memory that a pattern takes with all that a body usually makes of it."""
    return 4.0 * SCRATCH * n_pixel


def tile_rows(count: int, n_pixel: int, most: float) -> int:
    """Return how many of `count` patterns make a tile: a block halved until it has at most `most`, or cannot be."""
    rows = block_rows(count, n_pixel)
    while rows > most and rows % (2 * GROUP) == 0:
        rows //= 2
    return rows


def tiles(begin: int, end: int, tile: int) -> Iterator[slice]:
    """Yield the tiles of `range(begin, end)`."""
    for first in range(begin, end, tile):
        yield slice(first, min(first + tile, end))
