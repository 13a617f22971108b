"""From one format to another and back: the same photons, pixels and masks, whoever reads them."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import INTERRUPTED, MAIN, run
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from photons import measured, settings
from spoilt import refused

from spilegate.commands import convert
from spilegate.formats import patterns, reader, results, spinifel
from spilegate.formats.dragonfly_writer import detector_path
from spilegate.formats.selection import chosen
from spilegate.kernels.events import dense
from spilegate.mtip import reconstruct
from spilegate.records import Dataset
from spilegate.settings import Settings

NAMES = ("a.h5", "a.cxi", "a.emc", "b.h5")
TO = {"b.h5": "dragonfly"}


def converted(data: Path, output: Path, *, to: str = "auto", **options: object) -> Path:
    how = {"select": None, "crop": None, "force": False, "quiet": True, "log": None}
    prepare = {name: options.pop(name) for name in list(options) if name not in how}
    # Dragonfly's photons need their detector, which lies beside them.
    if (data.suffix == ".emc" or data.name in TO) and "detector" not in prepare:
        prepare |= {"detector": str(detector_path(data)), "wavelength_angstrom": 1.0}
    convert.run(data, output, Settings.model_validate({"prepare": prepare}), to=to, **(how | options))  # type: ignore[arg-type]
    return output


def read(path: Path, **options: object) -> Dataset:
    if path.suffix == ".emc" or path.name in TO:
        options |= {"detector": str(detector_path(path)), "wavelength_angstrom": 1.0}
    return reader.read(path, **options)


def counts_of(found: Dataset) -> np.ndarray:
    return np.asarray(dense(found.images, len(found.q)))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photons with levels of all kinds, and a background."""
    path = tmp_path_factory.mktemp("simulated") / "s.h5"
    spinifel.write(
        path, measured(images=60, photons=800.0, mask=("cross", "beamstop"), background=0.3, known_background=True)
    )
    with h5py.File(path, "r+") as file:
        mask = file["mask"][()]
        mask[0, :2] = 1
        file["mask"][...] = mask
        file["intensities"][0, 0, 16, :3] = 3, 0, 7
    return path


def test_a_round_trip_through_all_formats_keeps_everything(simulated: Path, tmp_path: Path) -> None:
    chain = [simulated]
    for name in ("1.emc", "2.cxi", "b.h5", "4.h5"):
        chain.append(converted(chain[-1], tmp_path / name, to=TO.get(name, "auto")))
    first, last = read(chain[0]), read(chain[-1])
    np.testing.assert_array_equal(counts_of(last), counts_of(first))
    np.testing.assert_array_equal(last.mask, first.mask)
    assert np.abs(last.q - first.q).max() < 1e-6 * np.abs(first.q).max()
    np.testing.assert_allclose(last.background, first.background, rtol=1e-12)
    # What lies under the mask goes along, though no one looks at it.
    with h5py.File(simulated) as before, h5py.File(chain[-1]) as after:
        np.testing.assert_array_equal(
            after["intensities"][()].reshape(60, -1), before["intensities"][()].reshape(60, -1)
        )


