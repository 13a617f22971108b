"""What is derived from patterns before a run is checked; every setting and detector ends in success or in one line."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from photons import blind, bright, measured, prepared, settings

from spilegate.errors import InputError
from spilegate.formats import pixels
from spilegate.patterns.checks import inscribed_radius
from spilegate.patterns.experiment import Experiment
from spilegate.records import NEVER, Dataset
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import built_in_particle, diameter_angstrom


def refused(dataset: Dataset, **options: object) -> str:
    """The one line a data set is refused with."""
    with pytest.raises(InputError) as caught:
        prepared(dataset, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert dataset.source in message
    assert "expected" in message
    return message


# --- signal ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1.0, 3.0])
@pytest.mark.parametrize("counts", [True, False])
def test_a_background_as_bright_as_the_patterns_is_refused_and_the_remedy_works(times: float, counts: bool) -> None:
    dataset = blind(bright(), counts=counts)
    dataset = replace(dataset, background=times * dataset.images.mean(axis=0, dtype=np.float64))
    message = refused(dataset)
    assert "background (the file)" in message
    assert "prepare.background=estimate" in message
    for remedy in ("estimate", "none"):
        experiment = prepared(dataset, background=remedy)
        assert experiment.photons > 0
        assert (experiment.scale > 0).all()


def test_a_background_that_leaves_some_signal_is_taken() -> None:
    dataset = blind(bright())
    dataset = replace(dataset, background=0.3 * dataset.images.mean(axis=0, dtype=np.float64))
    assert prepared(dataset).photons == pytest.approx(0.7 * 20_000, rel=0.05)


# --- settings and detectors ------------------------------------------------------------------------------------------


@cache
def tiny(count: int, photons: float | None) -> Simulation:
    return simulate(
        built_in_particle("demo"),
        images=24,
        pixels=count,
        resolution_angstrom=14.0,
        wavelength_angstrom=1.0,
        photons=photons,
        seed=1,
        threads=1,
    )


def cut(simulation: Simulation, binning: int, q_min: float, q_max: float | None, masked: float) -> Dataset:
    """What the reader makes of a file, whether it would let that pass or not; masked : part of the rows."""
    images, count = simulation.intensities, simulation.intensities.shape[-1] // binning
    binned = images.reshape(len(images), count, binning, count, binning).sum((2, 4)).reshape(len(images), -1)
    q = pixels.bin_positions(simulation.pixel_position, binning, simulation.wavelength_angstrom).reshape(-1, 3)
    q_length = np.linalg.norm(q, axis=-1)
    mask = np.where((q_length >= q_min) & (q_length <= (q_max or np.inf)), 0, NEVER).astype(np.uint8)
    mask[: int(masked * len(mask))] = NEVER
    return blind(
        simulation,
        images=np.where(mask == NEVER, 0, binned).astype(np.float32),
        q=q,
        mask=mask,
        panel_shape=(1, count, count),
        counts=simulation.photons is not None,
    )


@how(max_examples=60, deadline=None)
@given(
    st.sampled_from([8, 16, 32]),
    st.sampled_from([20.0, 3000.0, None]),
    st.sampled_from([1, 1, 2, 4, 8]),
    st.floats(0, 0.08),
    st.none() | st.floats(0.002, 0.12),
    st.none() | st.sampled_from([1e-3, 1.0, 30.0, 60.0, 200.0, 6000.0, 1e9]),
    st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    st.sampled_from(["auto", "none", "estimate"]),
)
def test_settings_and_detectors_end_in_success_or_in_one_line(
    count: int,
    photons: float | None,
    binning: int,
    q_min: float,
    q_max: float | None,
    diameter: float | None,
    masked: float,
    background: str,
) -> None:
    dataset = cut(tiny(count, photons), binning, q_min, q_max, masked)
    try:
        experiment = prepared(dataset, q_min=q_min, q_max=q_max, diameter_angstrom=diameter, background=background)
    except InputError as error:
        line = str(error)
    else:
        assert_sound(experiment)
        return
    assert "\n" not in line
    assert "expected" in line


def assert_sound(experiment: Experiment) -> None:
    """Fail unless everything that has to be positive is, and every generation has points to compare patterns on."""
    assert experiment.diameter_angstrom > 0
    assert experiment.q_max > experiment.q_min > 0
    assert (experiment.scale > 0).all()
    assert experiment.weight.sum() >= 1
    assert experiment.photons > 0
    for plan in experiment.plans:
        assert plan.size < 300
        rings = experiment.rings(plan).sampling
        assert rings.coverage.any()
        assert np.isfinite(rings.variance).all()
        assert len(experiment.pixels(plan.q_match).sampling.q)


@pytest.mark.parametrize("options", [{"q_max": 0.004}, {"q_min": 0.0555, "q_max": 0.0557}])
def test_too_few_pixels_are_refused(options: dict[str, float]) -> None:
    dataset = cut(tiny(32, 3000.0), 1, options.get("q_min", 0.0), options.get("q_max"), 0.0)
    assert "pixels to match patterns on" in refused(dataset, **options)


@pytest.mark.parametrize("binning", [8, 16, 32])
def test_too_few_pixels_after_binning_are_refused(binning: int) -> None:
    assert "prepare.binning" in refused(cut(tiny(32, 3000.0), binning, 0.0, None, 0.0))


@pytest.mark.parametrize(
    ("diameter", "unit"), [(6000.0, "pm"), (1e9, ""), (5.5, "nm"), (1e-3, "")], ids=["pm", "huge", "nm", "none"]
)
def test_a_diameter_in_another_unit_is_told(diameter: float, unit: str) -> None:
    message = refused(blind(bright()), diameter_angstrom=diameter)
    assert ("prepare.diameter_angstrom is in angstrom" in message) == bool(unit)
    assert f"is {diameter:g} in {unit}?" in message or not unit


# --- which patterns --------------------------------------------------------------------------------------------------


def test_frames_without_signal_or_particle_are_not_used() -> None:
    dataset = blind(bright())
    images, rng = dataset.images.copy(), np.random.default_rng(0)
    images[5:30:5] = 0
    images[40:80:4] = rng.poisson(0.05, images[40:80:4].shape)
    experiment = prepared(replace(dataset, images=images))
    dark = np.zeros(len(images), np.bool_)
    dark[5:30:5] = dark[40:80:4] = True
    np.testing.assert_array_equal(experiment.weight == 0, dark)
    assert experiment.scale[~dark].mean() == pytest.approx(1)
    assert len(experiment.findings.notes) == 2
    assert "5 of 100 patterns (the first: number 5, from 0) without signal" in experiment.findings.notes[0]
    assert "10 of 100 patterns (the first: number 40, from 0) without the particle" in experiment.findings.notes[1]


@pytest.mark.parametrize("blanks", [0.1, 0.7])
def test_frames_that_show_only_background_are_not_used(blanks: float) -> None:
    dataset = blind(bright())
    rng = np.random.default_rng(0)
    blank = np.arange(100) < 100 * blanks
    images = dataset.images * ~blank[:, None] + rng.poisson(2.0, dataset.images.shape)
    experiment = prepared(replace(dataset, images=images.astype(np.float32)))
    assert not experiment.weight[blank].any()
    assert experiment.weight[~blank].all()


@pytest.mark.parametrize("few", [0, 10])
def test_a_particle_that_looks_unlike_from_some_sides_is_no_stranger(few: int) -> None:
    """Coarse patterns differ by how bright the particle's long side makes them, and by little noise."""
    simulation = simulate(
        built_in_particle("demo"),
        images=300,
        pixels=40,
        resolution_angstrom=18.0,
        wavelength_angstrom=1.0,
        photons=20_000.0,
        seed=1,
        threads=1,
    )
    images = simulation.intensities.copy()
    blank = np.arange(300) % 10 < few / 10
    images[blank] = np.random.default_rng(0).poisson(0.05, images[blank].shape)
    experiment = prepared(blind(simulation, images=images.reshape(300, -1)))
    np.testing.assert_array_equal(experiment.weight == 0, blank)


