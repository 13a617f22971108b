"""CXI as its writers lay it out, and HDF5 of no known layout, against the same patterns in SpiniFEL's file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from spoilt import COUNT, PIXELS, SHAPE, good, refused
from spoilt import read as read_spinifel

from spilegate.formats import reader
from spilegate.kernels.events import dense
from spilegate.records import Dataset

# Of `good`: sides at 5 angstrom, wavelength 1.5 angstrom; the detector is as far away as it likes.
WAVELENGTH, DISTANCE = 1.5, 0.05
MIDDLE = (PIXELS - 1) / 2
SIDE = DISTANCE * np.tan(2 * np.arcsin(WAVELENGTH / 5 / 2))
PIXEL = SIDE / MIDDLE
JOULE = 12398.419843320026 / WAVELENGTH * 1.602176634e-19
DETECTOR, SOURCE = "entry_1/instrument_1/detector_1", "entry_1/instrument_1/source_1"
Content = dict[str, Any]


def images() -> np.ndarray:
    return good(0.5)["intensities"][:, 0]


def simple() -> Content:
    """What the standard asks for, of a flat detector."""
    return {
        f"{DETECTOR}/data": images(),
        f"{DETECTOR}/distance": DISTANCE,
        f"{DETECTOR}/x_pixel_size": PIXEL,
        f"{DETECTOR}/y_pixel_size": PIXEL,
        f"{SOURCE}/energy": JOULE,
        "entry_1/data_1": h5py.SoftLink(f"/{DETECTOR}"),
    }


def cheetah() -> Content:
    per_shot = {name: np.full(COUNT, value) for name, value in (("distance", DISTANCE), ("x_pixel_size", PIXEL))}
    return {
        **{f"{DETECTOR}/{name}": values for name, values in per_shot.items()},
        f"{DETECTOR}/y_pixel_size": np.full(COUNT, PIXEL),
        f"{DETECTOR}/detector_and_photon_corrected/data": images().astype(np.float32),
        "entry_1/data_1": h5py.SoftLink(f"/{DETECTOR}/detector_and_photon_corrected"),
        "LCLS/photon_wavelength_A": np.full(COUNT, WAVELENGTH),
        "cxi_version": 140,
    }


def condor() -> Content:
    return {
        "entry_1/data_1/data": images(),
        "detector/distance": np.full(COUNT, DISTANCE),
        "detector/pixel_size": np.full(COUNT, PIXEL),
        "detector/cx": np.full(COUNT, MIDDLE),
        "detector/cy": np.full(COUNT, MIDDLE),
        "source/wavelength": np.full(COUNT, WAVELENGTH * 1e-10),
        "particles/particle_00/extrinsic_quaternion": np.ones((COUNT, 4)),
    }


def h5writer() -> Content:
    return {
        "entry_1/detector_1/data": images(),
        "entry_1/detector_1/distance": np.full(COUNT, DISTANCE),
        "entry_1/detector_1/x_pixel_size": np.full(COUNT, PIXEL),
        "entry_1/detector_1/y_pixel_size": np.full(COUNT, PIXEL),
        f"{SOURCE}/energy": np.full(COUNT, JOULE),
    }


def cdtools() -> Content:
    basis = np.array([[0, -PIXEL], [-PIXEL, 0], [0, 0]])
    return {
        **{name: value for name, value in simple().items() if "pixel_size" not in name and "distance" not in name},
        f"{DETECTOR}/basis_vectors": basis,
        f"{DETECTOR}/corner_position": np.array([PIXELS / 2 * PIXEL, PIXELS / 2 * PIXEL, DISTANCE]),
        f"{SOURCE}/wavelength": WAVELENGTH * 1e-10,
        "cxi_version": 160,
    }


def nxptycho() -> Content:
    return {
        "entry_1/data_1/data": images().astype(np.float64),
        "entry_1/definition": "NXptycho",
        "entry_1/instrument_1/name": "I13",
        f"{DETECTOR}/distance": DISTANCE,
        f"{DETECTOR}/x_pixel_size": PIXEL,
        f"{DETECTOR}/y_pixel_size": PIXEL,
        f"{DETECTOR}/beam_center_x": PIXELS / 2 * PIXEL,
        f"{DETECTOR}/beam_center_y": PIXELS / 2 * PIXEL,
        # The ring's, which is no energy of photons.
        f"{SOURCE}/energy": 3.0,
        "entry_1/instrument_1/beam_1/energy": JOULE,
        "cxi_version": "",
    }


def modules() -> Content:
    """Two panels, corners and vectors of each."""
    half = PIXELS // 2
    corners = np.array([[half * PIXEL, row * PIXEL, DISTANCE] for row in (half, 0)])
    return {
        f"{DETECTOR}/data": images().reshape(COUNT, 2, half, PIXELS),
        f"{DETECTOR}/corner_positions": corners,
        f"{DETECTOR}/basis_vectors": np.tile([[0, -PIXEL, 0], [-PIXEL, 0, 0]], (2, 1, 1)),
        f"{SOURCE}/energy": JOULE,
    }


def hits() -> Content:
    """Hits of European XFEL's SPB: a position for every pixel."""
    row, column = np.indices((PIXELS, PIXELS))
    x, y = (MIDDLE - column) * PIXEL, (MIDDLE - row) * PIXEL
    return {
        f"{DETECTOR}/data": images()[:, None],
        f"{DETECTOR}/xyz_map": np.stack([x, y, np.full(x.shape, DISTANCE)])[:, None],
        f"{DETECTOR}/good_pixels": np.ones(SHAPE, np.bool_),
        f"{DETECTOR}/background": np.zeros((1, *SHAPE)),
        f"{SOURCE}/photon_wavelength": np.full(COUNT, WAVELENGTH * 1e-10),
        "entry_1/trainId": np.arange(COUNT),
        "entry_1/data_1/data": h5py.SoftLink(f"/{DETECTOR}/data"),
    }


