"""What a file says of its pixels: which of them may be used, and the background they count."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.pixels import blocks
from spilegate.records import MERGE_ONLY, NEVER, USE, Float64, UInt8

MASK, BACKGROUND = "mask", "background"


def read_mask(file: h5py.File, path: Path, panel_shape: tuple[int, int, int]) -> UInt8 | None:
    """Return the level of every pixel, (panels, y, x) uint8, None if the file has no mask.

    Levels are Dragonfly's (Ayyer et al., J. Appl. Cryst. 49:1320, 2016): 0 use, 1 merge only, 2 never.
    Raises InputError for another shape or any other level.
    """
    if MASK not in file:
        return None
    expected = f"levels 0 (use), 1 (merge only) or 2 (never), shape {panel_shape}, as the patterns have"
    found = files.dataset(file, MASK, path, expected)
    where = f"{path}: dataset {MASK!r}"
    if found.shape != panel_shape:
        raise InputError(f"{where}: shape {found.shape}; expected {expected}")
    values = found[()]
    wrong = ~np.isin(values, (0, 1, 2))
    if wrong.any():
        raise InputError(
            f"{where}: {int(wrong.sum())} pixels of other levels, such as {values[wrong][0]}; expected {expected}"
        )
    levels: UInt8 = values.astype(np.uint8)
    return levels


def read_background(
    file: h5py.File, path: Path, panel_shape: tuple[int, int, int], mask: UInt8 | None
) -> Float64 | None:
    """Return the background, (panels, y, x) float64 [counts per pattern], None if the file has none.

    mask : levels (panels, y, x); pixels never used may hold anything and get 0
    Raises InputError for another shape, or for values of other pixels that are negative or not finite.
    """
    if BACKGROUND not in file:
        return None
    expected = f"mean counts per pattern that are not the particle's, not negative, shape {panel_shape}"
    found = files.dataset(file, BACKGROUND, path, expected)
    where = f"{path}: dataset {BACKGROUND!r}"
    if found.shape != panel_shape:
        raise InputError(f"{where}: shape {found.shape}; expected {expected}")
    values: Float64 = found[()].astype(np.float64)
    if mask is not None:
        values[mask == NEVER] = 0
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise InputError(
            f"{where}: {int(wrong.sum())} pixels with values that are negative or not finite; expected {expected}; "
            "mend them, or set their level in the mask to 2"
        )
    return values


def bin_mask(mask: UInt8, binning: int) -> UInt8:
    """Return the levels of blocks of pixels: the largest of each, so that one pixel of level 2 makes a block 2."""
    levels: UInt8 = blocks(mask, binning).max((2, 4))
    return levels


def bin_background(background: Float64, binning: int) -> Float64:
    """Return the background of blocks of pixels, the sum of each."""
    total: Float64 = blocks(background, binning).sum((2, 4))
    return total


def limited(mask: UInt8, q: Float64, q_min: float, q_max: float | None, path: Path) -> UInt8:
    """Return levels (N_PIX,) that are 2 outside q_min <= |q| <= q_max too.

    q : (N_PIX, 3) float64 [1/angstrom]
    Raises InputError if no pixel lies within the limits, or none of them has level 0.
    """
    q_length = np.linalg.norm(q, axis=-1)
    inside = (q_length >= q_min) & (q_length <= (np.inf if q_max is None else q_max))
    if not inside.any():
        raise InputError(
            f"{path}: no pixel with q_min = {q_min:g} <= |q| <= q_max = {q_max}; its pixels lie between "
            f"{q_length.min():.4g} and {q_length.max():.4g} 1/angstrom; change the limits"
        )
    levels: UInt8 = np.where(inside, mask, np.uint8(NEVER))
    if not (levels == USE).any():
        raise InputError(
            f"{path}: dataset {MASK!r}: no pixel of level 0 from q_min = {q_min:g} to q_max = {q_max}, after binning; "
            "expected pixels to match patterns on; change the mask, the limits or the binning"
        )
    return levels


def described(mask: UInt8) -> str:
    """Return the parts of pixels of level 1 and 2 in words."""
    merged, never = (100 * float((mask == level).mean()) for level in (MERGE_ONLY, NEVER))
    return f"{never:.1f} % never used, {merged:.1f} % merge only"
