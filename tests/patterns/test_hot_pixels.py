"""Pixels that are hot in the whole file are found; bright ones that have reason to be are not."""

import numpy as np
import pytest

from spilegate.patterns.hot_pixels import hot_pixels
from spilegate.simulation.conditions import Conditions
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import built_in_particle


def experiment(photons: float | None, images: int = 60, name: str = "demo", **changes: object) -> Simulation:
    """Patterns of a detector without hot pixels."""
    return simulate(
        built_in_particle(name),
        images=images,
        pixels=40,
        resolution_angstrom=12.0,
        wavelength_angstrom=1.0,
        photons=photons,
        seed=1,
        threads=1,
        conditions=Conditions(**changes),  # type: ignore[arg-type]
    )


def inputs(simulation: Simulation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, positions and usable pixels."""
    q = simulation.pixel_position.reshape(-1, 3)
    usable = np.ones(len(q), bool) if simulation.mask is None else simulation.mask.ravel() == 0
    return simulation.intensities.reshape(len(simulation.intensities), -1).mean(0, dtype=np.float64), q, usable


@pytest.mark.parametrize("photons", [None, 20_000.0, 300.0, 20.0])
@pytest.mark.parametrize("name", ["demo", "dumbbell"])
def test_a_sound_detector_has_none(photons: float | None, name: str) -> None:
    mean, q, usable = inputs(experiment(photons, name=name))
    assert hot_pixels(mean, q, usable).dtype == bool
    assert not hot_pixels(mean, q, usable).any()


def test_mask_background_and_a_fluence_that_varies_make_none() -> None:
    conditions = {"mask": ("cross", "beamstop"), "scale_decades": 1.0, "background": 0.2, "solid_angle": True}
    mean, q, usable = inputs(experiment(2000.0, **conditions))
    assert not hot_pixels(mean, q, usable).any()


@pytest.mark.parametrize("photons", [None, 20_000.0, 300.0, 20.0])
def test_hot_pixels_are_found_and_no_others(photons: float | None) -> None:
    mean, q, usable = inputs(experiment(photons))
    outer = np.flatnonzero(np.linalg.norm(q, axis=1) > 0.05)
    broken = np.random.default_rng(0).choice(outer, 25, replace=False)
    mean[broken] += 5 * mean.mean() + (0 if photons is None else 0.5)
    assert np.array_equal(np.flatnonzero(hot_pixels(mean, q, usable)), np.sort(broken))


def test_a_column_and_a_corner_are_found() -> None:
    mean, q, usable = inputs(experiment(2000.0))
    picture = mean.reshape(40, 40)
    picture[:, 9] += 50
    picture[36:, 36:] += 50
    expected = np.zeros((40, 40), bool)
    expected[:, 9] = True
    expected[36:, 36:] = True
    assert np.array_equal(hot_pixels(mean, q, usable).reshape(40, 40), expected)


def test_a_single_bright_pattern_of_few_photons_is_no_hot_pixel() -> None:
    # One in 60 patterns with 10 photons where nothing else is: far above the median, which is zero.
    mean, q, usable = inputs(experiment(20.0))
    outer = int(np.argmax(np.linalg.norm(q, axis=1)))
    mean[outer] = 10 / 60
    assert not hot_pixels(mean, q, usable).any()
    mean[outer] = 200 / 60
    assert np.flatnonzero(hot_pixels(mean, q, usable)).tolist() == [outer]


def test_unusable_pixels_may_hold_anything_and_are_not_reported() -> None:
    mean, q, usable = inputs(experiment(2000.0))
    usable = usable.copy()
    usable[::3] = False
    mean[::3] = 1e6
    mean[0] = np.nan
    mean[100] += 100
    assert not (~usable)[100]
    assert np.flatnonzero(hot_pixels(mean, q, usable)).tolist() == [100]
    assert not hot_pixels(mean, q, usable & False).any()


def test_pixels_that_are_all_the_same_are_sound() -> None:
    _, q, usable = inputs(experiment(2000.0, images=1))
    assert not hot_pixels(np.full(len(q), 3.0), q, usable).any()
    assert not hot_pixels(np.zeros(len(q)), q, usable).any()


def test_a_signal_that_falls_steeply_from_the_beam_makes_none() -> None:
    _, q, usable = inputs(experiment(2000.0, images=1))
    pixels_from_beam = np.linalg.norm(q, axis=1) / (2 / 12.0 / 39)
    signal = 1e4 / (1 + (pixels_from_beam / 0.7) ** 4)
    mean = np.random.default_rng(0).poisson(100 * signal) / 100
    assert not hot_pixels(mean, q, usable).any()