def test_all_formats_give_the_same_bits(simulated: Path, tmp_path: Path) -> None:
    start = converted(simulated, tmp_path / "start.h5")
    found = [read(converted(start, tmp_path / name, to=TO.get(name, "auto"))) for name in NAMES]
    for one, other in itertools.pairwise(found):
        for name in ("q", "images", "mask", "background"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    # What differs by a bit anywhere differs soon.
    quick = settings(
        prepare={"diameter_angstrom": 62, "q_max": 0.05}, start={"count": 1, "iterations": 4},
        convergence={"most_generations": 2}, phasing={"starts": 1},
    )  # fmt: skip
    first, second = (reconstruct(each, quick) for each in (found[0], found[2]))
    np.testing.assert_array_equal(first.state.density, second.state.density)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_selected_cut_and_summed_is_what_numpy_makes_of_it(simulated: Path, tmp_path: Path, name: str) -> None:
    out = converted(simulated, tmp_path / name, to=TO.get(name, "auto"), select="3,10:50", crop="4:28,0:32", binning=2)
    whole, found = read(simulated), read(out)
    which = np.array([3, *range(10, 50)])
    dark = whole.mask.reshape(32, 32)[4:28] == 2
    images = np.where(dark, 0, counts_of(whole)[which].reshape(-1, 32, 32)[:, 4:28])
    blocks = images.reshape(-1, 12, 2, 16, 2).sum((2, 4))
    bad = dark.reshape(12, 2, 16, 2).any((1, 3))
    np.testing.assert_array_equal(counts_of(found).reshape(-1, 12, 16), np.where(bad, 0, blocks))
    np.testing.assert_array_equal(found.mask.reshape(12, 16) == 2, bad)


def test_what_a_pattern_came_from_is_kept(simulated: Path, tmp_path: Path) -> None:
    out = converted(simulated, tmp_path / "a.h5", select="5:40")
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["origin/index"][()], np.arange(5, 40))
        assert file["origin"].attrs["file"] == "s.h5"
    # Through a second file, too; the first counts.
    again = converted(out, tmp_path / "a.cxi", select="10:35")
    with h5py.File(again) as file:
        np.testing.assert_array_equal(file["entry_1/origin/index"][()], np.arange(15, 40))
        assert file["entry_1/origin"].attrs["file"] == "s.h5"


def test_results_say_what_patterns_came_from(simulated: Path, tmp_path: Path) -> None:
    dataset = read(converted(simulated, tmp_path / "a.cxi", select="5:40"))
    quick = settings(start={"count": 1, "iterations": 3}, convergence={"most_generations": 2}, phasing={"starts": 1})
    found = reconstruct(dataset, quick)
    results.write_results(tmp_path, found.state, tmp_path / "a.cxi", origin=dataset.origin, threads=1)
    with h5py.File(tmp_path / "orientations.h5") as file:
        np.testing.assert_array_equal(file["origin/index"][()], np.arange(5, 40))
        assert file["origin"].attrs["file"] == "s.h5"
        assert len(file["quaternions"]) == 35


def test_conditions_select_by_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["labels"], file["hits/score"] = np.arange(10) % 2, np.linspace(0, 1, 10)
    assert chosen("labels == 1", path, 10).tolist() == [1, 3, 5, 7, 9]
    assert chosen("labels==1 and hits/score > 0.5", path, 10).tolist() == [5, 7, 9]
    assert chosen("hits/score <= 0", path, 10).tolist() == [0]
    listed = tmp_path / "list.txt"
    listed.write_text("4\n7, 8\n")
    assert chosen(str(listed), path, 10).tolist() == [4, 7, 8]
    for text in ("labels = 1", "labels == one", "gone == 1", "labels == 1 or labels == 0", "3,11", "x", "labels == 7"):
        assert refused(lambda text=text: chosen(text, path, 10))


def test_bright_patterns_after_dim_ones_are_not_cut_off(simulated: Path, tmp_path: Path) -> None:
    path = tmp_path / "bright.h5"
    path.write_bytes(simulated.read_bytes())
    with h5py.File(path, "r+") as file:
        images = file["intensities"][()].astype(np.uint32)
        del file["intensities"]
        images[-1, 0, 10, 10], images[-1, 0, 11, 11] = 65535, 70000
        file["intensities"] = images
    for name in NAMES:
        found = read(converted(path, tmp_path / name, to=TO.get(name, "auto")), broken_pixels="always")
        assert counts_of(found)[-1, [10 * 32 + 10, 11 * 32 + 11]].tolist() == [65535, 70000]


@pytest.mark.parametrize("dtype", ["f4", "i4", "u2"])
def test_what_single_patterns_lack_is_still_lacking(simulated: Path, tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "gaps.h5"
    path.write_bytes(simulated.read_bytes())
    with h5py.File(path, "r+") as file:
        images = file["intensities"][()].astype(dtype)
        del file["intensities"]
        images[5, 0, 3:9, 10] = images[7, 0, 20, 25] = np.nan if dtype == "f4" else np.iinfo(dtype).max
        # Of a bright pattern, so that wider integers are needed on the way.
        images[9, 0, 8, 8] = 70_000 if dtype != "u2" else 65_534
        file["intensities"] = images
    expected = read(path, broken_pixels="mend")
    assert len(expected.missing_pixel) == 7
    for name in ("a.h5", "a.cxi"):
        found = read(converted(path, tmp_path / name), broken_pixels="mend")
        for field in ("missing_pattern", "missing_pixel", "mask"):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), field)
        np.testing.assert_array_equal(counts_of(found), counts_of(expected))
    assert "7 values that single patterns lack" in refused(lambda: converted(path, tmp_path / "a.emc"))


