"""Reconstructions of patterns without structure, or each with its own, must state no resolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import as_dataset
from scipy.spatial.transform import Rotation

from spilegate.evaluation.alignment import Placement, moved
from spilegate.evaluation.fsc import fourier_shell_correlation
from spilegate.geometry.symmetry import group
from spilegate.mtip import reconstruct
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import NEVER, USE, Dataset, State
from spilegate.resolution import certainty, verdict
from spilegate.resolution.counterparts import between_frames
from spilegate.resolution.halves import compared, held_out
from spilegate.resolution.held_out import bands, significance
from spilegate.settings import Settings
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import built_in_particle, density
from spilegate.stages import phasing

COUNT, PIXELS, PHOTONS, DIAMETER = 160, 24, 3000.0, 62.0
# Of neighbouring pixels [1/angstrom].
SPACING = 2 / 16 / (PIXELS - 1)
QUICK: dict[str, Any] = {
    "compute": {"threads": 2},
    "start": {"count": 1, "iterations": 5},
    "phasing": {"cycles": 2, "starts": 2},
    "prepare": {"diameter_angstrom": DIAMETER},
}


@pytest.fixture(scope="module")
def measured(particle) -> Simulation:
    return simulate(
        particle, images=COUNT, pixels=PIXELS, resolution_angstrom=16.0, wavelength_angstrom=1.0, photons=PHOTONS,
        seed=2, threads=2,
    )  # fmt: skip


def flat(dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    return np.full(dataset.images.shape, PHOTONS / PIXELS**2)


def radial(dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    """What is left of the patterns without any speckle."""
    ring = np.rint(np.linalg.norm(dataset.q, axis=1) * 400).astype(int)
    mean = np.bincount(ring, dataset.images.mean(axis=0)) / np.maximum(np.bincount(ring), 1)
    return np.broadcast_to(mean[ring], dataset.images.shape)


def blobs(dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    """Every pattern of another particle: atoms thrown into a ball."""
    expected = np.empty(dataset.images.shape)
    for pattern in expected:
        atoms = rng.standard_normal((40, 3))
        atoms *= 31 * rng.random((40, 1)) ** (1 / 3) / np.linalg.norm(atoms, axis=1, keepdims=True)
        pattern[:] = np.abs(np.exp(2j * np.pi * dataset.q @ atoms.T).sum(axis=1)) ** 2
        pattern *= np.exp(-300 * (dataset.q**2).sum(axis=1))
    return expected * PHOTONS / expected.sum(axis=1).mean()


@pytest.mark.parametrize("kind", [flat, radial, blobs])
def test_patterns_without_a_common_particle_have_no_resolution(kind, measured):
    rng = np.random.default_rng(7)
    dataset = as_dataset(measured)
    dataset = replace(dataset, images=rng.poisson(kind(dataset, rng)).astype(np.float32))
    found = reconstruct(dataset, Settings.model_validate({"seed": 1, **QUICK}))
    summary = verdict.summarise(found.certainty, found.diameter_angstrom)
    assert summary["verdict"].startswith("No resolution: ")
    assert summary["resolution_angstrom"] is None


@pytest.mark.parametrize("kind", [flat, radial, blobs])
def test_few_photons_without_a_common_particle_have_no_resolution(kind, measured):
    """Patterns of 60 photons each, which are assigned to all orientations."""
    rng = np.random.default_rng(8)
    dataset = as_dataset(measured)
    expected = np.concatenate([kind(dataset, rng) for _ in range(5)]) * 60 / PHOTONS
    dataset = replace(dataset, images=rng.poisson(expected).astype(np.float32), counts=True)
    assert prepare(dataset, Settings.model_validate(QUICK)).soft
    found = reconstruct(dataset, Settings.model_validate({"seed": 1, **QUICK}))
    summary = verdict.summarise(found.certainty, found.diameter_angstrom)
    assert summary["verdict"].startswith("No resolution: ")
    assert summary["resolution_angstrom"] is None


def test_the_same_photons_of_one_particle_have_one(measured):
    """The control: the same options and counts, and a particle that all patterns share."""
    found = reconstruct(as_dataset(measured), Settings.model_validate({"seed": 1, **QUICK}))
    summary = verdict.summarise(found.certainty, found.diameter_angstrom)
    assert summary["verdict"].startswith("Resolution ")
    assert summary["resolution_angstrom"] < DIAMETER / verdict.OUTLINE_SPECKLES


def in_photons(measured: Simulation, experiment: Experiment) -> float:
    """Photons of the noisy patterns for each unit of the noise-free ones."""
    q = np.linalg.norm(measured.pixel_position.reshape(-1, 3), axis=1)
    return float(PHOTONS / np.interp(q, experiment.profile.q, experiment.profile.mean).sum())


def test_noise_is_not_foreseen_even_by_the_right_model(measured, true_autocorrelation, experiment):
    """Deviations are those of a unit normal distribution: the very bands and weights, many times."""
    rng = np.random.default_rng(3)
    dataset = as_dataset(measured)
    size = true_autocorrelation.shape[-1]
    volume = true_autocorrelation[None] * np.float32(in_photons(measured, experiment))
    model = State(
        1, experiment.plans[-1].voxel_angstrom, *np.empty((7, 0)), volume,
        *np.empty((2, 1, size, size, size)),
    )  # fmt: skip
    options = Settings.model_validate(QUICK)
    found = []
    for _ in range(24):
        images = rng.poisson(radial(dataset, rng)).astype(np.float32)
        noise = prepare(replace(dataset, images=images), options)
        compared = bands(DIAMETER, noise.q_max, SPACING)
        found.append([significance(noise, model, band, options.matching, rng) for band in compared])
    deviations = np.array(found)
    assert deviations.size >= 24
    assert np.abs(deviations).max() < 4
    assert abs(deviations.mean()) < 3 / np.sqrt(deviations.size)
    assert deviations.std() == pytest.approx(1, abs=0.45)
    signal = prepare(dataset, options)
    assert min(significance(signal, model, band, options.matching, rng) for band in compared) > 8


def test_around_a_beam_stop_signal_is_foreseen_and_noise_is_not(measured, true_autocorrelation, experiment):
    """Nothing is matched inside of it, so what is compared begins further out."""
    rng = np.random.default_rng(4)
    dataset = as_dataset(measured)
    seen = np.linalg.norm(dataset.q, axis=1) > 1.2 / DIAMETER
    mask = np.where(seen, np.uint8(USE), np.uint8(NEVER))
    volume = true_autocorrelation[None] * np.float32(in_photons(measured, experiment))
    model = State(
        1, experiment.plans[-1].voxel_angstrom, *np.empty((7, 0)), volume, *np.empty((2, *volume.shape))
    )  # fmt: skip
    options = Settings.model_validate(QUICK)

    def deviations(images: np.ndarray) -> list[float]:
        found = prepare(replace(dataset, images=(images * seen).astype(np.float32), mask=mask), options)
        compared = bands(DIAMETER, found.q_max, SPACING, found.q_first)
        assert compared[0].q_match - found.q_first >= 0.99 / DIAMETER
        return [significance(found, model, band, options.matching, rng) for band in compared]

    assert min(deviations(dataset.images)) > 4
    noise = np.array([deviations(rng.poisson(radial(dataset, rng))) for _ in range(8)])
    assert np.abs(noise).max() < 4


def test_bands_leave_a_speckle_between_what_is_matched_and_what_is_compared():
    found = bands(100.0, 0.08, 0.003)
    assert found[0].q_first == pytest.approx(0.025)
    assert found[-1].q_last == 0.08
    for band in found:
        assert band.q_first - band.q_match == pytest.approx(0.01)
        assert band.q_last > 1.1 * band.q_first
    assert [band.q_first for band in found[1:]] == [band.q_last for band in found[:-1]]
    coarse = bands(100.0, 0.08, 0.01)
    assert all(band.q_first - band.q_match == pytest.approx(0.015) for band in coarse)
    assert bands(100.0, 0.026, 0.003) == []
    # A beam stop, three speckles wide: a speckle to match on, a speckle between, and then what is compared.
    stopped = bands(100.0, 0.08, 0.003, 0.016)
    assert stopped[0].q_first == pytest.approx(0.036)
    assert all(band.q_match - 0.016 >= 0.0099 for band in stopped)
    assert bands(100.0, 0.08, 0.003, 0.004) == found


IN_PLACE = Placement(np.array([1.0, 0, 0, 0]), False, np.zeros(3))


def volume(seed: int, size: int = 17) -> np.ndarray:
    rng = np.random.default_rng(seed)
    axis = np.arange(size) - size // 2
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    total = np.zeros((size,) * 3)
    for (a, b, c), height in zip(rng.uniform(-4, 4, (14, 3)), rng.uniform(0.5, 2, 14), strict=True):
        total += height * np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 2)
    return total.astype(np.float32)


def state_of(*densities: np.ndarray) -> State:
    stack = np.stack(densities)
    made = State(1, 3.0, *np.empty((7, 0)), stack, stack, stack > 0)
    views = np.tile([1.0, 0, 0, 0], (len(stack), 1))
    return replace(made, state=np.arange(len(stack)), weight=np.ones(len(stack)), quaternions=views)


def plain(whole: State, first: State, second: State, q_max: float = 0.12) -> np.ndarray:
    return compared(whole, first, second, q_max, 30.0, 0, symmetry=group("C1"), threads=1)[0]


def test_states_are_compared_with_their_counterparts_and_empty_ones_with_nothing():
    one, other, empty = volume(1), volume(2), np.zeros((17,) * 3, np.float32)
    both = state_of(one, other)
    assert plain(both, both, state_of(other, one[::-1, ::-1, ::-1]))[:, :4].min() > 0.99
    curves = plain(both, state_of(one, empty), state_of(empty, one))
    assert curves[0, :4].min() > 0.99
    assert not curves[1].any()


def test_a_state_that_has_lost_its_patterns_agrees_with_nothing():
    one, other = volume(1), volume(2)
    both = state_of(one, other)
    left = replace(both, weight=np.array([1.0, 0.0]))
    for states in ((both, left, both), (both, both, left), (left, both, both)):
        curves = plain(*states)
        assert curves[0, :4].min() > 0.99
        assert not curves[1].any()


def laid(density: np.ndarray, seed: int) -> tuple[np.ndarray, Rotation]:
    """A density as a run of its own may come to it: turned, of either hand, shifted."""
    rng = np.random.default_rng(seed)
    turn = Rotation.random(rng=rng)
    place = Placement(turn.as_quat(canonical=True, scalar_first=True), bool(seed % 2), rng.uniform(-2, 2, 3))
    return moved(density, place, 3.0, threads=1), turn


def test_maps_lie_over_the_densities_of_all_patterns_and_are_numbered_like_them():
    whole = state_of(*(moved(volume(seed, 31), IN_PLACE, 3.0, threads=1) for seed in (1, 2)))
    first = state_of(laid(whole.density[1], 4)[0], laid(whole.density[0], 5)[0])
    second = state_of(laid(whole.density[0], 6)[0], laid(whole.density[1], 7)[0])
    curves, _, maps = compared(whole, first, second, 0.12, 30.0, 0, symmetry=group("C1"), threads=1)
    assert maps.dtype == np.float32
    assert curves[:, :8].min() > 0.99
    for half in maps:
        np.testing.assert_allclose(half, whole.density, atol=0.03 * whole.density.max())
    for k in (0, 1):
        own = fourier_shell_correlation(*maps[:, k], 3.0, threads=1)
        np.testing.assert_array_equal(own.correlation, curves[k])
        # One half's density against the other half's of another state is no such thing.
        assert fourier_shell_correlation(maps[0, k], maps[1, 1 - k], 3.0, threads=1).correlation[:8].min() < 0.5


@pytest.mark.parametrize("told", [True, False])
def test_maps_of_one_state_lie_over_its_density_whether_or_not_orientations_tell(told):
    rng = np.random.default_rng(3)
    density = moved(volume(1, 31), IN_PLACE, 3.0, threads=1)
    (half, turn), views = laid(density, 5), Rotation.random(60, rng=rng)
    # What samples the density at R^T q samples the turned one at its own R^T q.
    seen = (views * turn.inv() if told else Rotation.random(60, rng=rng))[::2]
    whole, first, second = (
        replace(state_of(each), quaternions=own.as_quat(scalar_first=True), weight=np.ones(len(own)),
                state=np.zeros(len(own), int))
        for each, own in ((density, views), (half, seen), (laid(density, 8)[0], views[1::2]))
    )  # fmt: skip
    near = between_frames(whole, first, group("C1"))
    if told:
        assert near is not None
        np.testing.assert_allclose(near[0], turn.inv().as_matrix(), atol=1e-6)
    else:
        assert near is None
    maps = compared(whole, first, second, 0.12, 30.0, 0, symmetry=group("C1"), threads=1)[2]
    for each in maps[:, 0]:
        np.testing.assert_allclose(each, density, atol=0.03 * density.max())


def test_under_a_symmetry_all_equivalent_rotations_are_tried():
    """Each pattern at whichever of its equivalent orientations: the frames are told all the same."""
    rng, elements = np.random.default_rng(5), group("D3").rotations
    views, turn = Rotation.random(200, rng=rng), Rotation.random(rng=rng)

    def either(count: int) -> Rotation:
        return Rotation.from_matrix(elements[rng.integers(0, len(elements), count)])

    whole, first = (
        replace(state_of(volume(1)), quaternions=own.as_quat(scalar_first=True), weight=np.ones(len(own)))
        for own in (views * either(200), views[::2] * either(100) * turn)
    )
    assert between_frames(whole, first, group("C1")) is None
    near = between_frames(whole, first, group("D3"))
    assert near is not None
    expected = elements @ turn.as_matrix()
    apart = np.abs(near[:, None] - expected).max(axis=(2, 3))
    assert apart.min(axis=1).max() < 1e-6
    assert apart.min(axis=0).max() < 1e-6


def test_halves_on_different_solutions_agree_less():
    """Alignment finds what any two bodies have in common, so that the shell correlation alone is no proof."""
    pairs = [(state_of(volume(1)), state_of(volume(k))) for k in (1, 2, 3)]
    same, *others = (plain(pair[0], *pair, q_max=0.16)[0, :7] for pair in pairs)
    assert same.min() > 0.99
    assert max(other[2:].mean() for other in others) < 0.6


def test_a_half_on_a_wrong_solution_is_found_out(measured, experiment, particle):
    """A right model foresees the other half's patterns; the other half's model, of another particle, does not."""
    plan = experiment.plans[-1]
    right, wrong = (
        state_of(density(atoms, plan.size, plan.voxel_angstrom, threads=2))
        for atoms in (particle, built_in_particle("dumbbell"))
    )
    options = Settings.model_validate(QUICK)
    models = []
    for state in (right, wrong):
        volume = phasing.autocorrelation(state.density, threads=2)
        models.append(replace(state, voxel_angstrom=plan.voxel_angstrom, autocorrelation=volume))
    scale = in_photons(measured, experiment) * plan.voxel_angstrom**6
    models = [replace(model, autocorrelation=model.autocorrelation * np.float32(scale)) for model in models]
    halves = [prepare(replace(as_dataset(measured), images=as_dataset(measured).images[k::2]), options) for k in (0, 1)]
    sound = held_out(halves, [models[0], models[0]], options)
    unsound = held_out(halves, [models[0], models[1]], options)
    assert sound.deviations.min() > verdict.FORESEEN_DEVIATIONS
    assert unsound.deviations.min() < verdict.FORESEEN_DEVIATIONS


def test_too_few_patterns_are_not_halved(measured):
    dataset = as_dataset(measured)
    dataset = replace(dataset, images=dataset.images[:39])
    options = Settings.model_validate({**QUICK, "prepare": {"diameter_angstrom": DIAMETER, "q_max": 0.045}})
    found = reconstruct(dataset, options)
    assert found.certainty.missing == "39 patterns, at least 40 needed"
    assert found.certainty.half_set_fsc.shape[0] == 0
    assert "(39 patterns, at least 40 needed)" in verdict.verdict(found.certainty, 0, DIAMETER)


def test_a_single_phasing_leaves_the_prtf_out(measured):
    dataset = replace(as_dataset(measured), images=as_dataset(measured).images[:40])
    options = Settings.model_validate(
        {**QUICK, "prepare": {"diameter_angstrom": DIAMETER, "q_max": 0.045}, "resolution": {"phasings": 1}}
    )
    prepared = prepare(dataset, options)
    blank = state_of(volume(1))
    found = certainty.measure(
        prepared, blank, options.model_copy(update={"resolution": options.resolution.model_copy(
            update={"half_sets": False})}), lambda *_: pytest.fail("no half was asked for"),
    )  # fmt: skip
    assert found.prtf.shape == (0, len(found.q))
