"""Pixels as the pictures that a detector shows, and the range of values worth showing."""

from __future__ import annotations

import numpy as np

from spilegate.findings import Findings
from spilegate.records import NEVER, Float32, Float64, Int64, UInt8


def example(found: Findings, index: int) -> Float32:
    """Return the pattern (N_PIX,) of that number, one of those that are shown."""
    pattern: Float32 = found.examples[int(np.searchsorted(found.shown, index))]
    return pattern


def assemble(found: Findings, values: Float32 | Float64) -> Float64:
    """Return pixel values (N_PIX,) as the assembled picture, NaN, drawn grey, where no pixel is or the mask is 2."""
    return assembled(found.pixel_index_map, found.mask, values)


def assembled(index_map: Int64, mask: UInt8, values: Float32 | Float64) -> Float64:
    """Return pixel values (N_PIX,) in their rows and columns (N_PIX, 2), from the first ones on; NaN as `assemble`."""
    row, column = (index_map - index_map.min(axis=0)).T
    picture = np.full((row.max() + 1, column.max() + 1), np.nan)
    picture[row, column] = np.where(mask < NEVER, values, np.nan)
    return picture


def log_range(values: Float32 | Float64) -> tuple[float, float]:
    """Return the ends of a pattern's logarithmic scale: four decades at most, less if its smallest count says so."""
    positive = values[values > 0]
    top = float(positive.max()) if len(positive) else 1.0
    low = max(top * 1e-4, float(positive.min()) / 3 if len(positive) else 0.1)
    return min(low, top / 2), top
