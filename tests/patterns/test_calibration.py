"""Scales, background and strangers found from the patterns alone, against what they were simulated with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from photons import PIXELS, blind, good_patterns, measured, settings

from spilegate.geometry.detector import Detector, pixel_spacing
from spilegate.kernels.events import events
from spilegate.kernels.workers import Threads
from spilegate.patterns import background
from spilegate.patterns import strangers as told
from spilegate.patterns.background import Brightness
from spilegate.patterns.brightness import scales
from spilegate.patterns.prepare import detector_of, prepare
from spilegate.patterns.statistics import Sums, shell_sums, shells
from spilegate.settings import PrepareOptions
from spilegate.simulation.experiment import Hidden, Simulation

WORKERS = Threads(1)


@pytest.fixture(scope="module")
def dim() -> Simulation:
    """Patterns of a decade of brightness; at the detector's edge the background is twice the signal."""
    return measured(images=500, photons=5000.0, mask=("cross",), scale_decades=1.0, background=2.0)


def detector(simulation: Simulation) -> Detector:
    return detector_of(blind(simulation), PrepareOptions())


def truth(simulation: Simulation) -> Hidden:
    assert simulation.hidden is not None
    return simulation.hidden


def images(simulation: Simulation) -> np.ndarray:
    return simulation.intensities.reshape(len(simulation.intensities), -1)


def summed(patterns: np.ndarray, pixels: Detector) -> Sums:
    """Sums over shells as wide as a pixel, up to the inscribed circle."""
    spacing, middle = pixel_spacing(pixels.q[pixels.merged]), PIXELS // 2
    q_max = float(np.linalg.norm(pixels.q.reshape(PIXELS, PIXELS, 3)[middle, -1]))
    return shell_sums(patterns, shells(pixels, spacing, q_max=q_max, beyond=0.0), workers=WORKERS)


