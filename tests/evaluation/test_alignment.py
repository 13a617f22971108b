"""Alignment, resampling and comparison of bead particles whose every pose is known in closed form."""

from dataclasses import asdict, dataclass
from json import dumps

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spilegate.errors import InputError
from spilegate.evaluation.alignment import align
from spilegate.evaluation.comparison import compare, resample_map
from spilegate.geometry.fourier import frequency_radius
from spilegate.kernels import fft


@dataclass(frozen=True)
class Beads:
    """Gaussian beads: their transform and every rotated, inverted or shifted copy are known exactly."""

    at: np.ndarray
    weight: np.ndarray
    sigma: float

    def moved(self, rotation, sign, shift):
        return Beads(sign * rotation.apply(self.at) + shift, self.weight, self.sigma)

    def density(self, size, voxel=1.0):
        axis = voxel * (np.arange(size) - size // 2)
        x, y, z = np.exp(-((axis[:, None] - self.at.T[:, None]) ** 2) / (2 * self.sigma**2))
        return np.ascontiguousarray(np.einsum("xn,yn,zn->xyz", x * self.weight, y, z, optimize=True), np.float32)


def particle(rng, radius=8.0, sigma=1.5, count=24, off_centre=2.0):
    at = rng.standard_normal((count, 3))
    at *= radius * rng.random((count, 1)) ** (1 / 3) / np.linalg.norm(at, axis=1, keepdims=True)
    return Beads(at + rng.uniform(-off_centre, off_centre, 3), rng.random(count) + 0.5, sigma)


def pose(rng, most_shift=4.0):
    return Rotation.random(rng=rng), int(rng.choice([-1, 1])), rng.uniform(-most_shift, most_shift, 3)


def errors(alignment, beads, rotation, sign, shift):
    """Return the error of the rotation [degrees] and the distance of the particle's centre from where it belongs."""
    assert alignment.inverted == (sign < 0)
    found = Rotation.from_quat(alignment.quaternion, scalar_first=True)
    ours = beads.moved(found, -1 if alignment.inverted else 1, alignment.shift_angstrom)
    distance = np.linalg.norm((ours.at - beads.moved(rotation, sign, shift).at).mean(0))
    return np.degrees((found * rotation.inv()).magnitude()), distance


@pytest.mark.parametrize("seed", range(6))
def test_finds_rotation_hand_and_shift(seed):
    rng = np.random.default_rng(seed)
    beads, (rotation, _, shift) = particle(rng), pose(rng)
    sign = 1 - 2 * (seed % 2)
    fixed = beads.moved(rotation, sign, shift).density(43)
    alignment = align(beads.density(43), fixed, 1.0, threads=1)
    degrees, distance = errors(alignment, beads, rotation, sign, shift)
    assert degrees < 0.2
    assert distance < 0.05
    assert alignment.correlation > 0.999
    np.testing.assert_allclose(alignment.volume / alignment.volume.std(), fixed / fixed.std(), atol=0.15)


def test_at_81_voxels():
    rng = np.random.default_rng(11)
    beads, (rotation, sign, shift) = particle(rng, radius=16.0, sigma=2.0, count=40, off_centre=4.0), pose(rng, 6.0)
    alignment = align(beads.density(81), beads.moved(rotation, sign, shift).density(81), 1.0, threads=1)
    degrees, distance = errors(alignment, beads, rotation, sign, shift)
    assert degrees < 0.2
    assert distance < 0.05


def low_passed(volume, q_max):
    spectrum = fft.rfftn(volume, threads=1) * (frequency_radius(len(volume), half=True) <= q_max)
    return fft.irfftn(spectrum.astype(np.complex64), len(volume), threads=1)


@pytest.mark.parametrize("damage", ["noise", "moved beads", "low resolution", "low resolution and noise", "scale"])
def test_damage_does_not_matter(damage):
    rng = np.random.default_rng(21)
    beads, (rotation, sign, shift) = particle(rng), pose(rng)
    moving = beads.density(43)
    if damage == "moved beads":
        moving = Beads(beads.at + 0.2 * rng.standard_normal(beads.at.shape), beads.weight, beads.sigma).density(43)
    if "low resolution" in damage:
        moving = low_passed(moving, 0.14)
    if "noise" in damage:
        moving = moving + 0.5 * moving.std() * rng.standard_normal(moving.shape).astype(np.float32)
    if damage == "scale":
        moving = 1e4 * moving + 3
    alignment = align(moving, beads.moved(rotation, sign, shift).density(43), 1.0, threads=1)
    degrees, distance = errors(alignment, beads, rotation, sign, shift)
    assert degrees < 1
    assert distance < 0.3


@pytest.mark.parametrize("sizes", [(35, 43), (43, 36)])
def test_sizes_may_differ(sizes):
    rng = np.random.default_rng(31)
    beads, (rotation, sign, shift) = particle(rng, radius=7.0, off_centre=1.0), pose(rng, 2.0)
    moving, fixed = beads.density(sizes[0], 1.2), beads.moved(rotation, sign, shift).density(sizes[1], 1.2)
    alignment = align(moving, fixed, 1.2, q_max=0.3, threads=1)
    degrees, distance = errors(alignment, beads, rotation, sign, shift)
    assert alignment.volume.shape == (43, 43, 43)
    assert degrees < 0.5
    assert distance < 0.1


def test_unusable_volumes_are_refused():
    good = particle(np.random.default_rng(0)).density(21)
    with pytest.raises(InputError, match="moving volume: standard deviation 0"):
        align(np.zeros_like(good), good, 1.0, threads=1)
    with pytest.raises(InputError, match="fixed volume: standard deviation nan"):
        align(good, np.full_like(good, np.nan), 1.0, threads=1)
    with pytest.raises(InputError, match="expected a cube"):
        align(good[:-1], good, 1.0, threads=1)


@pytest.mark.parametrize(
    ("size_in", "voxel_in", "size_out", "voxel_out"),
    [(43, 1.0, 43, 1.0), (43, 1.0, 61, 0.8), (40, 1.1, 35, 1.3), (65, 0.7, 31, 1.4), (81, 1.0, 33, 1.1)],
)
def test_resampling_equals_the_density_itself(size_in, voxel_in, size_out, voxel_out):
    beads = particle(np.random.default_rng(41), sigma=2.0)
    resampled = resample_map(beads.density(size_in, voxel_in), voxel_in, size_out, voxel_out, threads=1)
    assert resampled.dtype == np.float32
    expected = beads.density(size_out, voxel_out)
    np.testing.assert_allclose(resampled, expected, atol=2e-3 * expected.max())


def test_resampling_takes_a_map_that_is_no_cube():
    beads = particle(np.random.default_rng(42), sigma=2.0)
    resampled = resample_map(beads.density(51)[3:-3, :, 5:-6], 1.0, 43, 1.0, threads=1)
    np.testing.assert_allclose(resampled, beads.density(43), atol=2e-3 * resampled.max())


def test_comparison_of_the_same_particle_in_another_frame():
    """Density and orientations rotated to fit one another: no error, and both rotations are each other's inverse."""
    rng = np.random.default_rng(51)
    truth, (rotation, _, shift) = particle(rng, off_centre=0.0), pose(rng, 2.0)
    true_orientations = Rotation.random(200, rng=rng)
    noise = Rotation.from_rotvec(0.5 * rng.standard_normal((200, 3)), degrees=True)
    found_orientations = noise * true_orientations * rotation.inv()
    density = truth.moved(rotation, -1, shift).density(43)
    comparison, curve = compare(
        density,
        1.0,
        truth.density(71, 0.7),
        0.7,
        q_max=0.3,
        quaternions=found_orientations.as_quat(scalar_first=True),
        true_quaternions=true_orientations.as_quat(scalar_first=True),
        threads=1,
    )
    assert comparison.correlation > 0.999
    assert comparison.hand == "inverted"
    assert curve.q[-1] <= 0.3
    assert comparison.resolution_angstrom == pytest.approx(1 / curve.q[-1])
    back = Rotation.from_quat(comparison.quaternion, scalar_first=True)
    assert np.degrees((back * rotation).magnitude()) < 0.2
    # moved(x) = truth(-R^T (x - t)), so truth(x) = moved(-R (x - t')) with t' = R^T t.
    np.testing.assert_allclose(comparison.shift_angstrom, rotation.inv().apply(shift), atol=0.05)
    assert comparison.orientation_error_deg is not None
    assert comparison.orientation_error_deg["median"] == pytest.approx(0.5 * 1.538, rel=0.15)
    assert comparison.orientation_error_deg["fraction_within_12"] == 1.0
    dumps(asdict(comparison))


def test_comparison_of_different_particles():
    rng = np.random.default_rng(61)
    first, second = particle(rng), particle(rng)
    comparison, _ = compare(first.density(42), 1.0, second.density(43), 1.0, q_max=0.3, threads=1)
    assert comparison.correlation < 0.8
    assert comparison.resolution_angstrom is None or comparison.resolution_angstrom > 10
    assert comparison.orientation_error_deg is None


def test_a_reference_out_of_the_box_is_refused():
    beads = particle(np.random.default_rng(71)).moved(Rotation.identity(), 1, [25.0, 0, 0])
    with pytest.raises(InputError, match="lies outside the density's box"):
        compare(beads.density(43), 1.0, beads.density(81), 1.0, q_max=0.3, threads=1)
    with pytest.raises(InputError, match="reference map: empty"):
        compare(beads.density(81), 1.0, np.zeros((9, 9, 9), np.float32), 1.0, q_max=0.3, threads=1)
