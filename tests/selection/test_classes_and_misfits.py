"""2-D classes of patterns that are turned at random, and distances of patterns from a model that is known."""

from dataclasses import replace

import numpy as np
import pytest

from spilegate.backend import to_host
from spilegate.geometry.orientations import matrices, quaternions
from spilegate.kernels.workers import Threads
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.prepare import prepare
from spilegate.records import Dataset, State
from spilegate.selection.classes import SIDE, classify
from spilegate.selection.misfits import measure
from spilegate.settings import PrepareOptions, Settings
from spilegate.simulation.experiment import Simulation

PIXELS, WAVELENGTH, COUNT = 32, 1.0, 90
DIAMETER, EDGE = 60.0, 0.06


def turned(kinds: np.ndarray, rng: np.random.Generator) -> Dataset:
    """Patterns of two or four arms, each turned about the beam by an angle of its own."""
    line = (np.arange(PIXELS) - (PIXELS - 1) / 2) / (PIXELS / 2) * EDGE
    x, y = (axis.ravel() for axis in np.meshgrid(line, line, indexing="ij"))
    length, angle = np.hypot(x, y), np.arctan2(y, x)
    turns = rng.uniform(0, 2 * np.pi, len(kinds))[:, None]
    arms = 1 + 0.8 * np.cos(kinds[:, None] * (angle - turns)) * np.minimum(length * DIAMETER / 1.5, 1)
    exact = np.exp(-length * DIAMETER) * arms
    images = rng.poisson(exact * 4000 / exact.sum(axis=1, keepdims=True)).astype(np.float32)
    q = np.stack([x, y, -WAVELENGTH / 2 * length**2], axis=-1)
    places = np.stack(np.divmod(np.arange(PIXELS**2), PIXELS), axis=-1)
    return Dataset(images, q, np.zeros(PIXELS**2, np.uint8), (1, PIXELS, PIXELS), places, "0" * 64, "made", True)


def test_two_kinds_of_turned_patterns_end_in_two_classes() -> None:
    rng = np.random.default_rng(7)
    kinds = np.where(np.arange(COUNT) % 3 == 0, 4, 2)
    options = PrepareOptions(diameter_angstrom=DIAMETER)
    settings = Settings(prepare=options, matching={"outliers": False})
    experiment = prepare(turned(kinds, rng), settings, Threads(2))
    found = classify(experiment, np.random.default_rng(0))
    assert len(found.means) == 2
    # The larger class is the first.
    expected = np.where(kinds == 2, 0, 1)
    assert (found.label == expected).mean() > 0.97
    assert found.means.shape == (2, SIDE, SIDE)
    assert found.means.min() >= 0
    assert found.means.max() <= 1
    again = classify(replace(experiment, workers=Threads(1), laid={}), np.random.default_rng(0))
    np.testing.assert_array_equal(found.label, again.label)
    np.testing.assert_array_equal(found.means, again.means)


PHOTONS, OFF = 20000.0, 0.3


def noisy(experiment: Experiment, off: float = 0.0) -> Experiment:
    """Patterns of the demo particle with noise, every pixel off by the same part of itself, up or down."""
    rng = np.random.default_rng(3)
    exact = to_host(experiment.images[:])
    exact = exact * (PHOTONS / exact.sum(axis=1).mean())
    wrong = 1 + off * rng.choice([-1.0, 1.0], exact.shape[1])
    return replace(experiment, images=rng.poisson(exact * wrong).astype(np.float32), workers=Threads(2), laid={})


def true_state(experiment: Experiment, quaternions: np.ndarray, autocorrelation: np.ndarray) -> State:
    count, volume = len(quaternions), autocorrelation[None]
    return State(
        generation=1, voxel_angstrom=experiment.plans[-1].voxel_angstrom, history=np.zeros((0, 3)),
        quaternions=quaternions, state=np.zeros(count, np.int64), scale=np.ones(count),
        background=np.zeros(len(experiment.detector.q)), weight=np.ones(count), distance=np.zeros(count),
        autocorrelation=volume, density=np.zeros_like(volume), support=volume > np.inf,
    )  # fmt: skip


def test_the_true_model_fits_and_a_wrong_one_by_as_much_as_it_is_wrong(
    experiment: Experiment, simulation: Simulation, true_autocorrelation: np.ndarray
) -> None:
    truth = true_state(experiment, simulation.quaternions, true_autocorrelation)
    # Further out dark pixels, which count as if they were brighter, leave something.
    for part, most in ((0.4, 0.004), (1.0, 0.015)):
        right = measure(noisy(experiment), truth, part * experiment.q_max)
        wrong = measure(noisy(experiment, OFF), truth, part * experiment.q_max)
        assert abs(np.median(right.misfit)) < most
        assert np.median(right.error) < 0.004
        assert np.median(wrong.misfit - right.misfit) == pytest.approx(OFF**2, rel=0.1)
    turn = matrices(np.array([[np.cos(0.4), np.sin(0.4), 0, 0]]))[0]
    elsewhere = replace(truth, quaternions=quaternions(matrices(truth.quaternions) @ turn))
    assert np.median(measure(noisy(experiment), elsewhere, experiment.q_max).misfit) > 0.1
