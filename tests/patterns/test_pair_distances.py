"""The largest diameter from the mean of patterns of few photons: known answers, and what hides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photons import blind, settings
from scipy.stats import multivariate_normal

from spilegate.commands.job import Job
from spilegate.commands.reconstruct import _opening
from spilegate.errors import InputError
from spilegate.kernels.workers import Threads
from spilegate.patterns.diameter.pair_distances import Curve, _evidence, centre_seen, mean_curve, radii
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.patterns.statistics import moments
from spilegate.simulation.conditions import Conditions
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import built_in_particle, diameter_angstrom

Q_MAX, SPACING = 1 / 8.0, 1 / 256.0


def simulated(name: str, photons: float, images: int, edge: float = 8.0, **conditions: Any) -> Simulation:
    """Patterns of a built-in particle."""
    return simulate(
        built_in_particle(name),
        images=images,
        pixels=64,
        resolution_angstrom=edge,
        wavelength_angstrom=1.0,
        photons=photons,
        seed=1,
        threads=1,
        conditions=Conditions(**conditions),
    )


def few_photons(name: str, photons: float, edge: float = 8.0, **conditions: Any) -> Experiment:
    """What is known of a few patterns of few photons."""
    return prepare(blind(simulated(name, photons, 300, edge, **conditions)), settings(), Threads(1))


BOTH = {"background": 0.2, "scale_decades": 1.0}


@pytest.mark.parametrize(
    ("name", "edge", "photons", "conditions"),
    [
        ("demo", 8.0, 30.0, {}),
        ("demo", 8.0, 30.0, {"background": 0.2}),
        ("demo", 8.0, 100.0, BOTH),
        ("dumbbell", 10.0, 100.0, {}),
        ("dumbbell", 10.0, 30.0, BOTH),
    ],
    ids=str,
)
def test_few_patterns_of_few_photons_have_the_particles_diameter(
    name: str, edge: float, photons: float, conditions: dict[str, object]
) -> None:
    """The texture of their autocorrelations gives anything from 31 to 158 angstrom for 60 and 90."""
    experiment = few_photons(name, photons, edge=edge, **conditions)
    assert experiment.diameter_estimated
    assert experiment.diameter_angstrom == pytest.approx(diameter_angstrom(built_in_particle(name)), rel=0.15)


def test_every_pixel_is_sound_where_most_have_no_photon() -> None:
    """With scales or backgrounds that differ the means have no steps to tell what a photon is worth."""
    experiment = few_photons("demo", 30.0)
    assert np.ptp(experiment.scale) > 0
    patterns = experiment.images, experiment.detector, experiment.scale, experiment.weight
    of_all = moments(*patterns, workers=Threads(1))
    mean = mean_curve(of_all, *patterns[1:], q_max=Q_MAX).mean
    assert (mean[-5:] < 3 / 300).all()
    assert experiment.detector.merged.all()


def transform_of_ball(x: np.ndarray) -> np.ndarray:
    """Of unit diameter."""
    result: np.ndarray = 3 * (np.sin(np.pi * x) - np.pi * x * np.cos(np.pi * x)) / (np.pi * x) ** 3
    return result


def rod(x: np.ndarray) -> np.ndarray:
    points = np.linspace(-0.5, 0.5, 60)
    distances = np.abs(points[:, None] - points).ravel()
    return np.array([np.sinc(2 * each * distances).mean() for each in x])


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ball": lambda x: transform_of_ball(x) ** 2,
    "shell": lambda x: np.sinc(x) ** 2,
    "thick shell": lambda x: (transform_of_ball(x) - 0.7**3 * transform_of_ball(0.7 * x)) ** 2,
    "two balls": lambda x: transform_of_ball(x / 3) ** 2 * (1 + np.sinc(4 / 3 * x)),
    "rod": rod,
}


def curve_of(shape: str, diameter: float, photons: float, seed: int = 0) -> Curve:
    """The mean of patterns of a particle with a known intensity, counted with so many photons in all."""
    pixel = (np.arange(64) - 31.5) * SPACING
    q = np.hypot(*np.meshgrid(pixel, pixel)).ravel()
    q = q[q <= Q_MAX]
    ring = (q / SPACING).astype(int)
    number = np.bincount(ring).astype(np.float64)
    intensity = np.bincount(ring, SHAPES[shape](q * diameter)) / number
    intensity *= photons / (intensity * number).sum()
    counted = np.random.default_rng(seed).poisson(intensity * number)
    none = np.zeros(len(number))
    return Curve(radii(q, ring), counted / number, (counted + 1) / number**2, none, number, 1.0, SPACING)


@pytest.mark.parametrize("photons", [1e5, 1e8])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_diameter_of_known_shapes_is_the_most_probable(shape: str, photons: float) -> None:
    """Solid or hollow, round or long: P(r) ends softly or abruptly."""
    curve = curve_of(shape, 60.0, photons)
    tried = np.geomspace(20, 128, 94)
    evidence = np.array([curve.evidence(length) for length in tried])
    assert tried[evidence.argmax()] == pytest.approx(60.0, rel=0.08)
    assert evidence.max() > curve.evidence(0.7 * 60.0) + 10


@pytest.mark.parametrize("diameter", [40.0, 90.0])
def test_smaller_and_larger_balls_are_told(diameter: float) -> None:
    tried = np.geomspace(20, 128, 94)
    curve = curve_of("ball", diameter, 1e5)
    assert tried[np.argmax([curve.evidence(length) for length in tried])] == pytest.approx(diameter, rel=0.08)


def test_any_number_of_photons_is_worked_with() -> None:
    """From none but a few to those of 10^8 patterns."""
    for photons in (5.0, 1e6, 1e16):
        curve = curve_of("ball", 60.0, photons)
        assert np.isfinite([curve.evidence(length) for length in np.geomspace(8, 128, 30)]).all()


@pytest.mark.parametrize("photons", [100.0, 5000.0])
def test_a_radius_of_a_few_pixels_is_refused_in_words(photons: float) -> None:
    data = blind(simulated("demo", photons, 60))
    with pytest.raises(InputError, match=r"4 pixels to match patterns on.*expected at least 16"):
        prepare(data, settings(prepare={"q_max": 1.5 * SPACING}), Threads(1))


def test_units_of_intensity_do_not_matter_and_darkness_tells_nothing() -> None:
    curve = curve_of("ball", 60.0, 1e4)
    brighter = replace(curve, mean=1000 * curve.mean, photons=1e6 * curve.photons)
    dark = replace(curve, mean=0 * curve.mean)
    for diameter in (30.0, 60.0, 120.0):
        assert brighter.evidence(diameter) == pytest.approx(curve.evidence(diameter), rel=1e-6)
        assert dark.evidence(diameter) == pytest.approx(np.log(2))


@pytest.mark.parametrize("stopped", [False, True], ids=["open", "behind a beam stop"])
def test_behind_a_beam_stop_the_mean_does_not_tell_and_the_run_says_so(stopped: bool) -> None:
    experiment = few_photons("demo", 100.0, mask=("beamstop",) if stopped else ())
    assert centre_seen(experiment.detector) != stopped
    assert experiment.diameter_rough == stopped
    opening = _opening(
        Job(Path("few.h5"), Path("out"), settings()), blind(simulated("demo", 100.0, 12)), experiment, None
    )
    assert ("give --diameter-angstrom" in opening) == stopped


@pytest.mark.parametrize(("n", "m"), [(12, 5), (30, 40), (3, 3)])
def test_one_decomposition_gives_the_evidence_of_all_sizes(n: int, m: int) -> None:
    """Against the normal density itself, one covariance for each size."""
    rng = np.random.default_rng(n)
    curves, flat, measured = rng.standard_normal((n, m)), 10 * rng.standard_normal(n), 5 * rng.standard_normal(n)
    sizes = np.array([1e-3, 0.3, 1.0, 1e3])
    found = _evidence(curves, sizes, flat, measured)
    for size, value in zip(sizes, found, strict=True):
        covariance = np.eye(n) + size**2 * curves @ curves.T + np.outer(flat, flat)
        expected = multivariate_normal(np.zeros(n), covariance).logpdf(measured) + n / 2 * np.log(2 * np.pi)
        assert value == pytest.approx(expected, rel=1e-6)
