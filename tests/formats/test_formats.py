"""Round trips through SpiniFEL's layout and MRC maps, in every dialect that others write."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import h5py
import hdf5plugin
import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spilegate.errors import InputError
from spilegate.formats import files, maps, patterns, reader, spinifel
from spilegate.records import Dataset
from spilegate.simulation.experiment import Simulation, detector_q

WAVELENGTH = 1.3
PANELS = (2, 4, 6)


def panel_positions() -> np.ndarray:
    """Positions [1/angstrom] of two panels of 4 x 6 pixels, cut from one flat detector."""
    whole = detector_q(8, 5.0, WAVELENGTH)[0]
    return np.stack([whole[:4, 1:7], whole[4:, 1:7]])


def panel_simulation(images: int = 24, photons: float | None = 100.0) -> Simulation:
    """A simulation of two panels with made-up counts."""
    rng = np.random.default_rng(0)
    quaternions = rng.standard_normal((images, 4))
    return Simulation(
        intensities=rng.poisson(3, (images, *PANELS)).astype(np.float32) + (0 if photons else 0.25),
        pixel_position=panel_positions(),
        pixel_index_map=np.stack(np.indices(PANELS)[1:], axis=-1) + np.arange(2)[:, None, None, None] * [4, 0],
        quaternions=quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True),
        volume=rng.random((5, 5, 5), np.float32),
        voxel_angstrom=2.5,
        wavelength_angstrom=WAVELENGTH,
        photons=photons,
        seed=7,
        particle="made up",
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file of `panel_simulation`."""
    path = tmp_path / "data.h5"
    spinifel.write(path, panel_simulation())
    return path


def rewrite(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray], **options: object) -> None:
    """Replace a dataset of a file."""
    with h5py.File(path, "r+") as file:
        values = file[name][()]
        del file[name]
        file.create_dataset(name, data=change(values), **options)


# --- SpiniFEL's layout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photons", [None, 100.0])
def test_what_is_written_is_read(tmp_path: Path, photons: float | None) -> None:
    simulation = panel_simulation(photons=photons)
    spinifel.write(tmp_path / "data.h5", simulation)
    dataset = reader.read(tmp_path / "data.h5")
    assert dataset.images.dtype == np.float32
    assert np.array_equal(dataset.images, simulation.intensities.reshape(24, -1))
    assert np.allclose(dataset.q, simulation.pixel_position.reshape(-1, 3), rtol=1e-12, atol=0)
    assert (dataset.mask == 0).all()
    assert dataset.background is None
    assert dataset.panel_shape == PANELS
    assert np.array_equal(dataset.pixel_index_map, simulation.pixel_index_map.reshape(-1, 2))
    truth = spinifel.read_truth(tmp_path / "data.h5")
    assert truth.quaternions is not None
    assert truth.volume is not None
    assert np.allclose(truth.quaternions, simulation.quaternions)
    assert np.array_equal(truth.volume, simulation.volume)
    assert truth.voxel_angstrom == 2.5


def test_the_file_has_the_units_and_shapes_of_the_layout(written: Path) -> None:
    with h5py.File(written) as file:
        assert file["intensities"].shape == (24, *PANELS)
        assert file["pixel_position_reciprocal"].shape == (*PANELS, 3)
        assert file["pixel_index_map"].shape == (*PANELS, 2)
        assert file["orientations"].shape == (24, 1, 4)
        assert np.allclose(file["pixel_position_reciprocal"][()], panel_positions() * 1e10)


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "u8", "f2", "f4", ">f8"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "gzip", "shuffle": True, "chunks": (5, 1, 4, 3)},
        {"chunks": (7, 2, 4, 6), **hdf5plugin.Bitshuffle()},
    ],
    ids=["plain", "gzip", "bitshuffle"],
)
def test_any_type_and_compression_is_read(
    written: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, options: dict[str, object]
) -> None:
    # Small blocks, so that several are read and the last one is shorter.
    monkeypatch.setattr(patterns, "BLOCK_BYTES", 1500)
    rewrite(written, "intensities", lambda values: values.astype(dtype), **options)
    dataset = reader.read(written)
    assert np.array_equal(dataset.images, panel_simulation().intensities.reshape(24, -1))


