"""European XFEL: virtual CXI as EXtra-data makes it of corrected runs, whole and with modules or trains missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from facility import (
    DISTANCE,
    ENERGY,
    MODULES,
    PLACED,
    SIZE,
    agipd_run,
    geometry,
    jungfrau_run,
    photons,
    tiled,
    virtual_cxi,
)
from facility import virtual_cxi_of_jungfrau as of_jungfrau
from spoilt import refused

from spilegate.formats import reader, sources
from spilegate.formats.ewald import reciprocal
from spilegate.formats.reading import Options

TRAINS = (1, 2)
WHOLE = np.stack([photons(TRAINS, module) for module in range(MODULES)], axis=1)
DETECTOR = "entry_1/instrument_1/detector_1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return agipd_run(tmp_path_factory.mktemp("agipd") / "proc", TRAINS)


@pytest.fixture(scope="module")
def cxi(run: Path) -> Path:
    return virtual_cxi(run, run.parent / "run.cxi")


@pytest.fixture(scope="module")
def geom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    return geometry(tmp_path_factory.mktemp("geom") / "agipd.geom")


def read(path: Path, geom: Path, **options: Any) -> tuple[Any, np.ndarray]:
    """Return a file's layout and all of its values."""
    with sources.opened(path, Options(geometry=str(geom), **{**PLACED, **options})) as layout:
        return layout, layout.stack.block(slice(0, layout.stack.shape[0]))


def positions_of(layout: Any) -> np.ndarray:
    """Return q of a layout on the pixels that may be used, NaN on others."""
    never = np.zeros(layout.q.shape[:3], bool) if layout.levels is None else layout.levels == 2
    return np.where(never[..., None], np.nan, layout.q)


def expected_q(positions: np.ndarray) -> np.ndarray:
    return reciprocal(positions + np.array([0, 0, DISTANCE]), 12398.419843320026 / ENERGY)[0]


def test_virtual_cxi_holds_the_photons_of_the_run(cxi: Path, geom: tuple[Path, np.ndarray]) -> None:
    layout, values = read(cxi, geom[0])
    expected = WHOLE.copy()
    expected[:, :, 0, :2] = np.nan
    np.testing.assert_array_equal(values, expected)
    assert layout.stack.dataset.dtype == np.float32
    np.testing.assert_allclose(layout.q, expected_q(geom[1]), rtol=0, atol=1e-7)
    assert layout.format == "CXI of European XFEL"


def test_virtual_cxi_is_said_to_be_usable(cxi: Path, geom: tuple[Path, np.ndarray]) -> None:
    found = reader.describe(cxi, geometry=str(geom[0]), **PLACED)
    assert (found["patterns"], found["panels"], found["pixels"]) == (3, 16, [512, 128])
    assert found["taken_for"] == "photons"
    # Bits that the CXI standard leaves to its users are bad here: two pixels a module.
    assert f"{2 * MODULES} pixels" in found["remarks"]
    assert found["usable"] == "3 patterns; expected at least 6"


def test_what_is_missing_is_named(cxi: Path, geom: tuple[Path, np.ndarray]) -> None:
    text = refused(lambda: reader.read(cxi))
    assert all(option in text for option in ("--energy-ev", "--distance-m", "--geometry FILE.geom"))
    text = refused(lambda: reader.read(cxi, geometry=str(geom[0]), photon_energy_ev=ENERGY))
    assert "--distance-m" in text
    assert "--energy-ev" not in text


def test_modules_that_are_missing_are_never_used(tmp_path: Path, geom: tuple[Path, np.ndarray]) -> None:
    run = agipd_run(tmp_path / "proc", (1,), modules=[number for number in range(MODULES) if number != 5])
    layout, values = read(virtual_cxi(run, tmp_path / "run.cxi"), geom[0])
    assert np.isnan(values[:, 5]).all()
    np.testing.assert_array_equal(values[:, 6, 1:], photons((1,), 6)[:, 1:])
    assert "panels 5 are in no file: never used" in layout.remarks
    found = reader.describe(tmp_path / "run.cxi", geometry=str(geom[0]), **PLACED)
    assert f"{SIZE[0] * SIZE[1] + 2 * (MODULES - 1)} pixels" in found["remarks"]


