"""What a body returns for a tile, its rows or its part of a sum, and how parts become whole.

Sums are exact, so that neither the number of workers nor the order in which they finish can change a result: every part
is rounded to a multiple of one power of two, so small that nothing is lost and so large that the whole sum still fits
into the 53 bits of a double (Demmel and Nguyen, IEEE ARITH 21, 163, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.backend import array_module, to_host

# Bits of a double less the sign and one for the bound's rounding.
BITS = 51


@dataclass(frozen=True)
class Rows:
    """An output with one row of `shape` for each row of the work; kept where it was made if `split`.

    shared : every body may want all of it next; so it stays on the device, where the work is done by one
    """

    shape: tuple[int, ...]
    dtype: Any
    split: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Total:
    """An output of `shape`, float64, summed over all rows of the work.

    bound : upper bound of the absolute value of every element of the sum; beyond it sums are merely not exact
    shared : as for `Rows`
    """

    shape: tuple[int, ...]
    bound: float
    shared: bool = False

    def rounded(self, part: Any) -> Any:
        """Return a part of the sum, an array of any module, rounded so that adding parts is exact."""
        step = math.ldexp(1.0, math.frexp(self.bound)[1] - BITS) if self.bound > 0 else 1.0
        xp = array_module(part)
        if step <= 1 and getattr(part.dtype, "kind", "") in ("i", "u"):
            # Whole numbers are multiples already.
            return xp.asarray(part, dtype=xp.float64)
        if not hasattr(xp, "rint"):
            xp, part = np, to_host(part)
        return xp.rint(xp.asarray(part, dtype=xp.float64) / step) * step


Output = Rows | Total


def sums_of(outputs: Sequence[Output], results: Sequence[Any], values: Sequence[Any], part: slice) -> list[Any]:
    """Put the rows of what a body returned for a tile in their places; return its parts of the sums, rounded."""
    sums = []
    for output, result, value in zip(outputs, results, values, strict=True):
        if isinstance(output, Total):
            sums.append(to_host(output.rounded(value)))
        else:
            result[part] = to_host(value)
    return sums


def put(outputs: Sequence[Output], results: Sequence[Any], values: Sequence[Any], part: slice) -> None:
    """Add what a body returned for a tile to the results: rows in their places, parts to their sums."""
    for output, result, value in zip(outputs, results, values, strict=True):
        if isinstance(output, Total):
            result += output.rounded(value)
        else:
            result[part] = to_host(value)
