"""Values with readout noise become photons where their histogram has peaks, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from spoilt import COUNT, SHAPE, good, read, refused, write

from spilegate.formats import adu, reader
from spilegate.kernels.events import dense

PIXELS = 40


def speckle(bright: float, count: int = 40, seed: int = 0) -> np.ndarray:
    """Intensities that fall off outwards, (n, 1, y, x), `bright` in the middle."""
    y, x = np.mgrid[:PIXELS, :PIXELS] - (PIXELS - 1) / 2
    mean = bright * np.exp(-np.hypot(y, x) / (PIXELS / 8)) + bright / 300
    return mean * np.random.default_rng(seed).exponential(1, (count, 1, PIXELS, PIXELS))


def in_adu(photons: np.ndarray, gain: float, noise: float, common: float = 0.0, dtype: str = "f4") -> np.ndarray:
    """What a detector reads: noise and common mode in photons."""
    rng = np.random.default_rng(5)
    shift = common * np.sin(np.arange(len(photons)))[:, None, None, None]
    values = gain * (photons + noise * rng.standard_normal(photons.shape) + shift)
    return (values if dtype[0] == "f" else np.rint(values)).astype(dtype)


def found(values: np.ndarray) -> adu.Adu | None:
    return adu.found(values, np.ones(values.shape, np.bool_))


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gain", "dtype"), [(1.7, "f4"), (8.2, "i2"), (300.0, "i2")])
@pytest.mark.parametrize(("noise", "common"), [(0.1, 0.25), (0.2, 0.2), (0.02, 0.1)])
@pytest.mark.parametrize("bright", [1.0, 10.0, 100.0])
def test_the_gain_is_found_to_a_hundredth(gain: float, dtype: str, noise: float, common: float, bright: float) -> None:
    photons = np.random.default_rng(1).poisson(speckle(bright))
    result = found(in_adu(photons, gain, noise, common, dtype))
    assert result is not None
    assert result.gain == pytest.approx(gain, rel=0.01)
    rounding = 0.29 / gain if dtype == "i2" else 0.0
    assert result.noise / gain == pytest.approx(np.hypot(noise, rounding), rel=0.1, abs=0.01)
    assert result.common / gain == pytest.approx(common, abs=0.05)


def test_charge_that_neighbours_share_makes_no_smaller_gain() -> None:
    photons = np.random.default_rng(1).poisson(speckle(10.0))
    split = np.random.default_rng(2).binomial(photons, 0.15)
    part = np.random.default_rng(3).random(photons.shape) * split
    values = in_adu(photons - part + np.roll(part, 1, -1), 8.2, 0.17)
    result = found(values)
    assert result is not None
    assert result.gain == pytest.approx(8.2, rel=0.02)


# --- what is none ----------------------------------------------------------------------------------------------------


def sphere() -> np.ndarray:
    """Rings of a sphere, brighter and darker: intensities that have maxima."""
    y, x = np.mgrid[:PIXELS, :PIXELS] - (PIXELS - 1) / 2
    u = 0.6 * np.maximum(np.hypot(y, x), 0.5)
    shape = (3 * (np.sin(u) - u * np.cos(u)) / u**3) ** 2
    return 3e3 * shape * np.random.default_rng(0).gamma(2, 0.5, (COUNT, 1, 1, 1))


NONE: dict[str, np.ndarray] = {
    "speckle": speckle(20.0),
    "sphere": sphere(),
    "flat": np.full((COUNT, 1, PIXELS, PIXELS), 5.0),
    "nothing": np.zeros((COUNT, 1, PIXELS, PIXELS)),
    "exponential": np.random.default_rng(0).exponential(1, (COUNT, 1, PIXELS, PIXELS)),
    "uniform": np.random.default_rng(0).uniform(0, 10, (COUNT, 1, PIXELS, PIXELS)),
    "two levels": np.random.default_rng(0).integers(0, 2, (COUNT, 1, PIXELS, PIXELS)) * 3.0,
}


@pytest.mark.parametrize("name", NONE)
@pytest.mark.parametrize("noise", [0.05, 0.3])
@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_intensities_with_noise_have_no_gain(name: str, noise: float, dtype: str) -> None:
    values = NONE[name] + noise * np.random.default_rng(4).standard_normal(NONE[name].shape)
    assert found((values if dtype == "f4" else np.rint(30 * values)).astype(dtype)) is None


@pytest.mark.parametrize("noise", [0.3, 0.5])
@pytest.mark.parametrize("bright", [1.0, 30.0])
def test_peaks_that_noise_hides_are_none(noise: float, bright: float) -> None:
    assert found(in_adu(np.random.default_rng(1).poisson(speckle(bright)), 8.2, noise)) is None


def test_few_photons_and_rounded_small_gains_tell_none() -> None:
    photons = np.random.default_rng(1).poisson(speckle(1.0, count=20))
    assert found(in_adu(np.minimum(photons, 1), 8.2, 0.15)) is None
    for gain in (1.3, 1.7, 2.4):
        assert found(in_adu(np.random.default_rng(1).poisson(speckle(10.0)), gain, 0.1, dtype="i2")) is None


# --- files -----------------------------------------------------------------------------------------------------------


def file_in_adu(dtype: str = "f4") -> tuple[dict[str, Any], np.ndarray]:
    """A file in ADU, and the photons (N_IMG, N_PIX) in it."""
    content = good()
    photons = content["intensities"]
    return content | {"intensities": in_adu(photons, 8.2, 0.17, 0.1, dtype)}, photons.reshape(COUNT, -1)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i4"])
def test_adu_are_read_as_photons(tmp_path: Path, dtype: str) -> None:
    content, photons = file_in_adu(dtype)
    result = read(tmp_path, content | {"background": np.full(SHAPE, 4.1)})
    images = dense(result.images, result.mask.size)
    assert result.counts
    assert not result.mask.any()
    assert (images == np.rint(images)).all()
    assert (images >= 0).all()
    assert (images == photons).mean() > 0.985
    assert images.mean() == pytest.approx(photons.mean(), rel=0.02)
    assert "photons; ADU, 8." in result.taken_for
    assert "a photon (found from the peaks of the histogram), readout noise 0.1" in result.taken_for
    assert result.remarks == ()
    np.testing.assert_allclose(result.background, 0.5, rtol=0.01)
    assert reader.describe(tmp_path / "data.h5")["taken_for"] == result.taken_for


def test_photons_begin_at_seven_tenths_and_none_are_negative() -> None:
    values = np.array([-300.0, -0.1, 0.0, 6.9, 7.1, 14.9, 15.1, 24.0, 26.0], np.float32)
    assert adu.photons(values, adu.Adu(10.0, found=False)).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("mean", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("noise", [0.1, 0.17, 0.22])
def test_where_photons_are_likelier_than_none_their_number_is_not_biased(mean: float, noise: float) -> None:
    """The rarer they are the more a first one needs: as many are lost as noise makes up."""
    rng = np.random.default_rng(0)
    truth = rng.poisson(mean, (16, 1, 128, 128))
    values = (8.2 * (truth + noise * rng.normal(size=truth.shape))).astype(np.float32)
    found = adu.found(values, np.ones(values.shape, np.bool_))
    assert found is not None
    number = adu.photons(values, found)
    assert number.mean() == pytest.approx(truth.mean(), rel=0.01)
    nearest = np.maximum(np.floor(values / 8.2 + 0.5), 0)
    assert (number == truth).mean() >= (nearest == truth).mean() - 1e-3
    assert found.first > 0.51 or mean >= 1


def test_a_gain_is_given_or_not_wanted(tmp_path: Path) -> None:
    content, photons = file_in_adu()
    given = read(tmp_path, content, adu_per_photon=8.0)
    images, values = dense(given.images, given.mask.size), content["intensities"].reshape(COUNT, -1)
    differ = images != adu.photons(values, adu.Adu(8.0, found=False))
    # The least part of a photon that counts is found.
    assert (images[differ] == 1).all()
    assert (values[differ] / 8 >= 0.5).all()
    assert given.taken_for.startswith("photons; ADU, 8 a photon (given), readout noise 0.1")
    plain = read(tmp_path, content, adu_per_photon="none")
    assert not plain.counts
    np.testing.assert_array_equal(plain.images, content["intensities"].reshape(COUNT, -1))
    assert "readout noise about zero, as they are" in plain.remarks[0]
    # Of values that show no peaks, a gain that is given says what a photon is all the same.
    noisy = content | {"intensities": in_adu(photons.reshape(COUNT, *SHAPE), 8.2, 0.5)}
    assert not read(tmp_path, noisy).counts
    assert read(tmp_path, noisy, adu_per_photon=8.2).taken_for == "photons; ADU, 8.2 a photon (given)"


def test_pedestals_and_two_units_are_refused(tmp_path: Path) -> None:
    content, _ = file_in_adu()
    high = content | {"intensities": np.rint(content["intensities"] + 1000).astype(np.uint16)}
    assert "take the pedestal off first" in refused(lambda: read(tmp_path, high, adu_per_photon=8.2))
    plain = read(tmp_path, high)
    assert plain.taken_for == "photons"
    assert "ADU on a pedestal, take it off" in plain.remarks[0]
    assert read(tmp_path, good(300.0)).remarks == ()
    text = refused(lambda: read(tmp_path, content, adu_per_photon=8.2, photon_unit=8.2))
    assert "leave the other out" in text


@pytest.mark.parametrize("value", ["-1", "0", "loud"])
def test_other_settings_are_refused_in_one_line(tmp_path: Path, value: str) -> None:
    path = write(tmp_path / "data.h5", file_in_adu()[0])
    done = run("inspect", path, "--set", f"prepare.adu_per_photon={value}")
    assert done.exit_code == 2
    assert "prepare.adu_per_photon" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = run("inspect", path, "--set", "prepare.adu_per_photon=none")
    assert "intensities in arbitrary units" in done.stdout
