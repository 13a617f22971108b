"""Sizes and beams that were found, against the true ones."""

from pathlib import Path

import numpy as np
import pytest
from photons import run_simulation

from spilegate.evaluation.states import seen_figures
from spilegate.formats import spinifel


def test_sizes_and_beams_are_compared_with_the_true_ones() -> None:
    rng = np.random.default_rng(0)
    size, centre = np.exp(0.05 * rng.standard_normal(1000)), rng.standard_normal((1000, 2))
    found, error = size * np.exp(0.02 * rng.standard_normal(1000)), 0.1 * rng.standard_normal((1000, 2))
    # Another mean size is no error; columns are along q_x.
    figures = seen_figures(1.1 * found, 0.003 * (centre + error)[:, ::-1], size, centre, 0.003)
    assert figures["size_error"] == {"spread": pytest.approx(0.05, rel=0.1), "rms": pytest.approx(0.02, rel=0.1)}
    assert figures["centre_error_pixels"] == pytest.approx(0.1, rel=0.1)
    assert set(seen_figures(found, error, None, None, 1.0).values()) == {None}


def test_a_pixel_is_as_wide_as_the_detector_has_it(tmp_path: Path) -> None:
    simulation = run_simulation(images=3, centre_jitter=1.0)
    spinifel.write(tmp_path / "data.h5", simulation)
    q = simulation.pixel_position[0]
    expected = np.linalg.norm(q[10, 11] - q[10, 10])
    assert spinifel.pixel_width(tmp_path / "data.h5") == pytest.approx(expected, rel=1e-3)
