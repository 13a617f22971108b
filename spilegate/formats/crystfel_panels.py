"""Panels of CrystFEL's geometry files, their masks and bad regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.records import Bool, Float64

# Beyond these nothing is marked.
LOW, HIGH = -np.inf, np.inf


@dataclass(frozen=True)
class Mask:
    """Where values are whose bits tell which pixels are bad.

    path : of the dataset, in which % is what it is in that of the patterns; file : that it is in, None for that of the
    patterns
    good_bits, bad_bits : that good pixels have all of, and none of
    """

    path: str
    file: str | None = None
    good_bits: int = 0
    bad_bits: int = 0

    def bad(self, values: NDArray[Any]) -> Bool:
        """Return which of some whole numbers stand for bad pixels."""
        bits = values.astype(np.uint64)
        good, bad = np.uint64(self.good_bits), np.uint64(self.bad_bits)
        marked: Bool = ((bits & good) != good) | ((bits & bad) != 0)
        return marked


@dataclass(frozen=True)
class Panel:
    """A rectangle of pixels: of which data it is, and where it lies in the laboratory.

    min_fs, max_fs, min_ss, max_ss : in the data, the last ones included
    fs, ss : (x, y, z) [pixels], from one pixel to the next in the data's fast and slow direction
    corner_x, corner_y : [pixels], the outer corner of the first pixel; coffset : [m], its z, less clen
    res : [pixels/m]
    dims : what the axes of the data are: "%" patterns, "ss", "fs", or an index that all its pixels have
    data : the dataset's path
    adu_per_photon, adu_per_ev : units of the file per photon, or per eV of its energy; at most one is given
    max_adu, flag_lessthan, flag_morethan, flag_equal : values above, below, above and equal to which are bad
    """

    name: str
    min_fs: int
    max_fs: int
    min_ss: int
    max_ss: int
    fs: tuple[float, float, float]
    ss: tuple[float, float, float]
    corner_x: float
    corner_y: float
    res: float
    coffset: float = 0.0
    dims: tuple[str | int, ...] = ("ss", "fs")
    data: str = "/data/data"
    masks: tuple[Mask, ...] = ()
    no_index: bool = False
    mask_edge_pixels: int = 0
    adu_per_photon: float | None = None
    adu_per_ev: float | None = None
    max_adu: float = HIGH
    flag_lessthan: float = LOW
    flag_morethan: float = HIGH
    flag_equal: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Return how many pixels it has along (ss, fs)."""
        return self.max_ss - self.min_ss + 1, self.max_fs - self.min_fs + 1

    def places(self, within: float) -> Float64:
        """Return the places (ss, fs, 3) [pixels] of its pixels; within : of each, 0 its first corner, 1/2 its centre.

        z counts from the panel's first corner.
        """
        ss, fs = (np.arange(number)[:, None] + within for number in self.shape)
        steps = (ss * np.array(self.ss))[:, None] + (fs * np.array(self.fs))[None]
        return np.asarray(steps + np.array([self.corner_x, self.corner_y, 0.0]), np.float64)

    def centres(self) -> Float64:
        """Return the centres (ss, fs, 3) [m] of its pixels, z less clen."""
        return np.asarray(self.places(0.5) / self.res + np.array([0.0, 0.0, self.coffset]), np.float64)

    def edges(self) -> Bool:
        """Return which pixels (ss, fs) are in the margin that is bad."""
        marked = np.ones(self.shape, np.bool_)
        (rows, columns), margin = self.shape, self.mask_edge_pixels
        marked[margin : rows - margin, margin : columns - margin] = False
        return marked


@dataclass(frozen=True)
class Region:
    """A rectangle of bad pixels.

    panel : whose pixels are bad, None for those of all
    in_data : whether bounds are of (fs, ss) in the data, both ends included, or of (x, y) [pixels], both excluded
    low, high : bounds
    """

    name: str
    panel: str | None
    in_data: bool
    low: tuple[float, float]
    high: tuple[float, float]

    def marked(self, panel: Panel, shift: tuple[float, float]) -> Bool:
        """Return which pixels (ss, fs) of a panel it marks; shift : of the detector along x and y [m].

        In the laboratory it marks pixels whose first corner lies in it, as CrystFEL does.
        """
        if self.panel not in (None, panel.name):
            return np.zeros(panel.shape, np.bool_)
        if self.in_data:
            first = (panel.min_fs, panel.min_ss)
            fs, ss = (first[axis] + np.arange(panel.shape[1 - axis]) for axis in (0, 1))
            inside = [(self.low[axis] <= at) & (at <= self.high[axis]) for axis, at in ((0, fs), (1, ss))]
            return np.asarray(inside[1][:, None] & inside[0][None])
        place = panel.places(0.0)[..., :2] + np.array(shift) * panel.res
        return np.asarray(((place > self.low) & (place < self.high)).all(-1))

    def overlaps(self, panel: Panel) -> bool:
        """Tell whether a region of the data has pixels of a panel."""
        first, last = (panel.min_fs, panel.min_ss), (panel.max_fs, panel.max_ss)
        return all(self.low[axis] <= last[axis] and first[axis] <= self.high[axis] for axis in (0, 1))
