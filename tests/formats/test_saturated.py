"""What saturation spoils in patterns in ADU is found in each by itself; patterns without it lose nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from spoilt import read, write

from spilegate.formats import adu, reader, saturated
from spilegate.formats.adu import Adu
from spilegate.simulation.experiment import detector_q

GAIN, NOISE, SIDE, COUNT = 8.2, 1.4, 64, 24
OURS = Adu(GAIN, found=True, noise=NOISE, common=0.5)
# Where a full pixel spills its charge: up, and what readout leaves behind it: at the edge.
FULL, STREAK, BEHIND = np.s_[30:36, 30:36], np.s_[10:30, 32:34], np.s_[0:5, 30:36]


def photons(bright: float, seed: int = 0, count: int = COUNT) -> np.ndarray:
    """Speckle of 12 pixels that falls off outwards, (n, 1, y, x), `bright` photons in the middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    waves = np.exp(2j * np.pi * rng.uniform(size=(count, 20, 1, 1)))
    slope = rng.uniform(-1, 1, (2, count, 20, 1, 1)) / 12
    field = (waves * np.exp(2j * np.pi * (slope[0] * y + slope[1] * x))).sum(1)
    mean = bright * np.exp(-np.hypot(y, x) / 10) * np.abs(field) ** 2 / 20
    return rng.poisson(mean[:, None])


def in_adu(counts: np.ndarray, dtype: str = "f4", seed: int = 5) -> np.ndarray:
    values = GAIN * counts + NOISE * np.random.default_rng(seed).standard_normal(counts.shape)
    return (values if dtype == "f4" else np.rint(values)).astype(dtype)


def spoilt(values: np.ndarray, which: int) -> np.ndarray:
    """Return values with one pattern saturated: a plateau that is not quite flat, a streak, an undershoot."""
    result, pattern = values.copy(), values[which, 0].astype(np.float64)
    rng = np.random.default_rng(1)
    pattern[FULL] = 9900 + 8 * rng.standard_normal(pattern[FULL].shape)
    pattern[STREAK] = np.linspace(2000, 20_000, 20)[:, None]
    pattern[BEHIND] = -150 + NOISE * rng.standard_normal(pattern[BEHIND].shape)
    result[which, 0] = pattern
    return result


def found(values: np.ndarray, ours: Adu = OURS) -> np.ndarray:
    return saturated.bad(values, np.isfinite(values), ours)


@pytest.mark.parametrize("dtype", ["f4", "i4"])
@pytest.mark.parametrize("bright", [2.0, 300.0, 30_000.0])
def test_clean_patterns_lose_nothing(bright: float, dtype: str) -> None:
    values = in_adu(photons(bright), dtype)
    assert not found(values).any()
    # Neither where a few pixels are dead, hot, or as low as a bad column.
    values[:, 0, 3, 3], values[:, 0, 9, 9], values[:, 0, 20, 5] = 0, 60_000 if dtype == "i4" else 6e4, -90
    assert not found(values).any()


@pytest.mark.parametrize("dtype", ["f4", "i4"])
def test_plateau_streak_and_undershoot_are_found_in_their_pattern(dtype: str) -> None:
    values = spoilt(in_adu(photons(300.0), dtype), 7)
    result = found(values)
    assert not np.delete(result, 7, axis=0).any()
    for part in (FULL, STREAK, BEHIND):
        assert result[7, 0][part].all()
    assert result.sum() < 3 * sum(result[7, 0][part].size for part in (FULL, STREAK, BEHIND))
    # Each by itself.
    for part in (FULL, BEHIND):
        alone = in_adu(photons(300.0), dtype)
        alone[7, 0][part] = values[7, 0][part]
        assert found(alone)[7, 0][part].all()


def test_what_is_masked_is_not_looked_at_and_gaps_between_patches_of_a_line_are_closed() -> None:
    values = in_adu(photons(30.0))
    values[4, 0, 40:50, 10:12] = values[4, 0, 54:64, 10:12] = -100
    used = np.ones(values.shape, np.bool_)
    result = saturated.bad(values, used, OURS)[4, 0]
    assert result[40:64, 10:12].all()
    assert result.sum() == 25 * 4
    used[..., 10:12] = False
    assert not saturated.bad(values, used, OURS).any()
    # Noise that is not known tells nothing of values below zero.
    assert not found(values, Adu(GAIN, found=False)).any()


def test_a_file_says_and_leaves_out_what_saturation_spoils(tmp_path: Path) -> None:
    counts = photons(300.0)
    q = detector_q(SIDE, 10.0, 1.5) * 1e10
    values = spoilt(in_adu(counts), 7)
    content: dict[str, Any] = {"intensities": values, "pixel_position_reciprocal": q}
    result = read(tmp_path, content, broken_pixels="mend")
    lost = found(values, adu.found(values, np.ones(values.shape, np.bool_)) or OURS)
    assert set(result.missing_pattern.tolist()) == {7}
    np.testing.assert_array_equal(result.missing_pixel, np.flatnonzero(lost[7]))
    assert (
        f"{lost.sum()} values in 1 of {COUNT} patterns (the first: number 7, from 0) are spoilt by saturation"
        in str(result.remarks)
    )
    path = tmp_path / "data.h5"
    assert "are spoilt by saturation" in reader.describe(path, broken_pixels="mend")["remarks"]
    whole = reader.read(path, saturated=False)
    assert len(whole.missing_pattern) == 0
    assert "saturation" not in str(whole.remarks)
    # What is converted keeps it: as values that are none.
    done = run("convert", path, tmp_path / "out.h5")
    assert done.exit_code == 0, done.stderr
    again = reader.read(tmp_path / "out.h5", broken_pixels="mend")
    for name in ("images", "missing_pattern", "missing_pixel"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    clean = write(tmp_path / "clean.h5", content | {"intensities": in_adu(counts)})
    assert len(reader.read(clean, broken_pixels="mend").missing_pattern) == 0
