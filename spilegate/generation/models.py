"""Models: autocorrelations merged from patterns, densities phased from them, and slices of either.

A step takes the state and returns the next one, with what it learned about convergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from spilegate.backend import array_module
from spilegate.errors import InputError
from spilegate.generation.seen import seeing_in
from spilegate.geometry import orientations, symmetry
from spilegate.geometry.fourier import fourier_resize
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here
from spilegate.likelihood.sampling import Sampling
from spilegate.patterns.experiment import BRIGHT_PHOTONS, Experiment
from spilegate.records import Bool, Float32, Float64, State
from spilegate.schedule import Plan
from spilegate.settings import MergingOptions, PhasingOptions
from spilegate.stages import merging, phasing, slicing

Figures = dict[str, float]

# The first support is the particle's own ball; it may grow to this part of its radius. Diameters are found too small by
# up to a sixth (adenylate kinase): at 1.15, what was cut off cost 0.02 to 0.03 in correlation at 1000 photons.
SUPPORT_LIMIT = 1.3
# The autocorrelation is merged within this part of the diameter.
AUTOCORRELATION_LIMIT = 1.15
# Threshold of shrink-wrap where patterns are noisy: noise would pass a lower one.
NOISY_THRESHOLD = 0.12
# Independent phasings whose misfit is within this factor of the best one are averaged.
SOUND_PHASING = 1.2
# The first density is chosen from so many; at a few speckles across phasing seldom fails. So is the last one, one that
# goes on from the density at hand among them, where the best misfit is below this: a mean of more would only blur it.
# (Correlation with the truth of the best one and of the mean, at misfits of 0.03 0.997 and 0.997, 0.05 0.999 and 0.998,
# 0.09 0.998 and 0.997, 0.13 0.992 and 0.991, 0.25 0.986 and 0.987. Softly merged intensities are smooth, noise and all,
# and any density fits them.)
FIRST_STARTS = 4
GOOD_PHASING = 0.2
# Others beside the one that goes on: a density that was phased from bad intensities may not come right again. (On two
# cores, up to 75 voxels along an edge, two take no longer than one.)
FURTHER_STARTS = 1
# On the way outwards, where the next generation phases again, this part of the cycles will do.
MARCHING = 2 / 3
# Next model of softly assigned patterns: this part of what was phased, the rest of what was merged. The merged one
# alone fits its own noise more in every generation; the phased one alone spoils the inner shells, which are known well.
PHASED_PART = np.float32(0.5)


def merge(experiment: Experiment, plan: Plan, state: State, options: MergingOptions) -> tuple[State, Figures]:
    """Return the state with autocorrelations merged from all patterns at their orientations."""
    start = regridded(state.autocorrelation, plan.size, experiment.workers.threads)
    sampling = experiment.at(state).merged(plan.q_merge)

    def summed(rotations: Float64) -> list[merging.Normal | None]:
        return merging.normal_equations(
            experiment.images,
            sampling,
            state.state,
            rotations,
            state.scale,
            state.weight,
            len(start),
            plan.size,
            plan.voxel_angstrom,
            seeing=seeing_in(state),
            workers=experiment.workers,
        )

    normals = merging.symmetric_normals(summed, orientations.matrices(state.quaternions), experiment.symmetry)
    merged, figures = solved(experiment, plan, normals, start, options)
    state = replace(state, generation=plan.number, voxel_angstrom=plan.voxel_angstrom, autocorrelation=merged)
    return state, figures


def phase(
    experiment: Experiment,
    plan: Plan,
    state: State,
    options: PhasingOptions,
    rng: np.random.Generator,
    *,
    last: bool,
) -> tuple[State, Figures]:
    """Return the state with densities phased from the autocorrelations.

    The first phasing starts from several random densities and keeps the best; the others go on from the density at
    hand, unless another one comes out better. The last one adds several from random densities; where none explains the
    intensities well these are more, and the sound ones are averaged. The next generation is matched to the density's
    autocorrelation, or, softly, to its mean with the merged one; the last generation keeps the merged one, which no
    phasing has touched.
    """
    _check(experiment, plan, "merging", state.autocorrelation)
    first = not state.density.any()
    further = 0 if experiment.soft else FURTHER_STARTS
    fresh = min(options.starts, FIRST_STARTS) if first else options.starts - 1 if last else further
    few = min(fresh, FIRST_STARTS - 1 if last and not first else FIRST_STARTS)
    if not (first or last):
        options = options.model_copy(update={"cycles": math.ceil(MARCHING * options.cycles)})
    phased = phasings(experiment, plan, state, few, options, rng)
    noisy = last and (experiment.soft or phased.r_factor.min(axis=1).max() > GOOD_PHASING)
    if noisy and fresh > few:
        blank = replace(state, density=np.zeros_like(state.density))
        phased = phased.with_others(phasings(experiment, plan, blank, fresh - few, options, rng))
    best = phasing.combine(phased, SOUND_PHASING if noisy else 1.0)
    _check(experiment, plan, "phasing", best.density)
    if not last:
        threads = experiment.workers.threads
        model = phasing.autocorrelation(best.density, threads=threads)
        for volume in model if not experiment.symmetry.trivial else ():
            volume[:] = symmetry.symmetric_mean(volume, experiment.symmetry, threads=threads)
        if experiment.soft:
            model = PHASED_PART * model + (1 - PHASED_PART) * state.autocorrelation
        state = replace(state, autocorrelation=model)
    figures = {"phasing_r": float(best.r_factor.max()), "phasings": float(phased.r_factor.shape[1])}
    return replace(state, density=best.density, support=best.support), figures


def _check(experiment: Experiment, plan: Plan, stage: str, volumes: Float32) -> None:
    """Raise InputError if one of the volumes (K, M, M, M) is zero everywhere, or no number: its slices say nothing."""
    # A largest value that is no number is not above zero.
    if not (np.isfinite(volumes).all() and (volumes.max(axis=(1, 2, 3)) > 0).all()):
        raise InputError(
            f"{stage}, generation {plan.number}: all voxels are 0, or no numbers; expected a particle with intensities "
            f"to {1 / plan.q_merge:.3g} angstrom; give its diameter by --diameter-angstrom if it is known (used: "
            f"{experiment.diameter_angstrom:.4g}), or another --seed"
        )


def phasings(
    experiment: Experiment, plan: Plan, state: State, fresh: int, options: PhasingOptions, rng: np.random.Generator
) -> phasing.Phased:
    """Return phasings (K, starts, ...) of the autocorrelations: from the densities at hand, then `fresh` random ones.

    There are densities at hand if any of them is not zero.
    """
    workers, radius = experiment.workers, experiment.diameter_angstrom / 2
    if options.threshold is None and experiment.photons < BRIGHT_PHOTONS:
        options = options.model_copy(update={"threshold": NOISY_THRESHOLD})
    limit = phasing.ball(plan.size, plan.voxel_angstrom, SUPPORT_LIMIT * radius)
    density, support = _phasing_starts(plan, state, radius, fresh, rng, workers.threads)
    states, starts, *cube = density.shape

    density, support = density.reshape(-1, *cube), support.reshape(-1, *cube)

    def phase_volume(here: Here, part: slice) -> tuple[Any, Any, Any]:
        # Arrays split over processors have no further axis.
        own = part.start if part.stop == part.start + 1 else np.arange(part.start, part.stop)
        target = phasing.amplitudes(
            here.array(state.autocorrelation[own // starts]),
            plan.voxel_angstrom,
            q_min=experiment.q_min,
            q_max=plan.q_merge,
            threads=here.threads,
        )
        phased = phasing.phase(
            target,
            here.array(density[own]),
            here.array(support[own]),
            here.array(limit),
            options,
            cycles=options.cycles,
            threads=here.threads,
        )
        first = None if phased.density.ndim == len(cube) else slice(None)
        return phased.density[first], phased.support[first], np.reshape(phased.r_factor, (-1,))

    outputs = [Rows(tuple(cube), np.float32), Rows(tuple(cube), np.bool_), Rows((), np.float64)]
    volumes = workers.volumes(phase_volume, states * starts, outputs, plan.size, several=True)
    return phasing.Phased(*(array.reshape(states, starts, *array.shape[1:]) for array in volumes))


def _phasing_starts(
    plan: Plan, state: State, radius_angstrom: float, fresh: int, rng: np.random.Generator, threads: int
) -> tuple[Float32, Bool]:
    """Return first densities and supports (K, starts, M, M, M): the one at hand, if there is one, then random ones."""
    inside = phasing.ball(plan.size, plan.voxel_angstrom, radius_angstrom)
    shape = (len(state.density), fresh, *inside.shape)
    density, support = phasing.random_start(shape, inside, rng), np.broadcast_to(inside, shape)
    if state.density.any():
        here = regridded(state.density, plan.size, threads)[:, None]
        mask = fourier_resize(state.support.astype(np.float32), plan.size, threads=threads)[:, None] > 0.5
        density, support = np.concatenate([here, density], axis=1), np.concatenate([mask, support], axis=1)
    return density, support


def regridded(volumes: Float32, size: int, threads: int) -> Float32:
    """Return volumes (K, M, M, M) on size^3 voxels with the same transform: a voxel's value shrinks with its volume."""
    resized: Float32 = fourier_resize(volumes, size, threads=threads)
    return resized * np.float32((volumes.shape[-1] / size) ** 3)


