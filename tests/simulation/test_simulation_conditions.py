"""Simulated departures from an ideal experiment: each is what it says, and the truth is written beside it."""

from pathlib import Path

import numpy as np
import pytest
from photons import PHOTONS, heap, run_simulation

from spilegate.errors import InputError
from spilegate.formats import reader, spinifel
from spilegate.geometry.orientations import matrices, random_quaternions
from spilegate.geometry.response import response
from spilegate.simulation.experiment import Hidden, Simulation
from spilegate.simulation.masks import detector_mask
from spilegate.simulation.particle import built_in_particle, diameter_angstrom
from spilegate.simulation.scattering import detector_q, patterns


def truth(simulation: Simulation) -> Hidden:
    """What is hidden in a simulation, which has to be something."""
    assert simulation.hidden is not None
    return simulation.hidden


def test_without_conditions_nothing_has_changed(tmp_path: Path) -> None:
    result = run_simulation()
    q = detector_q(20, 6.0, 1.5).reshape(-1, 3)
    orientation_rng, noise_rng = np.random.default_rng(3).spawn(2)
    quaternions = random_quaternions(60, orientation_rng)
    exact = patterns(heap(1, "heap"), q, matrices(quaternions), threads=1)
    scale = PHOTONS / exact.sum(-1, dtype=np.float64).mean()
    expected = [noise_rng.poisson(scale * pattern.astype(np.float64)) for pattern in exact]
    assert np.array_equal(result.intensities.reshape(60, -1), expected)
    assert (result.mask, result.background, result.hidden) == (None, None, None)
    spinifel.write(tmp_path / "data.h5", result)
    found = spinifel.read_truth(tmp_path / "data.h5")
    assert (found.state, found.scale, found.background, found.volumes) == (None, None, None, None)


def test_cross_and_beam_stop_take_about_a_seventh() -> None:
    particle = built_in_particle()
    diameter, q = diameter_angstrom(particle), detector_q(64, 8.0, 1.0)
    stop, cross = (detector_mask((name,), q, diameter)[0] == 2 for name in ("beamstop", "cross"))
    q_length = np.linalg.norm(q, axis=-1)[0]
    assert np.array_equal(stop, q_length <= 1.5 / diameter)
    assert cross[30:34].all()
    assert cross[:, 30:35].all()
    assert cross.sum() == 9 * 64 - 20
    both = detector_mask(("cross", "beamstop"), q, diameter)[0]
    assert np.array_equal(both == 2, stop | cross)
    assert 0.13 < (both == 2).mean() < 0.17
    assert set(np.unique(both)) == {0, 2}


@pytest.mark.parametrize("pixels", [20, 21, 64, 127, 128])
def test_the_cross_is_in_the_middle_and_a_few_pixels_wide(pixels: int) -> None:
    mask = detector_mask(("cross",), detector_q(pixels, 8.0, 1.0), 60.0)[0]
    rows, columns = mask[:, 0] == 2, mask[0] == 2
    assert np.array_equal(mask == 2, rows[:, None] | columns)
    assert np.array_equal(rows, rows[::-1])
    # Across the columns the gap is one pixel wider, on one side.
    assert columns[rows].all()
    assert columns.sum() == rows.sum() + 1
    assert 2 <= rows.sum() <= max(3, pixels / 14)


def test_masked_pixels_count_nothing_and_photons_are_those_of_the_others() -> None:
    result = run_simulation(images=200, mask=("cross", "beamstop"), background=0.5, junk=0.2)
    assert result.mask is not None
    never = result.mask == 2
    assert 0.05 < never.mean() < 0.9
    assert (result.intensities[:, never] == 0).all()
    assert (truth(result).background[never] == 0).all()
    signal = result.intensities.sum((1, 2, 3)) - truth(result).background.sum()
    assert signal.mean() == pytest.approx(PHOTONS, abs=5 * np.sqrt(PHOTONS / 200))
    unmasked = run_simulation(images=200)
    assert unmasked.intensities[:, never].mean() > 1