def background_of(patterns: np.ndarray, pixels: Detector, scale: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
    return background.background_of(summed(patterns, pixels), pixels, scale, weight)


def calibrated(patterns: np.ndarray, pixels: Detector, weight: np.ndarray, *, estimate: bool) -> Brightness:
    return background.calibrated(summed(patterns, pixels), pixels, weight, estimate=estimate)


def background_error(found: np.ndarray, simulation: Simulation) -> float:
    """Root mean square error over the size of the background."""
    used = detector(simulation).merged
    expected = truth(simulation).background.ravel()[used]
    return float(np.sqrt(((found[used] - expected) ** 2).mean()) / expected.mean())


def test_the_background_is_found_from_true_scales(dim: Simulation) -> None:
    scale, everyone = truth(dim).scale, np.ones(len(dim.intensities))
    found = background_of(images(dim), detector(dim), scale, everyone)
    assert found is not None
    assert background_error(found, dim) < 0.03


def test_lists_of_photons_have_the_same_background(dim: Simulation) -> None:
    scale, everyone = truth(dim).scale, np.ones(len(dim.intensities))
    lists = events(images(dim), int(images(dim).sum(1).max()))
    found, expected = (background_of(patterns, detector(dim), scale, everyone) for patterns in (lists, images(dim)))
    np.testing.assert_array_equal(found, expected)


def test_the_background_of_another_shape_is_followed(dim: Simulation) -> None:
    """A background that falls off with |q|, on top of the flat one."""
    rng = np.random.default_rng(1)
    q_length = np.linalg.norm(dim.pixel_position.reshape(-1, 3), axis=-1)
    more = np.where(detector(dim).merged, 8 * (1 - (q_length / q_length.max()) ** 2), 0)
    patterns = (images(dim) + rng.poisson(more, images(dim).shape)).astype(np.float32)
    found = background_of(patterns, detector(dim), truth(dim).scale, np.ones(len(patterns)))
    assert found is not None
    used = detector(dim).merged
    expected = (truth(dim).background.ravel() + more)[used]
    assert np.sqrt(((found[used] - expected) ** 2).mean()) < 0.04 * expected.mean()


def test_patterns_of_weight_0_have_no_say_in_the_background(dim: Simulation) -> None:
    patterns, weight = images(dim).copy(), np.ones(len(dim.intensities))
    weight[::4] = 0
    expected = background_of(patterns, detector(dim), truth(dim).scale, weight)
    patterns[::4] = 40 * truth(dim).scale[::4, None]
    found = background_of(patterns, detector(dim), truth(dim).scale, weight)
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_patterns_of_one_brightness_tell_no_background() -> None:
    alike = measured(images=100, photons=5000.0, background=2.0)
    everyone = np.ones(100)
    assert background_of(images(alike), detector(alike), truth(alike).scale, everyone) is None
    found = calibrated(images(alike), detector(alike), everyone, estimate=True)
    assert not found.background.any()
    # Orientations differ in how much they scatter.
    assert np.std(found.scale) < 0.2


def test_scales_and_background_are_found_together(dim: Simulation) -> None:
    """Scales are first taken from the sums, to which a background adds; each round both come nearer to the truth."""
    everyone = np.ones(len(dim.intensities))
    found = calibrated(images(dim), detector(dim), everyone, estimate=True)
    assert found.scale.mean() == pytest.approx(1)
    assert background_error(found.background, dim) < 0.1
    assert slope(found.scale, dim) == pytest.approx(1, abs=0.02)
    alone = calibrated(images(dim), detector(dim), everyone, estimate=False)
    assert not alone.background.any()
    # Dark patterns look too bright.
    assert slope(alone.scale, dim) < 0.9


def slope(scale: np.ndarray, simulation: Simulation) -> float:
    """How scales grow with the true ones: a power that is 1 if nothing else is taken for them."""
    return float(np.polyfit(np.log(truth(simulation).scale), np.log(scale), 1)[0])


def test_a_known_background_is_taken_off_before_scales_are_compared(dim: Simulation) -> None:
    known = replace(detector(dim), background=truth(dim).background.ravel())
    everyone = np.ones(len(dim.intensities))
    found = calibrated(images(dim), known, everyone, estimate=False)
    assert found.background is known.background
    assert slope(found.scale, dim) == pytest.approx(1, abs=0.02)
    assert np.std(found.scale / truth(dim).scale) < 0.25


def test_scales_leave_patterns_of_weight_0_out_of_their_mean() -> None:
    found = scales(np.array([110.0, 210.0, 1e6, 10.0]), 10.0, np.array([1.0, 1.0, 0.0, 1.0]))
    np.testing.assert_allclose(found[[0, 1]], [1.0, 2.0], rtol=2e-3)
    assert found[[0, 1, 3]].mean() == pytest.approx(1)
    assert 0 < found[3] < 0.01


@pytest.mark.parametrize(
    ("part", "decades", "background"), [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.3, 1.0, 0.0), (0.1, 1.0, 0.5)]
)
def test_flat_patterns_are_strangers(part: float, decades: float, background: float) -> None:
    """All that have nothing of the particle in them are found, and no pattern of the particle is lost."""
    simulation = measured(images=300, mask=("cross",), scale_decades=decades, background=background)
    rng = np.random.default_rng(2)
    patterns, used = images(simulation).copy(), detector(simulation).merged
    flat = rng.permutation(300)[: round(part * 300)]
    total = patterns[flat].sum(1, keepdims=True)
    patterns[flat] = np.where(used, rng.poisson(total / used.sum(), (len(flat), used.size)), 0)
    weight = told.strangers(summed(patterns, detector(simulation)))
    assert set(np.unique(weight)) <= {0.0, 1.0}
    np.testing.assert_array_equal(np.flatnonzero(weight == 0), np.sort(flat))


@pytest.mark.parametrize("photons", [20_000.0, 100.0, None])
def test_patterns_with_a_lone_hot_pixel_near_the_beam_are_strangers(photons: float | None) -> None:
    """Nothing mends it there; a pixel that is hot in many patterns, or not used, costs none of them."""
    simulation = measured(images=200, photons=photons)
    patterns, pixels = images(simulation).copy(), detector(simulation)
    assert (told.strangers(summed(patterns, pixels)) == 1).all()
    near = np.argsort(np.linalg.norm(pixels.q, axis=1))[10]
    spoiled = patterns.copy()
    spoiled[::20, near] = 6 * spoiled.max()
    weight = told.strangers(summed(spoiled, pixels))
    np.testing.assert_array_equal(np.flatnonzero(weight == 0), np.arange(0, 200, 20))
    unused = replace(pixels, matched=pixels.matched.copy(), merged=pixels.merged.copy())
    unused.matched[near] = unused.merged[near] = False
    assert (told.strangers(summed(spoiled, unused)) == 1).all()


def test_a_run_begins_without_the_strangers_unless_told_otherwise() -> None:
    simulation = measured(images=300, junk=0.2)
    good = good_patterns(simulation)
    experiment = prepare(blind(simulation), settings(prepare={"diameter_angstrom": 62.0}), WORKERS)
    assert (experiment.weight[good] == 1).all()
    # Half of the junk is flat, the other half another particle, which may fall off alike.
    assert (experiment.weight[~good] == 0).mean() >= 0.5
    assert experiment.scale[good].mean() == pytest.approx(1, rel=0.1)
    options = settings(prepare={"diameter_angstrom": 62.0}, matching={"outliers": False})
    assert (prepare(blind(simulation), options, WORKERS).weight == 1).all()
