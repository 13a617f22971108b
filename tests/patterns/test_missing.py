"""Values that single patterns lack: found on reading, what is expected put there, and as good a density."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command_line import run
from photons import blind, correlation, measured, settings

from spilegate.errors import InputError
from spilegate.formats import reader, spinifel
from spilegate.kernels.events import dense, events
from spilegate.kernels.workers import Threads
from spilegate.mtip import reconstruct
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset
from spilegate.simulation.experiment import Simulation

GIVEN = {"diameter_angstrom": 62.0}
WORKERS = Threads(2)


def gaps_in(shape: tuple[int, ...], part: float, seed: int = 0) -> np.ndarray:
    """Which values are missing, bool."""
    result: np.ndarray = np.random.default_rng(seed).random(shape) < part
    return result


def read(folder: Path, simulation: Simulation, images: np.ndarray, **options: Any) -> Dataset:
    """Write patterns in place of a simulation's, and read them."""
    path = folder / "data.h5"
    spinifel.write(path, simulation, force=True)
    with h5py.File(path, "r+") as file:
        del file["intensities"]
        file["intensities"] = images.reshape(simulation.intensities.shape)
    return reader.read(path, broken_pixels="mend", **options)


@pytest.fixture(scope="module")
def bright() -> Simulation:
    return measured(images=200)


@pytest.fixture(scope="module")
def faint() -> Simulation:
    return measured(images=200, photons=100.0)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "dtype"), [(np.nan, "f4"), (np.inf, "f8"), (2**16 - 1, "u2"), (-1, "i4")])
@pytest.mark.parametrize("part", [0.002, 0.1])
def test_values_that_are_none_are_found(
    bright: Simulation, tmp_path: Path, code: float, dtype: str, part: float
) -> None:
    """By lists of few, and by a bit for each pixel."""
    clean = bright.intensities.reshape(200, -1).astype(dtype)
    lost = gaps_in(clean.shape, part)
    if code == -1:
        # A code is told by a few pixels that have it often.
        lost[:, 100:] = False
        lost[::3, :100] = True
    found = read(tmp_path, bright, np.where(lost, clean.dtype.type(code), clean))
    np.testing.assert_array_equal(np.stack([found.missing_pattern, found.missing_pixel]), np.nonzero(lost))
    np.testing.assert_array_equal(found.images, np.where(lost, 0, clean).astype(np.float32))
    assert found.counts
    (remark,) = found.remarks
    assert remark.startswith(f"{lost.sum()} values in {lost.any(1).sum()} of 200 patterns are none (")
    assert remark.endswith("what is expected is put there")


def test_lists_of_photons_lack_the_same(faint: Simulation, tmp_path: Path) -> None:
    clean = faint.intensities.reshape(200, -1)
    lost = gaps_in(clean.shape, 0.02)
    found = read(tmp_path, faint, np.where(lost, np.nan, clean))
    assert found.images.dtype == np.int32
    np.testing.assert_array_equal(np.stack([found.missing_pattern, found.missing_pixel]), np.nonzero(lost))
    np.testing.assert_array_equal(dense(found.images, lost.shape[1]), np.where(lost, 0, clean))


def test_a_block_lacks_what_any_of_its_pixels_lacks(bright: Simulation, tmp_path: Path) -> None:
    clean = bright.intensities[:, 0]
    lost = gaps_in(clean.shape, 0.01)
    found = read(tmp_path, bright, np.where(lost, np.nan, clean), binning=2)
    blocks = lost.reshape(200, 16, 2, 16, 2).any((2, 4)).reshape(200, -1)
    sums = clean.reshape(200, 16, 2, 16, 2).sum((2, 4)).reshape(200, -1)
    np.testing.assert_array_equal(np.stack([found.missing_pattern, found.missing_pixel]), np.nonzero(blocks))
    np.testing.assert_array_equal(found.images, np.where(blocks, 0, sums))
    assert not found.mask.any()


def test_pixels_and_patterns_that_lack_too_much_are_left_out(bright: Simulation, tmp_path: Path) -> None:
    lost = np.zeros((200, 1024), bool)
    lost[:101, 3] = lost[:100, 4] = lost[7] = lost[50, :600] = lost[60, :400] = True
    found = read(tmp_path, bright, np.where(lost, np.nan, bright.intensities.reshape(200, -1)))
    assert np.flatnonzero(found.mask).tolist() == [3]
    kept = lost.copy()
    kept[:, 3] = kept[7] = kept[50] = False
    np.testing.assert_array_equal(np.stack([found.missing_pattern, found.missing_pixel]), np.nonzero(kept))
    assert not found.images[[7, 50]].any()
    assert [text.split(":")[0].split(" (")[0] for text in found.remarks] == [
        "1 pixels",
        f"{kept.sum()} values in {kept.any(1).sum()} of 200 patterns are none",
        "2 of 200 patterns",
    ]
    assert "lack more than half of the pixels used: taken for empty" in found.remarks[2]
    assert "in more than half of the patterns: never used" in found.remarks[0]
    experiment = prepare(found, settings(prepare=GIVEN), WORKERS)
    assert np.flatnonzero(experiment.weight == 0).tolist() == [7, 50]


def test_inspect_and_a_run_mend_unless_told_not_to(bright: Simulation, tmp_path: Path) -> None:
    lost = gaps_in((200, 1024), 0.01)
    read(tmp_path, bright, np.where(lost, np.nan, bright.intensities.reshape(200, -1)))
    done = run("inspect", tmp_path / "data.h5")
    assert f"{lost.sum()} values in 200 of 200 patterns are none" in done.stdout
    assert "usable                      yes" in done.stdout
    done = run("inspect", tmp_path / "data.h5", "--set", "prepare.broken_pixels=always")
    assert "expected values in all patterns or in none" in done.stdout
    with pytest.raises(InputError, match=r"--set prepare\.broken_pixels=mend puts what is expected there"):
        reader.read(tmp_path / "data.h5")


