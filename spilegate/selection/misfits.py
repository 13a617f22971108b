"""How far patterns are from slices of a model, less what photon noise adds: about 0 where the model is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spilegate.backend import to_host
from spilegate.generation.models import slicer
from spilegate.geometry import orientations
from spilegate.kernels.blocks import GROUP, pattern_bytes, tiles
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here
from spilegate.patterns.experiment import Experiment
from spilegate.records import Float32, Float64, State

# No pixel is expected to be darker than this part of the mean one: the noise of dark ones is nothing to judge by.
DARKEST = 0.05
# Part of the patterns that have few photons, and of these those that fit; no dispersion is less than that.
DIM, FITTING, LEAST_DISPERSION = 0.5, 0.4, 0.3
# Slices made at once [points].
BLOCK = 1 << 24


@dataclass(frozen=True)
class Misfits:
    """How far patterns are from their slices; all (N_IMG,) float64.

    misfit, error : mean squared deviation of patterns from their slices over the square, weighed by photons, less what
        noise adds, and its standard deviation; photons : expected by the slices
    points : of each pattern that were compared
    """

    misfit: Float64
    error: Float64
    photons: Float64
    points: int

    @property
    def dispersion(self) -> float:
        """Return the variance of counts over what chance has, at most 1, see `dispersion_of`."""
        return dispersion_of(self.misfit, self.photons, self.points)

    def with_dispersion(self, dispersion: float) -> Float64:
        """Return misfits (N_IMG,) less the noise of counts of that dispersion."""
        return corrected(self.misfit, self.photons, self.points, dispersion)


def dispersion_of(misfit: Float64, photons: Float64, points: int) -> float:
    """Return the variance of counts over what chance has, at most 1: what is left where photons are fewest.

    Photons that a threshold counted, each in one of the pixels that it lit, scatter less than by chance.
    misfit : (n,), as if they scattered by chance; photons : (n,), on so many points
    """
    few = photons <= np.quantile(photons, DIM)
    return float(np.clip(np.quantile(misfit[few] * photons[few] / points + 1, FITTING), LEAST_DISPERSION, 1.0))


def corrected(misfit: Float64, photons: Float64, points: int, dispersion: float) -> Float64:
    """Return misfits (n,) less the noise of counts of a dispersion."""
    return misfit + (1 - dispersion) * points / photons


def measure(experiment: Experiment, state: State, q_last: float) -> Misfits:
    """Return how far all patterns are from the slices of a state at their orientations, on pixels up to a radius."""
    experiment = experiment.at(state)
    likelihood = experiment.pixels(q_last)
    sampling = likelihood.sampling
    model = slicer(experiment, state, sampling)
    count, n_point = len(experiment.images), len(sampling.q)
    step = max(1, BLOCK // (n_point * GROUP)) * GROUP
    columns: list[tuple[Float64, Float64, Float64]] = []

    for part in tiles(0, count, step):
        rotations = orientations.matrices(state.quaternions[part])
        # A larger particle samples the model further out.
        if len(state.size):
            rotations = rotations * state.size[part, None, None]
        sliced = to_host(model(rotations))
        own = sliced[state.state[part], np.arange(sliced.shape[1])]
        scale = state.scale[part]

        def compare(here: Here, rows: slice, block: Any, own: Float32 = own, scale: Float64 = scale) -> tuple[Any, ...]:
            xp = here.xp
            counts = sampling.counts(block)
            units = here.array(sampling.response) * xp.astype(here.array(scale[rows]), xp.float32)[:, None]
            expected = xp.maximum(here.array(own[rows]), 0.0) * units + here.array(sampling.background)
            expected = xp.maximum(expected, DARKEST * xp.mean(expected, axis=1)[:, None]) + 1e-6
            # At the brightness that fits best.
            expected *= (xp.sum(counts, axis=1) / xp.sum(expected, axis=1))[:, None] + 1e-9
            total = xp.maximum(xp.sum(expected, axis=1), 1e-6)
            misfit = xp.sum(((counts - expected) ** 2 - counts) / expected, axis=1) / total
            error = xp.sqrt(xp.sum(2 + 1 / expected, axis=1)) / total
            return tuple(xp.astype(row, xp.float64) for row in (misfit, error, total))

        outputs = [Rows((), np.float64) for _ in range(3)]
        images = experiment.images[part] if isinstance(experiment.images, np.ndarray) else experiment.images[part, ...]
        row_bytes = pattern_bytes(sampling.n_pixel) + 24.0 * n_point
        columns.append(
            tuple(  # type: ignore[arg-type]
                map(np.asarray, experiment.workers.run(
                    compare, part.stop - part.start, outputs, tile=GROUP, split=[images], row_bytes=row_bytes
                ))
            )
        )  # fmt: skip
    misfit, error, photons = (np.concatenate(column) for column in zip(*columns, strict=True))
    return Misfits(misfit, error, photons, n_point)
