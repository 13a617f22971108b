"""Whole blind runs on what real data are like: each finds what an ideal experiment would have shown.

The margins are such that a run with the feature switched off, or broken, does not keep them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from photons import blind, correlation, good_patterns, measured, orientation_errors, settings

from spilegate.mtip import reconstruct
from spilegate.reconstruction import Reconstruction
from spilegate.records import NEVER
from spilegate.simulation.experiment import Simulation
from spilegate.simulation.particle import Particle, built_in_particle

GIVEN = {"diameter_angstrom": 62.0}


@pytest.fixture(scope="module")
def seen() -> Simulation:
    """Behind gaps and a beam stop, over a decade of brightness, on a background as bright as the signal at the edge."""
    return measured(images=300, mask=("cross", "beamstop"), scale_decades=1.0, background=1.0)


@pytest.fixture(scope="module")
def run(seen: Simulation) -> Reconstruction:
    return reconstruct(blind(seen), settings(prepare=GIVEN))


def test_masked_patterns_of_any_brightness_on_a_background(run: Reconstruction, seen: Simulation) -> None:
    """Without an estimate of the background: correlation 0.968, median error 2.0 degrees."""
    error = orientation_errors(run, seen, good_patterns(seen))
    assert correlation(run, seen) > 0.98
    assert np.median(error) < 1.5
    assert (error < 12).mean() > 0.99


def test_a_run_finds_scales_and_background(run: Reconstruction, seen: Simulation) -> None:
    assert seen.hidden is not None
    used = blind(seen).mask < NEVER
    expected = seen.hidden.background.ravel()[used]
    # Before the first generation the scales are off by a tenth, as much as the patterns' sums differ for their part.
    assert np.std(run.state.scale / seen.hidden.scale) < 0.05
    assert run.state.scale[run.state.weight > 0].mean() == pytest.approx(1)
    assert np.sqrt(((run.state.background[used] - expected) ** 2).mean()) < 0.1 * expected.mean()


def test_a_run_on_good_patterns_loses_none(run: Reconstruction) -> None:
    assert (run.state.weight == 1).mean() > 0.99


def test_junk_is_found_and_left_out() -> None:
    """With all patterns in the merge: correlation 0.73, and no orientation is right."""
    simulation = measured(images=300, junk=0.1)
    result = reconstruct(blind(simulation), settings(prepare=GIVEN))
    good = good_patterns(simulation)
    assert (~good).sum() == 30
    assert (result.state.weight[~good] == 0).mean() > 0.85
    assert (result.state.weight[good] == 1).mean() > 0.99
    assert correlation(result, simulation) > 0.98
    assert np.median(orientation_errors(result, simulation, good)) < 2.0


def test_double_hits_are_found_within_the_generations() -> None:
    """Two particles in the beam fall off with |q| like one: only a model tells that they fit no orientation.

    Some do fit one, nearly: two orientations that show much the same.
    """
    simulation = measured(images=330)
    images = blind(simulation).images.copy()
    double = np.arange(330) >= 300
    images[double] += images[:30]
    result = reconstruct(blind(simulation, images=images), settings(prepare=GIVEN))
    assert (result.state.weight[double] == 0).mean() > 0.5
    assert (result.state.weight[~double] == 1).mean() > 0.99
    assert correlation(result, simulation) > 0.98


def test_two_particles_are_told_apart_behind_a_mask() -> None:
    """Patterns differ in brightness by more than the particles do."""
    simulation = measured(others=(stretched(),), images=240, mask=("cross",), scale_decades=0.5)
    assert simulation.hidden is not None
    result = reconstruct(
        blind(simulation),
        settings(prepare={"diameter_angstrom": 70.0, "q_max": 0.055}, matching={"states": 2}, phasing={"starts": 4}),
    )
    right = (result.state.state == simulation.hidden.state).mean()
    assert max(right, 1 - right) > 0.9
    order = (0, 1) if right > 0.5 else (1, 0)
    for k, true_k in enumerate(order):
        own, other = (correlation(result, simulation, k, t) for t in (true_k, 1 - true_k))
        assert own > 0.9
        assert own > other + 0.02


def stretched() -> Particle:
    """The built-in particle, of another shape."""
    particle = built_in_particle("demo")
    return replace(particle, positions=particle.positions * [0.7, 0.9, 1.25], name="stretched")


def test_patterns_of_300_photons_are_oriented_by_their_statistics() -> None:
    """By squared distances: correlation 0.91, median error 74 degrees, 15 % of the patterns within 12 degrees."""
    simulation = measured(images=400, photons=300.0)
    result = reconstruct(blind(simulation), settings(prepare=GIVEN))
    error = orientation_errors(result, simulation, good_patterns(simulation))
    assert correlation(result, simulation) > 0.94
    assert np.median(error) < 20
    assert (error < 12).mean() > 0.4
