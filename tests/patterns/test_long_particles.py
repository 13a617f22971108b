"""Rods and rings: how bright a pattern is depends on how they lie, which is no background."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from photons import blind, settings

from spilegate.kernels.events import dense
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.forward import first_scales
from spilegate.patterns.prepare import prepare
from spilegate.simulation.conditions import Conditions
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import Particle


@pytest.fixture(scope="module", params=["rod", "ring"])
def shape(request: pytest.FixtureRequest, particle: Particle) -> Particle:
    """A particle as long as the built-in one is wide, of clumps."""
    rng, count = np.random.default_rng(5), len(particle.positions)
    if request.param == "rod":
        centres = rng.uniform(-1, 1, (60, 3)) * np.array([6.0, 6.0, 30.0])
    else:
        angle, across = rng.uniform(0, 2 * np.pi, 60), rng.normal(0, 3.0, (60, 2))
        radius = 24.0 + across[:, 0]
        centres = np.stack([radius * np.cos(angle), radius * np.sin(angle), across[:, 1]], axis=1)
    positions = centres[np.arange(count) % 60] + rng.normal(0, 1.5, (count, 3))
    return replace(particle, positions=positions - positions.mean(axis=0))


def seen(shape: Particle, **conditions: float) -> Simulation:
    return simulate(
        shape, images=500, pixels=48, resolution_angstrom=10.0, wavelength_angstrom=1.0, photons=5000.0, seed=2,
        threads=2, conditions=Conditions(**conditions),
    )  # fmt: skip


@pytest.mark.parametrize("decades", [0.0, 0.3])
def test_what_lies_otherwise_is_no_background(shape: Particle, decades: float) -> None:
    """Found from patterns that are brighter because of how the particle lies, it was all there is at the edge."""
    experiment = prepare(blind(seen(shape, scale_decades=decades)), settings())
    assert np.std(experiment.brightness) > 0.2
    assert not experiment.detector.background.any()


def test_a_background_is_found_where_pulses_differ_more(shape: Particle) -> None:
    simulation = seen(shape, scale_decades=1.0, background=1.0)
    found = prepare(blind(simulation), settings()).detector
    assert simulation.hidden is not None
    expected = simulation.hidden.background.ravel()[found.merged].mean()
    outer = found.merged & (np.linalg.norm(found.q, axis=-1) > 0.05)
    assert found.background[outer].mean() == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("decades", [0.0, 1.0])
def test_pulses_are_told_by_what_is_scattered_forwards(shape: Particle, decades: float) -> None:
    simulation = seen(shape, scale_decades=decades)
    experiment = prepare(blind(simulation), settings())
    true = np.ones(len(experiment.scale)) if simulation.hidden is None else simulation.hidden.scale
    off = np.log(experiment.scale / true)
    assert np.std(np.log(experiment.brightness / true)) > 0.2
    assert np.std(off) < 0.12
    assert experiment.scale[experiment.weight > 0].mean() == pytest.approx(1)


def test_where_the_centre_is_hidden_or_photons_are_few_all_counts_tell(shape: Particle) -> None:
    bright = prepare(blind(seen(shape)), settings())
    hidden = replace(
        bright.detector, merged=bright.detector.merged & (np.linalg.norm(bright.detector.q, axis=1) > 0.02)
    )
    assert first_scales(*arguments(replace(bright, detector=hidden)), workers=bright.workers) is bright.brightness
    few = simulate(
        shape, images=300, pixels=32, resolution_angstrom=15.0, wavelength_angstrom=1.0, photons=20.0, seed=3,
        threads=2,
    )  # fmt: skip
    weak = prepare(blind(few), settings(prepare={"diameter_angstrom": bright.diameter_angstrom}))
    np.testing.assert_array_equal(weak.scale, weak.brightness)


def test_pulses_do_not_depend_on_the_unit_nor_on_junk(shape: Particle) -> None:
    experiment = prepare(blind(seen(shape)), settings())
    images, *others = arguments(experiment)
    images = np.array(images)
    in_photons = first_scales(images, *others, workers=experiment.workers)
    np.testing.assert_allclose(first_scales(1e-9 * images, *others, workers=experiment.workers), in_photons, rtol=1e-4)
    images[:50] = np.random.default_rng(1).poisson(3.0, images[:50].shape)
    with_junk = first_scales(images, *others, workers=experiment.workers)
    assert np.isfinite(with_junk).all()
    found, expected = (scale[50:] / scale[50:].mean() for scale in (with_junk, in_photons))
    assert np.std(np.log(found / expected)) < 0.03


def arguments(experiment: Experiment) -> tuple[Any, ...]:
    images = dense(experiment.images, len(experiment.detector.q))
    parts = (experiment.detector, experiment.brightness, experiment.weight, experiment.diameter_angstrom)
    return (images, *parts)
