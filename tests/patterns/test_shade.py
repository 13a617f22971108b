"""Backgrounds that are no function of |q|: found with their amplitudes, or read; none where there is none."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from photons import blind, measured, settings

from spilegate.kernels.workers import Threads
from spilegate.patterns import shade
from spilegate.patterns.prepare import detector_of, prepare
from spilegate.patterns.shade import Shade
from spilegate.simulation.experiment import Hidden, Simulation

COUNT = 1000


@cache
def shaded(**conditions: float) -> tuple[Simulation, Hidden]:
    """Patterns with such a background, as bright as the signal."""
    result = measured(images=COUNT, photons=1000.0, background_picture=1.0, **conditions)
    assert result.hidden is not None
    return result, result.hidden


def found_in(simulation: Simulation, known: np.ndarray | None = None) -> Shade | None:
    dataset = blind(simulation)
    detector = detector_of(dataset, settings().prepare)
    mean, variance = dataset.images.mean(0), dataset.images.var(0)
    if not shade.shows(mean, variance, detector, len(dataset.images), known=known):
        return None
    return shade.find(dataset.images, detector, np.ones(len(dataset.images)), known=known, workers=Threads(2))


def test_a_background_and_its_amplitudes_are_found() -> None:
    simulation, hidden = shaded(background_spread=0.3)
    found = found_in(simulation)
    assert found is not None
    true = hidden.background.ravel()
    assert np.corrcoef(found.background, true)[0, 1] > 0.95
    assert found.background.sum() == pytest.approx(true.sum(), rel=0.1)
    assert np.corrcoef(found.amplitude, hidden.amplitude)[0, 1] > 0.9
    assert np.sqrt(((found.amplitude - hidden.amplitude) ** 2).mean()) < 0.12
    assert found.amplitude.mean() == pytest.approx(1)
    # Streaks are where nothing else is seen.
    assert 0.05 < found.drowned.mean() < 0.5
    assert true[found.drowned].mean() > 2 * true[~found.drowned].mean()


def test_amplitudes_that_are_all_the_same_are_found_to_be_so() -> None:
    simulation, hidden = shaded()
    found = found_in(simulation)
    assert found is not None
    assert (found.amplitude == 1).all()
    true = hidden.background.ravel()
    # What all of a ring has stays unknown then; never is more taken off than there is by much.
    assert np.corrcoef(found.background, true)[0, 1] > 0.8
    assert found.background.sum() < 1.2 * true.sum()


def test_known_backgrounds_get_their_amplitudes() -> None:
    simulation, hidden = shaded(background_spread=0.3)
    found = found_in(simulation, 2 * hidden.background.ravel())
    assert found is not None
    assert found.background == pytest.approx(hidden.background.ravel(), rel=0.05)
    assert np.corrcoef(found.amplitude, hidden.amplitude)[0, 1] > 0.9


@pytest.mark.parametrize(
    "conditions", [{}, {"background": 1.0}, {"scale_decades": 1.0}, {"centre_jitter": 1.0}], ids=str
)
def test_patterns_without_one_have_none(conditions: dict[str, float]) -> None:
    assert found_in(measured(images=COUNT, photons=1000.0, **conditions)) is None


def test_patterns_are_evened_out_and_found_again_as_they_are(tmp_path: Path) -> None:
    simulation, hidden = shaded(background_spread=0.3)
    dataset = blind(simulation)
    np.save(tmp_path / "background.npy", hidden.background[0])
    options = settings(prepare={"background_from": str(tmp_path / "background.npy"), "diameter_angstrom": 60.0})
    experiment = prepare(dataset, options, Threads(2))
    assert experiment.findings.background == pytest.approx(hidden.background.ravel(), rel=0.05)
    amplitude = experiment.findings.amplitude
    even = dataset.images - (amplitude - 1)[:, None] * experiment.findings.background
    np.testing.assert_allclose(experiment.images, even, atol=1e-3)
    assert experiment.sums is None
    assert experiment.photons == pytest.approx(1000.0, rel=0.2)
    trust = experiment.merged(experiment.q_max).trust
    assert trust is not None
    assert trust.max() <= shade.MOST_TRUST
    again = prepare(dataset, options, Threads(2), findings=experiment.findings)
    assert np.array_equal(again.images, experiment.images)
    assert np.array_equal(again.detector.matched, experiment.detector.matched)
