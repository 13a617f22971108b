"""Files as detectors and facilities write them: what is read is what they mean, or one line says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spoilt import COUNT, GAP, SHAPE, assert_same, good, read, refused, with_gap

from spilegate.formats import patterns
from spilegate.kernels.events import dense

# --- Photons or intensities, and in which unit -----------------------------------------------------------------------


@pytest.mark.parametrize("photons", [3.0, 0.1])
@pytest.mark.parametrize("dtype", ["i2", "u8", "f2", "f4", "f8"])
def test_whole_numbers_are_photons_whatever_their_type(tmp_path: Path, dtype: str, photons: float) -> None:
    content = good(photons)
    expected = read(tmp_path, content)
    assert expected.counts
    assert expected.taken_for == "photons"
    assert (expected.images.dtype == np.int32) == (photons < 1)
    assert_same(read(tmp_path, content | {"intensities": content["intensities"].astype(dtype)}), expected)


@pytest.mark.parametrize(
    ("unit", "dtype"), [(7, "u4"), (12, "i8"), (3, "f4"), (0.5, "f4"), (12.3, "f4"), (0.0173, "f8")]
)
def test_the_least_step_between_values_is_a_photon(tmp_path: Path, unit: float, dtype: str) -> None:
    content = good() | {"background": np.full(SHAPE, 0.25)}
    expected = read(tmp_path, content)
    values = (content["intensities"] * unit).astype(dtype)
    spoilt = content | {"intensities": values, "background": content["background"] * unit}
    found = read(tmp_path, spoilt)
    assert found.taken_for == f"photons; one photon is {unit:g} units of the file"
    np.testing.assert_allclose(found.background, expected.background)
    assert_same(found, expected, "taken_for", "background")
    given = read(tmp_path, spoilt, photon_unit=unit)
    assert_same(given, found, "background")


def test_photons_above_a_pedestal_have_their_unit(tmp_path: Path) -> None:
    content = good()
    images = content["intensities"] + 40
    found = read(tmp_path, content | {"intensities": (images * 12.3).astype(np.float32)})
    np.testing.assert_array_equal(found.images, images.reshape(COUNT, -1))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_intensities_without_noise_have_no_unit(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(1)
    for values in (
        rng.gamma(1, 1, (COUNT, *SHAPE)),
        np.exp(-20 * rng.random((COUNT, *SHAPE))),
        1e8 * (1 + rng.random((COUNT, *SHAPE))).astype(np.float32),
        good()["intensities"] + 0.25,
    ):
        found = read(tmp_path, good() | {"intensities": values.astype(dtype)})
        assert not found.counts
        assert found.taken_for.startswith("intensities")
        np.testing.assert_array_equal(found.images, values.reshape(COUNT, -1).astype(np.float32))


def test_few_values_have_no_unit_by_accident(tmp_path: Path) -> None:
    for images in (2 * good(0.02)["intensities"][:20], np.full((COUNT, *SHAPE), 8), 6 * np.ones((COUNT, *SHAPE), int)):
        found = read(tmp_path, good() | {"intensities": images + (images.sum((1, 2, 3), keepdims=True) == 0) * 2})
        assert found.taken_for == "photons"


def test_a_unit_that_does_not_hold_for_all_patterns_is_none(tmp_path: Path) -> None:
    content = good()
    outside = np.setdiff1d(np.arange(COUNT), np.random.default_rng(0).choice(COUNT, patterns.SAMPLE, replace=False))
    images = content["intensities"] * 7
    images[outside[3], 0, 2, 2] += 1
    found = read(tmp_path, content | {"intensities": images})
    assert found.taken_for == "photons"
    np.testing.assert_array_equal(found.images, images.reshape(COUNT, -1))
    halves = images.astype(np.float32) / 2
    found = read(tmp_path, content | {"intensities": halves * 2.46})
    assert not found.counts
    np.testing.assert_allclose(found.images, halves.reshape(COUNT, -1) * 2.46, rtol=1e-6)


def test_a_unit_that_is_given_divides_values_with_readout_noise(tmp_path: Path) -> None:
    content = good()
    images = content["intensities"] * 7.0 + np.random.default_rng(2).normal(0, 1, (COUNT, *SHAPE))
    found = read(tmp_path, content | {"intensities": images}, photon_unit=7.0)
    assert not found.counts
    assert "of 7 units" in found.taken_for
    np.testing.assert_allclose(found.images, images.reshape(COUNT, -1) / 7, rtol=1e-6)


# --- Pixels without values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.nan, "f4"),
        (-np.inf, "f8"),
        (1e300, "f8"),
        (-1, "i2"),
        (-1, "f4"),
        (-9999, "i4"),
        (2**16 - 1, "u2"),
        (2**32 - 1, "u4"),
        (2**16 - 1, "i4"),
        (2**32 - 1, "f4"),
        (0, "u4"),
    ],
)
@pytest.mark.parametrize("binning", [1, 2])
def test_pixels_without_values_are_masked(tmp_path: Path, value: float, dtype: str, binning: int) -> None:
    expected = read(tmp_path, with_gap(0, "u4") | {"mask": GAP * 2}, binning=binning)
    found = read(tmp_path, with_gap(value, dtype), binning=binning)
    assert_same(found, expected, "remarks")
    assert expected.remarks == ()
    (remark,) = found.remarks
    assert remark.startswith("8 pixels (5.6 %)")
    assert remark.endswith("never used")


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "f4"), (-1, "i2"), (2**16 - 1, "u2")])
def test_pixels_that_lack_values_in_some_patterns_are_refused_with_a_remedy(
    tmp_path: Path, value: float, dtype: str
) -> None:
    content = with_gap(value, dtype, slice(10, 30))
    text = refused(lambda: read(tmp_path, content))
    assert "20 of the patterns (the first: number 10, from 0)" in text
    assert "on 8 (5.6 %) pixels" in text
    assert "--set prepare.broken_pixels=ever" in text
    found = read(tmp_path, content, broken_pixels="ever")
    assert_same(found, read(tmp_path, with_gap(0, "u4") | {"mask": GAP * 2}), "remarks")


def test_a_background_may_lack_values_where_patterns_do(tmp_path: Path) -> None:
    background = np.where(GAP, np.nan, 0.5)
    found = read(tmp_path, with_gap(np.nan, "f4") | {"background": background})
    assert found.background is not None
    np.testing.assert_array_equal(found.background, np.where(GAP, 0, 0.5).ravel())


def test_dark_pixels_of_few_photons_are_not_dead(tmp_path: Path) -> None:
    content = good(0.02)
    content["intensities"][:, 0, 5, 5] += content["intensities"].sum((1, 2, 3)) == 0
    found = read(tmp_path, content)
    assert (dense(found.images, found.mask.size).sum(0) == 0).any()
    assert found.remarks == ()
    assert not found.mask.any()


# --- Negative values -------------------------------------------------------------------------------------------------


def test_readout_noise_about_zero_is_taken_as_it_is(tmp_path: Path) -> None:
    content = good()
    images = (content["intensities"] + np.random.default_rng(3).normal(0, 0.3, (COUNT, *SHAPE))).astype(np.float32)
    found = read(tmp_path, content | {"intensities": images})
    assert not found.counts
    np.testing.assert_array_equal(found.images, images.reshape(COUNT, -1))
    assert "are negative: taken for readout noise about zero, as they are" in found.remarks[0]
    whole = np.rint(images * 20).astype(np.int16)
    assert not read(tmp_path, content | {"intensities": whole}).counts


def test_one_negative_value_does_not_make_photons_intensities(tmp_path: Path) -> None:
    content = good()
    images = content["intensities"].astype(np.float32)
    images[4, 0, 3, 3] = 0
    expected = read(tmp_path, content | {"intensities": images})
    images[4, 0, 3, 3] = -0.01
    found = read(tmp_path, content | {"intensities": images})
    assert_same(found, expected, "remarks")
    assert found.remarks == ("1 values (0.0077 %) are negative: taken for 0",)


# --- Masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "bool", "f4"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_mask_the_other_way_round_is_named_and_can_be_turned(tmp_path: Path, dtype: str, value: int) -> None:
    content = with_gap(value, "i4") | {"mask": (~GAP).astype(dtype)}
    text = refused(lambda: read(tmp_path, content))
    assert "--set prepare.mask=good" in text
    if not value:
        assert "the pixels of level 0 hold nothing, those of level 1 do: the other way round?" in text
    found = read(tmp_path, content, mask="good")
    assert_same(found, read(tmp_path, content | {"mask": GAP * 2}))
    right = with_gap(0, "i4") | {"mask": GAP.astype(dtype)}
    assert "--set prepare.mask=auto" in refused(lambda: read(tmp_path, right, mask="good"))
    assert_same(read(tmp_path, right), found, "remarks")


def test_a_mask_of_truth_values_masks_what_is_true(tmp_path: Path) -> None:
    content = with_gap(99, "u4")
    assert_same(read(tmp_path, content | {"mask": GAP}), read(tmp_path, content | {"mask": GAP * 2}))


def test_other_levels_than_good_and_bad_are_refused(tmp_path: Path) -> None:
    text = refused(lambda: read(tmp_path, good() | {"mask": GAP * 2}, mask="good"))
    assert "8 pixels of other levels, such as 2" in text
