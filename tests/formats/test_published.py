"""What is deposited with a paper: maps, correlations, orientations and lists, as other programs read them."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from io import StringIO
from pathlib import Path

import gemmi
import h5py
import mrcfile
import numpy as np
import pytest
from conftest import as_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import made_up_state
from scipy.spatial.transform import Rotation

from spilegate import __version__
from spilegate.commands.configuration import load_settings
from spilegate.errors import InputError
from spilegate.evaluation.fsc import fourier_shell_correlation
from spilegate.formats import results
from spilegate.formats.record import load_record, save_record
from spilegate.formats.star import write_star
from spilegate.geometry.orientations import euler_angles, matrices
from spilegate.patterns.checks import chosen
from spilegate.records import Origin, State
from spilegate.report.files import read_curves, write_curve
from spilegate.settings import PrepareOptions
from spilegate.simulation.experiment import Simulation

SIZE, VOXEL = 33, 3.0
SOURCE = Path("run 42.h5")


def blobs(seed: int) -> np.ndarray:
    """A density of a few blobs, none of them in the middle."""
    rng = np.random.default_rng(seed)
    axis = np.arange(SIZE) - SIZE // 2
    total = np.zeros((SIZE,) * 3)
    for at, height in zip(rng.uniform(-6, 6, (12, 3)), rng.uniform(0.5, 2, 12), strict=True):
        x, y, z = np.exp(-((axis - at[:, None]) ** 2) / 4)
        total += height * x[:, None, None] * y[:, None] * z
    return total.astype(np.float32)


def state_of(*densities: np.ndarray, count: int = 40, seed: int = 0) -> State:
    """A state with these densities, and orientations drawn from a seed."""
    rng = np.random.default_rng(seed)
    stack = np.stack(densities)
    ones = np.ones(count)
    return replace(
        made_up_state(), voxel_angstrom=VOXEL, density=stack, autocorrelation=stack, support=stack > 0.1, scale=ones,
        weight=(np.arange(count) % 7 != 3).astype(float), distance=rng.random(count),
        state=rng.integers(0, len(stack), count),
        quaternions=Rotation.random(count, rng=rng).as_quat(canonical=True, scalar_first=True),
    )  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """The results of three states, of which the halves have two."""
    folder = tmp_path_factory.mktemp("published")
    whole, rng = state_of(blobs(1), blobs(2), blobs(3)), np.random.default_rng(5)
    maps = whole.density + (0.1 * rng.standard_normal((2, *whole.density.shape)) * whole.support).astype(np.float32)
    maps[:, 2] = 0
    written = results.write_results(folder, whole, SOURCE, half_maps=maps, threads=1)
    for k in range(3):
        curve = fourier_shell_correlation(*maps[:, k], VOXEL, threads=1)
        written |= write_curve(folder, "half_set_plain", curve.q, curve.correlation, k)
        written |= write_curve(folder, "half_set", curve.q, curve.correlation - 0.01, k)
    assert written == {path.name for path in folder.iterdir()}
    return folder, whole


def test_every_state_has_its_files_and_one_that_a_half_lacks_has_no_half_maps(published: tuple[Path, State]) -> None:
    folder, _ = published
    maps = {
        f"{kind}{of}.mrc" for kind in ("density", "intensity", "autocorrelation", "support") for of in ("", "_1", "_2")
    }
    halves = {f"half_{half}{of}.mrc" for half in (1, 2) for of in ("", "_1")}
    curves = {f"fsc_half_set{of}{end}" for of in ("", "_1", "_2") for end in (".csv", ".xml")}
    curves |= {f"fsc_half_set_plain{of}.csv" for of in ("", "_1", "_2")}
    lists = {"selected.txt", "selected_1.txt", "selected_2.txt", "outliers.txt"}
    others = {"orientations.h5", "orientations.star"}
    assert {path.name for path in folder.iterdir()} == maps | halves | curves | lists | others
    for path in folder.iterdir():
        assert results.OWN_FILES.fullmatch(path.name)


def by_numpy(first: Path, second: Path) -> tuple[np.ndarray, np.ndarray]:
    """Fourier shell correlation of two files, straight from its definition."""
    with mrcfile.open(first) as one, mrcfile.open(second) as other:
        a, b = (np.fft.fftn(each.data.astype(np.float64)) for each in (one, other))
        edge = float(one.header.cella.x)
    k = np.fft.fftfreq(len(a), 1 / len(a))
    shell = np.rint(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)).astype(int)
    cross, power, other_power = (
        np.bincount(shell.ravel(), values.ravel()) for values in ((a * b.conj()).real, abs(a) ** 2, abs(b) ** 2)
    )
    number = np.arange(1, len(a) // 2 + 1)
    return number / edge, (cross / np.sqrt(power * other_power))[number]


@pytest.mark.parametrize("state", [0, 1])
def test_the_half_maps_have_the_correlation_that_is_written(published: tuple[Path, State], state: int) -> None:
    folder, whole = published
    of = f"_{state}" if state else ""
    q, correlation = by_numpy(folder / f"half_1{of}.mrc", folder / f"half_2{of}.mrc")
    found = read_curves(folder, state)["half_set_plain"]
    np.testing.assert_allclose(found[0], q, rtol=1e-5)
    np.testing.assert_allclose(found[1], correlation, atol=2e-5)
    assert correlation[:6].min() > 0.95
    assert correlation.min() < 0.5
    for half in (1, 2):
        with mrcfile.open(folder / f"half_{half}{of}.mrc") as file:
            laid = file.data.T
        assert np.corrcoef(laid.ravel(), whole.density[state].ravel())[0, 1] > 0.97


def test_maps_lie_where_other_programs_look_for_them(published: tuple[Path, State]) -> None:
    """gemmi goes by the start indices, ChimeraX by the origin; both put the middle voxel at 0, 0, 0."""
    folder, whole = published
    brightest = np.array(np.unravel_index(whole.density[0].argmax(), (SIZE,) * 3))
    assert len(set(brightest.tolist())) == 3
    at = (brightest - SIZE // 2) * VOXEL
    for name in ("density", "half_1", "half_2", "support"):
        path = folder / f"{name}.mrc"
        assert mrcfile.validate(path, print_file=StringIO())
        with mrcfile.open(path) as file:
            header = file.header
            assert [int(header[axis]) for axis in ("mapc", "mapr", "maps")] == [1, 2, 3]
            np.testing.assert_allclose(file.voxel_size.tolist(), (VOXEL,) * 3)
            np.testing.assert_allclose(header.origin.tolist(), (-(SIZE // 2) * VOXEL,) * 3)
            assert file.get_labels()[1].startswith(f"spilegate {__version__}: ")
        read = gemmi.read_ccp4_map(str(path), setup=True)
        value = read.grid.tricubic_interpolation(gemmi.Position(*at))
        if name == "density":
            assert value == pytest.approx(whole.density[0].max(), rel=1e-4)
        elif name == "support":
            assert value == pytest.approx(1, abs=1e-6)
            with mrcfile.open(path) as file:
                np.testing.assert_array_equal(file.data.T, whole.support[0])
        else:
            assert value == pytest.approx(whole.density[0].max(), rel=0.1)


def test_emdb_s_xml_has_the_curve(published: tuple[Path, State]) -> None:
    folder, _ = published
    root = ET.parse(folder / "fsc_half_set_1.xml").getroot()  # noqa: S314 - a file of our own
    assert (root.tag, root.get("xaxis"), root.get("yaxis")) == ("fsc", "Resolution (A-1)", "Correlation Coefficient")
    assert root.get("title")
    assert {child.tag for child in root} == {"coordinate"}
    assert all([part.tag for part in point] == ["x", "y"] for point in root)
    points = [[float(part.text or "nan") for part in point] for point in root]
    np.testing.assert_allclose(np.transpose(points), read_curves(folder, 1)["half_set"])


# --- orientations ----------------------------------------------------------------------------------------------------


def relion(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's matrix of its angles [degrees]: axes are turned about z, the new y, the new z."""

    def z(angle: float) -> np.ndarray:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])

    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return z(psi) @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) @ z(rot)


