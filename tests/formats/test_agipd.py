"""AGIPD's rows of double width, where its chips meet: they count twice, unless a file has evened that out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from command_line import run
from extra_geom import agipd_asic_seams

from spilegate.formats import reader
from spilegate.patterns.prepare import detector_of
from spilegate.records import Dataset
from spilegate.settings import PrepareOptions

WAVELENGTH, DISTANCE, PIXEL, COUNT = 1.5, 0.05, 2e-4, 24
DETECTOR = "entry_1/instrument_1/detector_1"


def read(folder: Path, wide: float) -> Dataset:
    """Hits on two modules whose rows where chips meet count `wide` times as much, as they are read, binned by 2."""
    shape = (2, 512, 128)
    panel, row, column = np.indices(shape)
    y, x = (row - 256 + 512 * (panel - 0.5)) * PIXEL, (column - 64) * PIXEL
    rate = 0.02 * np.where(agipd_asic_seams(), wide, 1.0) * np.exp(-np.hypot(x, y) / (200 * PIXEL))
    with h5py.File(folder / "data.cxi", "w") as file:
        file[f"{DETECTOR}/data"] = np.random.default_rng(4).poisson(rate, (COUNT, *shape)).astype(np.float32)
        file[f"{DETECTOR}/xyz_map"] = np.stack([-x, -y, np.full(shape, DISTANCE)])
        file["entry_1/instrument_1/source_1/photon_wavelength"] = np.full(COUNT, WAVELENGTH * 1e-10)
        file["entry_1/trainId"] = np.arange(COUNT)
    return reader.read(folder / "data.cxi", binning=2)


def test_rows_of_double_width_count_twice_where_they_do(tmp_path: Path) -> None:
    found = read(tmp_path, 2.0)
    assert found.area is not None
    wide = np.where(agipd_asic_seams()[:, 0].reshape(-1, 2).any(1), 1.5, 1.0)
    np.testing.assert_array_equal(found.area.reshape(2, 256, 64), np.broadcast_to(wide[:, None], (2, 256, 64)))
    assert "AGIPD's rows of double width count" in str(found.remarks)
    options = PrepareOptions(polarisation="horizontal")
    plain = detector_of(replace(found, area=None), options)
    np.testing.assert_allclose(detector_of(found, options).response, plain.response * found.area)
    # A file that is written from it keeps what pixels count.
    assert run("convert", tmp_path / "data.cxi", tmp_path / "out.h5", "--bin", "2").exit_code == 0
    np.testing.assert_array_equal(reader.read(tmp_path / "out.h5").response, found.area)
    for count in (1.0, 1.5):
        assert read(tmp_path, count).area is None