WRITERS = [simple, cheetah, condor, h5writer, cdtools, nxptycho, modules, hits]


def write(path: Path, content: Content, **attributes: Any) -> Path:
    """Write datasets and links; attributes : of the patterns."""
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            file[name] = value
        for name, value in attributes.items():
            file[f"{DETECTOR}/data"].attrs[name] = value
    return path


def read(folder: Path, content: Content, **options: Any) -> Dataset:
    return reader.read(write(folder / "data.cxi", content), **options)


def counts_of(found: Dataset) -> np.ndarray:
    return np.asarray(dense(found.images, len(found.q)))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_spinifel(tmp_path_factory.mktemp("expected"), good(0.5))


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_s_file_holds_the_same(tmp_path: Path, writer: Callable[[], Content], expected: Dataset) -> None:
    found = read(tmp_path, writer())
    np.testing.assert_array_equal(counts_of(found), counts_of(expected))
    # Rows go down and columns to the right: turned by half a turn about the beam against the simulated detector.
    np.testing.assert_allclose(found.q, expected.q * [-1, -1, 1], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(found.pixel_index_map, np.indices((PIXELS, PIXELS)).reshape(2, -1).T)
    assert found.taken_for == "photons"
    assert not (found.mask != 0).any()


def test_all_writers_give_the_same_bits(tmp_path: Path) -> None:
    first, *others = (read(tmp_path, writer()) for writer in WRITERS)
    for other in others:
        np.testing.assert_array_equal(other.q, first.q)


def test_bits_of_masks_are_those_of_the_standard(tmp_path: Path) -> None:
    bits = np.zeros((PIXELS, PIXELS), np.uint32)
    bits[0, :6] = 0x1, 0x80, 0x200, 0x20, 0x1000, 0x10000
    found = read(tmp_path, simple() | {f"{DETECTOR}/mask": bits})
    assert found.mask[:6].tolist() == [2, 2, 2, 0, 0, 0]
    found = read(tmp_path, simple() | {f"{DETECTOR}/mask": bits, "cheetah/x": 1})
    assert found.mask[:6].tolist() == [2, 2, 2, 0, 2, 0]
    found = read(tmp_path, simple() | {f"{DETECTOR}/mask": bits, "entry_1/trainId": np.arange(COUNT)})
    assert found.mask[:6].tolist() == [2, 2, 2, 2, 2, 2]
    found = read(tmp_path, simple() | {f"{DETECTOR}/mask": (bits == 0).astype(np.uint8)}, mask="good")
    assert found.mask[:7].tolist() == [2, 2, 2, 2, 2, 2, 0]


def test_a_mask_the_wrong_way_round_is_said(tmp_path: Path) -> None:
    mask = np.ones((PIXELS, PIXELS), np.uint8)
    mask[:3] = 0
    content = simple() | {f"{DETECTOR}/mask": mask}
    content[f"{DETECTOR}/data"] = np.where(mask, images() + 1, 0)
    assert "--set prepare.mask=good" in refused(lambda: read(tmp_path, content))
    assert (read(tmp_path, content, mask="good").mask == 2).sum() == 3 * PIXELS


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_pixels_masked_in_all_patterns_are_never_used(tmp_path: Path, dtype: str) -> None:
    masks = np.zeros((COUNT, PIXELS, PIXELS), np.uint16)
    masks[:, 2, 3] = 4
    content = simple() | {f"{DETECTOR}/mask": masks}
    content[f"{DETECTOR}/data"] = images().astype(dtype)
    found = read(tmp_path, content)
    assert np.flatnonzero(found.mask == 2).tolist() == [2 * PIXELS + 3]


def test_what_is_not_plausible_is_passed_over_and_said(tmp_path: Path) -> None:
    content = simple() | {f"{DETECTOR}/distance": 1e-44}
    text = refused(lambda: read(tmp_path, content))
    assert "the distance [m] (--distance-m NUMBER)" in text
    found = read(tmp_path, content, distance_m=DISTANCE)
    assert any("1e-44: not plausible" in line for line in found.remarks)
    np.testing.assert_array_equal(found.q, read(tmp_path, simple()).q)


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.cxi", {"entry_1/data_1/data": images()})
    text = refused(lambda: reader.read(path))
    assert all(option in text for option in ("--wavelength-angstrom", "--energy-ev", "--distance-m", "--pixel-um"))
    how: Content = {
        "distance_m": DISTANCE,
        "pixel_um": PIXEL * 1e6,
        "photon_energy_ev": 12398.419843320026 / WAVELENGTH,
    }
    found = reader.read(path, **how)
    assert any("taken to be its middle, row 5.5, column 5.5" in line for line in found.remarks)
    np.testing.assert_allclose(found.q, read(tmp_path, simple()).q, rtol=0, atol=1e-9)
    moved = reader.read(path, **how, centre="4.5,6.5")
    assert np.argmin(np.linalg.norm(moved.q.reshape(PIXELS, PIXELS, 3)[:, :, :2], axis=-1)) in (
        4 * PIXELS + 6, 4 * PIXELS + 7, 5 * PIXELS + 6, 5 * PIXELS + 7,
    )  # fmt: skip


def test_units_that_a_file_says_are_those(tmp_path: Path) -> None:
    path = write(tmp_path / "a.cxi", simple() | {f"{DETECTOR}/distance": 50.0, f"{SOURCE}/energy": 8265.61322888})
    with h5py.File(path, "r+") as file:
        file[f"{DETECTOR}/distance"].attrs["units"] = "mm"
        file[f"{SOURCE}/energy"].attrs["units"] = np.array([b"eV"])
    np.testing.assert_allclose(reader.read(path).q, read(tmp_path, simple()).q, rtol=0, atol=1e-9)


def test_a_beam_that_jitters_is_said_and_a_detector_that_moves_refused(tmp_path: Path) -> None:
    energy = JOULE * (1 + 0.005 * np.linspace(-1, 1, COUNT))
    found = read(tmp_path, simple() | {f"{SOURCE}/energy": energy})
    assert any("differs from pattern to pattern by 1.00%" in line for line in found.remarks)
    np.testing.assert_allclose(found.q, read(tmp_path, simple()).q, rtol=1e-6, atol=1e-9)
    moving = np.linspace(DISTANCE, 1.01 * DISTANCE, COUNT)
    assert "expected the same for all patterns" in refused(
        lambda: read(tmp_path, simple() | {f"{DETECTOR}/distance": moving})
    )


def test_only_patterns_that_were_written_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.cxi", simple(), numEvents=np.array([60]))
    found = reader.read(path)
    assert len(found.images) == 60
    assert any("60 of 90 patterns were written" in line for line in found.remarks)
    assert "numEvents is 0" in refused(lambda: reader.read(write(tmp_path / "b.cxi", simple(), numEvents=0)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({f"{DETECTOR}/data": np.zeros((3, 2, 2, 4, 4), np.uint16)}, "raw values with their gain"),
        ({f"{DETECTOR}/data": np.zeros((8, 8))}, "one pattern"),
        ({f"{DETECTOR}/mask": np.zeros((3, 3), np.uint32)}, "(3, 3); expected (90, 12, 12), or (12, 12)"),
        ({f"{DETECTOR}/xyz_map": np.zeros((3, 4, 4))}, "x y z of every pixel in metres"),
        ({f"{DETECTOR}/corner_position": np.zeros(2)}, "expected (1, 3), in metres"),
        ({f"{DETECTOR}/corner_position": np.ones(3), f"{DETECTOR}/basis_vectors": np.eye(3)[:2]}, "pixels of 1 to 1 m"),
        ({"entry_1/data_1": h5py.SoftLink("/nowhere")}, None),
        ({f"{DETECTOR}/data": h5py.ExternalLink("gone.h5", "data"), "entry_1/data_1": h5py.SoftLink("/no")}, "gone.h5"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path: Path, change: Content, text: str | None) -> None:
    content = simple() | change
    if text is None:
        assert len(read(tmp_path, content).images) == COUNT
        return
    assert text in refused(lambda: read(tmp_path, content))


PLACED: Content = {"wavelength_angstrom": WAVELENGTH, "distance_m": DISTANCE, "pixel_um": PIXEL * 1e6}


def test_any_stack_of_patterns_will_do(tmp_path: Path) -> None:
    mask = np.zeros((PIXELS, PIXELS))
    mask[0, :3] = 1
    content = {"run/photons": images(), "run/mask": mask, "labels": np.ones(COUNT)}
    found = read(tmp_path, content, **PLACED)
    np.testing.assert_array_equal(found.q, read(tmp_path, simple()).q)
    assert np.flatnonzero(found.mask).tolist() == [0, 1, 2]
    assert set(found.mask.tolist()) == {0, 2}
    assert "run/photons, run/raw" in refused(lambda: read(tmp_path, content | {"run/raw": images()}, **PLACED))
    named = read(tmp_path, content | {"run/raw": images()}, **PLACED, dataset="run/raw")
    np.testing.assert_array_equal(counts_of(named)[:, 3:], counts_of(found)[:, 3:])
    assert "'run/gone': not in the file" in refused(lambda: read(tmp_path, content, **PLACED, dataset="run/gone"))
    assert "(--geometry FILE.geom)" in refused(
        lambda: read(tmp_path, {"a": images().reshape(COUNT, 2, 6, PIXELS)}, **PLACED)
    )


@pytest.mark.parametrize("ending", [".h5", ".npy", ".byt"])
def test_masks_come_from_files_of_their_own(tmp_path: Path, ending: str) -> None:
    bad = np.zeros((PIXELS, PIXELS), np.uint8)
    bad[3, 4:6] = 1, 2
    path = tmp_path / f"mask{ending}"
    if ending == ".h5":
        with h5py.File(path, "w") as file:
            file["data/data"] = bad
    elif ending == ".npy":
        np.save(path, bad)
    else:
        path.write_bytes(bad.tobytes())
    found = read(tmp_path, simple(), mask_file=str(path))
    assert np.flatnonzero(found.mask == 2).tolist() == [3 * PIXELS + 4, 3 * PIXELS + 5]
    levels = read(tmp_path, simple(), mask_file=str(path), mask="levels")
    assert levels.mask[3 * PIXELS + 4 : 3 * PIXELS + 6].tolist() == [1, 2]
    (tmp_path / "short").write_bytes(b"\x00" * 5)
    assert "5 bytes" in refused(lambda: read(tmp_path, simple(), mask_file=str(tmp_path / "short")))
    assert "not found" in refused(lambda: read(tmp_path, simple(), mask_file=str(tmp_path / "gone")))


def test_options_that_a_file_leaves_no_room_for_are_refused(tmp_path: Path) -> None:
    spinifel = write(tmp_path / "s.h5", good(0.5))
    assert "says itself where its pixels lie" in refused(lambda: reader.read(spinifel, **PLACED))
    assert "leave it out" in refused(lambda: read(tmp_path, hits(), centre="3,4"))
    assert "no photons of Dragonfly" in refused(lambda: read(tmp_path, simple(), detector="a.dat"))
    assert "found both" in refused(lambda: read(tmp_path, simple(), wavelength_angstrom=1.0, photon_energy_ev=9000.0))
    far = read(tmp_path, simple(), distance_m=2 * DISTANCE)
    assert any("distance [m] 0.1 is used in place of 0.05" in line for line in far.remarks)
