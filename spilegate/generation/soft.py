"""Soft assignments: every pattern at all orientations, each with its probability, and the model they average to.

Where a pattern has too few photons to tell its orientation, the most likely one is mostly wrong, and a model merged at
such orientations learns its own noise. Expectation maximisation (EMC; Loh and Elser, Phys. Rev. E 80:026705, 2009)
does not decide: it merges the expected slice of every view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spilegate.generation.models import Figures, regridded, slicer, solved
from spilegate.generation.poses import settled
from spilegate.geometry import orientations, symmetry
from spilegate.likelihood.sampling import Sampling
from spilegate.patterns.brightness import DARKEST, shrunken
from spilegate.patterns.experiment import Experiment
from spilegate.records import Float64, State
from spilegate.schedule import Plan
from spilegate.settings import MatchingOptions, MergingOptions
from spilegate.stages import assigning, merging

# A slice is never taken for fainter than this part of itself and its background.
FAINTEST = 1e-3


@dataclass(frozen=True)
class Assigned:
    """What a soft assignment found, and the views and points it was made on.

    views : (N_VIEW, 3, 3) float64; expected : of all states, one after the other, N_VIEW slices each
    """

    views: Float64
    sampling: Sampling
    expected: assigning.Expectation

    def state(self, state: State, n_phi: int) -> State:
        """Return the state with every pattern at its most probable orientation."""
        return replace(
            state,
            quaternions=self.expected.quaternions(self.views, n_phi),
            state=self.expected.view // len(self.views),
            distance=self.expected.distance,
        )


def assign(
    experiment: Experiment,
    plan: Plan,
    state: State,
    rng: np.random.Generator,
    *,
    temperature: float = 0.0,
) -> tuple[Assigned, Figures]:
    """Return the probabilities of all orientations of a freshly turned grid, summed up to expected slices.

    temperature : see `assigning.expect`; 0 for what the likelihood itself says
    """
    likelihood = experiment.at(state).rings(plan)
    sampling = likelihood.sampling
    views = symmetry.asymmetric_unit(orientations.view_grid(plan.n_views, rng), experiment.symmetry.rotations)
    slices = slicer(experiment, state, sampling)(views)
    expected = assigning.expect(
        experiment.images,
        likelihood,
        slices.reshape(-1, *slices.shape[2:]),
        state.scale,
        state.weight,
        temperature,
        workers=experiment.workers,
    )
    figures = {"mean_distance": expected.mean_distance, "entropy": expected.entropy}
    return Assigned(views, sampling, expected), figures | {"q_max": plan.q_match, "views": len(views)}


def settle(
    experiment: Experiment, plan: Plan, state: State, assigned: Assigned, options: MatchingOptions
) -> tuple[State, Figures]:
    """Return the state with every pattern at its most probable orientation, and what follows from that."""
    now, expected = assigned.state(state, plan.n_phi), assigned.expected
    scale = state.scale
    if experiment.statistics == "poisson":
        scale = scales(expected, assigned.sampling, state.weight)
    if not experiment.symmetry.trivial:
        # Where two images of the asymmetric unit meet, an orientation goes from one to the other without a move.
        state = replace(
            state,
            quaternions=symmetry.nearest_equivalents(state.quaternions, now.quaternions, experiment.symmetry.rotations),
        )
    return settled(experiment, plan, state, now.quaternions, now.state, scale, now.distance, options)


def scales(expected: assigning.Expectation, sampling: Sampling, weight: Float64) -> Float64:
    """Return the scales (N_IMG,) of patterns of photons: those there are over those of a slice of scale 1, shrunken.

    The background's are left out of both: no pulse makes more of them.
    """
    dark = float((sampling.coverage * sampling.cell * sampling.background).sum(dtype=np.float64))
    # Slices are nowhere negative.
    signal = np.maximum(expected.sums - dark, FAINTEST * expected.sums)
    scale = np.maximum((expected.amount - dark) / signal, DARKEST)
    return shrunken(scale, expected.sums / signal**2, weight)


def average(
    experiment: Experiment, plan: Plan, state: State, assigned: Assigned, options: MergingOptions
) -> tuple[State, Figures]:
    """Return the state with autocorrelations merged from the expected slices.

    A conformation that no pattern is assigned to keeps what it has.
    """
    expected, views, q, workers = assigned.expected, assigned.views, assigned.sampling.q, experiment.workers
    weight = expected.weight * assigned.sampling.cell
    shape = (len(state.autocorrelation), len(views), *q.shape[:-1])
    mean, weight = expected.mean.reshape(shape), weight.reshape(shape)

    def summed(rotations: Float64) -> list[merging.Normal | None]:
        return [
            merging.normal_equations_of_slices(
                slices, own, rotations, q, plan.size, plan.voxel_angstrom, workers=workers
            )
            if own.max() > assigning.LEAST_WEIGHT
            else None
            for slices, own in zip(mean, weight, strict=True)
        ]

    normals = merging.symmetric_normals(summed, views, experiment.symmetry)
    start = regridded(state.autocorrelation, plan.size, experiment.workers.threads)
    merged, figures = solved(experiment, plan, normals, start, options)
    state = replace(state, generation=plan.number, voxel_angstrom=plan.voxel_angstrom, autocorrelation=merged)
    return state, figures
