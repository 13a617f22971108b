"""Symmetry: the groups, what is searched, what is merged, symmetric particles, and a blind reconstruction of one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from command_line import QUICK, content, run
from conftest import as_dataset
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from spilegate.errors import InputError
from spilegate.evaluation.comparison import compare
from spilegate.evaluation.orientations import orientation_error
from spilegate.generation import models
from spilegate.generation import start as starts
from spilegate.geometry import orientations, symmetry
from spilegate.geometry.fourier import radius_grid
from spilegate.kernels.workers import Threads
from spilegate.mtip import reconstruct
from spilegate.patterns.prepare import prepare
from spilegate.records import State
from spilegate.settings import Settings
from spilegate.simulation.experiment import simulate
from spilegate.simulation.particle import density, diameter_angstrom
from spilegate.simulation.symmetric import CONTACT_ANGSTROM, symmetric_particle
from spilegate.stages import merging

# Order, elements that map the grid onto itself, cosets.
GROUPS = {
    "C1": (1, 1, 1), "C2": (2, 2, 1), "C3": (3, 1, 3), "C4": (4, 4, 1), "C6": (6, 2, 3), "C7": (7, 1, 7),
    "D2": (4, 4, 1), "D3": (6, 2, 3), "D4": (8, 8, 1), "D5": (10, 2, 5),
    "T": (12, 12, 1), "O": (24, 24, 1), "I": (60, 12, 5),
}  # fmt: skip
BAD = ["C0", "X3", "", "C", "4", "C100", "T2", "c-1", "C٣"]


@pytest.fixture(scope="module")
def small(particle):
    """A smaller particle, so that a complex of several fits on a few pixels."""
    return replace(particle, positions=0.5 * particle.positions)


def patterns(particle, images, *, photons=None):
    size = diameter_angstrom(particle)
    return simulate(
        particle, images=images, pixels=32, resolution_angstrom=size / 4.5, wavelength_angstrom=1.0, photons=photons,
        seed=3, threads=2,
    )  # fmt: skip


def prepared(simulation, particle, name, **options):
    choices = {"prepare": {"diameter_angstrom": diameter_angstrom(particle)}, "compute": {"threads": 2}} | options
    settings = Settings.model_validate({"symmetry": name} | choices)
    return settings, prepare(as_dataset(simulation), settings)


def state_at(simulation, plan):
    count, empty = len(simulation.quaternions), np.zeros((1, *(plan.size,) * 3), np.float32)
    return State(
        generation=1,
        voxel_angstrom=plan.voxel_angstrom,
        history=np.zeros((0, 3)),
        quaternions=simulation.quaternions,
        state=np.zeros(count, np.int64),
        scale=np.ones(count),
        background=np.zeros(simulation.intensities[0].size),
        weight=np.ones(count),
        distance=np.ones(count),
        autocorrelation=empty,
        density=empty,
        support=empty > 0,
    )


def intensity(volume):
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume))).real


@pytest.mark.parametrize("name", GROUPS)
def test_groups_are_groups(name):
    order, permutations, cosets = GROUPS[name]
    group = symmetry.group(name)
    elements = group.rotations
    assert elements.shape == (order, 3, 3)
    assert len(group.permutations) == permutations
    assert len(group.representatives) == cosets
    np.testing.assert_allclose(elements @ elements.transpose(0, 2, 1), np.tile(np.eye(3), (order, 1, 1)), atol=1e-12)
    tree = cKDTree(elements.reshape(order, 9))
    distance, index = tree.query((elements[:, None] @ elements).reshape(-1, 9))
    assert distance.max() < 1e-9
    assert (np.bincount(index) == order).all()
    np.testing.assert_array_equal(group.representatives[0], np.eye(3))
    distance, index = tree.query((group.representatives[:, None] @ group.permutations).reshape(-1, 9))
    assert distance.max() < 1e-9
    assert sorted(index) == list(range(order))


def test_the_main_axis_is_z():
    for name in ("C5", "D5"):
        axis = Rotation.from_rotvec([0, 0, 72], degrees=True).as_matrix()
        assert np.abs(symmetry.rotations(name) - axis).max(axis=(1, 2)).min() < 1e-12
    np.testing.assert_array_equal(symmetry.rotations("d5"), symmetry.rotations("D5"))


@pytest.mark.parametrize("name", GROUPS)
def test_the_asymmetric_unit_covers_all_directions_once(name):
    rng = np.random.default_rng(1)
    views, elements = orientations.view_grid(3000, rng), symmetry.rotations(name)
    unit = symmetry.asymmetric_unit(views, elements)
    assert len(unit) * len(elements) == pytest.approx(len(views), rel=0.15)
    # R g looks along g^T R^T z.
    images = np.einsum("gab,va->vgb", elements, unit[:, 2]).reshape(-1, 3)
    everywhere = rng.standard_normal((5000, 3))
    everywhere /= np.linalg.norm(everywhere, axis=1, keepdims=True)
    gap = cKDTree(images).query(everywhere)[0]
    full = cKDTree(views[:, 2]).query(everywhere)[0]
    assert np.sqrt((gap**2).mean()) < 1.2 * np.sqrt((full**2).mean())
    assert gap.max() < 3 * full.max()


def test_few_views_leave_one_at_least():
    views = orientations.view_grid(12, np.random.default_rng(0))
    assert len(symmetry.asymmetric_unit(views[:1], symmetry.rotations("I"))) == 1
    np.testing.assert_array_equal(symmetry.asymmetric_unit(views, symmetry.rotations("C1")), views)


@pytest.mark.parametrize("name", ["C1", "C3", "D4", "I"])
def test_nearest_equivalents(name):
    rng = np.random.default_rng(2)
    elements = symmetry.rotations(name)
    reference = orientations.random_quaternions(50, rng)
    turns = Rotation.from_matrix(elements[rng.integers(len(elements), size=50)])
    small_turn = Rotation.from_rotvec(0.02 * rng.standard_normal((50, 3)))
    moved = Rotation.from_quat(reference, scalar_first=True) * small_turn * turns
    found = symmetry.nearest_equivalents(moved.as_quat(scalar_first=True), reference, elements)
    np.testing.assert_allclose(
        orientations.angle_between(found, reference), np.degrees(small_turn.magnitude()), atol=1e-4
    )


@pytest.mark.parametrize("name", ["D4", "O"])
def test_permuting_voxels_is_turning_the_volume(name):
    """Against the definition, V(h x) at every voxel, by indices."""
    volume = np.random.default_rng(0).random((7, 7, 7))
    group = symmetry.group(name)
    voxels = np.stack(np.meshgrid(*[np.arange(7) - 3] * 3, indexing="ij"), axis=-1)
    expected = np.zeros_like(volume)
    for turn in group.permutations:
        x, y, z = np.moveaxis((voxels @ turn.T).astype(int) + 3, -1, 0)
        expected += volume[x, y, z] / len(group.permutations)
    np.testing.assert_allclose(symmetry.permuted_mean(volume, group.permutations), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["C1", "C2", "C3", "D3", "O", "I"])
def test_the_mean_of_a_volume_is_symmetric(name):
    """A Gaussian off the centre becomes its images; it is smooth and small enough for the grid."""
    size, at, width = 33, np.array([5.0, 2.0, 3.0]), 1.6
    group = symmetry.group(name)
    voxels = np.stack(np.meshgrid(*[np.arange(size) - size // 2] * 3, indexing="ij"), axis=-1)
    blobs = [np.exp(-((voxels - g.T @ at) ** 2).sum(-1) / (2 * width**2)) for g in group.rotations]
    volume = np.exp(-((voxels - at) ** 2).sum(-1) / (2 * width**2)).astype(np.float32)
    found = symmetry.symmetric_mean(volume, group, threads=1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.mean(blobs, axis=0), atol=2e-4)


@pytest.mark.parametrize("name", BAD)
def test_unknown_groups_are_refused(name):
    with pytest.raises(InputError, match="expected C1 to C99, D1 to D99, T, O or I"):
        symmetry.rotations(name)
    with pytest.raises(ValueError, match="C1 to C99"):
        Settings(symmetry=name)


@pytest.mark.parametrize("name", ["C1", "C3", "D2", "T"])
def test_symmetric_particles(small, name):
    whole, elements = symmetric_particle(small, name), symmetry.rotations(name)
    assert len(whole.positions) == len(whole.element) == len(whole.occupancy) == len(elements) * len(small.positions)
    for element in elements:
        assert cKDTree(whole.positions).query(whole.positions @ element.T)[0].max() < 1e-9
    assert np.abs(whole.positions.mean(axis=0)).max() < 2.0
    if name != "C1":
        first, others = np.split(whole.positions, [len(small.positions)])
        # Copies touch and do not overlap.
        assert CONTACT_ANGSTROM <= cKDTree(others).query(first)[0].min() < 3 * CONTACT_ANGSTROM


@pytest.mark.parametrize("name", ["C3", "D2", "I"])
def test_few_patterns_merge_better_with_their_symmetry(small, name):
    whole = symmetric_particle(small, name)
    simulation = patterns(whole, 8 if name == "I" else 20)
    merged = []
    for given in ("C1", name):
        settings, experiment = prepared(simulation, whole, given)
        plan = experiment.plans[-1]
        state, _ = models.merge(experiment, plan, state_at(simulation, plan), settings.merging)
        merged.append(state.autocorrelation[0].astype(np.float64))
    box = plan.size * plan.voxel_angstrom
    volume = density(whole, plan.size, plan.voxel_angstrom, threads=2).astype(np.float64)
    truth = np.abs(np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume))) * plan.voxel_angstrom**3) ** 2
    radius = radius_grid(plan.size) / box
    seen = (radius <= plan.q_merge) & (radius > 1.5 / diameter_angstrom(whole))
    without, imposed = (np.linalg.norm((intensity(a) - truth)[seen]) / np.linalg.norm(truth[seen]) for a in merged)
    assert imposed < 0.01
    assert imposed < 0.2 * without
    images = symmetry.symmetric_mean(merged[1].astype(np.float32), experiment.symmetry, threads=2)
    inner = (radius <= 0.6 * plan.q_merge) & seen
    difference = intensity(images) - intensity(merged[1])
    assert np.linalg.norm(difference[inner]) < 0.02 * np.linalg.norm(truth[inner])


@pytest.mark.parametrize("name", ["C3", "D3", "O", "I"])
def test_normal_equations_do_not_tell_equivalent_orientations_apart(name):
    """Also against the definition: every pattern summed at all equivalents of its orientation."""
    rng = np.random.default_rng(0)
    elements, rotations = symmetry.rotations(name), orientations.matrices(orientations.random_quaternions(5, rng))
    q, values, weight = rng.uniform(-0.04, 0.04, (20, 3)), rng.random((5, 20)), np.ones(20)

    def summed(turned):
        copies = len(turned) // 5
        slices = np.tile(values, (copies, 1)).astype(np.float32)
        return [merging.normal_equations_of_slices(slices, weight, turned, q, 9, 10.0, workers=Threads(2)), None]

    other = rotations @ elements[rng.integers(len(elements), size=5)]
    first, second = (merging.symmetric_normals(summed, r, symmetry.group(name)) for r in (rotations, other))
    assert first[1] is None
    everywhere = summed((rotations @ elements[:, None]).reshape(-1, 3, 3))[0]
    for part in ("kernel", "right"):
        expected = getattr(everywhere, part) / len(elements)
        for found in (first[0], second[0]):
            np.testing.assert_allclose(getattr(found, part), expected, atol=1e-5 * np.abs(expected).max())


def test_starts_do_not_end_early_with_a_symmetry(small):
    whole = symmetric_particle(small, "D2")
    simulation = patterns(whole, 10)
    _, experiment = prepared(simulation, whole, "D2")
    start = state_at(simulation, experiment.plans[0])
    assert starts.enough([start] * 2, 5, symmetry.group("C1"))
    assert not starts.enough([start] * 19, 5, symmetry.group("D2"))
    assert starts.enough([start] * 20, 5, symmetry.group("D2"))
    assert starts.enough([start] * 30, 5, symmetry.group("I"))


def reconstructed(whole, simulation, name):
    quick = {"resolution": {"half_sets": False, "phasings": 0}}
    settings, experiment = prepared(simulation, whole, name, start={"count": 2}, **quick)
    return reconstruct(as_dataset(simulation), settings, experiment=experiment)


@pytest.fixture(scope="module")
def blind(small):
    """A few noisy patterns of a C4 particle, with its symmetry."""
    whole = symmetric_particle(small, "C4")
    simulation = patterns(whole, 60, photons=2000)
    return simulation, reconstructed(whole, simulation, "C4")


def compared(simulation, result, name):
    return compare(
        result.state.density[0],
        result.state.voxel_angstrom,
        simulation.volume,
        simulation.voxel_angstrom,
        q_max=result.q_max,
        quaternions=result.state.quaternions,
        true_quaternions=simulation.quaternions,
        symmetry=name,
        threads=2,
    )[0]


def test_blind_reconstruction_with_symmetry(blind):
    with_symmetry = compared(*blind, "C4")
    assert with_symmetry.correlation > 0.97
    assert with_symmetry.orientation_error_deg is not None
    assert with_symmetry.orientation_error_deg["median"] < 3.0


def test_symmetry_stands_for_patterns_that_are_missing(small):
    """So few patterns are too few without it."""
    whole = symmetric_particle(small, "C4")
    simulation = patterns(whole, 8, photons=2000)
    with_it, without = (
        compared(simulation, reconstructed(whole, simulation, name), name).correlation for name in ("C4", "C1")
    )
    assert with_it > 0.95
    assert with_it > without + 0.1


def test_copies_in_the_density_agree(blind):
    """The density is symmetric about an axis along z through its centre of mass, the merged intensity exactly."""
    result = blind[1]
    merged = result.state.autocorrelation[0]
    turned = np.rot90(merged, axes=(0, 1))
    np.testing.assert_allclose(turned, merged, atol=1e-5 * merged.max())
    volume = result.state.density[0].astype(np.float64)
    size = len(volume)
    axis, frequency = np.arange(size) - size // 2, np.fft.fftfreq(size)
    centre = [(volume.sum(axis=tuple({0, 1, 2} - {a})) @ axis) / volume.sum() for a in range(3)]
    x, y, z = (np.exp(2j * np.pi * frequency * shift) for shift in centre)
    spectrum = np.fft.fftn(volume) * x[:, None, None] * y[:, None] * z
    centred = np.fft.ifftn(spectrum).real
    assert np.corrcoef(np.rot90(centred, axes=(0, 1)).ravel(), centred.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", ["C1", "C4", "D3", "T", "I"])
@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_orientation_error_counts_equivalents_as_equal(name, wrong):
    """R_found g G = R_true up to noise, with a random element for every pattern and a global rotation unknown."""
    rng = np.random.default_rng(5)
    count, elements = 400, symmetry.rotations(name)
    truth, g = Rotation.random(count, rng=rng), Rotation.random(rng=rng)
    noise = Rotation.from_rotvec(1.0 * rng.standard_normal((count, 3)), degrees=True)
    turns = Rotation.from_matrix(elements[rng.integers(len(elements), size=count)])
    found = (noise * truth * g.inv() * turns).as_quat(scalar_first=True)
    lost = rng.random(count) < wrong
    found[lost] = orientations.random_quaternions(int(lost.sum()), rng)
    error = orientation_error(found, truth.as_quat(scalar_first=True), symmetry=name)
    # The length of three normal components has the median 1.538.
    assert np.median(error.degrees[~lost]) == pytest.approx(1.538, rel=0.15)
    if name != "C1":
        assert orientation_error(found, truth.as_quat(scalar_first=True)).median_deg > 20


def test_the_command_line_knows_symmetry(tmp_path):
    data, folder = tmp_path / "d2.h5", tmp_path / "out"
    options = ["--images", 60, "--pixels", 32, "--resolution-angstrom", 40, "--seed", 3]
    assert run("simulate", *options, "--symmetry", "D2", "--output", data).exit_code == 0
    result = run("reconstruct", data, "--output", folder, "--symmetry", "d2", *QUICK, "--set", "start.count=3")
    assert result.exit_code == 0, result.output
    result = run("evaluate", folder, "--reference", data)
    assert result.exit_code == 0, result.output
    before = content(folder)
    assert b'"symmetry": "D2"' in before["summary.json"]
    for arguments in (["--symmetry", "D0", "--force"], ["--set", "symmetry=X2", "--force"]):
        result = run("reconstruct", data, "--output", folder, *arguments)
        assert result.exit_code == 2
        assert "expected C1 to C99, D1 to D99, T, O or I" in result.stderr
        assert result.stderr.count("\n") == 1
    result = run("simulate", "--symmetry", "K3", "--output", data, "--force")
    assert result.exit_code == 2
    assert "expected C1 to C99" in result.stderr
    assert content(folder) == before
