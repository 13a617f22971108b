"""Dragonfly's photons and detectors, as its own writers lay them out, against the same patterns in SpiniFEL's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from photons import measured, settings

from spilegate.cli import app
from spilegate.errors import InputError
from spilegate.formats import reader, spinifel
from spilegate.formats.dragonfly import HEADER_BYTES, LISTS
from spilegate.formats.dragonfly_detector import COLUMNS
from spilegate.kernels.events import dense
from spilegate.mtip import reconstruct
from spilegate.patterns.prepare import detector_of
from spilegate.records import Dataset
from spilegate.settings import PrepareOptions
from spilegate.simulation.experiment import Simulation

RADIUS, WAVELENGTH = 700.0, 1.0
LAYOUTS = ("lists", "integers", "reals", "hdf5")


@dataclass(frozen=True)
class Written:
    """Files of one experiment."""

    photons: Path
    detector: Path

    def read(self, **options: object) -> Dataset:
        return reader.read(self.photons, detector=str(self.detector), wavelength_angstrom=WAVELENGTH, **options)


def write_photons(path: Path, patterns: np.ndarray, layout: str) -> Path:
    """Write patterns (N, P) as Dragonfly's `EMCWriter` does."""
    count, pixels = patterns.shape
    ones = [np.flatnonzero(row == 1) for row in patterns]
    multi = [np.flatnonzero(row > 1) for row in patterns]
    counts = [row[index] for row, index in zip(patterns, multi, strict=True)]
    if layout == "hdf5":
        with h5py.File(path, "w") as file:
            file["num_pix"] = np.array([pixels], np.int64)
            for name, lists in zip(LISTS, (ones, multi, counts), strict=True):
                of_lists = file.create_dataset(name, (count,), h5py.vlen_dtype(np.int32), chunks=(1,), maxshape=(None,))
                for index, values in enumerate(lists):
                    of_lists[index] = values.astype(np.int32)
        return path
    header = np.zeros(HEADER_BYTES // 4, "<i4")
    header[:3] = count, pixels, {"lists": 0, "integers": 1, "reals": 2}[layout]
    if layout == "lists":
        parts = [[len(each) for each in ones], [len(each) for each in multi], *ones, *multi, *counts]
        body = np.concatenate([np.asarray(part, "<i4") for part in parts]).tobytes()
    else:
        body = patterns.astype("<i4" if layout == "integers" else "<f8").tobytes()
    path.write_bytes(header.tobytes() + body)
    return path


def write_detector(
    path: Path, columns: np.ndarray, *, known: bool = True, background: np.ndarray | None = None
) -> Path:
    """Write columns (P, 5) as Dragonfly's `make_detector` does; known : whether distance and radius are written."""
    if path.suffix == ".dat":
        first = f"{len(columns)} {RADIUS} {RADIUS}" if known else str(len(columns))
        lines = [" ".join(f"{value:.15e}" for value in row[:4]) + f" {int(row[4])}" for row in columns]
        path.write_text("\n".join([first, *lines]) + "\n")
        return path
    with h5py.File(path, "w") as file:
        for name, column in zip(COLUMNS, columns.T, strict=True):
            file[name] = column.astype(np.uint8) if name == "mask" else column
        if known:
            file["detd"], file["ewald_rad"] = RADIUS, RADIUS
        if background is not None:
            file["background"] = background
    return path


def columns_of(simulation: Simulation) -> np.ndarray:
    """Return the columns of a simulation's detector; the corners of the picture only for merging, some pixels never."""
    q = simulation.pixel_position.reshape(-1, 3)
    length = np.linalg.norm(q, axis=1)
    mask = np.where(length > length.max() / np.sqrt(2), 1, 0)
    mask[:5] = 2
    return np.column_stack([q * RADIUS * WAVELENGTH, 1e-6 * np.ones(len(q)), mask])


@pytest.fixture(scope="module")
def simulated() -> Simulation:
    return measured(images=120, photons=400.0)


@pytest.fixture(scope="module")
def flat(simulated: Simulation) -> np.ndarray:
    return simulated.intensities.reshape(len(simulated.intensities), -1).astype(int)


@pytest.fixture(scope="module")
def written(simulated: Simulation, flat: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("dragonfly")
    return Written(
        write_photons(folder / "photons.emc", flat, "lists"),
        write_detector(folder / "detector.dat", columns_of(simulated)),
    )


def images_of(dataset: Dataset) -> np.ndarray:
    return np.asarray(dense(dataset.images, len(dataset.q)))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("ending", [".dat", ".h5"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_hold_the_same(
    simulated: Simulation, flat: np.ndarray, tmp_path: Path, layout: str, ending: str, known: bool
) -> None:
    """By content: names say nothing."""
    columns = columns_of(simulated)
    found = Written(
        write_photons(tmp_path / "a.dat", flat, layout),
        write_detector(tmp_path / f"b{ending}", columns, known=known),
    ).read()
    np.testing.assert_array_equal(images_of(found), np.where(columns[:, 4] == 2, 0, flat))
    np.testing.assert_allclose(found.q, simulated.pixel_position.reshape(-1, 3), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found.mask, columns[:, 4])
    np.testing.assert_array_equal(found.pixel_index_map, simulated.pixel_index_map.reshape(-1, 2))
    np.testing.assert_allclose(found.response, 1)
    assert found.panel_shape == (1, 32, 32)
    assert found.counts
    assert found.taken_for == "photons"


def test_the_same_density_comes_of_it(tmp_path: Path) -> None:
    simulated, path = measured(images=200), tmp_path / "data.h5"
    spinifel.write(path, simulated)
    columns = columns_of(simulated)
    with h5py.File(path, "r+") as file:
        file["mask"] = columns[:, 4].reshape(1, 32, 32).astype(np.uint8)
    flat = simulated.intensities.reshape(200, -1).astype(int)
    photons, detector = write_photons(tmp_path / "photons", flat, "lists"), write_detector(tmp_path / "d.h5", columns)
    quick = settings(prepare={"diameter_angstrom": 62.0, "q_max": 0.06}, phasing={"starts": 4})
    first, second = (
        reconstruct(dataset, quick).state.density for dataset in (reader.read(path), Written(photons, detector).read())
    )
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.999


def blocks_of(values: np.ndarray) -> np.ndarray:
    """Return values of pixels as blocks of 2 x 2."""
    return values.reshape(16, 2, 16, 2)


def test_what_pixels_see_and_a_background_are_used(simulated: Simulation, flat: np.ndarray, tmp_path: Path) -> None:
    columns = columns_of(simulated)
    length = np.linalg.norm(columns[:, :3], axis=1)
    columns[:, 3] = 1e-6 * (1 - 0.2 * (length / length.max()) ** 2)
    dark = np.linspace(0.1, 0.3, len(columns))
    photons = write_photons(tmp_path / "photons.emc", flat, "lists")
    both = Written(photons, write_detector(tmp_path / "detector.h5", columns, background=dark))
    found = both.read()
    np.testing.assert_allclose(found.response, columns[:, 3] / 1e-6, rtol=2e-3)
    np.testing.assert_allclose(found.background, np.where(columns[:, 4] == 2, 0, dark))
    np.testing.assert_array_equal(detector_of(found, PrepareOptions()).response, found.response)
    with pytest.raises(InputError, match=r"prepare\.solid_angle besides; leave them out"):
        detector_of(found, PrepareOptions(solid_angle=True))
    binned = both.read(binning=2)
    never = blocks_of(columns[:, 4]).max((1, 3)) == 2
    np.testing.assert_allclose(binned.background.reshape(16, 16), np.where(never, 0, blocks_of(dark).sum((1, 3))))
    np.testing.assert_allclose(binned.response.reshape(16, 16), blocks_of(found.response).mean((1, 3)))
    plain = Written(photons, write_detector(tmp_path / "plain.h5", columns_of(simulated)))
    assert len({both.read().digest, plain.read().digest, found.digest}) == 2


def test_a_beam_along_minus_z_and_pixels_that_are_no_grid(
    simulated: Simulation, flat: np.ndarray, tmp_path: Path
) -> None:
    columns, order = columns_of(simulated), np.random.default_rng(5).permutation(flat.shape[1])
    columns[:, 2] *= -1
    photons = write_photons(tmp_path / "photons.emc", flat[:, order], "hdf5")
    found = Written(photons, write_detector(tmp_path / "detector.h5", columns[order])).read()
    assert found.panel_shape == (1, 1, 1024)
    np.testing.assert_allclose(found.q, simulated.pixel_position.reshape(-1, 3)[order], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found.pixel_index_map, simulated.pixel_index_map.reshape(-1, 2)[order])


patterns = st.integers(20, 24).flatmap(
    lambda count: st.lists(
        st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 3, 70_000]), min_size=16, max_size=16),
        min_size=count, max_size=count,
    )
)  # fmt: skip


@given(patterns, st.sampled_from(LAYOUTS))
@hypothesis_settings(deadline=None, max_examples=30)
def test_any_photons_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], layout: str) -> None:
    values = np.array(rows)
    values[:, 5] = 1
    folder = tmp_path_factory.mktemp("any")
    axis = np.arange(4) - 1.5
    x, y = (each.ravel() for each in np.meshgrid(axis, axis, indexing="ij"))
    scale = RADIUS / np.sqrt(x**2 + y**2 + RADIUS**2)
    columns = np.column_stack([x * scale, y * scale, RADIUS * (scale - 1), np.ones(16), np.zeros(16)])
    found = Written(
        write_photons(folder / "photons", values, layout), write_detector(folder / "detector.h5", columns)
    ).read()
    np.testing.assert_array_equal(images_of(found), values)


