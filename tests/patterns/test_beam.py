"""Where the beam goes through a flat detector: found in the patterns, wherever it is said to be."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest

from spilegate.errors import InputError
from spilegate.formats import reader
from spilegate.formats.flat import Flat
from spilegate.geometry import orientations
from spilegate.patterns import beam
from spilegate.patterns.prepare import prepare
from spilegate.settings import Settings
from spilegate.simulation.particle import built_in_particle
from spilegate.simulation.scattering import patterns

SIZE, SHIFT = 56, (2.3, -1.7)
MIDDLE = (SIZE - 1) / 2
# To 8 angstrom at the sides.
HOW = {"wavelength_angstrom": 1.0, "distance_m": 0.1, "pixel_um": 450.0}
COUNT, PHOTONS = 120, 5000.0


@cache
def shot(shift: tuple[float, float], photons: float | None = PHOTONS) -> np.ndarray:
    """Patterns of a flat detector that the beam does not meet in its middle."""
    rng = np.random.default_rng(5)
    detector = Flat((1, SIZE, SIZE), 0.1, (4.5e-4, 4.5e-4), (MIDDLE + shift[0], MIDDLE + shift[1]), 1.0)
    rotations = orientations.matrices(orientations.random_quaternions(COUNT, rng))
    shown = patterns(built_in_particle("demo"), detector.q.reshape(-1, 3), rotations, threads=1)
    if photons is None:
        return shown.reshape(COUNT, SIZE, SIZE)
    shown *= photons / shown.sum(1).mean()
    return rng.poisson(shown).reshape(COUNT, SIZE, SIZE)


def gaps(shift: tuple[float, float] = SHIFT) -> np.ndarray:
    """A mask as detectors have them: a gap, a beam stop, a dead corner."""
    row, column = np.indices((SIZE, SIZE))
    bad = (row > 29) & (row < 33)
    bad |= np.hypot(row - MIDDLE - shift[0], column - MIDDLE - shift[1]) < 2.5
    bad[:12, :20] = True
    return bad


def written(path: Path, shown: np.ndarray, bad: np.ndarray | None = None) -> Path:
    """Write a file of nothing but patterns, and maybe their mask."""
    with h5py.File(path, "w") as file:
        file["data"] = shown if bad is None else np.where(bad, 0, shown).astype(shown.dtype)
        if bad is not None:
            file["mask"] = bad.astype(np.uint8)
    return path


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("photons", [PHOTONS, None])
def test_the_centre_is_found(tmp_path: Path, masked: bool, photons: float | None) -> None:
    path = written(tmp_path / "data.h5", shot(SHIFT, photons), gaps() if masked else None)
    reading, said = beam.settled(path, {**HOW, "centre": "auto"})
    found = np.array([float(part) for part in reading["centre"].split(",")]) - MIDDLE
    np.testing.assert_allclose(found, SHIFT, atol=0.15)
    assert f"--centre {reading['centre']}" in said
    # From elsewhere it ends at the same place, and again at the same bits.
    assert beam.settled(path, {**HOW, "centre": "auto"})[0] == reading


def test_what_was_found_is_what_is_used(tmp_path: Path) -> None:
    path = written(tmp_path / "data.h5", shot(SHIFT))
    found = beam.read(path, **HOW, centre="auto")
    (remark,) = [remark for remark in found.remarks if "--centre" in remark]
    given = reader.read(path, **HOW, centre=remark.rpartition(" ")[2])
    assert given.digest == found.digest
    assert given.beam == found.beam
    np.testing.assert_array_equal(given.q, found.q)


def test_binned_pixels_tell_as_well(tmp_path: Path) -> None:
    path = written(tmp_path / "data.h5", shot(SHIFT))
    reading, _ = beam.settled(path, {**HOW, "centre": "auto", "binning": 2})
    found = np.array([float(part) for part in reading["centre"].split(",")]) - MIDDLE
    np.testing.assert_allclose(found, SHIFT, atol=0.2)


def test_a_centre_that_is_off_is_said_with_the_option_that_mends_it(tmp_path: Path) -> None:
    path = written(tmp_path / "data.h5", shot(SHIFT))
    settings = Settings.model_validate({"prepare": {"diameter_angstrom": 62.0}, "compute": {"threads": 1}})
    (note,) = prepare(reader.read(path, **HOW), settings).findings.notes
    assert note.startswith("beam centre looks 2.9 pixels off (row +2.3, column -1.7): --centre 29.8,25.8")
    mended = re.findall(r"--centre (\S+)", note)[0]
    assert not prepare(reader.read(path, **HOW, centre=mended), settings).findings.notes


def test_no_centre_is_no_run(tmp_path: Path) -> None:
    flat = np.random.default_rng(0).poisson(1.0, (COUNT, SIZE, SIZE))
    row, column = np.indices((SIZE, SIZE))
    hidden = np.hypot(row - MIDDLE, column - MIDDLE) < 22
    for name, shown, bad in (("even", flat, None), ("hidden", shot(SHIFT), hidden)):
        path = written(tmp_path / f"{name}.h5", shown, bad)
        with pytest.raises(InputError, match=r"prepare.centre = auto: no centre found .*--centre ROW,COLUMN"):
            beam.settled(path, {**HOW, "centre": "auto"})


def test_where_every_pixel_has_its_place_there_is_none_to_find(data: Path) -> None:
    with pytest.raises(InputError, match=r"prepare\.centre = auto"):
        beam.settled(data, {"centre": "auto"})
