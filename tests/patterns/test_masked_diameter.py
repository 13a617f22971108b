"""The particle's diameter from patterns that are not all there and not all alike."""

from __future__ import annotations

import pytest
from photons import blind, settings

from spilegate.kernels.workers import Threads
from spilegate.patterns.prepare import prepare
from spilegate.simulation.conditions import Conditions
from spilegate.simulation.experiment import simulate
from spilegate.simulation.particle import built_in_particle, diameter_angstrom

MASKS = [(), ("cross",), ("beamstop",), ("cross", "beamstop")]


def found(name: str, resolution_angstrom: float, mask: tuple[str, ...], decades: float) -> float:
    """The diameter, found on about eight speckles from the beam to the edge."""
    simulation = simulate(
        built_in_particle(name),
        images=200,
        pixels=48,
        resolution_angstrom=resolution_angstrom,
        wavelength_angstrom=1.0,
        photons=20_000.0,
        seed=7,
        threads=1,
        conditions=Conditions(mask=mask, scale_decades=decades),
    )
    experiment = prepare(blind(simulation), settings(), Threads(1))
    assert experiment.diameter_estimated
    return experiment.diameter_angstrom


@pytest.mark.parametrize("decades", [0.0, 1.0])
@pytest.mark.parametrize("mask", MASKS, ids=["open", "cross", "beamstop", "both"])
def test_a_mask_and_brightness_leave_the_diameter(mask: tuple[str, ...], decades: float) -> None:
    truth = diameter_angstrom(built_in_particle("demo"))
    assert found("demo", 8.0, mask, decades) == pytest.approx(truth, rel=0.2)


@pytest.mark.parametrize("decades", [0.0, 1.0])
def test_a_long_particle_behind_a_mask_is_longer(decades: float) -> None:
    truth = diameter_angstrom(built_in_particle("dumbbell"))
    assert truth > 1.3 * diameter_angstrom(built_in_particle("demo"))
    assert found("dumbbell", 10.0, ("cross", "beamstop"), decades) == pytest.approx(truth, rel=0.2)
