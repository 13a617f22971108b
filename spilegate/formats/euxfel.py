"""Run folders of European XFEL, gathered by EXtra-data: its virtual CXI is read as any other, block by block."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from spilegate.errors import InputError
from spilegate.formats import files
from spilegate.formats.values import none_of

EXPECTED = "a run folder of European XFEL, corrected (PROC)"
GET = "pip install 'spilegate[euxfel]'"
# What every file of a run has: its trains, and the names of what it recorded, by its version.
TRAINS, SOURCES = "INDEX/trainId", ("METADATA/dataSourceId", "METADATA/dataSources/dataSourceId")
OVERVIEW = "overview.h5"
# Where detectors of which classes keep their pixels.
PIXELS = ("image.data", "data.adc")


@contextmanager
def gathered(path: Path, detector: str | None) -> Iterator[tuple[Path, str]]:
    """Give a virtual CXI file of the run in a folder, as long as it is needed, and the name of the detector.

    detector : its name, needed where there are several
    Raises InputError if the folder holds no run, a file of it cannot be read, there is no such detector with corrected
    values, or EXtra-data is not installed.
    """
    parts = _files(path)
    try:
        from extra_data import DataCollection
        from extra_data.components import identify_multimod_detectors
    except ImportError as error:
        raise InputError(
            f"{path}: a run of European XFEL, which EXtra-data reads ({error}); expected it to be installed; {GET}"
        ) from error
    with tempfile.TemporaryDirectory(prefix="spilegate-") as folder:
        target = Path(folder) / "run.cxi"
        said = io.StringIO()
        # It prints, and warns of what is refused here.
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                # Opening the folder would write a file into it.
                run = DataCollection.from_paths([str(part) for part in parts], is_single_run=True, parallelize=False)
                _check_all(parts, run, said.getvalue())
                name, of_class = _detector(path, sorted(identify_multimod_detectors(run), key=str), detector)
                _write(path, of_class, run, name, target)
            except InputError:
                raise
            except Exception as error:
                reason = _line(f"{type(error).__name__}: {error}")
                raise InputError(
                    f"{path}: EXtra-data says {reason}; expected {EXPECTED}; extra-data-validate says what is wrong"
                ) from error
        yield target, name


def is_part(file: h5py.File) -> bool:
    """Tell whether an HDF5 file is one of a run's."""
    return TRAINS in file and any(name in file for name in SOURCES)


def _files(path: Path) -> list[Path]:
    """Return the files of the run in a folder; InputError if there are none, or one cannot be opened."""
    found = []
    for part in sorted(path.resolve().glob("*.h5")):
        # Links to what is in the other files.
        if part.name.lower() == OVERVIEW:
            continue
        with files.open_hdf5(part, EXPECTED) as file:
            if is_part(file):
                found.append(part)
    if not found:
        raise InputError(f"{path}: found a folder; expected a file of patterns, or {EXPECTED}; check the path")
    return found


def _check_all(parts: list[Path], run: Any, said: str) -> None:
    """Raise InputError if files of a run were passed over. said : what EXtra-data said of them."""
    used = {Path(file.filename) for file in run.files}
    for part in parts:
        if part not in used:
            raise InputError(f"{part}: cannot be read ({_line(said)}); expected {EXPECTED}; copy it again")


def _detector(path: Path, found: list[tuple[str, Any]], wanted: str | None) -> tuple[str, Any]:
    """Return name and class of the detector of a run; InputError if there is none, or which cannot be told."""
    names = ", ".join(name for name, _ in found) or "none"
    chosen = [each for each in found if wanted in (None, each[0])]
    if wanted is not None and not chosen:
        raise InputError(f"{path}: no detector {wanted!r}; expected one of {names}; --dataset NAME names it")
    if not chosen:
        raise InputError(f"{path}: no detector of AGIPD, DSSC, JUNGFRAU or LPD; expected {EXPECTED} with one of them")
    if len(chosen) > 1:
        raise InputError(f"{path}: several detectors: {names}; expected which; --dataset NAME names it")
    return chosen[0]


def _write(path: Path, of_class: Any, run: Any, name: str, target: Path) -> None:
    """Write the virtual CXI of a detector; InputError if its values are raw."""
    from extra_data.exceptions import SourceNameError

    try:
        modules = of_class(run, name, raw=False)
    except SourceNameError as error:
        raise InputError(
            f"{path}: raw values of {name}; expected corrected ones; give the folder of the corrected (PROC) run"
        ) from error
    key = next(each for each in PIXELS if each in modules)
    # What no module recorded must not look like photons.
    none = none_of(modules[key].dtype)
    modules.write_virtual_cxi(str(target), fillvalues={key.partition(".")[2]: none})
    with h5py.File(target) as file:
        files.dataset(file, "entry_1/instrument_1/detector_1/data", path, EXPECTED)
    for part in run.files:
        part.close()


def _line(said: str) -> str:
    """Return what was said, in one line."""
    return " ".join(said.split())
