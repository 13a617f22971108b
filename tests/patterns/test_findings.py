"""What a preparation finds out is found out once, in few passes over the patterns, and says all that a run needs."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photons import blind, measured, settings

from spilegate.errors import InputError
from spilegate.findings import Findings
from spilegate.formats import record
from spilegate.kernels.events import events
from spilegate.kernels.workers import Threads
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset

MOST_PASSES = 4


class Counting(Threads):
    """Threads that count how often they go through the patterns."""

    passes = 0

    def run(self, *arguments: Any, **options: Any) -> list[Any]:
        """Apply a body to all tiles."""
        type(self).passes += bool(options.get("split"))
        return super().run(*arguments, **options)


def passes(dataset: Dataset, **options: Any) -> int:
    """How often `prepare` goes through the patterns."""
    Counting.passes = 0
    prepare(dataset, settings(**options), Counting(2))
    return Counting.passes


CONDITIONS: dict[str, dict[str, Any]] = {
    "bright": {},
    "no counts": {"photons": None},
    "background": {"scale_decades": 1.0, "background": 0.5},
    "few photons": {"photons": 100.0},
    "few photons, hidden centre": {"photons": 100.0, "mask": ("beamstop",)},
    "known background": {"scale_decades": 1.0, "background": 0.5, "known_background": True},
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_patterns_are_gone_through_four_times_at_most(name: str) -> None:
    dataset = blind(measured(images=200, **CONDITIONS[name]))
    assert 0 < passes(dataset) <= MOST_PASSES
    assert passes(dataset, prepare={"hot_pixels": False}) <= MOST_PASSES


def test_a_pixel_hot_in_all_patterns_takes_no_more() -> None:
    dataset = blind(measured(images=200, scale_decades=1.0))
    images = dataset.images.copy()
    images[:, 40] += 1000
    # Nearer to the beam than what a pattern alone can tell.
    hot = prepare(replace(dataset, images=images), settings(prepare={"hot_pixels": False}), Threads(2))
    assert hot.findings.hot_pixels == 1
    assert passes(replace(dataset, images=images), prepare={"hot_pixels": False}) <= MOST_PASSES


DAMAGES: dict[str, Any] = {
    "scale": lambda values: values[1:],
    "weight": lambda values: values + 0.5,
    "q": lambda values: values[:-1],
    "mask": lambda values: values[:-1],
    "background": lambda values: values * np.nan,
    "matched": lambda values: values & False,
    "mended_pixel": lambda values: values - 10_000,
    "mended_pattern": lambda values: values[::-1],
    "mended_value": lambda values: values[:-1],
    "profile_q": lambda values: values[::-1],
    "profile_variance": lambda values: 0 * values,
    "q_max": lambda _: 0.0,
    "diameter_angstrom": lambda _: -1.0,
    "photons": lambda _: float("nan"),
    "mean": lambda _: np.zeros(3),
    "examples": lambda _: np.zeros((2, 3), np.float32),
    "shown": lambda _: np.array([5, 5]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_findings_that_are_damaged_are_refused_by_their_field(name: str, tmp_path: Path) -> None:
    dataset = blind(measured(images=60, hot_pixels=3.0))
    findings = prepare(dataset, settings(), Threads(2)).findings
    record.save_record(tmp_path / "whole.h5", findings, {})
    record.load_record(tmp_path / "whole.h5", Findings)
    damaged = replace(findings, **{name: DAMAGES[name](getattr(findings, name))})
    record.save_record(tmp_path / "findings.h5", damaged, {})
    with pytest.raises(InputError, match=r"findings.h5: field .*; expected .*; start the run again"):
        record.load_record(tmp_path / "findings.h5", Findings)


@pytest.mark.parametrize("kind", ["counts", "lists", "intensities"])
def test_what_follows_from_findings_is_what_follows_from_the_patterns(kind: str, tmp_path: Path) -> None:
    """To the bit, with hot pixels of both kinds and an estimated background; and it survives being written."""
    options = settings()
    dataset = blind(
        measured(images=200, scale_decades=1.0, background=0.3, photons=None if kind == "intensities" else 300.0)
    )
    images = dataset.images.copy()
    far = np.flatnonzero(np.linalg.norm(dataset.q, axis=1) > 0.04)
    images[:, far[10]] += 50 * images.mean()
    images[np.arange(0, 200, 7), far[20:49]] += 3000 * images.mean()
    if kind == "lists":
        images = events(images, int(images.sum(axis=1).max()))
    dataset = replace(dataset, images=images)
    first = prepare(dataset, options, Threads(2))
    assert first.findings.hot_pixels
    assert len(first.findings.mended_value) > 10
    record.save_record(tmp_path / "findings.h5", first.findings, {})
    found, _ = record.load_record(tmp_path / "findings.h5", Findings)
    Counting.passes = 0
    again = prepare(dataset, options, Counting(2), findings=found)
    assert Counting.passes <= 2
    np.testing.assert_array_equal(again.images, first.images)
    for name in ("scale", "weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    for part in ("detector", "profile", "sums"):
        for item in fields(getattr(first, part)):
            if item.name != "shells":
                ours, theirs = (getattr(getattr(each, part), item.name) for each in (again, first))
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{part}.{item.name}")
    assert (again.plans, again.q_min, again.q_max, again.photons) == (
        first.plans,
        first.q_min,
        first.q_max,
        first.photons,
    )
    assert (again.statistics, again.soft, again.symmetry.name) == (first.statistics, first.soft, first.symmetry.name)