def slicer(experiment: Experiment, state: State, sampling: Sampling, size: float = 1.0) -> Callable[[Float64], Float32]:
    """Return the function that slices all states, made `size` times as large, at rotations (N, 3, 3): (K, N, ...)."""
    workers = experiment.workers
    transforms = [slicing.transform(volume, workers=workers) for volume in state.autocorrelation]
    q = sampling.q if size == 1 else size * sampling.q

    def slicer(rotations: Float64) -> Float32:
        sliced = [
            slicing.slices(transform, state.voxel_angstrom, rotations, q, workers=workers) for transform in transforms
        ]
        stacked: Float32 = sliced[0][None] if len(sliced) == 1 else array_module(sliced[0]).stack(sliced)
        return stacked

    return slicer


def solved(
    experiment: Experiment,
    plan: Plan,
    normals: list[merging.Normal | None],
    start: Float32,
    options: MergingOptions,
) -> tuple[Float32, Figures]:
    """Return the autocorrelations (K, M, M, M) of all states; a state without patterns keeps the one it has.

    Not all of them can be without: every pattern is in one state.
    """
    support = merging.support_ball(plan.size, plan.voxel_angstrom, AUTOCORRELATION_LIMIT * experiment.diameter_angstrom)
    filled = [k for k, normal in enumerate(normals) if normal is not None]

    def solve_volume(here: Here, part: slice) -> tuple[Any, Any]:
        k = filled[part.start]
        normal = normals[k]
        assert normal is not None  # noqa: S101 - `filled` says so
        system = merging.Normal(here.array(normal.kernel), here.array(normal.right))
        volume, numbers = merging.solve(
            system, here.array(support), here.array(start[k]), options, threads=here.threads
        )
        return volume[None], np.array([[numbers["cg_iterations"], numbers["merge_residual"]]])

    outputs = [Rows(support.shape, np.float32), Rows((2,), np.float64)]
    volumes, numbers = experiment.workers.volumes(solve_volume, len(filled), outputs, plan.size, solver=True)
    merged = start.copy()
    for k, volume in zip(filled, volumes, strict=True):
        # What no pattern measured is the first guess still, which is resampled, and rounded, in every generation.
        merged[k] = symmetry.permuted_mean(volume, experiment.symmetry.permutations)
    return merged, dict(zip(("cg_iterations", "merge_residual"), numbers.max(axis=0).tolist(), strict=True))
