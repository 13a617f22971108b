"""Simulated patterns against direct sums over atoms, and the particles they come from."""

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spilegate.errors import InputError
from spilegate.geometry.orientations import angle_between, matrices, random_quaternions
from spilegate.simulation.experiment import Simulation, simulate
from spilegate.simulation.particle import (
    DEFAULT_PARTICLE,
    PARTICLES,
    Particle,
    built_in_particle,
    density,
    diameter_angstrom,
    form_factor_basis,
    form_factors,
    make_particle,
    read_particle,
)
from spilegate.simulation.scattering import detector_q, patterns

PDB = """\
CRYST1   50.000   50.000   50.000  90.00  90.00  90.00 P 1           1
ATOM      1  N   ALA A   1       1.000   2.000   3.000  1.00 10.00           N
ATOM      2  CA AALA A   1       2.000   2.500   3.000  0.60 10.00           C
ATOM      3  CA BALA A   1       2.000   3.500   3.000  0.40 10.00           C
ATOM      4  H   ALA A   1       1.000   1.000   3.000  1.00 10.00           H
ATOM      5  D   ALA A   1       0.000   1.000   3.000  1.00 10.00           D
ATOM      6  O   ALA A   1       9.000   9.000   9.000  0.00 10.00           O
HETATM    7 ZN    ZN A   2       5.000   5.000   5.000  1.00 10.00          ZN
HETATM    8  O   HOH A   3       9.000   9.000   9.000  1.00 10.00           O
END
"""


def small_particle(count: int = 60, seed: int = 0) -> Particle:
    """A heap of atoms of four elements with partial occupancies."""
    rng = np.random.default_rng(seed)
    symbols = rng.choice(["C", "N", "O", "Zn"], count).tolist()
    return make_particle(8 * rng.standard_normal((count, 3)), symbols, rng.uniform(0.3, 1, count), "heap")


def direct_amplitudes(particle: Particle, q: np.ndarray) -> np.ndarray:
    """Structure factors by the sum over atoms, with gemmi's own form factors."""
    result = np.zeros(len(q), complex)
    for position, element, occupancy in zip(particle.positions, particle.element, particle.occupancy, strict=True):
        entry = gemmi.Element(particle.elements[element]).it92
        factor = np.array([entry.calculate_sf(value) for value in (q**2).sum(1) / 4])
        result += occupancy * factor * np.exp(-2j * np.pi * q @ position)
    return result


def run(**changes: object) -> Simulation:
    """A small simulation."""
    options = {
        "images": 25,
        "pixels": 15,
        "resolution_angstrom": 6.0,
        "wavelength_angstrom": 1.5,
        "photons": None,
        "seed": 3,
        "threads": 1,
    }
    return simulate(small_particle(), **(options | changes))


# --- detector --------------------------------------------------------------------------------------------------------


@given(
    pixels=st.integers(2, 40),
    wavelength=st.floats(0.5, 5),
    resolution=st.floats(1.05, 30),
)
@settings(max_examples=60, deadline=None)
def test_pixels_lie_on_the_ewald_sphere_and_on_a_flat_square(pixels: int, wavelength: float, resolution: float) -> None:
    d = resolution * wavelength / np.sqrt(2)
    q = detector_q(pixels, d, wavelength)
    assert q.shape == (1, pixels, pixels, 3)
    outgoing = wavelength * q + [0, 0, 1]
    assert np.allclose(np.linalg.norm(outgoing, axis=-1), 1, atol=1e-12)
    flat = outgoing[0, ..., :2] / outgoing[0, ..., 2:]
    step = np.diff(flat[0, :, 0])
    assert np.allclose(step, step[0], rtol=1e-9)
    assert np.allclose(flat, np.swapaxes(flat, 0, 1)[..., ::-1])
    assert np.allclose(flat, -flat[::-1, ::-1])
    assert flat[0, -1, 0] > 0
    assert flat[0, -1, 1] < 0


@pytest.mark.parametrize("resolution", [0.8, 1.7, 8.0, 200.0])
def test_the_middle_of_the_sides_is_at_the_resolution(resolution: float) -> None:
    q = np.linalg.norm(detector_q(33, resolution, 1.0), axis=-1)[0]
    assert 1 / np.array([q[0, 16], q[-1, 16], q[16, 0], q[16, -1]]) == pytest.approx(resolution, rel=1e-12)
    assert q[16, 16] == 0


@pytest.mark.parametrize(
    ("pixels", "resolution", "wavelength"), [(1, 8, 1), (8, 0.7, 1), (8, np.nan, 1), (8, 8, 0), (8, 8, -1)]
)
def test_a_detector_that_cannot_be_is_refused(pixels: int, resolution: float, wavelength: float) -> None:
    with pytest.raises(InputError, match="expected"):
        detector_q(pixels, resolution, wavelength)


# --- patterns --------------------------------------------------------------------------------------------------------


