"""Particles of which several orientations look alike: cages and barrels, with nothing said about their symmetry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import Diary, as_dataset, assert_same_state
from photons import settings

from spilegate.evaluation.comparison import compare
from spilegate.generation import poses, start
from spilegate.generation.models import slicer
from spilegate.geometry import orientations
from spilegate.mtip import reconstruct
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import State
from spilegate.schedule import COLD_SPACING, START_GROWTH, START_SPECKLES, START_STEPS, WARM_SPACING
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import Particle, diameter_angstrom
from spilegate.simulation.symmetric import symmetric_particle
from spilegate.stages import phasing
from spilegate.stages.likeness import orientations_alike


def random_slices(count: int, rng: np.random.Generator) -> np.ndarray:
    """Slices of smooth noise, (count, 5, 24)."""
    spectrum = rng.standard_normal((count, 5, 6)) + 1j * rng.standard_normal((count, 5, 6))
    return (np.fft.irfft(spectrum, 24, axis=2) + 1.0).astype(np.float32)


@pytest.mark.parametrize("times", [1, 3, 16])
def test_as_many_orientations_look_alike_as_there_are_equal_views(times: int) -> None:
    views = random_slices(30, np.random.default_rng(0))
    found = orientations_alike(
        views[:8], np.repeat(views, times, axis=0), np.ones((5, 24), np.float32), 0.01, least=0.0
    )
    assert found == pytest.approx(np.log(times), abs=0.05)


def test_rings_that_weigh_nothing_tell_nothing() -> None:
    views = random_slices(30, np.random.default_rng(1))
    views[:, :4] = views[:1, :4]
    weight = np.ones((5, 24), np.float32)
    weight[4] = 0.0
    assert orientations_alike(views[:8], views, weight, 0.01, least=0.0) == pytest.approx(np.log(30), abs=0.05)


def model(experiment: Experiment, density: np.ndarray) -> State:
    """The state of a blind start that came to a density on the start's grid, as bright as the patterns."""
    plan = experiment.plan(1)
    state = start.random_state(experiment, plan, settings(), np.random.default_rng(0))
    state = replace(state, autocorrelation=phasing.autocorrelation(density[None], threads=1))
    sampling, turned = experiment.rings(plan).sampling, orientations.view_grid(12, np.random.default_rng(0))
    bright = np.mean(slicer(experiment, state, sampling)(turned)[0] / sampling.mean)
    return replace(state, autocorrelation=state.autocorrelation / bright)


