"""What is said of patterns that leave a doubt: their centre, whether they differ, how large the particle is."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from photons import blind, bright, measured, prepared

from spilegate.geometry.detector import ewald_wavelength, pixel_spacing
from spilegate.records import Dataset
from spilegate.simulation.experiment import simulate
from spilegate.simulation.particle import built_in_particle, make_particle


def shifted(dataset: Dataset, x: float, y: float) -> Dataset:
    """A data set whose positions are off by so many pixels."""
    wavelength = ewald_wavelength(dataset.q)
    q = dataset.q[:, :2] + np.array([x, y]) * pixel_spacing(dataset.q)
    q_z = (np.sqrt(1 - wavelength**2 * (q**2).sum(1)) - 1) / wavelength
    return replace(dataset, q=np.column_stack([q, q_z]))


@pytest.mark.parametrize("off", [(1.0, 0.0), (0.0, -0.5), (-1.5, 2.0)])
@pytest.mark.parametrize("photons", [20_000.0, None])
def test_a_centre_that_is_off_is_said_with_the_correction(off: tuple[float, float], photons: float | None) -> None:
    dataset = blind(bright() if photons else measured(images=100, photons=None))
    (note,) = prepared(shifted(dataset, *off)).findings.notes
    found = [float(number) for number in re.findall(r"([+-]\d\.\d) (?:pixels )?along", note)]
    np.testing.assert_allclose(found, off, atol=0.15)
    correction = [float(number) for number in re.findall(r"\((\S+), (\S+)\) 1/m", note)[0]]
    mended = shifted(dataset, *off)
    q = mended.q.copy()
    q[:, :2] -= np.array(correction) / 1e10
    np.testing.assert_allclose(q[:, :2], dataset.q[:, :2], atol=0.2 * pixel_spacing(dataset.q))
    assert not prepared(shifted(mended, *(-np.array(correction) / 1e10 / pixel_spacing(dataset.q)))).findings.notes


@pytest.mark.parametrize("mask", [(), ("cross",), ("beamstop",), ("cross", "beamstop")])
@pytest.mark.parametrize("photons", [20_000.0, 300.0, None])
def test_nothing_is_said_of_patterns_as_they_should_be(mask: tuple[str, ...], photons: float | None) -> None:
    simulation = measured(images=200, photons=photons, mask=mask, scale_decades=0.5, background=0.5)
    assert not prepared(blind(simulation), diameter_angstrom=62.0).findings.notes


@pytest.mark.parametrize("photons", [1000.0, 20_000.0])
def test_a_ball_has_its_diameter_and_no_orientations(photons: float) -> None:
    grid = np.arange(-27, 27.1, 2.0)
    places = np.stack(np.meshgrid(grid, grid, grid), axis=-1).reshape(-1, 3)
    inside = places[np.linalg.norm(places, axis=1) <= 27]
    ball = make_particle(inside, ["C"] * len(inside), np.ones(len(inside)), "ball")
    experiment = prepared(blind(measured(ball, images=200, photons=photons)))
    assert experiment.diameter_angstrom == pytest.approx(54, rel=0.1)
    assert [note for note in experiment.findings.notes if "do not differ" in note]


def test_pixels_that_average_speckle_are_said() -> None:
    """Half a speckle is 1 / (2 diameter); binned less, as the line says, there is nothing to say."""
    fine = simulate(
        built_in_particle("demo"), images=50, pixels=64, resolution_angstrom=8.0, wavelength_angstrom=1.0,
        photons=20_000.0, seed=1, threads=1,
    )  # fmt: skip
    dataset = blind(fine)
    spacing = pixel_spacing(dataset.q)
    (note,) = prepared(dataset, diameter_angstrom=0.55 / spacing).findings.notes
    assert (
        f"{spacing:.3g}/angstrom wide, more than half a speckle of a particle of {0.55 / spacing:.4g} angstrom" in note
    )
    assert "bin less" in note
    assert not prepared(dataset, diameter_angstrom=0.49 / spacing).findings.notes


def test_a_particle_of_no_size_is_doubted() -> None:
    dataset = blind(bright())
    (note,) = prepared(replace(dataset, q=2 * np.pi * dataset.q)).findings.notes
    assert "2 pi / d" in note
    assert "diameter" not in note