@pytest.mark.parametrize("name", ["pixel_position_reciprocal", "pixel_index_map"])
@pytest.mark.parametrize("dtype", ["f8", ">f4"])
def test_components_may_come_first(written: Path, name: str, dtype: str) -> None:
    before = reader.read(written)
    rewrite(written, name, lambda values: np.moveaxis(values, -1, 0).astype(dtype))
    after = reader.read(written)
    assert np.allclose(after.q, before.q, rtol=1e-6)
    assert np.array_equal(after.pixel_index_map, before.pixel_index_map)


def test_without_an_index_map_panels_are_stacked(written: Path) -> None:
    with h5py.File(written, "r+") as file:
        del file["pixel_index_map"]
    index = reader.read(written).pixel_index_map.reshape(*PANELS, 2)
    assert index[1, 2, 5].tolist() == [6, 5]
    assert len(np.unique(index.reshape(-1, 2), axis=0)) == np.prod(PANELS)


def test_binning_sums_counts_and_stays_on_the_ewald_sphere(written: Path) -> None:
    one, two = reader.read(written), reader.read(written, binning=2)
    assert two.panel_shape == (2, 2, 3)
    assert np.array_equal(two.images.sum(1), one.images.sum(1))
    corner = one.images.reshape(24, *PANELS)[:, 1, 2:4, 4:6].sum((1, 2))
    assert np.array_equal(two.images.reshape(24, 2, 2, 3)[:, 1, 1, 2], corner)
    assert np.allclose(two.q[:, 2], -WAVELENGTH * (two.q**2).sum(1) / 2, rtol=1e-9)
    mean = one.q.reshape(*PANELS, 3)[1, 2:4, 4:6].mean((0, 1))
    assert np.allclose(two.q.reshape(2, 2, 3, 3)[1, 1, 2], mean, atol=0.01 * np.linalg.norm(mean))
    assert two.pixel_index_map.reshape(2, 2, 3, 2)[1, 1, 2].tolist() == [3, 2]
    assert two.digest == one.digest


def test_limits_of_q_mask_pixels_and_nothing_else(written: Path) -> None:
    whole, limited = reader.read(written), reader.read(written, q_min=0.1, q_max=0.2)
    q_length = np.linalg.norm(whole.q, axis=1)
    inside = (q_length >= 0.1) & (q_length <= 0.2)
    assert np.array_equal(limited.mask, np.where(inside, 0, 2))
    assert 0 < inside.sum() < len(q_length)
    assert np.array_equal(limited.images, np.where(inside, whole.images, 0))


def test_the_truth_does_not_touch_the_data(written: Path) -> None:
    before = reader.read(written)
    with h5py.File(written, "r+") as file:
        del file["orientations"], file["volume"]
        file["orientations"] = "nothing of the kind"
        file.create_group("volume")
    after = reader.read(written)
    for item in fields(Dataset):
        assert np.array_equal(getattr(before, item.name), getattr(after, item.name))


def test_the_digest_tells_patterns_and_positions_apart(written: Path) -> None:
    first = reader.read(written).digest
    rewrite(written, "intensities", lambda values: values + (np.arange(values.size) == 5).reshape(values.shape))
    second = reader.read(written).digest
    rewrite(written, "pixel_position_reciprocal", lambda values: values * 1.01)
    assert len({first, second, reader.read(written).digest}) == 3


