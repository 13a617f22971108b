"""Clusters, droplets and blanks among patterns; sizes, beams and backgrounds that vary: each is what it says."""

from pathlib import Path

import numpy as np
import pytest
from photons import PHOTONS, heap, run_simulation
from scipy.spatial import KDTree

from spilegate.errors import InputError
from spilegate.formats import masks, spinifel
from spilegate.formats.truth import KINDS
from spilegate.geometry.orientations import matrices, random_quaternions
from spilegate.simulation.clusters import clusters, droplet_axes, droplet_patterns
from spilegate.simulation.experiment import Hidden, Simulation, not_radial
from spilegate.simulation.masks import agipd, detector_mask
from spilegate.simulation.particle import built_in_particle, make_particle
from spilegate.simulation.scattering import Seen, detector_q, flat_detector, patterns, seen_patterns

JUNK = {"doublets": 0.2, "aggregates": 0.1, "droplets": 0.2, "blank": 0.1}
DOUBLET, AGGREGATE, DROPLET, BLANK = (KINDS.index(name) for name in ("doublet", "aggregate", "droplet", "blank"))


def truth(simulation: Simulation) -> Hidden:
    """What is hidden in a simulation, which has to be something."""
    assert simulation.hidden is not None
    return simulation.hidden


def test_copies_touch_and_do_not_overlap() -> None:
    particle, rng = built_in_particle(), np.random.default_rng(1)
    numbers = np.array([2, 2, 3, 6])
    copies = clusters(particle, random_quaternions(4, rng), numbers, rng)
    assert np.array_equal(np.bincount(copies.pattern), numbers)
    for pattern in range(4):
        own = np.flatnonzero(copies.pattern == pattern)
        placed = [particle.positions @ copies.rotations[i].T + copies.shifts[i] for i in own]
        trees = [KDTree(each) for each in placed]
        nearest = np.full((len(own), len(own)), np.inf)
        for i in range(len(own)):
            for j in range(i):
                nearest[i, j] = nearest[j, i] = trees[i].query(placed[j])[0].min()
        assert nearest.min() > 1.0
        # Each is a few atoms away from another one, a small part of the 60 angstrom that it is long.
        assert nearest.min(axis=1).max() < 10.0


def test_clusters_and_droplets_have_their_parts_and_photons_at_random_places() -> None:
    result = run_simulation(images=400, background=0.3, **JUNK)
    hidden = truth(result)
    assert [int((hidden.kind == kind).sum()) for kind in (0, DOUBLET, AGGREGATE, DROPLET, BLANK)] == [
        *(160, 80, 40, 80, 40)
    ]
    assert np.array_equal(hidden.state == -1, hidden.kind != 0)
    assert 120 < np.flatnonzero(hidden.kind == DROPLET).mean() < 280
    signal = result.intensities.sum((1, 2, 3)) - hidden.background.sum()
    assert signal[hidden.kind == 0].mean() == pytest.approx(PHOTONS, rel=0.05)
    assert abs(signal[hidden.kind == BLANK].mean()) < 0.05 * PHOTONS
    for kind in (DOUBLET, AGGREGATE, DROPLET):
        low, high = np.percentile(signal[hidden.kind == kind], [2, 98]) / PHOTONS
        assert 0.4 < low < 0.8
        assert 2.2 < high < 3.3


def test_copies_scatter_as_one_particle_of_all_their_atoms() -> None:
    rng, side = np.random.default_rng(0), np.tan(2 * np.arcsin(1.5 / 12))
    seen = Seen(20, side, np.full(3, 1.5), np.zeros((3, 2)), np.array([1.0, 1.1, 0.9]))
    one = heap(1, "")
    copies = clusters(one, random_quaternions(3, rng), np.array([2, 4, 3]), rng)
    found = seen_patterns(one, seen, copies, threads=1)
    for i in range(3):
        placed = [one.positions @ copies.rotations[k].T + copies.shifts[k] for k in np.flatnonzero(copies.pattern == i)]
        atoms = seen.size[i] * np.concatenate(placed)
        whole = make_particle(atoms, ["C"] * len(atoms), np.ones(len(atoms)), "cluster")
        expected = patterns(whole, seen.q()[0], np.eye(3)[None], threads=1)[0] * seen.size[i] ** 6
        assert np.allclose(found[i], expected, rtol=0.02, atol=0.005 * expected.max())