def test_patterns_are_the_direct_sum_over_atoms_in_the_particle_frame() -> None:
    particle = small_particle()
    result = run()
    q = result.pixel_position.reshape(-1, 3)
    for pattern, rotation in zip(result.intensities[::8], matrices(result.quaternions[::8]), strict=True):
        expected = np.abs(direct_amplitudes(particle, q @ rotation)) ** 2
        assert np.abs(pattern.ravel() - expected).max() < 1e-5 * expected.max()


def test_one_element_needs_one_function_and_two_patterns_agree_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    particle = make_particle(np.eye(3) * 5, ["C"] * 3, np.ones(3), "triangle")
    q = detector_q(9, 5.0, 1.0).reshape(-1, 3)
    assert len(form_factor_basis(particle, np.linalg.norm(q, axis=-1))[0]) == 1
    rotations = matrices(random_quaternions(7, np.random.default_rng(0)))
    whole = patterns(particle, q, rotations, threads=1)
    monkeypatch.setattr("spilegate.simulation.scattering.BLOCK", 200)
    assert np.allclose(patterns(particle, q, rotations, threads=1), whole, rtol=1e-4, atol=1e-5 * whole.max())


def test_photons_have_the_mean_asked_for_and_poisson_spread() -> None:
    exact, noisy = run(images=200), run(images=200, photons=500.0)
    assert np.array_equal(exact.quaternions, noisy.quaternions)
    totals = noisy.intensities.sum((1, 2, 3))
    assert totals.mean() == pytest.approx(500, abs=5 * np.sqrt(500 / 200))
    expected = exact.intensities * 500 / exact.intensities.sum((1, 2, 3)).mean()
    assert ((noisy.intensities - expected) ** 2).sum() == pytest.approx(expected.sum(), rel=0.05)
    assert (noisy.intensities % 1 == 0).all()


def test_orientations_are_uniform_and_the_seed_decides() -> None:
    first, same, other = run(images=3000, pixels=2), run(images=3000, pixels=2), run(images=3000, pixels=2, seed=4)
    assert np.array_equal(first.quaternions, same.quaternions)
    assert np.array_equal(first.intensities, same.intensities)
    assert not np.array_equal(first.quaternions, other.quaternions)
    # Uniform on SO(3): no mean rotation, and rotation angles w with density (1 - cos w) / pi, mean pi / 2 + 2 / pi.
    assert np.abs(matrices(first.quaternions).mean(0)).max() < 0.05
    angle = np.radians(angle_between(first.quaternions, np.array([1.0, 0, 0, 0])))
    assert angle.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.05)


@pytest.mark.parametrize("change", [{"images": 0}, {"photons": 0.0}, {"photons": np.nan}])
def test_an_experiment_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="expected"):
        run(**change)


def test_the_true_volume_reaches_the_corner_and_holds_the_particle() -> None:
    result, particle = run(), small_particle()
    size = len(result.volume)
    corner = np.linalg.norm(result.pixel_position, axis=-1).max()
    assert size % 2 == 1
    assert size * result.voxel_angstrom >= 2 * diameter_angstrom(particle)
    assert result.voxel_angstrom <= 1 / (2 * corner) * (1 + 1e-12)
    assert result.particle == "heap"
    assert result.wavelength_angstrom == 1.5


# --- density and form factors ----------------------------------------------------------------------------------------


