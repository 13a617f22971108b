"""What a file says of its pixels: which of them may be used, and the background they count."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.pixels import blocks, of_panels
from spilegate.records import MERGE_ONLY, NEVER, USE, Bool, Float64, UInt8

MASK, BACKGROUND = "mask", "background"
# What a mask may mean: what is usual in files of its format, Dragonfly's levels, 1 for good pixels, or 1 for bad ones.
Means = Literal["auto", "levels", "good", "bad"]
MEANING = {
    "auto": "levels 0 (use), 1 (merge only) or 2 (never)",
    "levels": "levels 0 (use), 1 (merge only) or 2 (never)",
    "good": "1 for good and 0 for bad pixels (prepare.mask=good)",
    "bad": "0 for good pixels and anything else for bad ones (prepare.mask=bad)",
}
# What values of a mask say, to whoever wonders which way round it is.
SENSE = {
    "levels": "0 use, 1 merge only, 2 never; of truth values true is masked",
    "good": "1 good, 0 bad",
    "bad": "0 good, all else bad",
}
# A pixel that shows nothing is dead if that happens by chance in one of so many detectors.
CHANCE = 1e-12


def read_mask(file: h5py.File, path: Path, panel_shape: tuple[int, int, int], means: Means = "auto") -> UInt8 | None:
    """Return the level of every pixel, (panels, y, x) uint8, None if the file has no mask; see `levels_of`.

    Raises InputError for another shape or any other level.
    """
    if not files.holds(file, MASK):
        return None
    expected = f"{MEANING[means]}, shape {panel_shape}, as the patterns have"
    found = files.dataset(file, MASK, path, expected, kinds="iufb")
    where = f"{path}: dataset {MASK!r}"
    values = of_panels(found, panel_shape)
    if values is None:
        raise InputError(f"{where}: shape {found.shape}; expected {expected}")
    return levels_of(values, means, where)


def levels_of(values: NDArray[Any], means: Means, where: str) -> UInt8:
    """Return levels (panels, y, x) of the values of a mask. where : it is, for messages.

    Levels are Dragonfly's (Ayyer et al., J. Appl. Cryst. 49:1320, 2016): 0 use, 1 merge only, 2 never; what is true in
    a mask of truth values is masked. If the mask `means` which pixels are good, 1 or true is used and 0 or false never;
    if it means which are bad, 0 is used and all else never.
    Raises InputError for any other value.
    """
    allowed = {"good": (0, 1), "bad": None}.get(means, (0, 1, 2))
    wrong = ~np.isfinite(values) if allowed is None else ~np.isin(values, allowed)
    if wrong.any():
        raise InputError(
            f"{where}: {int(wrong.sum())} pixels of other levels, such as {values[wrong][0]}; expected {MEANING[means]}"
            f", shape {values.shape}"
        )
    if means in ("good", "bad"):
        return np.where(values == (1 if means == "good" else 0), np.uint8(USE), np.uint8(NEVER))
    levels: UInt8 = values.astype(np.uint8)
    return levels * np.uint8(NEVER) if values.dtype.kind == "b" else levels


def exchanged(levels: UInt8, alive: Float64, means: Means) -> str | None:
    """Return that a mask seems to have its levels exchanged, and what to do, in words; None if it does not.

    levels, alive : (panels, y, x), of the mask, and in how many patterns a pixel holds anything
    """
    good, bad = (levels == USE), (levels != USE)
    if alive[good].any() or not good.any() or not alive[bad].any():
        return None
    other = "auto" if means == "good" else "good"
    names = ("1", "0") if means == "good" else ("0", "1")
    return (
        f"the pixels of level {names[0]} hold nothing, those of level {names[1]} do: the other way round? expected "
        f"patterns where the mask lets them be used; --set prepare.mask={other} reads it the other way round"
    )


def dead(alive: Float64, q_length: Float64, used: Bool, count: int) -> Bool:
    """Return which pixels (panels, y, x) are 0 in all `count` patterns though others at the same |q| are not.

    alive : (panels, y, x), in how many patterns a pixel holds anything; q_length : |q| [1/angstrom]
    used : (panels, y, x), pixels that may be used

    Over many orientations all pixels at one |q| see the same; so nothing at one of them is a matter of chance alone.
    """
    result = np.zeros(alive.shape, np.bool_)
    candidates = used & (alive == 0)
    if not candidates.any() or candidates.sum() == used.sum():
        return result
    number = max(4, int(np.sqrt(used.sum() / np.pi)))
    first, last = float(q_length[used].min()), float(q_length[used].max())
    shell = np.minimum(((q_length - first) / max(last - first, 1e-30) * number).astype(np.int64), number - 1)
    filled, living = (np.bincount(shell[used], of, number) for of in (None, alive[used]))
    expected = living / np.maximum(filled, 1)
    # In the shadow of a beam stop nothing tells, but no particle is dark there.
    lit = int(np.argmax(expected > 0))
    expected[:lit] = expected[lit]
    with np.errstate(divide="ignore"):
        log_chance = count * np.log1p(-np.minimum(expected / count, 1.0))
    result[candidates] = log_chance[shell[candidates]] < np.log(CHANCE / used.sum())
    return result


def read_background(
    file: h5py.File, path: Path, panel_shape: tuple[int, int, int], mask: UInt8 | None
) -> Float64 | None:
    """Return the background, (panels, y, x) float64 [as in the file, per pattern], None if the file has none.

    mask : levels (panels, y, x); pixels never used may hold anything and get 0
    Raises InputError for another shape, or for values of other pixels that are negative or not finite.
    """
    if not files.holds(file, BACKGROUND):
        return None
    expected = f"mean counts per pattern that are not the particle's, not negative, shape {panel_shape}"
    found = files.dataset(file, BACKGROUND, path, expected)
    where = f"{path}: dataset {BACKGROUND!r}"
    raw = of_panels(found, panel_shape)
    if raw is None:
        raise InputError(f"{where}: shape {found.shape}; expected {expected}")
    values: Float64 = raw.astype(np.float64)
    if mask is not None:
        values[mask == NEVER] = 0
    return checked_background(values, where)


def read_picture(path: Path, panel_shape: tuple[int, int, int], mask: UInt8 | None = None) -> Float64:
    """Return the background that a file of its own holds, (panels, y, x) float64 [counts per pattern].

    It is an array of numpy (.npy), or the dataset `background` of an HDF5 file, of the panels' shape.
    mask : levels (panels, y, x); pixels never used may hold anything and get 0
    Raises InputError for a file that cannot be read or has no such dataset, another shape, values that make no sense.
    """
    expected = f"mean counts per pattern that are not the particle's, not negative, shape {panel_shape}"
    if path.suffix.lower() != ".npy":
        with files.open_hdf5(path, f"HDF5 with the dataset {BACKGROUND!r}, or .npy") as file:
            found = read_background(file, path, panel_shape, mask)
        if found is None:
            raise InputError(f"{path}: dataset {BACKGROUND!r} not found; expected {expected}")
        return found
    try:
        with files.reading(path, expected):
            raw = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path}: not an array of numpy ({error}); expected {expected}") from error
    values = of_panels(raw, panel_shape) if raw.dtype.kind in "iuf" else None
    if values is None:
        raise InputError(f"{path}: {raw.dtype}, shape {raw.shape}; expected {expected}")
    result: Float64 = values.astype(np.float64)
    if mask is not None:
        result[mask == NEVER] = 0
    return checked_background(result, str(path))


def checked_background(values: Float64, where: str) -> Float64:
    """Return a background; raises InputError if values are negative or not finite. where : it is, for messages."""
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise InputError(
            f"{where}: {int(wrong.sum())} pixels with values that are negative or not finite; expected mean counts per "
            "pattern that are not the particle's; mend them, or set their level in the mask to 2"
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
            "expected pixels to match patterns on; change the mask (if 1 stands for good pixels in it: "
            "--set prepare.mask=good), the limits or the binning"
        )
    return levels


def sense(means: Means, usual: str) -> str:
    """Return in words what the values of a mask say. usual : the same of masks of its format, if nothing is given."""
    return usual if means == "auto" else SENSE[means]


def described(mask: UInt8) -> str:
    """Return the parts of pixels of level 1 and 2 in words."""
    merged, never = (100 * float((mask == level).mean()) for level in (MERGE_ONLY, NEVER))
    return f"{never:.1f} % never used, {merged:.1f} % merge only"