# --- what is put there -----------------------------------------------------------------------------------------------


def lacking(simulation: Simulation, lost: np.ndarray, *, lists: bool = False) -> Dataset:
    """What is read of patterns in which values are missing."""
    images = np.where(lost, 0, simulation.intensities.reshape(lost.shape)).astype(np.float32)
    pattern, pixel = np.nonzero(lost)
    if lists:
        images = events(images, int(images.sum(1).max()))
    return blind(simulation, images=images, missing_pattern=pattern, missing_pixel=pixel)


CONDITIONS: dict[str, dict[str, Any]] = {
    "ideal": {},
    "bright and dark": {"scale_decades": 1.0},
    "background": {"scale_decades": 1.0, "background": 1.0},
    "known background": {"scale_decades": 1.0, "background": 0.5, "known_background": True},
    "no counts": {"photons": None},
    "polarised": {"polarisation": "horizontal", "mask": ("cross",)},
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_what_is_expected_is_there_on_average_and_nothing_else_changes(name: str) -> None:
    simulation = measured(images=300, **CONDITIONS[name])
    plain = blind(simulation)
    lost = gaps_in(plain.images.shape, 0.05) & (plain.mask < 2)
    # A corner is missing in every third pattern.
    lost[::3].reshape(-1, 32, 32)[:, :6, :6] = (plain.mask < 2).reshape(32, 32)[:6, :6]
    options = settings(prepare=GIVEN | {"polarisation": CONDITIONS[name].get("polarisation", "none")})
    first, second = (prepare(each, options, WORKERS) for each in (plain, lacking(simulation, lost)))
    np.testing.assert_array_equal(second.images[~lost], plain.images[~lost])
    if plain.counts:
        np.testing.assert_array_equal(second.images, np.rint(second.images))
    # On rings, near the beam and far from it, in bright and in dark patterns.
    q, bright = np.linalg.norm(plain.q, axis=1), first.scale > np.median(first.scale)
    for some in (bright, ~bright):
        for near, far in ((0.0, 0.015), (0.015, 0.03), (0.03, 0.05)):
            there = lost & some[:, None] & (q >= near) & (q < far)
            assert second.images[there].mean() == pytest.approx(plain.images[there].mean(), rel=0.15)
    np.testing.assert_allclose(second.scale, first.scale, rtol=0.15)
    assert np.median(np.abs(second.scale / first.scale - 1)) < 0.02
    used = second.detector.merged
    assert second.background(second.scale, second.weight) is None or np.allclose(
        second.detector.background[used], first.detector.background[used], rtol=0.1, atol=0.05 * plain.images.mean()
    )


@pytest.mark.parametrize("lists", [False, True])
def test_few_photons_are_put_without_a_bias(faint: Simulation, lists: bool) -> None:
    clean = faint.intensities.reshape(200, -1)
    lost = gaps_in(clean.shape, 0.3)
    found = prepare(lacking(faint, lost, lists=lists), settings(prepare=GIVEN), WORKERS)
    images = dense(found.images, lost.shape[1])
    np.testing.assert_array_equal(images[~lost], clean[~lost])
    assert images[lost].mean() == pytest.approx(clean[lost].mean(), rel=0.02)
    assert images[lost].max() > 1


def test_lists_and_counts_are_filled_alike_and_findings_fill_them_again(faint: Simulation) -> None:
    lost = gaps_in((200, 1024), 0.1)
    lost[5, 40] = lost[9, 70] = False
    options, made = settings(prepare=GIVEN), {}
    for lists in (False, True):
        dataset = lacking(faint, lost, lists=lists)
        images = dense(dataset.images, 1024).copy()
        images[5, 40], images[9, 70] = 900, 900
        dataset = replace(dataset, images=events(images, 300) if lists else images)
        before = dataset.images.copy()
        first = prepare(dataset, options, Threads(1))
        again = prepare(dataset, options, WORKERS, findings=first.findings)
        np.testing.assert_array_equal(dataset.images, before)
        np.testing.assert_array_equal(again.images, first.images)
        assert len(first.findings.mended_value) == 2
        assert len(first.findings.filled_value) > 9000
        made[lists] = first
    np.testing.assert_array_equal(dense(made[True].images, 1024), made[False].images)
    np.testing.assert_array_equal(made[True].scale, made[False].scale)


# --- whole runs ------------------------------------------------------------------------------------------------------


def test_a_run_with_values_missing_in_adu_is_as_good_as_one_without(tmp_path: Path) -> None:
    simulation = measured(images=200)
    rng = np.random.default_rng(3)
    photons = simulation.intensities.reshape(200, -1)
    adu = (8.2 * (photons + 0.17 * rng.standard_normal(photons.shape))).astype(np.float32)
    lost = gaps_in(adu.shape, 0.02)
    options = settings(prepare=GIVEN | {"q_max": 0.06}, phasing={"starts": 2})
    found = []
    for images in (adu, np.where(lost, np.nan, adu)):
        dataset = read(tmp_path, simulation, images)
        assert dataset.taken_for.startswith("photons; ADU, 8.")
        found.append(correlation(reconstruct(dataset, options), simulation))
    assert found[0] > 0.98
    assert found[1] > found[0] - 0.01