def test_the_fluence_is_log_uniform_with_mean_one() -> None:
    result = run_simulation(images=1500, scale_decades=1.5, photons=None)
    scale = truth(result).scale
    assert scale.mean() == pytest.approx(1)
    assert np.ptp(np.log10(scale)) == pytest.approx(1.5, abs=0.02)
    share = np.histogram(np.log10(scale), 5)[0] / len(scale)
    assert np.allclose(share, 0.2, atol=0.05)
    plain = run_simulation(images=1500, photons=None).intensities
    assert np.allclose(result.intensities, scale[:, None, None, None] * plain, rtol=1e-5)


def test_the_mean_of_photons_counts_the_fluence() -> None:
    result = run_simulation(images=400, scale_decades=1.0)
    totals = result.intensities.sum((1, 2, 3))
    assert totals.mean() == pytest.approx(PHOTONS, abs=5 * np.sqrt(PHOTONS / 400))
    assert np.corrcoef(totals, truth(result).scale)[0, 1] > 0.95


@pytest.mark.parametrize("known", [False, True])
def test_the_background_is_flat_and_as_strong_as_said(tmp_path: Path, known: bool) -> None:
    # Without noise, the difference to the same experiment without a background is the background.
    with_it = run_simulation(photons=None, background=0.4, known_background=known)
    without = run_simulation(photons=None)
    background = truth(with_it).background
    assert np.allclose(with_it.intensities, without.intensities + background, rtol=1e-5)
    assert np.ptp(background) == 0
    q_length = np.linalg.norm(with_it.pixel_position, axis=-1) * 6.0
    edge = (q_length >= 0.9) & (q_length <= 1 + 1e-9)
    assert background.max() == pytest.approx(0.4 * without.intensities[:, edge].mean(), rel=1e-5)
    spinifel.write(tmp_path / "data.h5", with_it)
    read = reader.read(tmp_path / "data.h5").background
    assert (read is not None) == known
    if read is not None:
        assert np.array_equal(read, background.ravel())


def test_the_background_is_counted_on_top_of_the_photons() -> None:
    result = run_simulation(images=300, background=0.4)
    background = truth(result).background.sum()
    assert background > 20
    expected = PHOTONS + background
    assert result.intensities.sum((1, 2, 3)).mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / 300))
    # The same for every pattern, whatever its fluence.
    varied = run_simulation(images=300, background=0.4, scale_decades=2, photons=None)
    rest = varied.intensities - run_simulation(images=300, scale_decades=2, photons=None).intensities
    assert np.allclose(rest, truth(varied).background, rtol=1e-3, atol=1e-3 * varied.intensities.max())


def test_junk_is_half_another_particle_half_structureless() -> None:
    result = run_simulation(images=400, junk=0.3)
    state = truth(result).state
    assert (state == -1).sum() == 120
    images = result.intensities.reshape(400, -1)
    totals = images.sum(1)
    for chosen in (state == -1, state == 0):
        assert totals[chosen].mean() == pytest.approx(PHOTONS, rel=0.08)
    # Index of dispersion of the counts over the detector: one for shot noise of a flat mean.
    dispersion = images[state == -1].var(1) / images[state == -1].mean(1)
    flat = np.abs(dispersion - 1) < 0.5
    assert flat.sum() == 60
    assert dispersion[~flat].min() > 2
    # The rest shows another particle at the orientation written, here the first that is built in.
    stray = np.flatnonzero(state == -1)[~flat]
    rotations = matrices(result.quaternions[stray])
    expected = patterns(built_in_particle(), result.pixel_position.reshape(-1, 3), rotations, threads=1)
    agreement = [np.corrcoef(a, b)[0, 1] for a, b in zip(images[stray], expected, strict=True)]
    assert min(agreement) > 0.95
    good = state == 0
    plain = run_simulation(images=400, photons=None).intensities.reshape(400, -1)
    agreement = [np.corrcoef(a, b)[0, 1] for a, b in zip(images[good], plain[good], strict=True)]
    assert min(agreement) > 0.9