def test_blocks_change_nothing(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = reader.read(written)
    monkeypatch.setattr(patterns, "BLOCK_BYTES", 500)
    parts = reader.read(written)
    assert parts.digest == whole.digest
    assert np.array_equal(parts.images, whole.images)


def test_a_truth_may_be_flat_or_missing(written: Path) -> None:
    rewrite(written, "orientations", lambda values: values[:, 0])
    truth = spinifel.read_truth(written)
    assert truth.quaternions is not None
    assert np.allclose(truth.quaternions, panel_simulation().quaternions)
    with h5py.File(written, "r+") as file:
        del file["orientations"], file["volume"]
    assert spinifel.read_truth(written) == spinifel.Truth(None, None, None)


def test_describe_says_what_is_in_the_file(written: Path) -> None:
    facts = reader.describe(written)
    assert facts["patterns"] == 24
    assert (facts["panels"], facts["pixels"]) == (2, [4, 6])
    assert facts["dtype"] == "uint16"
    assert facts["wavelength_angstrom"] == pytest.approx(WAVELENGTH)
    totals = panel_simulation().intensities.sum((1, 2, 3))
    assert facts["photons_per_pattern_min"] == totals.min()
    assert facts["photons_per_pattern_mean"] == pytest.approx(totals.mean())
    assert facts["truth"] == "orientations, volume"
    assert facts["usable"] == "yes"
    rewrite(written, "intensities", lambda values: values * (np.arange(24) != 3)[:, None, None, None])
    facts = reader.describe(written)
    assert facts["zero_patterns"] == 1
    assert facts["usable"] == "yes"
    rewrite(written, "intensities", lambda values: values * 0)
    assert "24 of the patterns" in reader.describe(written)["usable"]


def test_describe_finds_the_resolution_of_a_whole_detector(tmp_path: Path) -> None:
    q = detector_q(21, 6.0, 1.0)
    simulation = replace(
        panel_simulation(),
        pixel_position=q,
        intensities=np.ones((24, 1, 21, 21), np.float32),
        pixel_index_map=np.zeros((1, 21, 21, 2), np.int64),
    )
    spinifel.write(tmp_path / "data.h5", simulation)
    facts = reader.describe(tmp_path / "data.h5")
    assert facts["resolution_side_angstrom"] == pytest.approx(6, rel=1e-9)
    assert facts["resolution_corner_angstrom"] == pytest.approx(1 / np.linalg.norm(q, axis=-1).max())


# --- writing ---------------------------------------------------------------------------------------------------------


def test_an_existing_file_stays_unless_told_otherwise(written: Path) -> None:
    before = written.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        spinifel.write(written, panel_simulation(30))
    assert written.read_bytes() == before
    spinifel.write(written, panel_simulation(30), force=True)
    assert len(reader.read(written).images) == 30
    assert [path.name for path in written.parent.iterdir()] == ["data.h5"]


def test_a_failure_while_writing_leaves_the_older_file(written: Path) -> None:
    before = written.read_bytes()
    broken = replace(panel_simulation(), volume=None)
    with pytest.raises(TypeError):
        spinifel.write(written, broken, force=True)
    with pytest.raises(InputError, match="cannot be written"), files.replacing(written, force=True):
        raise OSError(28, "No space left on device")
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == ["data.h5"]


def test_a_target_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        files.check_target(tmp_path / "nowhere" / "data.h5", force=True)
    with pytest.raises(InputError, match="folder"):
        files.check_target(tmp_path, force=True)


# --- maps ------------------------------------------------------------------------------------------------------------

volumes = st.integers(1, 6).flatmap(
    lambda size: hnp.arrays(np.float32, (size,) * 3, elements=st.floats(-1e6, 1e6, width=32))
)


@given(volume=volumes, voxel=st.floats(0.001, 100))
@settings(max_examples=40, deadline=None)
def test_a_map_is_read_as_written(tmp_path_factory: pytest.TempPathFactory, volume: np.ndarray, voxel: float) -> None:
    path = tmp_path_factory.mktemp("maps") / "map.mrc"
    maps.write_map(path, volume, voxel)
    again, edge = maps.read_map(path)
    assert np.array_equal(again, volume)
    assert again.flags.c_contiguous
    assert edge == pytest.approx(voxel, rel=1e-6)


def test_a_map_is_centred_and_ordered_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "map.mrc"
    volume = np.zeros((7, 7, 7), np.float32)
    volume[5, 3, 2] = 1
    maps.write_map(path, volume, 2.0)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        assert mrc.header.mode == 2
        assert np.argwhere(mrc.data).tolist() == [[2, 3, 5]]
        assert mrc.header.origin.tolist() == (-6, -6, -6)
        assert mrc.nstart.tolist() == (-3, -3, -3)
        assert mrc.voxel_size.tolist() == (2, 2, 2)
    with pytest.raises(InputError, match="exists already"):
        maps.write_map(path, volume, 2.0)


def test_other_axis_orders_and_modes_are_read(tmp_path: Path) -> None:
    path, volume = tmp_path / "map.map", np.arange(27, dtype=np.int16).reshape(3, 3, 3)
    with mrcfile.new(path, volume.transpose(0, 2, 1).copy()) as mrc:
        mrc.voxel_size = 1.5
        mrc.header.maps, mrc.header.mapr, mrc.header.mapc = 1, 3, 2
    again, edge = maps.read_map(path)
    assert np.array_equal(again, volume)
    assert edge == 1.5