def message(*words: object, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a command which has to fail says."""
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_what_is_missing_is_said_with_the_option_that_supplies_it(
    written: Written, simulated: Simulation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: object) -> str:
        return message("inspect", *words, capsys=capsys)

    assert "add --detector FILE" in said(written.photons)
    assert "add --wavelength-angstrom NUMBER" in said(written.photons, "--detector", written.detector)
    known = ("--wavelength-angstrom", "1")
    assert "not found; expected a detector" in said(written.photons, "--detector", tmp_path / "none.dat", *known)
    assert "expected a detector of Dragonfly" in said(written.photons, "--detector", written.photons, *known)
    metres = said(written.photons, "--detector", written.detector, "--wavelength-angstrom", "7.9e-10")
    assert metres.endswith("give the wavelength in angstrom")
    assert "greater than 0" in said(written.photons, "--detector", written.detector, "--wavelength-angstrom", "-1")
    detector = write_detector(tmp_path / "detector.h5", columns_of(simulated))
    assert "give it as --detector" in said(detector)
    data = tmp_path / "data.h5"
    spinifel.write(data, simulated)
    assert "leave it out" in said(data, "--detector", detector)
    assert "leave it out" in said(data, *known)
    with pytest.raises(SystemExit) as ended:
        app(["inspect", str(written.photons), "--detector", str(written.detector), *known])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "Dragonfly's, binary" in printed
    *_, usable, command = printed.splitlines()
    assert usable.split() == ["usable", "yes"]
    assert command.startswith(f"spilegate reconstruct {written.photons} --output out/ --detector {written.detector}")


def spoilt_columns(kind: str, columns: np.ndarray) -> np.ndarray:
    if kind == "shorter":
        return columns[:-3]
    if kind == "not finite":
        columns[7, 0] = np.nan
    elif kind == "flat":
        columns[:, 2] = 0
    elif kind == "off the sphere":
        columns[:, 2] *= np.linspace(0.5, 1.5, len(columns))
    elif kind == "another radius":
        columns[:, :3] /= 2
    return columns


@pytest.mark.parametrize("ending", [".dat", ".h5"])
@pytest.mark.parametrize("kind", ["shorter", "not finite", "flat", "off the sphere", "another radius"])
def test_detectors_that_do_not_fit_are_refused(
    written: Written, simulated: Simulation, tmp_path: Path, kind: str, ending: str
) -> None:
    path = write_detector(tmp_path / f"detector{ending}", spoilt_columns(kind, columns_of(simulated)))
    expected = {"shorter": "expected 1024", "not finite": "not finite", "another radius": "ewald_rad 700 voxels"}
    with pytest.raises(InputError, match=expected.get(kind, "off the Ewald sphere")) as error:
        Written(written.photons, path).read()
    assert str(path) in str(error.value)


def test_a_detector_without_its_last_lines_is_refused(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "cut.dat"
    path.write_text("\n".join(written.detector.read_text().splitlines()[:-4]))
    with pytest.raises(InputError, match="1020 lines of pixels; expected 1024"):
        Written(written.photons, path).read()


def test_lists_that_make_no_sense_are_refused(written: Written, flat: np.ndarray, tmp_path: Path) -> None:
    values = np.frombuffer(written.photons.read_bytes(), "<i4").copy()
    first = HEADER_BYTES // 4 + 2 * len(flat)
    for place, value, words in (
        (first, 1024, "at pixel 1024 of 1024"),
        (first, -1, "at pixel -1 of 1024"),
        (len(values) - 1, -5, "-5 photons at a pixel"),
    ):
        spoilt = values.copy()
        spoilt[place] = value
        path = tmp_path / "photons.emc"
        path.write_bytes(spoilt.tobytes())
        with pytest.raises(InputError, match=rf"{words}\); expected Dragonfly's photons"):
            Written(path, written.detector).read()
    path = write_photons(tmp_path / "photons.h5", flat, "hdf5")
    with h5py.File(path, "r+") as file:
        file["count_multi"][3] = np.zeros(1, np.int32)
    with pytest.raises(InputError, match="several photons without their numbers"):
        Written(path, written.detector).read()
    with h5py.File(path, "r+") as file:
        file["count_multi"][3] = np.full(len(file["place_multi"][3]), 2**31 - 1)
        file["place_ones"][3] = np.append(file["place_ones"][3], file["place_multi"][3][:1]).astype(np.int32)
    with pytest.raises(InputError, match="2147483648 photons at a pixel"):
        Written(path, written.detector).read()
    with h5py.File(path, "r+") as file:
        file["place_ones"].resize((len(flat) + 1,))
        for name in LISTS[1:]:
            file[name].resize((len(flat) + 1,))
            file[name][-1] = np.zeros(0, np.int32)
    with pytest.raises(InputError, match=f"'place_ones': 1 of its {len(flat) + 1} chunks were never written"):
        Written(path, written.detector).read()
    with h5py.File(path, "r+") as file:
        del file["place_ones"]
        file["place_ones"] = np.zeros(len(flat) + 1)
    with pytest.raises(InputError, match="expected a list of integers for every pattern"):
        Written(path, written.detector).read()


@given(st.integers(0, 2**16), st.integers(1, 400))
@hypothesis_settings(deadline=None, max_examples=60)
def test_files_cut_short_are_refused(
    tmp_path_factory: pytest.TempPathFactory, written: Written, place: int, number: int
) -> None:
    """Whatever is missing of a binary file: its size is not what its header says."""
    content = written.photons.read_bytes()
    first = place % len(content)
    path = tmp_path_factory.mktemp("cut") / "photons.emc"
    path.write_bytes(content[:first] + content[first + number :])
    with pytest.raises(InputError):
        Written(path, written.detector).read()