def test_faint_patterns_of_the_particle_are_used() -> None:
    assert prepared(blind(measured(images=200, scale_decades=2.0))).weight.all()


def test_patterns_are_left_out_as_asked_and_keep_their_places() -> None:
    experiment = prepared(blind(bright()), leave_out="3,10:20", use=":90")
    left = np.r_[3, 10:20, 90:100]
    np.testing.assert_array_equal(np.flatnonzero(experiment.weight == 0), left)
    assert "21 of 100 patterns (the first: number 3, from 0) left out as asked" in experiment.findings.notes[0]
    alone = prepared(blind(bright(), images=np.delete(blind(bright()).images, left, axis=0)))
    assert experiment.diameter_angstrom == alone.diameter_angstrom
    np.testing.assert_allclose(np.delete(experiment.scale, left), alone.scale, rtol=1e-6)


@pytest.mark.parametrize("text", ["100", "95:101", "200:"])
def test_patterns_that_are_not_there_cannot_be_left_out(text: str) -> None:
    with pytest.raises(InputError, match="expected numbers up to 99"):
        prepared(blind(bright()), leave_out=text)


def test_leaving_out_nearly_all_is_refused() -> None:
    assert "5 of 100 patterns left" in refused(blind(bright()), leave_out="5:")


@pytest.mark.parametrize("text", ["x", "3:2", "-1", "1,,2", ":", "1.5", ""])
def test_lists_of_patterns_that_are_none_are_refused(text: str) -> None:
    if text == ":":
        settings(prepare={"use": text})
        return
    with pytest.raises(ValueError, match="numbers of patterns"):
        settings(prepare={"leave_out": text})


# --- Friedel ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["corner", "half", "off centre"])
def test_a_direction_is_covered_if_its_opposite_is(part: str) -> None:
    """The radius used is that of the whole detector, and so is, nearly, the diameter."""
    dataset = blind(bright())
    count = dataset.panel_shape[-1]
    row, column = np.divmod(np.arange(count**2), count)
    without = {
        "corner": (row < 0.4 * count) & (column < 0.4 * count),
        "half": column < 0.45 * count,
        "off centre": column < 0.25 * count,
    }[part]
    whole = prepared(dataset)
    mask = np.where(without, NEVER, 0).astype(np.uint8)
    found = prepared(replace(dataset, mask=mask, images=np.where(without, 0, dataset.images)))
    assert found.q_max == pytest.approx(whole.q_max, rel=0.01)
    assert found.diameter_angstrom == pytest.approx(diameter_angstrom(built_in_particle("demo")), rel=0.2)


@pytest.mark.parametrize("first", [0, 5, 14])
def test_what_inspect_says_of_the_side_is_what_is_used(first: int) -> None:
    """Columns are missing on one side: the beam is not in the middle, or nearly at the edge."""
    simulation = bright()
    q = simulation.pixel_position[:, :, first:]
    whole = pixels.inscribed_q(simulation.pixel_position, simulation.wavelength_angstrom)
    assert pixels.inscribed_q(q, simulation.wavelength_angstrom) == pytest.approx(whole)
    flat = q.reshape(-1, 3)
    assert inscribed_radius(flat, np.ones(len(flat), np.bool_)) == pytest.approx(whole, rel=0.02)
