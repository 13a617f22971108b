"""Runs of LCLS-II (xtc2), read by psana2 where it is installed: calibrated patterns, in the order of the file.

A file of these has no mark of its own: its name's ending has to do. psana knows a run as a stream of events, so that
patterns are read fast in their order only.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spilegate.errors import InputError
from spilegate.formats.facts import DISTANCES, Facts
from spilegate.formats.patterns import Stack
from spilegate.kernels import launch
from spilegate.records import Float64, UInt8

ENDINGS = (".xtc2", ".xtc")
EXPECTED = "a run of LCLS-II with patterns (xtc2)"
GET = "pip install psana, or take the facility's environment"
# Its segments are where its geometry says in these; z along the beam, y up.
METRES, CENTRED = 1e-6, 1


def is_xtc(path: Path) -> bool:
    """Tell whether a file is of LCLS, by the ending of its name: there is nothing else."""
    return path.suffix.lower() in ENDINGS


class Events:
    """Calibrated patterns of a run as a stack of them, read in their order; going back starts anew.

    path, detector : of which file, and its name there; first : the first pattern; count : how many there are
    shape, dtype, chunks : as of a dataset; `events[part]` are some of the patterns
    """

    chunks = None

    def __init__(self, path: Path, detector: str, first: NDArray[Any], count: int) -> None:
        self._path, self._detector = path, detector
        self.shape, self.dtype = (count, *first.shape), first.dtype
        self._stream: Iterator[NDArray[Any]] = iter(())
        self._at = count
        self._lock = threading.Lock()

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return some of the patterns; OSError if there are fewer than there were."""
        first, last, _ = part.indices(self.shape[0])
        result = np.zeros((max(last - first, 0), *self.shape[1:]), self.dtype)
        with self._lock:
            if first < self._at:
                self._stream, self._at = _patterns(self._path, self._detector), 0
            for place in range(self._at, last):
                values = next(self._stream, None)
                self._at += 1
                if values is None or values.shape != self.shape[1:]:
                    raise OSError(f"pattern {place}: {'missing' if values is None else f'shape {values.shape}'}")
                if place >= first:
                    result[place - first] = values
        return result


def read(path: Path, detector: str | None, *, placed: bool) -> Facts:
    """Return what a run says of a detector. detector : its name, needed if there are several.

    placed : whether its distance, or where its pixels lie, is given besides
    Raises InputError if psana is not installed, cannot read the file, or has no constants to calibrate its values with.
    """
    if path.suffix.lower() == ENDINGS[1]:
        raise InputError(f"{path}: a run of LCLS-I (xtc); expected {EXPECTED}; write its patterns into CXI by psana 1")
    if launch.ranks() > 1:
        raise InputError(
            f"{path}: {EXPECTED}; psana would give each of {launch.ranks()} processes other events; expected another "
            "file; spilegate convert writes one, by itself"
        )
    try:
        import psana  # noqa: F401 - what is missing is said before anything is read
    except ImportError as error:
        raise InputError(
            f"{path}: {EXPECTED}, which psana reads ({error}); expected it to be installed; {GET}"
        ) from error
    with _said(path):
        run, name = _run(path, detector)
        of_detector = run.Detector(name).raw
        calibrated = bool(of_detector._calibconst)
        coordinates, mask = _positions(of_detector), of_detector._mask()
        patterns = _patterns(path, name)
        first = next(patterns, None)
        count = 0 if first is None else 1 + sum(1 for _ in patterns)
    if first is None:
        raise InputError(f"{path}: no pattern of {name}; expected {EXPECTED}; give another detector, --dataset NAME")
    if not calibrated:
        raise InputError(
            f"{path}: no constants to calibrate {name} with (from the facility's data base); expected patterns, found "
            "raw values; read it where the data base can be reached, and convert it there"
        )
    far = coordinates is None or DISTANCES[0] <= float(np.median(coordinates[..., 2])) <= DISTANCES[1]
    if not (far or placed):
        raise InputError(f"{path}: its geometry has no distance; expected that of {name}; add --distance-m NUMBER")
    levels: UInt8 | None = None if mask is None else np.where(np.asarray(mask) == 1, 0, 2).astype(np.uint8)
    return Facts(
        Stack(Events(path, name, first, count), path, f"detector {name!r}", EXPECTED),
        f"LCLS-II's run {run.expt} {run.runnum} of {name}",
        positions=coordinates,
        levels=None if levels is None else levels.reshape(first.shape),
    )


def _run(path: Path, detector: str | None) -> tuple[Any, str]:
    """Return the run of a file and the name of the detector; InputError if which it is cannot be told."""
    import psana

    try:
        run = next(psana.DataSource(files=str(path)).runs())
    except OSError:
        # Without its data base nothing is calibrated, which is said when all else is well.
        run = next(psana.DataSource(files=str(path), skip_calib_load="all").runs())
    names = sorted(name for name, part in run.detinfo if part == "raw" and "calib" in run.detinfo[name, part])
    chosen = [name for name in names if detector in (None, name)]
    if len(chosen) != 1:
        raise InputError(
            f"{path}: detectors {', '.join(names) or 'none'}; expected one{f', {detector}' if detector else ''}; "
            "--dataset NAME names it"
        )
    return run, chosen[0]


def _patterns(path: Path, detector: str) -> Iterator[NDArray[Any]]:
    """Yield the calibrated patterns of a run, (segments, y, x); events without any are passed over."""
    run, name = _run(path, detector)
    of_detector = run.Detector(name).raw
    for event in run.events():
        values = of_detector.calib(event)
        if values is not None:
            values = np.asarray(values)
            yield values.reshape(-1, *values.shape[-2:])


def _positions(detector: Any) -> Float64 | None:
    """Return positions of pixels (segments, y, x, 3) [m], None if nobody has measured them."""
    if detector._det_geotxt_and_meta()[0] is None:
        return None
    found = np.stack(detector._pixel_coords(do_tilt=True, cframe=CENTRED), axis=-1).astype(np.float64) * METRES
    return found.reshape(-1, *found.shape[-3:])


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn whatever psana finds wrong into an InputError, and keep what it prints to itself."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: psana says {reason[:300]}; expected {EXPECTED}; copy it again") from error
