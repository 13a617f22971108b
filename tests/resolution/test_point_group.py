"""The point group that a merged intensity shows, without being told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spilegate.reconstruction import PointGroup
from spilegate.records import Float32
from spilegate.resolution.point_group import point_group
from spilegate.simulation.particle import Particle, density, diameter_angstrom
from spilegate.simulation.symmetric import symmetric_particle
from spilegate.stages.phasing import autocorrelation

SPECKLES = 7.0


def told(particle: Particle, noise: float = 0.0) -> PointGroup | None:
    """What is told of a particle whose intensity is known to 7 speckles; noise : part of the intensity."""
    size = diameter_angstrom(particle)
    voxel = size / (2 * SPECKLES)
    turned = Rotation.random(rng=1).as_matrix()
    positions = (particle.positions - particle.positions.mean(axis=0)) @ turned.T
    volume = density(replace(particle, positions=positions), 33, voxel, threads=2)
    model = autocorrelation(volume[None], threads=1)[0]
    if noise:
        model = with_noise(model, noise)
    return point_group(model, volume, voxel, size, SPECKLES / size, threads=2)


def with_noise(model: Float32, part: float) -> Float32:
    """An autocorrelation whose intensities are off by that part of each of them, as photons make it."""
    intensities = np.fft.fftn(np.fft.ifftshift(model)).real
    noise = np.random.default_rng(2).standard_normal(intensities.shape)
    noise = (noise + np.roll(np.flip(noise), 1, axis=(0, 1, 2))) / np.sqrt(2)
    return np.fft.fftshift(np.fft.ifftn(intensities * (1 + part * noise)).real).astype(np.float32)


@pytest.mark.parametrize("name", ["C1", "C2", "C3", "C5", "D2", "D3", "D4", "D8", "T", "O", "I"])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_group_of_a_complex_is_found_in_any_frame(particle: Particle, name: str, noise: float) -> None:
    small = replace(particle, positions=0.4 * particle.positions)
    found = told(symmetric_particle(small, name), noise)
    assert found is not None
    assert found.name == name
    assert found.agreement > (0.98 if noise == 0 else 0.9)
    assert found.otherwise < found.agreement


def test_a_cylinder_has_no_order(particle: Particle) -> None:
    """It looks the same after any turn about its axis, which no point group does."""
    rng = np.random.default_rng(4)
    count = 40_000
    radius, phi, z = 20 * np.sqrt(rng.random(count)), 2 * np.pi * rng.random(count), rng.uniform(-35, 35, count)
    positions = np.stack([radius * np.cos(phi), radius * np.sin(phi), z], axis=1)
    rod = Particle(positions, np.zeros(count, particle.element.dtype), np.ones(count), particle.elements, "rod")
    found = told(rod)
    assert found is not None
    assert found.name in ("C1", "C2", "D2")


def test_too_few_speckles_tell_nothing(particle: Particle) -> None:
    volume = density(particle, 33, 4.0, threads=2)
    model = autocorrelation(volume[None], threads=1)[0]
    assert point_group(model, volume, 4.0, 62.0, 3.9 / 62.0, threads=1) is None
    assert point_group(model, np.zeros_like(volume), 4.0, 62.0, 6 / 62.0, threads=1) is None