def test_the_density_has_the_structure_factor_of_the_atoms() -> None:
    particle, size, voxel = small_particle(), 31, 3.0
    volume = density(particle, size, voxel, threads=1)
    spectrum = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume.astype(float)))) * voxel**3
    axis = (np.arange(size) - size // 2) / (size * voxel)
    index = np.random.default_rng(0).integers(0, size, (50, 3))
    expected = direct_amplitudes(particle, axis[index])
    assert np.abs(spectrum[tuple(index.T)] - expected).max() < 1e-5 * np.abs(spectrum).max()


def test_the_density_holds_all_electrons_where_the_atoms_are() -> None:
    particle = make_particle(
        np.array([[4.0, 0, 0], [-4.0, 0, 0], [0, 4.0, 8.0]]), ["C", "C", "Zn"], np.ones(3), "three"
    )
    volume = density(particle, 41, 1.0, threads=1)
    assert volume.sum() == pytest.approx(12 + 30, rel=1e-3)
    peak = np.array(np.unravel_index(volume.argmax(), volume.shape)) - 20
    assert np.abs(peak - particle.positions[2]).max() <= 0.5


def test_a_grid_too_small_or_even_is_refused() -> None:
    with pytest.raises(InputError, match="half the grid"):
        density(small_particle(), 11, 1.0, threads=1)
    with pytest.raises(ValueError, match="odd"):
        density(small_particle(), 40, 3.0, threads=1)


def test_the_basis_stands_for_all_form_factors() -> None:
    particle, q_length = small_particle(), np.linspace(0, 0.6, 90).reshape(9, 10)
    factors = form_factors(particle, q_length)
    basis, weights = form_factor_basis(particle, q_length)
    assert factors.shape == (4, 9, 10)
    assert np.allclose(factors[:, 0, 0], [6, 7, 8, 30], rtol=2e-3)
    assert np.allclose(np.tensordot(weights.T, basis, axes=1), factors, atol=1e-5)
    assert np.allclose(weights @ weights.T, np.eye(len(weights)))


# --- particles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pdb", "pdb.gz", "cif"])
def test_atoms_are_read_without_waters_and_with_alternates(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"atoms.{ending}"
    if ending == "cif":
        gemmi.read_pdb_string(PDB).make_mmcif_document().write_file(str(path))
    else:
        path.write_bytes(PDB.encode() if ending == "pdb" else gzip.compress(PDB.encode()))
    particle = read_particle(path)
    assert particle.elements == ("C", "H", "N", "Zn")
    assert sorted(particle.occupancy.tolist()) == pytest.approx([0.4, 0.6, 1, 1, 1, 1])
    weight = form_factors(particle, np.zeros(()))[particle.element] * particle.occupancy
    assert np.allclose(weight @ particle.positions, 0, atol=1e-10)
    assert diameter_angstrom(particle) == pytest.approx(np.sqrt(5**2 + 4**2 + 2**2), abs=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found"),
        ("", "no atoms|parsed"),
        ("nothing of the kind\n", "no atoms|parsed"),
        ("data_x\nloop_\n_atom_site.id\n", "no atoms|parsed"),
        (PDB.replace("          ZN", "           X"), "form factor"),
        (PDB.replace("   1.000   2.000", "     nan   2.000"), "not finite|parsed"),
        ("\n".join(line for line in PDB.splitlines() if "HOH" in line or "CRYST" in line), "no atoms"),
    ],
)
@pytest.mark.parametrize("ending", ["pdb", "cif"])
def test_files_without_atoms_are_refused(tmp_path: Path, ending: str, content: str | None, message: str) -> None:
    path = tmp_path / f"particle.{ending}"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_particle(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pdb"
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(InputError, match=r"model\.pdb"):
        read_particle(path)


@pytest.mark.parametrize(
    ("name", "atoms", "diameter"), [("demo", (2000, 2800), (55, 68)), ("dumbbell", (1400, 2800), (85, 95))]
)
def test_built_in_particles_are_asymmetric_and_always_the_same(
    name: str, atoms: tuple[int, int], diameter: tuple[int, int]
) -> None:
    particle, again = built_in_particle(name), built_in_particle(name)
    assert np.array_equal(particle.positions, again.positions)
    assert np.array_equal(particle.element, again.element)
    assert atoms[0] <= len(particle.positions) <= atoms[1]
    assert diameter[0] <= diameter_angstrom(particle) <= diameter[1]
    assert particle.elements == ("C", "N", "O", "S")
    # Three unequal axes, and no mirror image of itself: the skewness along every axis is distinct from zero.
    moments, axes = np.linalg.eigh(np.cov(particle.positions.T))
    assert (moments[1:] / moments[:-1] > 1.2).all()
    along = particle.positions @ axes
    assert (np.abs((along**3).mean(0)) / moments**1.5 > 0.02).sum() >= 2


def test_the_default_particle_is_built_in_and_others_are_named() -> None:
    assert built_in_particle().name == DEFAULT_PARTICLE == PARTICLES[0]
    with pytest.raises(InputError, match="demo, dumbbell"):
        built_in_particle("nothing")


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_the_diameter_of_flat_and_tiny_particles(count: int) -> None:
    positions = np.zeros((count, 3))
    positions[:, 0] = np.arange(count)
    assert diameter_angstrom(make_particle(positions, ["C"] * count, np.ones(count), "row")) == count - 1


@given(st.integers(4, 40), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_diameter_is_the_largest_of_all_distances(count: int, seed: int) -> None:
    particle = small_particle(count, seed)
    distance = np.linalg.norm(particle.positions[:, None] - particle.positions, axis=-1)
    assert diameter_angstrom(particle) == pytest.approx(distance.max())


def test_atom_names_out_of_place_are_no_elements(tmp_path):
    """A PDB file without element column, names from column 13 on, as CHARMM writes them: CA is not calcium there."""
    names = {"N": "N", "CA": "C", "C": "C", "O": "O", "CD": "C", "NH1": "N", "HG1": "H", "SG": "S"}
    lines = [
        f"ATOM  {i:5d} {name:<4s} ARG     2    {i:8.3f}{2 * i % 5:8.3f}{3 * i % 7:8.3f}  1.00  0.00"
        for i, name in enumerate(names, start=1)
    ]
    lines.append("HETATM    9 CA    CA     3      20.000   0.000   0.000  1.00  0.00")
    path = tmp_path / "charmm.pdb"
    path.write_text("\n".join([*lines, "END", ""]))
    particle = read_particle(path)
    assert [particle.elements[i] for i in particle.element] == [*names.values(), "Ca"]
