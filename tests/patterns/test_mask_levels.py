"""Level 1 of a mask: pixels that the merge uses and no search for orientations looks at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from photons import blind, measured, settings

from spilegate.generation import models, poses, start
from spilegate.geometry import orientations
from spilegate.kernels.workers import Threads
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import MERGE_ONLY, NEVER, USE, State
from spilegate.settings import MatchingOptions, MergingOptions
from spilegate.simulation.experiment import Simulation
from spilegate.stages import slicing

DIAMETER = 62.0
OPTIONS = settings(prepare={"diameter_angstrom": DIAMETER, "background": "none"})
BOTH = pytest.mark.parametrize("statistics", ["gaussian", "poisson"])


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return measured(images=128, photons=None)


@pytest.fixture(scope="module")
def near(simulation: Simulation) -> np.ndarray:
    """The pixels nearest to the beam, about a speckle and a half."""
    inside: np.ndarray = np.linalg.norm(simulation.pixel_position.reshape(-1, 3), axis=-1) < 1.5 / DIAMETER
    return inside


def prepared(simulation: Simulation, pixels: np.ndarray, level: int) -> Experiment:
    mask = np.where(pixels, level, USE).astype(np.uint8)
    images = blind(simulation).images * (mask < NEVER)
    return prepare(blind(simulation, mask=mask, images=images.astype(np.float32)), OPTIONS, Threads(1))


def at_the_truth(experiment: Experiment, simulation: Simulation) -> State:
    """The state after a merge at the true orientations, out to the full radius."""
    plan, rng = experiment.plans[-1], np.random.default_rng(0)
    state = start.random_state(experiment, plan, OPTIONS, rng)
    state = replace(state, quaternions=simulation.quaternions, scale=np.ones(len(state.scale)), generation=2)
    return models.merge(experiment, plan, state, MergingOptions())[0]


def test_levels_decide_who_uses_a_pixel(simulation: Simulation, near: np.ndarray) -> None:
    used = {}
    for level in (USE, MERGE_ONLY, NEVER):
        experiment = prepared(simulation, near, level)
        q_max = experiment.q_max
        samplings = experiment.pixels(q_max).sampling, experiment.merged(q_max)
        found = []
        for sampling in samplings:
            assert sampling.pixels is not None
            found.append(bool(near[sampling.pixels].any()))
        touched = experiment.rings(experiment.plans[-1]).sampling.rings
        assert touched is not None
        used[level] = (*found, bool(np.abs(touched.resample[:, np.flatnonzero(near)]).sum() > 0))
    assert used == {USE: (True, True, True), MERGE_ONLY: (False, True, False), NEVER: (False, False, False)}


@BOTH
def test_nothing_on_merged_pixels_moves_an_orientation(
    simulation: Simulation, near: np.ndarray, statistics: str
) -> None:
    """Start, search and refinement are the same in every bit; the merge is not."""
    experiment = replace(prepared(simulation, near, MERGE_ONLY), statistics=statistics)
    images = experiment.images.copy()
    images[:, near] = 10 * images.max() * np.random.default_rng(1).random((len(images), near.sum()))
    spoilt = replace(experiment, images=images)
    state = at_the_truth(experiment, simulation)
    first, last = experiment.plans[0], experiment.plans[-1]
    random = start.random_state(experiment, first, OPTIONS, np.random.default_rng(3))
    annealed, refined, merged = [], [], []
    for each in (experiment, spoilt):
        rng = np.random.default_rng(2)
        annealed.append(start.anneal(each, first, random, 0.1, rng)[0])
        candidates, _ = poses.match(each, last, state, MatchingOptions(candidates=1), rng)
        refined.append(poses.refine(each, last, state, candidates, MatchingOptions(outliers=False), rng)[0])
        merged.append(models.merge(each, last, state, MergingOptions())[0].autocorrelation)
    np.testing.assert_array_equal(annealed[0].autocorrelation, annealed[1].autocorrelation)
    for name in ("quaternions", "scale", "distance"):
        np.testing.assert_array_equal(getattr(refined[0], name), getattr(refined[1], name))
    assert np.abs(merged[0] - merged[1]).max() > 0.1 * np.abs(merged[0]).max()
    error = orientations.angle_between(refined[0].quaternions, simulation.quaternions)
    assert np.median(error) < 2.0


def test_the_merge_knows_what_merged_pixels_show(simulation: Simulation, near: np.ndarray) -> None:
    """The model's slices there are the patterns' own; where the pixels are never used, they are a guess."""
    errors = {}
    rotations = orientations.matrices(simulation.quaternions)
    for level in (USE, MERGE_ONLY, NEVER):
        experiment = prepared(simulation, near, level)
        state = at_the_truth(experiment, simulation)
        q, workers = blind(simulation).q[near], experiment.workers
        slices = slicing.slices(state.autocorrelation[0], state.voxel_angstrom, rotations, q, workers=workers)
        expected = blind(simulation).images[:, near]
        errors[level] = float(np.linalg.norm(slices - expected) / np.linalg.norm(expected))
    assert errors[MERGE_ONLY] < 1.1 * errors[USE]
    assert errors[NEVER] > 3 * errors[USE]
