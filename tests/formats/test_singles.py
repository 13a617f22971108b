"""Patterns that are a dataset or a file each: SimEx and singfel, libspimage; and CXIDB 58's photon counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from spoilt import refused
from test_cxi import COUNT, DISTANCE, MIDDLE, PIXEL, PIXELS, PLACED, WAVELENGTH, counts_of, images, simple, write

from spilegate.formats import reader
from spilegate.records import Dataset

Content = dict[str, Any]
ENERGY = 12398.419843320026 / WAVELENGTH
PARAMETERS: Content = {
    "params/beam/photonEnergy": ENERGY,
    "params/geom/detectorDist": np.full((1, 1), DISTANCE),
    "params/geom/pixelWidth": PIXEL,
    "params/geom/pixelHeight": PIXEL,
    "params/geom/mask": np.ones((PIXELS, PIXELS)),
    "version": 0.2,
}


def patterns(which: range) -> Content:
    """Patterns as groups with numbers from 1: photons, intensities, and the truth."""
    found: Content = {}
    for number in which:
        group = f"data/{number + 1:07}"
        found[f"{group}/data"] = images()[number]
        found[f"{group}/diffr"] = np.sqrt(images()[number] + number).astype(np.float32)
        found[f"{group}/angle"] = np.array([1.0, 0.0, 0.0, 0.0])
    return found


def image(number: int, **more: Any) -> Content:
    """A file of libspimage."""
    return {
        "real": images()[number][..., None].astype(np.float32),
        "mask": np.ones((PIXELS, PIXELS, 1), np.int32),
        "image_center": np.array([MIDDLE, MIDDLE, 0], np.float32),
        "detector_distance": np.array([DISTANCE]),
        "lambda": np.array([WAVELENGTH * 1e-10]),
        "pixel_size": np.full(3, PIXEL),
        "num_dimensions": np.array([2]),
        "version": np.array([2]),
        **{name: np.array([0]) for name in ("shifted", "scaled", "phased")},
        **more,
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return reader.read(write(tmp_path_factory.mktemp("cxi") / "a.cxi", simple()))


def assert_same(found: Dataset, expected: Dataset) -> None:
    np.testing.assert_array_equal(counts_of(found), counts_of(expected))
    np.testing.assert_allclose(found.q, expected.q, rtol=0, atol=1e-8)
    assert not found.mask.any()
    assert found.taken_for == "photons"


def master(folder: Path) -> Path:
    """A file of links to files of patterns, as SimEx gathers what each process wrote; the last one is not there."""
    (folder / "diffr").mkdir()
    content: Content = {"params": h5py.ExternalLink("diffr/diffr_out_0.h5", "params")}
    for number, first in enumerate(range(0, COUNT, 30)):
        part = patterns(range(first, first + 30))
        name = f"diffr/diffr_out_{number}.h5"
        write(folder / name, PARAMETERS | part)
        groups = dict.fromkeys(each.rpartition("/")[0] for each in part)
        content |= {each: h5py.ExternalLink(name, each) for each in groups}
    return write(folder / "diffr.h5", content)


def test_simex_holds_photons_and_intensities(tmp_path: Path, expected: Dataset) -> None:
    path = write(tmp_path / "diffr.h5", PARAMETERS | patterns(range(COUNT)))
    found = reader.read(path)
    assert_same(found, expected)
    # It says itself where the beam goes through.
    assert found.remarks == ()
    np.testing.assert_array_equal(found.images, reader.read(path, dataset="data").images)
    assert reader.describe(path, dataset="diffr")["taken_for"].startswith("intensities")
    assert reader.describe(path)["truth"] == "orientations"
    assert reader.describe(path)["format"] == "SimEx"


def test_simex_links_files_of_patterns(tmp_path: Path, expected: Dataset) -> None:
    path = master(tmp_path)
    assert_same(reader.read(path), expected)
    (tmp_path / "diffr/diffr_out_2.h5").unlink()
    text = refused(lambda: reader.read(path))
    assert "'data/0000061': a link to 'data/0000061' in the file diffr/diffr_out_2.h5, which is not there" in text
    (tmp_path / "diffr/diffr_out_0.h5").unlink()
    assert "which is not there; copy it to" in refused(lambda: reader.read(path))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"data/0000003/data": np.zeros((3, 3), np.uint32)}, "uint32 (3, 3); expected uint32 (12, 12)"),
        ({"data/0000001/data": np.zeros(5, np.uint32)}, "expected uint32 (y, x)"),
        ({"params/geom/mask": np.ones((3, 3))}, "expected (12, 12), as the patterns have"),
        ({"params/geom/mask": np.full((PIXELS, PIXELS), 7)}, "144 pixels of other levels"),
        ({"params/beam/photonEnergy": 0.0}, "--energy-ev NUMBER"),
        ({"data/0000002": np.ones(3)}, "not a group"),
    ],
)
def test_simex_of_no_sense_is_refused(tmp_path: Path, change: Content, text: str) -> None:
    content = PARAMETERS | patterns(range(COUNT))
    content = {name: value for name, value in content.items() if not any(f"{each}/" in name for each in change)}
    assert text in refused(lambda: reader.read(write(tmp_path / "a.h5", content | change)))
    assert "expected data (photons) or diffr" in refused(lambda: reader.read(tmp_path / "a.h5", dataset="angle"))


def test_pixels_that_simex_masks_are_never_used(tmp_path: Path) -> None:
    mask = np.ones((PIXELS, PIXELS))
    mask[2, 3] = 0
    content = PARAMETERS | patterns(range(COUNT)) | {"params/geom/mask": mask}
    assert np.flatnonzero(reader.read(write(tmp_path / "a.h5", content)).mask == 2).tolist() == [2 * PIXELS + 3]


def test_a_list_of_libspimage_s_files_is_a_stack(tmp_path: Path, expected: Dataset) -> None:
    names = [write(tmp_path / f"shot_{number}.h5", image(number)).name for number in range(COUNT)]
    (tmp_path / "shots.txt").write_text("\n".join(names))
    assert_same(reader.read(tmp_path / "shots.txt"), expected)
    text = refused(lambda: reader.read(tmp_path / names[0]))
    assert "holds one pattern" in text
    assert "write the names of such files into a text file" in text


def test_what_libspimage_does_not_know_is_passed_over(tmp_path: Path) -> None:
    garbage = {"detector_distance": np.array([1e-44]), "lambda": np.zeros(1), "image_center": np.zeros(3)}
    for number in range(20):
        write(tmp_path / f"{number}.h5", image(number, **garbage))
    (tmp_path / "a.txt").write_text("\n".join(f"{number}.h5" for number in range(20)))
    text = refused(lambda: reader.read(tmp_path / "a.txt"))
    assert "--distance-m" in text
    assert "--wavelength-angstrom" in text
    found = reader.read(tmp_path / "a.txt", distance_m=DISTANCE, wavelength_angstrom=WAVELENGTH)
    assert any("taken to be its middle" in line for line in found.remarks)
    assert len(found.remarks) == len(set(found.remarks))


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"shifted": np.array([1])}, "in a corner"),
        ({"scaled": np.array([1])}, "amplitudes; expected intensities"),
        ({"real": np.ones((2, 3, 4))}, "expected a pattern, shape (y, x, 1)"),
        ({"mask": np.ones((2, 3))}, "as the patterns have"),
    ],
)
def test_images_of_libspimage_that_are_no_patterns_are_refused(tmp_path: Path, more: Content, text: str) -> None:
    write(tmp_path / "a.h5", image(0, **more))
    (tmp_path / "a.txt").write_text("a.h5")
    assert text in refused(lambda: reader.read(tmp_path / "a.txt"))


def test_photon_counts_of_cxidb_58_are_known(tmp_path: Path, expected: Dataset) -> None:
    content = {"photonConverter/pnccdBack/photonCount": images(), "run/raw": images() + 1}
    path = write(tmp_path / "a.h5", content)
    found = reader.read(path, **PLACED)
    np.testing.assert_array_equal(counts_of(found), counts_of(expected))
    assert reader.describe(path, **PLACED)["format"].startswith("CXIDB 58's HDF5")
    assert reader.describe(path, **PLACED, dataset="run/raw")["format"] == "HDF5, patterns in 'run/raw'"