def test_a_barrel_is_told_from_a_particle_by_how_many_orientations_look_alike(experiment: Experiment) -> None:
    plan = experiment.plan(1)
    x, y, z = (np.indices((plan.size,) * 3) - plan.size // 2) * plan.voxel_angstrom
    # Smooth, or voxels would make corners.
    ball = np.exp(-(x**2 + y**2 + z**2) / (2 * 15.0**2)).astype(np.float32)
    barrel = np.exp(-(x**2 + y**2) / (2 * 11.0**2) - z**2 / (2 * 18.0**2)).astype(np.float32)
    lump = np.random.default_rng(3).random(ball.shape).astype(np.float32) * ball
    alike = [start.ambiguity(experiment, model(experiment, volume)) for volume in (ball, barrel, lump)]
    assert min(alike[:2]) > start.MOST_ALIKE > 2 > alike[2]


@pytest.mark.parametrize("iterations", [3, 7, 30])
def test_a_start_goes_outwards_as_it_cools(experiment: Experiment, iterations: int) -> None:
    options = settings(start={"iterations": iterations}).start
    assert {plan.q_match for plan, _ in start.stairs(experiment, 0, options)} == {experiment.plan(1).q_match}
    stairs = start.stairs(experiment, START_STEPS, options)
    radii = [plan.q_match for plan, _ in stairs]
    assert len(radii) == iterations
    assert radii == sorted(radii)
    assert radii[0] == pytest.approx(START_SPECKLES / experiment.diameter_angstrom)
    assert radii[-1] == pytest.approx(START_SPECKLES * START_GROWTH**START_STEPS / experiment.diameter_angstrom)
    # Views as near to each other as it takes: nearer, seen from the outermost speckle, once it is cold.
    for plan, temperature in stairs:
        speckles = plan.view_spacing * plan.q_match * experiment.diameter_angstrom
        assert speckles == pytest.approx(WARM_SPACING if temperature > start.WARM else COLD_SPACING)
        assert plan.n_phi >= 2 * plan.highest
    assert iterations < 7 or radii.count(radii[-1]) >= 0.2 * iterations


def test_a_run_goes_on_from_where_its_start_ended(
    experiment: Experiment, simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if nothing could be told near the beam; resumed, it comes to the same."""
    monkeypatch.setattr(start, "MOST_ALIKE", -1.0)
    quick = {"iterations": 6, "count": 1}
    options = settings(prepare={"diameter_angstrom": 62.0}, start=quick, phasing={"cycles": 2, "starts": 2})
    options = options.model_copy(update={"convergence": options.convergence.model_copy(update={"most_generations": 2})})
    dataset, diary = as_dataset(simulation), Diary()
    result = reconstruct(dataset, options, watcher=diary)
    assert [state.start for state in diary.states] == [START_STEPS] * len(diary.states)
    radii = result.state.history[:, 0] * experiment.diameter_angstrom
    assert radii[0] == pytest.approx(START_SPECKLES * START_GROWTH**START_STEPS)
    assert (np.diff(radii) >= 0).all()
    assert diary.stages[-1].generations == len(diary.states) < experiment.fewest_generations()
    assert_same_state(reconstruct(dataset, options, state=diary.states[1]).state, result.state)


def test_what_fits_alike(experiment: Experiment) -> None:
    state = model(experiment, np.ones((experiment.plan(1).size,) * 3, np.float32))
    sampling = experiment.pixels(experiment.q_max).sampling

    def alike(distance: float, generation: int = 2) -> float:
        now = replace(state, generation=generation, distance=np.full(len(state.distance), distance))
        return poses.alike(now, sampling)

    assert alike(0.01, generation=1) == 1.0
    assert alike(0.0) == alike(0.01) == poses.ALIKE
    assert 1 < alike(0.15) < 2
    # Among photons two nats are little.
    assert alike(0.5) == 1 + 4 / len(sampling.q)


@pytest.fixture(scope="module")
def cage(particle: Particle) -> Particle:
    """A hollow cage of 16 equal parts, 82 angstrom across."""
    return symmetric_particle(replace(particle, positions=0.35 * particle.positions), "D8")


def test_a_cage_is_measured_from_all_sides(cage: Particle) -> None:
    """Patterns that always took the best of their 16 equal orientations would crowd in some of them: 0.92, R 0.2."""
    size = diameter_angstrom(cage)
    seen = simulate(
        cage, images=300, pixels=40, resolution_angstrom=size / 7, wavelength_angstrom=1.0, photons=None, seed=3,
        threads=2,
    )  # fmt: skip
    options = settings(prepare={"diameter_angstrom": size, "background": "none"}, start={"count": 3})
    dataset = as_dataset(seen)
    experiment = prepare(dataset, options)
    diary = Diary()
    result = reconstruct(dataset, options, experiment=experiment, watcher=diary)
    found, *_ = compare(
        result.state.density[0],
        result.state.voxel_angstrom,
        seen.volume,
        seen.voxel_angstrom,
        q_max=result.q_max,
        threads=2,
    )
    assert found.correlation > 0.99
    assert result.figures["phasing_r"] < 0.06
    # Going from one equal orientation to another is no move; only those that are searched for do.
    assert result.figures["moved"] < 0.02
    before, now = (state.quaternions for state in diary.states[-2:])
    gone = orientations.angle_between(now, before) > 30
    every = experiment.plan(result.state.generation, result.state.start).search_every
    searched = np.arange(len(gone)) % every == result.state.generation % every
    assert every > 1
    assert gone[searched].mean() > 0.5
    assert not gone[~searched].any()
    assert result.converged
    mean = orientations.matrices(result.state.quaternions).mean(axis=0)
    assert np.abs(mean).max() < 0.15
