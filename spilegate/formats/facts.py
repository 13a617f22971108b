"""What a file says of its patterns and pixels, as far as it does; what it lacks the user gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats.patterns import Stack, Values
from spilegate.formats.values import none_of
from spilegate.records import NEVER, USE, Bool, Float64, Int64, Origin, UInt8

# Planck's constant times the speed of light [eV angstrom], and joules of an electronvolt (CODATA, exact).
EV_ANGSTROM, JOULE_PER_EV = 12398.419843320026, 1.602176634e-19
# What is measured of a detector and a beam lies between these, or was never measured: distance and pixel [m], energy
# [eV], wavelength [m].
DISTANCES, PIXELS, ENERGIES, WAVELENGTHS = (0.01, 20.0), (1e-6, 1e-2), (10.0, 1e5), (1.2e-11, 1.3e-7)
# Beside the SI, which files without units are in.
UNITS = {
    "m": 1.0, "meter": 1.0, "metre": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "pm": 1e-12, "a": 1e-10,
    "angstrom": 1e-10, "ev": 1.0, "kev": 1e3, "j": 1 / JOULE_PER_EV, "joule": 1 / JOULE_PER_EV,
}  # fmt: skip
# Of pulse to pulse: more than this part is said; a detector that moves by it is not one detector.
STEADY = 1e-3


@dataclass(frozen=True)
class Facts:
    """What a file says; None for what it does not.

    stack : its patterns; format : what it is, and why it is taken for that
    wavelength : [angstrom]; distance_m : of the detector; pixel_m : height and width of a pixel
    centre : (row, column) where the beam goes through a flat detector, pixel centres being whole numbers
    positions : (panels, y, x, 3) float64 [m], from the sample: x to the left and y up as the beam sees it, z along it
    levels : (panels, y, x); background : (panels, y, x) [as the values, per pattern]
    response : (panels, y, x), what pixels count of what they would at the beam
    agipd : whether panels are modules of AGIPD, of which some rows are twice as wide
    modules : which of the detector's modules the panels are, from 0; sense : what values of the mask say, in words
    origin : what they came from; remarks : what was decided that nobody asked for, a line each
    """

    stack: Stack
    format: str
    wavelength: float | None = None
    distance_m: float | None = None
    pixel_m: tuple[float, float] | None = None
    centre: tuple[float, float] | None = None
    positions: Float64 | None = None
    levels: UInt8 | None = None
    background: Float64 | None = None
    response: Float64 | None = None
    agipd: bool = False
    modules: tuple[int, ...] | None = None
    origin: Origin = field(default_factory=Origin)
    sense: str = ""
    remarks: tuple[str, ...] = ()


@dataclass
class Metadata:
    """Numbers of a file, looked for under the names that writers give them; what was decided is kept in `remarks`."""

    file: h5py.File
    path: Path
    remarks: list[str] = field(default_factory=list)

    def number(
        self, names: Sequence[str], between: tuple[float, float], unit: float = 1.0, *, jitter: bool = False
    ) -> float | None:
        """Return a number that a file has under one of some names, for all patterns or for each; None if it has none.

        between : what is plausible; other numbers are said and passed over
        unit : what the number is multiplied with, unless its attribute `units` says what it is in
        jitter : whether it may differ from pattern to pattern: then the mean is returned, and that is said
        Raises InputError for numbers that differ though they may not.
        """
        for name in names:
            found: Any = self.file.get(name)
            if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iuf" or not found.size:
                continue
            values = found[()].astype(np.float64).ravel() * self._unit(found, unit)
            good = values[np.isfinite(values) & (values >= between[0]) & (values <= between[1])]
            if not len(good):
                self.remarks.append(f"{name} is {values[0]:.4g}: not plausible, passed over")
                continue
            mean, spread = float(good.mean()), float(np.ptp(good))
            if len(good) < len(values):
                self.remarks.append(
                    f"{name}: {len(values) - len(good)} of {len(values)} are not plausible, passed over"
                )
            if spread > STEADY * mean and not jitter:
                raise InputError(
                    f"{self.path}: dataset {name!r}: from {good.min():.6g} to {good.max():.6g}; expected the same for "
                    "all patterns; write the patterns of each into a file of their own"
                )
            if spread > STEADY * mean:
                self.remarks.append(f"{name} differs from pattern to pattern by {spread / mean:.2%}: its mean is used")
            return mean if spread else float(good[0])
        return None

    @staticmethod
    def _unit(found: h5py.Dataset, unit: float) -> float:
        """Return what the values of a dataset are to be multiplied with."""
        said = found.attrs.get("units", "")
        said = said[0] if isinstance(said, np.ndarray) and said.size else said
        said = said.decode("ascii", "replace") if isinstance(said, bytes) else said
        return UNITS.get(str(said).strip().lower(), unit)

    def wavelength(self, groups: Sequence[str], others: Sequence[tuple[str, float]] = ()) -> float | None:
        """Return the wavelength [angstrom] that a file gives, or its energy means.

        groups : of the source or the beam, by preference; others : further datasets of wavelengths, and their unit [m]
        """
        for group in groups:
            names = [f"{group}/{name}" for name in ("incident_wavelength", "photon_wavelength", "wavelength")]
            metres = self.number(names, WAVELENGTHS, jitter=True)
            if metres is not None:
                return metres * 1e10
            names = [f"{group}/{name}" for name in ("incident_energy", "energy")]
            energy = self.number(names, ENERGIES, 1 / JOULE_PER_EV, jitter=True)
            if energy is None:
                energy = self._either(f"{group}/photon_energy")
            if energy is not None:
                return EV_ANGSTROM / energy
        for name, unit in others:
            metres = self.number([name], WAVELENGTHS, unit, jitter=True)
            if metres is not None:
                return metres * 1e10
        return None

    def _either(self, name: str) -> float | None:
        """Return an energy [eV] that is in joules or in electronvolts: no energy is plausible as both."""
        found: Any = self.file.get(name)
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iuf" or not found.size:
            return None
        small = float(np.nanmedian(np.abs(found[()]))) < 1e-9
        return self.number([name], ENERGIES, 1 / JOULE_PER_EV if small else 1.0, jitter=True)


class Masked:
    """A stack of patterns of which single values are none: these become what stands for no value.

    values : (N_IMG, ...); mask : of the same shape; bad : tells which of its values mask
    """

    def __init__(self, values: Values, mask: Values, bad: Callable[[NDArray[Any]], Bool]) -> None:
        self._values, self._mask, self._bad = values, mask, bad
        self.shape, self.dtype, self.chunks = values.shape, values.dtype, values.chunks
        self._none = self.dtype.type(none_of(self.dtype))

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns."""
        part = slice(*part.indices(self.shape[0]))
        bad = self._bad(np.asarray(self._mask[part]))
        return np.where(bad, self._none, np.asarray(self._values[part]))