def test_intensities_go_where_they_can(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    spinifel.write(path, measured(images=30, photons=None))
    np.testing.assert_array_equal(read(converted(path, tmp_path / "a.cxi")).images, read(path).images)
    text = refused(lambda: converted(path, tmp_path / "a.emc"))
    assert "expected photons" in text
    assert not list(tmp_path.glob("a.emc*"))
    assert not list(tmp_path.glob("a_detector*"))


def test_nothing_is_overwritten_or_left_half_done(simulated: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.emc"
    detector_path(out).write_text("mine")
    assert "exists already" in refused(lambda: converted(simulated, out))
    assert detector_path(out).read_text() == "mine"
    assert "to be converted" in refused(lambda: converted(simulated, simulated, force=True))
    for crop, text in (("0:99,0:4", "beyond panels"), ("5:5,0:4", "expected rows"), ("1,2", "expected rows")):
        assert text in refused(lambda crop=crop: converted(simulated, tmp_path / "c.h5", crop=crop))
    assert "ends in '.txt'" in refused(lambda: converted(simulated, tmp_path / "c.txt"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_detector.h5"]


def test_the_command_says_how_to_read_what_it_wrote(simulated: Path, tmp_path: Path) -> None:
    done = run("convert", simulated, tmp_path / "a.emc", "--select", "0:40")
    assert done.exit_code == 0, done.output
    assert "40 patterns of 1 x 32 x 32 pixels (photons)" in done.output
    words = done.output.strip().splitlines()[-1].partition("spilegate ")[2].split()
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "usable                      yes" in done.output


def test_memory_does_not_grow_with_the_number_of_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "BLOCK_BYTES", 1 << 18)
    most = []
    for count in (80, 240):
        path = tmp_path / f"{count}.h5"
        with h5py.File(path, "w") as file:
            images = np.random.default_rng(0).poisson(2.0, (count, 64, 64)).astype(np.float64)
            file.create_dataset("patterns", data=images, chunks=(1, 64, 64))
        del images
        how = {"distance_m": 1.0, "pixel_um": 100.0, "wavelength_angstrom": 2.0}
        tracemalloc.start()
        converted(path, tmp_path / f"{count}.cxi", **how)
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[1] < 1.1 * most[0]


@pytest.mark.parametrize("name", ["a.h5", "a.emc", "b.h5"])
def test_ctrl_c_ends_it_soon_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data.h5"
    with h5py.File(data, "w") as file:
        file["patterns"] = np.random.default_rng(0).poisson(0.1, (1200, 128, 128)).astype(np.uint8)
    how = ["--distance-m", "1", "--pixel-um", "100", "--wavelength-angstrom", "2", "--to", TO.get(name, "auto")]
    command = [sys.executable, str(MAIN), "convert", str(data), str(tmp_path / name), *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not list(tmp_path.glob("*.partial")) and running.poll() is None:
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=60)
    assert running.returncode == INTERRUPTED, error
    assert [path.name for path in tmp_path.iterdir()] == ["data.h5"]


@hypothesis_settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_photons_survive_whatever_they_are(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    seed, rate = data.draw(st.integers(0, 2**31)), data.draw(st.floats(0.01, 50))
    images = np.random.default_rng(seed).poisson(rate, (25, 8, 9))
    images[:, 4, 4] += 1
    with h5py.File(folder / "p.h5", "w") as file:
        file["patterns"] = images
    how = {"distance_m": 0.1, "pixel_um": 2000.0, "wavelength_angstrom": 1.0}
    path = converted(folder / "p.h5", folder / "1.h5", **how)
    for name in ("2.emc", "3.cxi", "b.h5", "5.h5"):
        path = converted(path, folder / name, to=TO.get(name, "auto"))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["intensities"][:, 0], images)