def test_patterns_that_lack_modules_are_left_out(tmp_path: Path, geom: tuple[Path, np.ndarray]) -> None:
    run = agipd_run(tmp_path / "proc", (2, 3, 1), {4: (2, 0, 1), 7: (2, 0, 1)})
    layout, values = read(virtual_cxi(run, tmp_path / "run.cxi"), geom[0])
    assert layout.remarks[0] == (
        "3 of 6 patterns are left out, which lack panels that others have (the first: number 2, without 4, 7)"
    )
    np.testing.assert_array_equal(values[:, 4, 1:], photons((2, 3, 1), 4)[[0, 1, 5], 1:])


def fewer(cxi: Path, path: Path, modules: list[int]) -> Path:
    """Write the patterns of some modules only, as EXtra-data did in its first years."""
    with h5py.File(cxi) as whole, h5py.File(path, "w") as file:
        for name in ("entry_1/trainId", "entry_1/pulseId"):
            file[name] = whole[name][()]
        for name in ("data", "mask"):
            found = whole[f"{DETECTOR}/{name}"]
            layout = h5py.VirtualLayout((len(found), len(modules), *SIZE), found.dtype)
            for number, module in enumerate(modules):
                layout[:, number] = h5py.VirtualSource(str(cxi), found.name, found.shape)[:, module]
            file.create_virtual_dataset(f"{DETECTOR}/{name}", layout)
        file[f"{DETECTOR}/module_identifier"] = np.array(modules)
        file["entry_1/data_1"] = h5py.SoftLink(f"/{DETECTOR}")
    return path


def test_fewer_modules_lie_where_their_numbers_say(tmp_path: Path, cxi: Path, geom: tuple[Path, np.ndarray]) -> None:
    modules = [0, 1, 2, 4, 9, 10, 15]
    layout, values = read(fewer(cxi, tmp_path / "few.cxi", modules), geom[0])
    np.testing.assert_array_equal(values[:, :, 1:], WHOLE[:, modules][:, :, 1:])
    np.testing.assert_allclose(layout.q, expected_q(geom[1])[modules], rtol=0, atol=1e-7)
    far = fewer(cxi, tmp_path / "b.cxi", [3, 16 - 1])
    with h5py.File(far, "r+") as file:
        file[f"{DETECTOR}/module_identifier"][1] = 16
    assert "has number 16" in refused(lambda: read(far, geom[0]))


def test_modules_of_jungfrau_count_from_one(tmp_path: Path) -> None:
    path = of_jungfrau(jungfrau_run(tmp_path / "proc"), tmp_path / "run.cxi")
    geom = tmp_path / "jungfrau.geom"
    lines = [f"p{number}/{line}" for number in (0, 1, 2) for line in (
        f"dim1 = {number}", "min_fs = 0", "max_fs = 1023", "min_ss = 0", "max_ss = 511", "fs = x", "ss = y",
        f"corner_x = {1100 * number}", "corner_y = 0", "res = 13333.3",
    )]  # fmt: skip
    geom.write_text("\n".join(["dim0 = %", "dim2 = ss", "dim3 = fs", "clen = 0.5", *lines]))
    layout, values = read(path, geom)
    assert values.shape == (16, 2, 512, 1024)
    np.testing.assert_array_equal(values[3, 1], tiled(np.random.default_rng(2), 0.1, (1, 16, 512, 1024))[0, 3])
    first, second = (layout.q[module, 0, 0, 0] for module in (0, 1))
    assert 0 < first < 1e-3 < second


def test_runs_that_are_not_there_or_cannot_be_read_are_refused(tmp_path: Path, geom: tuple[Path, np.ndarray]) -> None:
    run = agipd_run(tmp_path / "proc", (1,))
    cxi = virtual_cxi(run, tmp_path / "run.cxi")
    part = run / "CORR-R0001-AGIPD03-S00000.h5"
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2])
    assert "AGIPD03-S00000.h5" in refused(lambda: read(cxi, geom[0]))
    part.unlink()
    assert "AGIPD03-S00000.h5, which is not there" in refused(lambda: read(cxi, geom[0]))


def test_raw_values_are_refused(tmp_path: Path, geom: tuple[Path, np.ndarray]) -> None:
    run = agipd_run(tmp_path / "raw", (1,), raw=True)
    cxi = virtual_cxi(run, tmp_path / "run.cxi", raw=True)
    assert "make the file of the corrected (PROC) run" in refused(lambda: read(cxi, geom[0]))