def test_states_have_their_populations_and_their_own_patterns() -> None:
    result = run_simulation(images=600, states=3, photons=None, populations=(0.6, 0.3, 0.1))
    state = truth(result).state
    assert np.allclose(np.bincount(state) / 600, [0.6, 0.3, 0.1], atol=0.06)
    assert len(truth(result).volumes) == 3
    assert np.array_equal(truth(result).volumes[0], result.volume)
    q = result.pixel_position.reshape(-1, 3)
    for k in range(3):
        first = int(np.argmax(state == k))
        expected = patterns(heap(1 + k / 2, ""), q, matrices(result.quaternions[[first]]), threads=1)[0]
        assert np.allclose(result.intensities[first].ravel(), expected, rtol=1e-3, atol=1e-4 * expected.max())
    # The grid holds the largest state.
    largest = diameter_angstrom(heap(2, ""))
    assert len(result.volume) * result.voxel_angstrom >= 2 * largest
    equal = truth(run_simulation(images=600, states=2, photons=None)).state
    assert equal.mean() == pytest.approx(0.5, abs=0.06)


def test_the_response_multiplies_what_the_particle_scatters_not_the_background() -> None:
    options = {"polarisation": "vertical", "solid_angle": True}
    plain = run_simulation(photons=None).intensities
    q = detector_q(20, 6.0, 1.5)
    factor = response(q.reshape(-1, 3), polarisation="vertical", solid_angle=True).reshape(q.shape[:-1])
    assert factor.min() < 0.95
    assert np.allclose(run_simulation(photons=None, **options).intensities, plain * factor, rtol=1e-5)
    background = truth(run_simulation(photons=None, background=1.0, **options)).background
    assert np.ptp(background) == 0


def test_the_seed_decides_everything() -> None:
    options = {"scale_decades": 1.0, "background": 0.2, "junk": 0.2, "mask": ("cross",), "states": 2}
    first, same, other = (run_simulation(seed=seed, **options) for seed in (1, 1, 2))  # type: ignore[arg-type]
    assert np.array_equal(first.intensities, same.intensities)
    assert not np.array_equal(truth(first).state, truth(other).state)
    assert not np.array_equal(truth(first).scale, truth(other).scale)
    # One condition leaves what chance gives to the others as it is.
    fewer = run_simulation(seed=1, junk=0.2, states=2)
    hotter = run_simulation(seed=1, hot_pixels=1.0, **options)  # type: ignore[arg-type]
    places = truth(hotter).hot_pixels
    assert places is not None
    assert (hotter.intensities != first.intensities).sum() == len(places)
    assert np.array_equal(truth(first).state, truth(fewer).state)
    assert np.array_equal(first.quaternions, fewer.quaternions)


def test_all_that_is_true_is_read_as_written(tmp_path: Path) -> None:
    result = run_simulation(states=2, junk=0.2, scale_decades=1.0, background=0.3, mask=("cross",), hot_pixels=1.0)
    spinifel.write(tmp_path / "data.h5", result)
    found, hidden = spinifel.read_truth(tmp_path / "data.h5"), truth(result)
    for name in ("state", "scale", "background", "volumes", "hot_pixels"):
        assert np.array_equal(getattr(found, name), getattr(hidden, name)), name
    assert found.state is not None
    assert found.state.dtype == np.int64
    assert found.voxel_angstrom == result.voxel_angstrom
    dataset = reader.read(tmp_path / "data.h5")
    assert result.mask is not None
    assert np.array_equal(dataset.mask, result.mask.ravel())
    assert dataset.background is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": ("cross", "hole")}, "mask = 'hole'"),
        ({"scale_decades": -1.0}, "scale_decades = -1"),
        ({"scale_decades": np.nan}, "scale_decades = nan"),
        ({"background": -0.1}, "background = -0.1"),
        ({"background": np.inf}, "background = inf"),
        ({"junk": 1.0}, "junk = 1"),
        ({"junk": -0.1}, "junk = -0.1"),
        ({"junk": 0.999}, "junk: nothing else"),
        ({"junk": 0.1, "photons": None}, "photons = none"),
        ({"known_background": True}, "background = 0"),
        ({"states": 2, "populations": (0.5, 0.6)}, "populations = 0.5,0.6"),
        ({"states": 2, "populations": (1.0,)}, "for 2 states"),
        ({"states": 2, "populations": (0.0, 1.0)}, "populations = 0,1"),
        ({"states": 2, "populations": (np.nan, 1.0)}, "populations = nan,1"),
    ],
)
def test_conditions_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        run_simulation(**changes)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_beam_stop_that_hides_everything_is_refused() -> None:
    with pytest.raises(InputError, match="beamstop"):
        detector_mask(("beamstop",), detector_q(20, 45.0, 1.0), 60.0)