def test_relion_s_matrix_is_the_one_it_documents() -> None:
    """The last row is the direction of the view: rot is its longitude, tilt its distance from +z."""
    a = relion(30, 50, 70)
    sines = np.sin(np.radians(50)) * np.array([np.cos(np.radians(30)), np.sin(np.radians(30))])
    np.testing.assert_allclose(a[2], [*sines, np.cos(np.radians(50))])
    np.testing.assert_allclose(a.T, Rotation.from_euler("ZYZ", [30, 50, 70], degrees=True).as_matrix(), atol=1e-12)


LOCKED = [
    Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_quat(scalar_first=True)
    for tilt in (0, 1e-9, 1e-6, 1e-3, 90, 180 - 1e-3, 180 - 1e-9, 180)
    for angles in ([0, tilt, 0], [25, tilt, -160], [180, tilt, 180], [-180, tilt, 0])
]


def angles_in(path: Path) -> np.ndarray:
    """The angles (N, 3) of a STAR file, as gemmi reads them."""
    table = gemmi.cif.read(str(path))["particles"].find("_rln", ["AngleRot", "AngleTilt", "AnglePsi"])
    return np.array([[gemmi.cif.as_number(value) for value in row] for row in table])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_angles_read_back_give_the_rotation(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("star") / "orientations.star"
    rng = np.random.default_rng(seed)
    quaternions = np.concatenate(
        [Rotation.random(200, rng=rng).as_quat(scalar_first=True), LOCKED, np.negative(LOCKED)]
    )
    state = replace(state_of(blobs(1), count=len(quaternions)), quaternions=quaternions)
    write_star(path, state, SOURCE, halves=True)
    angles = angles_in(path)
    assert (np.abs(angles[:, [0, 2]]) <= 180).all()
    assert ((angles[:, 1] >= 0) & (angles[:, 1] <= 180)).all()
    for rotation, (rot, tilt, psi) in zip(matrices(quaternions), angles, strict=True):
        np.testing.assert_allclose(relion(rot, tilt, psi), rotation, atol=1e-7)
    np.testing.assert_allclose(euler_angles(quaternions[0]), euler_angles(quaternions)[0])


@pytest.mark.parametrize("name", ["data.h5", "my data.h5", "a'b \"c\" 'd.h5", "Å\n;_x.h5", "caf\udce9.h5", "#1", "_a"])
def test_a_star_file_says_which_pattern_it_was_and_what_became_of_it(tmp_path: Path, name: str) -> None:
    state, path = state_of(blobs(1), blobs(2)), tmp_path / "orientations.star"
    write_star(path, state, Path("folder") / name, halves=True)
    block = gemmi.cif.read(str(path)).find_block("particles")

    def column(label: str) -> list[str]:
        return [gemmi.cif.as_string(value) for value in block.find_values(label)]

    images = column("_rlnImageName")
    assert [image.partition("@")[0] for image in images] == [f"{number:06d}" for number in range(1, 41)]
    assert len({image.partition("@")[2] for image in images}) == 1
    if name.isprintable() and '"' not in name:
        assert images[0] == f"000001@folder/{name}"
    assert column("_rlnRandomSubset") == ["1", "2"] * 20
    assert column("_rlnClassNumber") == [str(k + 1) for k in state.state]
    assert column("_spilegatePattern") == [str(number) for number in range(40)]
    assert column("_spilegateState") == [str(k) for k in state.state]
    for label, values in (("Weight", state.weight), ("Scale", state.scale), ("Distance", state.distance)):
        np.testing.assert_allclose([float(text) for text in column(f"_spilegate{label}")], values, rtol=1e-5)
    # As RELION reads it: a label on a line, with its number, then a line for every pattern.
    lines = path.read_text().splitlines()
    labels = [line for line in lines if line.startswith("_")]
    assert [label.split()[1] for label in labels] == [f"#{number}" for number in range(1, 12)]
    assert len(lines) == lines.index(labels[-1]) + 1 + 40


def test_patterns_of_a_list_are_named_by_their_own_files(tmp_path: Path) -> None:
    parts = [(Origin(), "a 1.h5", 30), (Origin("first.cxi", {"index": np.arange(5, 15)}), "b.h5", 10)]
    write_star(tmp_path / "a.star", state_of(blobs(1)), Path("list.txt"), Origin.joined(parts), halves=True)
    column = gemmi.cif.read(str(tmp_path / "a.star")).sole_block().find_values("_rlnImageName")
    images = [gemmi.cif.as_string(value) for value in column]
    assert images[:2] == ["000001@a 1.h5", "000002@a 1.h5"]
    assert images[29:31] == ["000030@a 1.h5", "000006@first.cxi"]
    assert len(set(images)) == 40
    # Of one file it is the place there that counts, whatever it was made from.
    write_star(
        tmp_path / "b.star", state_of(blobs(1)), Path("c.h5"), Origin("x", {"index": np.arange(9, 49)}), halves=True
    )
    column = gemmi.cif.read(str(tmp_path / "b.star")).sole_block().find_values("_rlnImageName")
    assert column[0] == "000001@c.h5"


def test_without_half_sets_no_pattern_is_in_one(tmp_path: Path) -> None:
    write_star(tmp_path / "a.star", state_of(blobs(1)), SOURCE, halves=False)
    block = gemmi.cif.read(str(tmp_path / "a.star")).sole_block()
    assert not block.find_values("_rlnRandomSubset")
    assert block.find_values("_spilegateDistance")


def test_browsers_of_nexus_find_what_to_show(published: tuple[Path, State]) -> None:
    """They follow `default` from the root down to a signal; what other readers know stays where it was."""
    folder, whole = published
    with h5py.File(folder / "orientations.h5") as file:
        assert file.attrs["NX_class"] == "NXroot"
        entry = file[file.attrs["default"]]
        assert entry.attrs["NX_class"] == "NXentry"
        shown = entry[entry.attrs["default"]]
        assert shown.attrs["NX_class"] == "NXdata"
        np.testing.assert_array_equal(shown[shown.attrs["signal"]], whole.distance)
        names = {"quaternions", "scale", "weight", "distance", "state"}
        assert set(shown) == names
        assert set(file) == names | {"entry"}
        for name in names:
            assert shown[name] == file[name]
            assert shown[name].attrs["target"] == f"/{name}"
            assert {"units", "long_name", "meaning"} <= set(file[name].attrs)
    found, kept = results.read_assignments(folder / "orientations.h5")
    np.testing.assert_array_equal(found, whole.state)
    np.testing.assert_array_equal(kept, whole.weight > 0)


# --- lists of patterns -----------------------------------------------------------------------------------------------


def test_lists_of_patterns_are_read_back_as_settings(published: tuple[Path, State], simulation: Simulation) -> None:
    folder, whole = published
    dataset = as_dataset(simulation)
    dataset = replace(dataset, images=dataset.images[: len(whole.weight)])

    def read_back(name: str, option: str) -> list[int]:
        found = load_settings(None, [f"prepare.{option}={folder / name}"], {}).prepare
        return np.flatnonzero(chosen(dataset, found)).tolist()

    kept = whole.weight > 0
    for k, of in enumerate(("", "_1", "_2")):
        members = np.flatnonzero(kept & (whole.state == k)).tolist()
        assert members
        assert read_back(f"selected{of}.txt", "use") == members
    assert read_back("outliers.txt", "leave_out") == np.flatnonzero(kept).tolist()
    assert read_back("outliers.txt", "use") == np.flatnonzero(~kept).tolist()
    assert re.fullmatch(r"(\d+\n)+", (folder / "outliers.txt").read_text())


def test_a_list_of_many_patterns_fits_into_a_checkpoint(tmp_path: Path) -> None:
    """Every third of them: no ranges to write them shorter."""
    state = state_of(blobs(1), count=200_000)
    state = replace(state, weight=(np.arange(200_000) % 3 == 0).astype(float))
    results.write_lists(tmp_path, state)
    found = load_settings(None, [f"prepare.use={tmp_path / 'selected.txt'}"], {})
    save_record(tmp_path / "checkpoint.h5", made_up_state(), {"settings": found.model_dump_json()})
    _, attributes = load_record(tmp_path / "checkpoint.h5", State)
    again = PrepareOptions.model_validate({"use": found.prepare.use})
    assert again.use is not None
    assert again.use in attributes["settings"]
    assert again.use.count(",") == 66_666


def test_a_run_without_outliers_says_so_where_they_are_asked_for(tmp_path: Path) -> None:
    results.write_lists(tmp_path, made_up_state())
    assert (tmp_path / "outliers.txt").read_text() == ""
    with pytest.raises(InputError, match=r"outliers\.txt' holds no numbers.*leave it out"):
        load_settings(None, [f"prepare.leave_out={tmp_path / 'outliers.txt'}"], {})


def test_nothing_is_left_of_an_earlier_run_s_half_sets(tmp_path: Path) -> None:
    mine = {"mine.mrc", "half_3.mrc", "half_1.mrc.bak"}
    earlier = {"half_1.mrc", "half_2_1.mrc", "fsc_half_set.xml", "fsc_half_set_plain_1.csv", "selected_3.txt"}
    kept = {"fsc_reference.csv", "checkpoint.h5", "summary.json", "progress.jsonl", "findings.h5"}
    for name in mine | earlier | kept:
        (tmp_path / name).touch()
    (tmp_path / "density_9.mrc").mkdir()
    written = results.write_results(tmp_path, made_up_state(2), SOURCE, threads=1)
    results.remove_left_over(tmp_path, written)
    assert {path.name for path in tmp_path.iterdir()} == written | mine | kept | {"density_9.mrc"}
    assert not {name for name in written if name.startswith(("half", "fsc"))}
