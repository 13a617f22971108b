"""Pixels that are hot in single patterns are found and mended; what a particle can show is left alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import made_up_state
from photons import PIXELS, blind, correlation, measured, settings

from spilegate.geometry.detector import pixel_spacing
from spilegate.kernels.events import dense, events
from spilegate.kernels.workers import Here, Threads
from spilegate.mtip import reconstruct
from spilegate.patterns import zingers
from spilegate.patterns.experiment import Started
from spilegate.patterns.prepare import detector_of, prepare
from spilegate.patterns.speckle import UNLIKELY, limit
from spilegate.patterns.statistics import Weighing, shell_sums, shells
from spilegate.patterns.zingers import INNERMOST_PIXELS
from spilegate.records import Dataset
from spilegate.report.summary import Clock, Run, summarise
from spilegate.settings import PrepareOptions
from spilegate.simulation.conditions import HOT
from spilegate.simulation.experiment import Simulation
from spilegate.simulation.particle import built_in_particle, make_particle

WORKERS = Threads(2)
GIVEN = {"diameter_angstrom": 62.0}
CONDITIONS: list[dict[str, Any]] = [
    {},
    {"scale_decades": 1.0, "background": 1.0, "mask": ("cross", "beamstop")},
    {"scale_decades": 1.0, "background": 0.3, "known_background": True, "polarisation": "horizontal"},
]


@dataclass(frozen=True)
class Mended:
    """Patterns as a run works on them, pixels left out, and how many values were replaced."""

    images: np.ndarray
    broken: np.ndarray
    values: int


def mended(dataset: Dataset, beyond: float | None = None) -> Mended:
    detector = detector_of(dataset, PrepareOptions())
    spacing, images = pixel_spacing(dataset.q[detector.merged]), dataset.images
    laid = shells(detector, spacing, q_max=1.0, beyond=zingers.innermost(detector, beyond, spacing))
    sums = shell_sums(images, laid, workers=WORKERS)
    one = np.ones(len(images))
    found, _ = zingers.find(
        images, detector, sums, Weighing(one, one, sums.most), counts=dataset.counts, workers=WORKERS
    )
    return Mended(zingers.mended(images, found, len(dataset.q), workers=WORKERS), found.broken, len(found.value))


def judged(dataset: Dataset) -> np.ndarray:
    """Pixels that are looked at."""
    q_length = np.linalg.norm(dataset.q, axis=1)
    used = dataset.mask < 2
    return used & (q_length > q_length[used].min() + INNERMOST_PIXELS * pixel_spacing(dataset.q[used]))


def twins(photons: float | None, **conditions: Any) -> tuple[Dataset, Dataset, np.ndarray]:
    """The same patterns without and with hot pixels, and which those are, bool."""
    clean, spoiled = (measured(images=200, photons=photons, hot_pixels=number, **conditions) for number in (0.0, 3.0))
    assert spoiled.hidden is not None
    assert spoiled.hidden.hot_pixels is not None
    hot = np.zeros((200, PIXELS**2), bool)
    hot[tuple(spoiled.hidden.hot_pixels.T)] = True
    assert 500 < hot.sum() < 700
    return blind(clean), blind(spoiled), hot


# --- what a particle can show ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditions", CONDITIONS, ids=["ideal", "masked", "polarised"])
@pytest.mark.parametrize("photons", [None, 20_000.0, 1000.0, 100.0, 20.0])
@pytest.mark.parametrize("name", ["demo", "dumbbell"])
def test_clean_patterns_have_none(photons: float | None, conditions: dict[str, Any], name: str) -> None:
    dataset = blind(measured(built_in_particle(name), images=200, photons=photons, **conditions))
    found = mended(dataset, beyond=0.0)
    assert found.images is dataset.images
    assert (found.values, found.broken.sum()) == (0, 0)


def test_thermal_counts_pass_the_limit_as_rarely_as_said() -> None:
    here, rng = Here(np, 1), np.random.default_rng(0)
    for mean in (0.01, 0.5, 30.0):
        counts = rng.poisson(rng.exponential(mean, 2_000_000))
        bound = float(limit(here, np.float64(mean), 1.0))
        # The limit holds for any chance: here for one of 1e-4.
        share = (counts >= np.ceil(bound * 4 / 12)).mean()
        assert share < 1.3e-4
        assert counts.max() < bound
        # Units make no difference.
        assert float(limit(here, np.float64(7 * mean), 7.0)) == pytest.approx(7 * bound)
    assert limit(here, 2.0, 0.0) == 2 * UNLIKELY
    assert float(limit(here, np.float64(1e6), 1.0)) == pytest.approx(1e6 * UNLIKELY, rel=1e-5)


def test_streaks_of_facets_are_brighter_than_speckle_and_left_alone() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(9.0)] * 3), axis=-1).reshape(-1, 3)
    cube = make_particle(4.0 * grid, ["C"] * len(grid), np.ones(len(grid)), "cube")
    dataset = blind(measured(cube, images=400, photons=None))
    found = mended(dataset)
    assert found.images is dataset.images
    # The limit alone would have taken them.
    seen = judged(dataset)
    shells = np.rint(np.linalg.norm(dataset.q[seen], axis=1) / pixel_spacing(dataset.q)).astype(int)
    images = dataset.images[:, seen]
    mean = (np.bincount(shells, images.mean(0)) / np.maximum(np.bincount(shells), 1))[shells]
    scale = images.sum(1) / np.median(images.sum(1))
    assert (images > 1.1 * UNLIKELY * scale[:, None] * mean).any()


@pytest.mark.parametrize("photons", [20_000.0, 300.0])
def test_patterns_of_something_else_are_left_as_they_are(photons: float) -> None:
    """Flat ones, and those of a brighter particle, are told by their misfit; mended, they would look better."""
    dataset = blind(measured(images=300, photons=photons))
    images, rng = dataset.images.copy(), np.random.default_rng(0)
    images[:10] = rng.poisson(photons / PIXELS**2, (10, PIXELS**2))
    other = measured(built_in_particle("dumbbell"), images=10, photons=30 * photons)
    images[10:20] = other.intensities.reshape(10, -1)
    images[20:25] = rng.poisson(3 * photons / PIXELS**2, (5, PIXELS**2))
    dataset = blind(measured(images=300, photons=photons), images=images)
    assert mended(dataset).images is images


# --- what it cannot --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditions", CONDITIONS, ids=["ideal", "masked", "polarised"])
@pytest.mark.parametrize("photons", [None, 20_000.0, 1000.0, 100.0])
def test_hot_pixels_are_found_and_no_others(photons: float | None, conditions: dict[str, Any]) -> None:
    clean, spoiled, hot = twins(photons, **conditions)
    before = spoiled.images.copy()
    found = mended(spoiled)
    assert not found.broken.any()
    np.testing.assert_array_equal(spoiled.images, before)
    changed = found.images != spoiled.images
    np.testing.assert_array_equal(found.images[~changed], spoiled.images[~changed])
    assert found.images.dtype == np.float32
    assert found.values == changed.sum()
    assert not (changed & ~hot).any()
    # All that are well above the limit are found, at the brightest |q| as well.
    scale, seen = clean.images.sum(1) / clean.images.sum(1).mean(), judged(clean)
    bounds = limit(Here(np, 1), scale * clean.images.mean(0)[seen].max(), 1.0 if clean.counts else 0.0)
    clear = hot & seen & (spoiled.images > 2 * bounds[:, None])
    assert clear.sum() > 150
    assert changed[clear].all()
    # What is put in their place is neither brighter nor darker than what had been there.
    left, right = found.images[changed].astype(float), clean.images[changed].astype(float)
    assert left.mean() == pytest.approx(right.mean(), rel=0.2, abs=0.1)
    assert left.max() <= right.max()
    if photons is not None:
        np.testing.assert_array_equal(found.images, np.rint(found.images))


def test_lists_of_photons_are_mended_like_counts() -> None:
    _, spoiled, _ = twins(100.0)
    counts = np.minimum(spoiled.images, 60)
    spoiled = blind(measured(images=200, photons=100.0), images=counts)
    lists = blind(measured(images=200, photons=100.0), images=events(counts, int(counts.sum(1).max()) + 5))
    dense_found, found = mended(spoiled), mended(lists)
    assert found.images.dtype == np.int32
    assert found.images.shape == lists.images.shape
    assert found.values == dense_found.values > 250
    np.testing.assert_array_equal(dense(found.images, PIXELS**2), dense_found.images)


@pytest.mark.parametrize("unit", [0.4, 35.0])
def test_photons_may_come_in_any_unit(unit: float) -> None:
    """A file of floating point has no word for what a photon is; few of them must not be taken for hot."""
    clean, spoiled, _ = twins(100.0)
    exact = mended(spoiled)
    assert exact.values > 250
    scaled = (np.float32(unit) * dataset.images for dataset in (clean, spoiled))
    same, other = (mended(blind(measured(images=200, photons=100.0), images=i, counts=False)) for i in scaled)
    assert same.values == 0
    assert other.values == exact.values


def test_clumps_tracks_and_columns_are_found() -> None:
    dataset = blind(measured(images=300))
    images = dataset.images.copy().reshape(300, PIXELS, PIXELS)
    hot = np.zeros(images.shape, bool)
    hot[0, 3, 4] = hot[1, 3, 4:6] = hot[2, 25:27, 4:6] = hot[3, 25:28, 3:6] = hot[4, 1, :] = True
    hot[5, np.arange(20, 30), np.arange(20, 30)] = True
    images[hot] += 9000
    images = images.reshape(300, -1)
    found = mended(blind(measured(images=300), images=images))
    np.testing.assert_array_equal(found.images != images, hot.reshape(300, -1))
    np.testing.assert_array_less(found.images[hot.reshape(300, -1)], 100)


def test_one_pixel_however_hot_spoils_nothing() -> None:
    dataset = blind(measured(images=300))
    images = dataset.images.copy()
    place = int(np.flatnonzero(judged(dataset))[100])
    images[7, place] = 4e9
    found = mended(blind(measured(images=300), images=images))
    assert found.values == 1
    images[7, place] = found.images[7, place]
    np.testing.assert_array_equal(found.images, images)
    assert images[7, place] < 50


def test_pixels_that_are_hot_too_often_are_left_out_and_not_mended() -> None:
    dataset = blind(measured(images=300))
    images = dataset.images.copy()
    always, often, seldom = np.flatnonzero(judged(dataset))[[50, 200, 300]]
    images[:, always] += 1e5
    images[::5, often] += 3000
    images[::30, seldom] += 3000
    dataset = blind(measured(images=300), images=images)
    found = mended(dataset)
    assert np.flatnonzero(found.broken).tolist() == sorted([always, often])
    assert found.values == 10
    experiment = prepare(dataset, settings(prepare=GIVEN), WORKERS)
    assert (experiment.findings.hot_pixels, len(experiment.findings.mended_value)) == (2, 10)
    assert not experiment.detector.merged[[always, often]].any()
    assert experiment.detector.merged[seldom]
    # The pixel that is always hot changes no scale.
    plain = prepare(blind(measured(images=300)), settings(prepare=GIVEN), WORKERS)
    np.testing.assert_allclose(experiment.scale, plain.scale, rtol=0.01)
    assert (plain.findings.hot_pixels, len(plain.findings.mended_value)) == (0, 0)


def test_nothing_is_looked_for_near_the_beam_or_unless_asked_for() -> None:
    dataset = blind(measured(images=300))
    images, q_length = dataset.images.copy(), np.linalg.norm(dataset.q, axis=1)
    near, far = int(np.argmin(q_length)), int(np.argmin(np.abs(q_length - 0.04)))
    images[3, [near, far]] = 1e6
    dataset = blind(measured(images=300), images=images)
    assert (mended(dataset).images[3, [near, far]] == 1e6).tolist() == [True, False]
    assert mended(dataset, beyond=0.05).images is images
    options = {"off": {"hot_pixels": False}, "beyond": {"hot_beyond": 0.05}, "on": {}}
    found = {name: prepare(dataset, settings(prepare=GIVEN | more), WORKERS) for name, more in options.items()}
    assert {name: len(each.findings.mended_value) for name, each in found.items()} == {"off": 0, "beyond": 0, "on": 1}
    assert found["off"].images is images


# --- whole runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoiled() -> Simulation:
    return measured(images=300, photons=20_000.0, hot_pixels=2.0)


def test_a_run_with_hot_pixels_is_as_good_as_one_without(spoiled: Simulation) -> None:
    """Those within the inner radius are not mended."""
    few: dict[str, Any] = {"phasing": {"starts": 4}}
    dataset, options = blind(spoiled), settings(prepare=GIVEN, **few)
    experiment = prepare(dataset, options)
    result = reconstruct(dataset, options, experiment=experiment)
    found = correlation(result, spoiled)
    plain = correlation(reconstruct(blind(measured(images=300)), options), spoiled)
    left = correlation(reconstruct(dataset, settings(prepare=GIVEN | {"hot_pixels": False}, **few)), spoiled)
    assert plain > 0.98
    assert found > plain - 0.01
    assert left < found - 0.1
    summary = summarise(Run(Path("data.h5"), options, dataset, experiment, result, []), Clock())
    assert summary["hot_pixels"] == {"in_all_patterns": 0, "in_single_patterns": len(experiment.findings.mended_value)}
    assert len(experiment.findings.mended_value) > 500


def test_halves_are_mended_like_the_whole(spoiled: Simulation) -> None:
    """What is known of all patterns is not found again by each half."""
    experiment = prepare(blind(spoiled), settings(prepare=GIVEN))
    whole = replace(made_up_state(), start=1, started=0.3)
    for number in (0, 1):
        half = experiment.half(number, whole)
        assert half.started == Started(outwards=1, distance=0.3)
        np.testing.assert_array_equal(half.images, experiment.images[number::2])
        assert np.shares_memory(half.images, experiment.images)
        assert half.scale[half.weight > 0].mean() == pytest.approx(1)


def test_findings_mend_what_the_search_mended(spoiled: Simulation) -> None:
    """Of counts and of lists of photons, and no pattern is changed where it lies."""
    dataset, options = blind(spoiled), settings(prepare=GIVEN)
    before = dataset.images.copy()
    first = prepare(dataset, options, WORKERS)
    again = prepare(dataset, options, WORKERS, findings=first.findings)
    np.testing.assert_array_equal(dataset.images, before)
    np.testing.assert_array_equal(again.images, first.images)
    lists = events(np.minimum(before, 60), int(np.minimum(before, 60).sum(1).max()))
    few = blind(measured(images=300), images=lists)
    first = prepare(few, options, WORKERS)
    np.testing.assert_array_equal(prepare(few, options, WORKERS, findings=first.findings).images, first.images)


def test_hot_pixels_are_as_simulated(spoiled: Simulation) -> None:
    assert spoiled.hidden is not None
    hot = spoiled.hidden.hot_pixels
    assert hot is not None
    assert len(hot) == pytest.approx(600, abs=100)
    assert len(np.unique(hot, axis=0)) == len(hot)
    more = spoiled.intensities.reshape(300, -1) - measured(images=300).intensities.reshape(300, -1)
    assert {tuple(place) for place in np.argwhere(more)} == {tuple(place) for place in hot}
    unit = measured(images=300).intensities.mean(0, dtype=np.float64).max()
    assert more[more > 0].min() > HOT[0] * unit * 0.99
    assert more.max() < HOT[1] * unit * 1.01
    np.testing.assert_array_equal(more, np.rint(more))
    assert np.ptp(np.log10(more[more > 0])) > 2.5
