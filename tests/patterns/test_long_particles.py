"""Rods and rings: how bright a pattern is depends on how they lie, which is no background."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from photons import blind, settings

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