def test_droplets_are_spheroids() -> None:
    axes = droplet_axes(2000, 50.0, np.random.default_rng(0))
    assert np.array_equal(axes[:, 0], axes[:, 1])
    aspect = axes.max(1) / axes.min(1)
    assert aspect.min() >= 1
    assert aspect.max() <= 1.5
    mean = 2 * np.prod(axes, axis=1) ** (1 / 3) / 50.0
    assert (mean.min(), mean.max()) == (pytest.approx(0.7, abs=0.01), pytest.approx(2.0, abs=0.01))
    # The first zero of a sphere's form factor is where tan u = u, and a turned spheroid is longer along its axis.
    sphere = droplet_patterns(np.full((1, 3), 20.0), np.eye(3)[None], np.array([[[4.493409 / (40 * np.pi), 0, 0]]]))
    assert sphere[0, 0] < 1e-12
    turned = np.array([[[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]])
    q = np.array([[[0.01, 0, 0], [0, 0, 0.01]]])
    along_x, along_z = droplet_patterns(np.array([[10.0, 10, 30]]), turned, q)[0]
    assert along_x < along_z


def test_a_larger_particle_has_its_atoms_further_apart() -> None:
    result = run_simulation(images=50, photons=None, size_spread=0.1)
    size = truth(result).size
    assert size.std() == pytest.approx(0.1, rel=0.3)
    q = result.pixel_position.reshape(-1, 3)
    for i in range(3):
        larger = heap(1, "")
        larger = make_particle(larger.positions * size[i], ["C"] * 60, np.ones(60), "larger")
        expected = patterns(larger, q, matrices(result.quaternions[[i]]), threads=1)[0] * size[i] ** 6
        assert np.allclose(result.intensities[i].ravel(), expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_the_beam_moves_and_has_its_wavelength() -> None:
    result = run_simulation(images=60, photons=None, centre_jitter=1.5, wavelength_jitter=0.01)
    hidden = truth(result)
    assert hidden.centre.std() == pytest.approx(1.5, rel=0.25)
    assert hidden.wavelength.std() == pytest.approx(0.01, rel=0.3)
    nominal = detector_q(20, 6.0, 1.5)
    side = np.tan(2 * np.arcsin(1.5 / 12))
    assert np.allclose(flat_detector(20, side, np.array([1.5]), np.zeros((1, 2))).reshape(nominal.shape), nominal)
    own = flat_detector(20, side, 1.5 * hidden.wavelength, hidden.centre)
    # Where the beam is, q is zero: the middle of the detector moved by (row, column).
    least = np.linalg.norm(own[0].reshape(20, 20, 3), axis=-1)
    row, column = np.unravel_index(np.argmin(least), least.shape)
    assert np.abs(np.array([row, column]) - 9.5 - hidden.centre[0]).max() <= 0.5
    for i in range(3):
        expected = patterns(heap(1, ""), own[i], matrices(result.quaternions[[i]]), threads=1)[0]
        assert np.allclose(result.intensities[i].ravel(), expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_the_background_is_a_picture_with_an_amplitude_in_every_pattern(tmp_path: Path) -> None:
    options = {"images": 80, "photons": None, "size_spread": 0.05}
    plain, bright = (run_simulation(**options, **more) for more in ({}, {"background_picture": 1.5}))  # type: ignore[arg-type]
    picture = truth(bright).background
    assert picture.sum() == pytest.approx(1.5 * plain.intensities.sum((1, 2, 3)).mean(), rel=1e-5)
    assert np.corrcoef(picture.ravel(), not_radial(20).ravel())[0, 1] == pytest.approx(1)
    varied = run_simulation(background_picture=1.5, background_spread=0.3, **options)  # type: ignore[arg-type]
    amplitude = truth(varied).amplitude
    assert (amplitude.mean(), amplitude.std()) == (pytest.approx(1), pytest.approx(0.3, rel=0.3))
    rest = (varied.intensities - plain.intensities).reshape(80, -1)
    assert np.allclose(rest, amplitude[:, None] * picture.ravel(), rtol=1e-3, atol=1e-4 * varied.intensities.max())
    np.save(tmp_path / "own.npy", not_radial(20))
    read = masks.read_picture(tmp_path / "own.npy", (1, 20, 20))
    assert np.array_equal(read[0], not_radial(20))
    with pytest.raises(InputError, match="shape"):
        masks.read_picture(tmp_path / "own.npy", (1, 20, 21))


def test_masks_hide_half_a_wider_stop_and_what_agipd_lacks() -> None:
    q = detector_q(64, 8.0, 1.0)
    half = detector_mask(("half",), q, 60.0)[0] == 2
    assert half[:, :32].all()
    assert not half[:, 32:].any()
    stop = detector_mask(("beamstop:5",), q, 60.0)[0] == 2
    assert np.array_equal(stop, np.linalg.norm(q, axis=-1)[0] <= 2.5 / 60.0)
    for pixels in (64, 128, 260):
        lit = agipd(pixels)
        assert 0.1 < 1 - lit.mean() < 0.25
        # Turned by half a turn it is the same: Friedel's law fills no gap.
        assert (lit == lit[::-1, ::-1]).mean() > 0.97
        assert not lit[pixels // 2 - 1 : pixels // 2 + 1, pixels // 2 - 1 : pixels // 2 + 1].any()


def test_what_varies_is_read_as_written_and_the_seed_decides_it(tmp_path: Path) -> None:
    options = {"size_spread": 0.1, "centre_jitter": 1.0, "wavelength_jitter": 0.01, "background_picture": 1.0}
    first, same = (run_simulation(background_spread=0.3, **options, **JUNK) for _ in range(2))  # type: ignore[arg-type]
    assert np.array_equal(first.intensities, same.intensities)
    plain = run_simulation(scale_decades=1, junk=0.1)
    assert np.array_equal(truth(run_simulation(scale_decades=1, junk=0.1, size_spread=0.1)).scale, truth(plain).scale)
    assert np.array_equal(first.quaternions, plain.quaternions)
    spinifel.write(tmp_path / "data.h5", first)
    found, hidden = spinifel.read_truth(tmp_path / "data.h5"), truth(first)
    for name in ("kind", "size", "centre", "wavelength", "amplitude"):
        assert np.array_equal(getattr(found, name), getattr(hidden, name)), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": ("beamstop:wide",)}, "beamstop:wide"),
        ({"mask": ("half:2",)}, "half:2"),
        ({"doublets": 1.0}, "doublets = 1"),
        ({"doublets": 0.6, "blank": 0.4}, "doublets, blank: nothing else"),
        ({"size_spread": 0.5}, "size_spread = 0.5"),
        ({"centre_jitter": -1.0}, "centre_jitter = -1"),
        ({"wavelength_jitter": np.nan}, "wavelength_jitter = nan"),
        ({"background_spread": 2.0}, "background_spread = 2"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match="expected") as caught:
        run_simulation(**changes)  # type: ignore[arg-type]
    assert message in str(caught.value)
