"""What `scripts/gpu_check` compares on: data sets of simulated patterns, and models that they could be of."""

from __future__ import annotations

from typing import Any

import numpy as np

from spilegate.kernels import events
from spilegate.patterns.prepare import Experiment
from spilegate.records import Dataset, Float32
from spilegate.schedule import Plan
from spilegate.simulation.experiment import Simulation
from spilegate.stages import phasing


def spread_out(scale: Any) -> Any:
    """Return scales that differ enough to tell a background."""
    return scale * np.linspace(0.5, 1.5, len(scale))


def model(experiment: Experiment, plan: Plan, rng: np.random.Generator) -> Float32:
    """Return an autocorrelation (M, M, M) of a random blob about as bright as the patterns."""
    inside = phasing.ball(plan.size, plan.voxel_angstrom, 25.0)
    volume = phasing.autocorrelation(phasing.random_start(inside.shape, inside, rng), threads=1)
    middle = float(volume.sum())
    return (volume * (float(experiment.profile.mean.max()) / middle)).astype(np.float32)


def as_dataset(simulation: Simulation, *, sparse: bool = False, gaps: bool = False) -> Dataset:
    """Return what the reader makes of a simulation's file."""
    images = simulation.intensities.reshape(len(simulation.intensities), -1).astype(np.float32)
    n_pixel = images.shape[1]
    mask = np.zeros(n_pixel, np.uint8)
    if gaps:
        side = simulation.intensities.shape[-1]
        mask.reshape(side, side)[side // 2 + 3 : side // 2 + 5, side // 2 :] = 2
        images[:, mask == 2] = 0
    patterns = events.events(images, int(images.sum(1).max())) if sparse else images
    return Dataset(
        images=patterns,
        q=simulation.pixel_position.reshape(-1, 3),
        mask=mask,
        panel_shape=simulation.intensities.shape[1:],
        pixel_index_map=simulation.pixel_index_map.reshape(-1, 2),
        digest="0" * 64,
        source="simulation",
        counts=simulation.photons is not None,
    )