class Flagged:
    """A stack of patterns of which values beyond limits are none, or equal to some.

    values : (N_IMG, ...); low, high : of a pattern's shape, or of one that has an axis for a single panel more
    equal : (n, ...), as many numbers of every pixel, those that are none not being any
    """

    def __init__(self, values: Values, low: Float64, high: Float64, equal: Float64) -> None:
        self._values = values
        self._low, self._high, *self._equal = (each.reshape(values.shape[1:]) for each in (low, high, *equal))
        self.shape, self.dtype, self.chunks = values.shape, values.dtype, values.chunks
        self._none = self.dtype.type(none_of(self.dtype))

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns."""
        block = np.asarray(self._values[part])
        bad = (block < self._low) | (block > self._high)
        for value in self._equal:
            bad |= block == value
        return np.where(bad, self._none, block)


class Some:
    """Some of the patterns of a stack, in the order given. which : (n,) int64, their numbers, from 0."""

    def __init__(self, values: Values, which: Int64) -> None:
        self._values, self._which = values, which
        self.shape, self.dtype, self.chunks = (len(which), *values.shape[1:]), values.dtype, values.chunks

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of them; those that lie one after the other in the file are read together."""
        which = self._which[part]
        runs = np.split(which, np.flatnonzero(np.diff(which) != 1) + 1)
        read = [np.asarray(self._values[slice(int(run[0]), int(run[-1]) + 1)]) for run in runs if len(run)]
        return np.concatenate(read) if read else np.zeros((0, *self.shape[1:]), self.dtype)


class Told:
    """Patterns of a stack; whoever waits for them is told how many were read. told : called with that, and with all."""

    def __init__(self, values: Values, told: Callable[[int, int], None]) -> None:
        self._values, self._told, self._read, self._lock = values, told, 0, threading.Lock()
        self.shape, self.dtype, self.chunks = values.shape, values.dtype, values.chunks

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of them."""
        block = np.asarray(self._values[part])
        with self._lock:
            self._read += len(block)
            self._told(self._read, self.shape[0])
        return block


def bad_to_levels(bad: Bool) -> UInt8:
    """Return levels, 0 and 2, of pixels of which some are bad."""
    levels: UInt8 = np.where(bad, np.uint8(NEVER), np.uint8(USE))
    return levels