def test_run_folders_hold_what_their_virtual_cxi_does(run: Path, cxi: Path, geom: tuple[Path, np.ndarray]) -> None:
    (layout, values), (expected, of_cxi) = read(run, geom[0]), read(cxi, geom[0])
    np.testing.assert_array_equal(values, of_cxi)
    np.testing.assert_array_equal(layout.q, expected.q)
    assert layout.format == "European XFEL's run of SPB_DET_AGIPD1M-1"
    found = reader.describe(run, geometry=str(geom[0]), dataset="SPB_DET_AGIPD1M-1", **PLACED)
    assert found["size_mib"] == sum(part.stat().st_size for part in run.iterdir()) / 2**20
    assert found["taken_for"] == "photons"


def test_what_modules_of_integers_lack_is_no_photon(tmp_path: Path, geom: tuple[Path, np.ndarray]) -> None:
    modules = [number for number in range(MODULES) if number != 3]
    run = agipd_run(tmp_path / "proc", (1,), modules=modules, dtype="i2")
    layout, values = read(run, geom[0])
    # Nothing is written into the folder.
    assert {part.suffix for part in run.iterdir()} == {".h5"}
    assert layout.stack.dataset.dtype == np.int16
    assert (values[:, 3] == np.iinfo(np.int16).max).all()
    np.testing.assert_array_equal(values[:, 4, 1:], photons((1,), 4)[:, 1:])


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path, geom: tuple[Path, np.ndarray]) -> None:
    def said(path: Path, **options: Any) -> str:
        return refused(lambda: read(path, geom[0], **options))

    (tmp_path / "empty").mkdir()
    assert "found a folder; expected a file of patterns" in said(tmp_path / "empty")
    assert "no detector 'LPD'; expected one of SPB_DET_AGIPD1M-1" in said(run, dataset="LPD")
    assert "give its folder" in said(next(run.iterdir()))
    raw = agipd_run(tmp_path / "raw", (1,), raw=True)
    assert "raw values of SPB_DET_AGIPD1M-1" in said(raw)
    mixed = agipd_run(tmp_path / "mixed", (1,), modules=[0, 1])
    agipd_run(tmp_path / "other", (1,), modules=[0], detector="MID_DET_AGIPD1M-1")
    next((tmp_path / "other").iterdir()).rename(mixed / "CORR-R0001-MID00-S00000.h5")
    assert "several detectors: MID_DET_AGIPD1M-1, SPB_DET_AGIPD1M-1" in said(mixed)
    assert read(mixed, geom[0], dataset="MID_DET_AGIPD1M-1")[1].shape == (1, MODULES, *SIZE)


def test_files_of_a_run_that_cannot_be_read_are_named(tmp_path: Path, geom: tuple[Path, np.ndarray]) -> None:
    run = agipd_run(tmp_path / "proc", (1,), modules=[0, 1, 2])
    part = run / "CORR-R0001-AGIPD01-S00000.h5"
    with h5py.File(part, "r+") as file:
        del file["METADATA/dataSources/dataSourceId"]
        file["METADATA/dataSources/dataSourceId"] = np.arange(3)
    assert "AGIPD01-S00000.h5: cannot be read" in refused(lambda: read(run, geom[0]))
    part.write_bytes(part.read_bytes()[:4000])
    assert "AGIPD01-S00000.h5: truncated or damaged" in refused(lambda: read(run, geom[0]))
    counts = agipd_run(tmp_path / "counts", (2,), {1: (1,)}, modules=[0, 1])
    assert "Inconsistent frame counts" in refused(lambda: read(counts, geom[0]))


def test_what_reads_runs_has_to_be_installed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "extra_data", None)
    assert "pip install 'spilegate[euxfel]'" in refused(lambda: reader.describe(run))


def test_sources_of_more_files_than_may_be_open_are_refused(tmp_path: Path) -> None:
    """HDF5 would fill without a word."""
    layout = h5py.VirtualLayout((40, 4, 4), "f4")
    for number in range(40):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["a"] = np.full((4, 4), number, np.float32)
        layout[number] = h5py.VirtualSource(f"{number}.h5", "a", (4, 4))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("patterns", layout)
    code = (
        "import resource, sys; from pathlib import Path; from spilegate.formats import files\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, int(sys.argv[2])))\n"
        "with files.open_hdf5(Path(sys.argv[1]), 'x') as file:\n"
        "    print(files.dataset(file, 'patterns', Path(sys.argv[1]), 'x')[()].sum())"
    )

    def summed(limit: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", code, str(tmp_path / "all.h5"), str(limit)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert "its values are in 40 files; expected no more than 4" in summed(260).stderr
    assert summed(400).stdout == f"{16.0 * sum(range(40))}\n"
