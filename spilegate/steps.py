"""The steps of a generation: the stages applied to a `State`, state by state, with a generation's plan.

A step takes the state and returns the next one; what it learned about convergence goes into `figures`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from spilegate.geometry import orientations, symmetry
from spilegate.geometry.calibration import background_of
from spilegate.geometry.fourier import fourier_resize
from spilegate.geometry.inliers import inliers
from spilegate.geometry.sampling import Sampling
from spilegate.kernels.workers import Here, Rows
from spilegate.preparation import Experiment
from spilegate.schedule import Plan
from spilegate.settings import MatchingOptions, MergingOptions, PhasingOptions, Settings, StartOptions
from spilegate.stages import matching, merging, phasing, refining, slicing, starting
from spilegate.stages.matching import Candidates
from spilegate.stages.refining import Shortlist
from spilegate.state import Bool, Float32, Float64, State

Figures = dict[str, float]

# The soft start moves between rough models, where a close fit of each means nothing.
START_MERGING = MergingOptions(iterations=8, regularisation=1e-3)
# The last two iterations of the annealing keep the lowest temperature.
COLD_ITERATIONS = 2
# Starts whose mean distances are within this factor have found the same.
AGREEMENT = 1.1
# So are the parts of the patterns that they explain.
EXPLAINED_ALIKE = 0.97
# The support may grow to this part of the particle's radius, the first one is the particle's own ball.
SUPPORT_LIMIT = 1.15
# With a symmetry wrong starts look alike (their mistake is how the axes lie) and a start takes as many fewer views as
# the group has elements: this many times as many starts at most, and no early end.
SYMMETRIC_STARTS = 6
# Largest turn of one Gauss-Newton step, as a part of the angle that moves the outermost speckle by its own width.
LARGEST_TURN = 0.5
# Candidates nearer to the best one than this many view spacings lie in the same basin.
SAME_BASIN = 1.5
# Candidates that explain less than this part of what the best one explains are left out.
WORTH_REFINING = 0.8
# Generations after which the model is good enough to tell patterns of something else.
FIRST_WEIGHED = 2
# Standard deviations beyond which a pattern is one of them.
OUTLYING = 5.0
# Independent phasings whose misfit is within this factor of the best one are averaged.
SOUND_PHASING = 1.2


def temperatures(options: StartOptions) -> Float64:
    """Return the temperatures of the annealing, one for each iteration."""
    cooling = max(1, options.iterations - COLD_ITERATIONS)
    steps = np.geomspace(options.temperature_first, options.temperature_last, cooling)
    return np.append(steps, np.full(options.iterations - cooling, options.temperature_last))


def mean_distance(state: State) -> float:
    """Return the mean distance of the patterns to their slices: what tells a good start from a bad one."""
    return float(state.distance.mean())


def agree(starts: list[State]) -> bool:
    """Tell whether the two best starts are equally good: wrong starts are wrong in different ways."""
    distances = sorted(map(mean_distance, starts))
    if len(distances) < 2:
        return False
    best, second = distances[:2]
    # Where noise is most of every distance, it is what a start explains that tells.
    return second <= AGREEMENT * best and 1 - second >= EXPLAINED_ALIKE * (1 - best)


def enough(starts: list[State], most: int, group: symmetry.Group) -> bool:
    """Tell whether to stop looking for a better start than these; most : without symmetry never more than this."""
    if group.trivial:
        return len(starts) >= most or agree(starts)
    return len(starts) >= most * min(len(group.rotations), SYMMETRIC_STARTS)


def random_state(experiment: Experiment, plan: Plan, settings: Settings, rng: np.random.Generator) -> State:
    """Return random orientations and states, and the autocorrelations merged from them."""
    count, states = len(experiment.images), settings.matching.states
    shape = (states, plan.size, plan.size, plan.size)
    state = State(
        generation=plan.number,
        voxel_angstrom=plan.voxel_angstrom,
        history=np.empty((0, 3)),
        quaternions=orientations.random_quaternions(count, rng),
        state=rng.integers(states, size=count),
        scale=experiment.scale,
        background=experiment.detector.background,
        weight=experiment.weight,
        distance=np.ones(count),
        autocorrelation=np.zeros(shape, np.float32),
        density=np.zeros(shape, np.float32),
        support=np.zeros(shape, bool),
    )
    return merge(experiment, plan, state, START_MERGING, {})


def anneal(
    experiment: Experiment, plan: Plan, state: State, temperature: float, rng: np.random.Generator, figures: Figures
) -> State:
    """Return the state after one soft assignment to a freshly turned grid of views."""
    likelihood = experiment.rings(plan)
    sampling = likelihood.sampling
    views = symmetry.asymmetric_unit(orientations.view_grid(plan.n_views, rng), experiment.symmetry.rotations)
    slices = _slicer(experiment, state, sampling)(views)
    expected = starting.expect(
        experiment.images,
        likelihood,
        slices.reshape(-1, *slices.shape[2:]),
        state.scale,
        state.weight,
        temperature,
        workers=experiment.workers,
    )
    weight = expected.weight * sampling.cell
    mean, weight = (array.reshape(len(slices), len(views), *array.shape[1:]) for array in (expected.mean, weight))

    def summed(rotations: Float64) -> list[merging.Normal | None]:
        return [
            merging.normal_equations_of_slices(*pair, rotations, sampling.q, plan.size, plan.voxel_angstrom)
            for pair in zip(mean, weight, strict=True)
        ]

    normals = merging.symmetric_normals(summed, views, experiment.symmetry)
    merged = _solved(experiment, plan, normals, state.autocorrelation, START_MERGING, {})
    figures.update(mean_distance=expected.mean_distance, entropy=expected.entropy, q_max=plan.q_match, views=len(views))
    return replace(
        state,
        quaternions=expected.quaternions(views, plan.n_phi),
        state=expected.view // len(views),
        autocorrelation=merged,
        distance=np.full_like(state.distance, expected.mean_distance),
    )


def match(
    experiment: Experiment,
    plan: Plan,
    state: State,
    options: MatchingOptions,
    rng: np.random.Generator,
    figures: Figures,
) -> Candidates:
    """Return the best orientations of every pattern on a freshly turned search grid."""
    matcher = {"polar": matching.polar, "gemm": matching.gemm}[options.method]
    experiment = experiment.at(state)
    likelihood = experiment.rings(plan) if options.method == "polar" else experiment.pixels(plan.q_match)
    views = symmetry.asymmetric_unit(orientations.view_grid(plan.n_views, rng), experiment.symmetry.rotations)
    candidates = matcher(
        experiment.images,
        likelihood,
        _slicer(experiment, state, likelihood.sampling),
        views,
        plan.n_phi,
        n_candidates=options.candidates,
        highest=plan.highest,
        workers=experiment.workers,
    )
    figures.update(
        grid_distance=float(candidates.distance[:, 0].mean()), q_max=plan.q_match, views=len(views), shifts=plan.n_phi
    )
    return candidates


def refine(
    experiment: Experiment,
    plan: Plan,
    state: State,
    candidates: Candidates,
    options: MatchingOptions,
    figures: Figures,
) -> State:
    """Return the state with every pattern at its best candidate, refined on the detector's own pixels."""
    experiment = experiment.at(state)
    state, candidates = _comparable(experiment, state, candidates)
    refined = refining.refine(
        experiment.images,
        experiment.pixels(plan.q_match),
        state.scale,
        state.autocorrelation,
        state.voxel_angstrom,
        shortlist(state, candidates, np.degrees(plan.view_spacing)),
        iterations=options.refine_iterations,
        largest_turn=LARGEST_TURN * plan.view_spacing,
        workers=experiment.workers,
    )
    turned = orientations.angle_between(refined.quaternions, state.quaternions)
    far = (turned > np.degrees(plan.view_spacing)) | (refined.state != state.state)
    weight = state.weight
    if options.outliers and state.generation >= FIRST_WEIGHED:
        weight = experiment.weight * inliers(refined.distance, experiment.scale, limit=OUTLYING)
    good = weight > 0
    figures.update(
        mean_distance=float(refined.distance[good].mean()),
        moved=float(far[good].mean()),
        median_turn_deg=float(np.median(turned[good])),
        outliers=float((~good).sum()),
    )
    scale = state.scale * refined.factor
    scale /= scale[good].mean()
    background = None
    if experiment.estimate_background:
        background = background_of(experiment.images, experiment.detector, scale, weight, workers=experiment.workers)
    merits = [plan.q_match, figures["mean_distance"], figures["moved"]]
    return replace(
        state,
        history=np.concatenate([state.history, [merits]]),
        quaternions=refined.quaternions,
        state=refined.state,
        scale=scale,
        background=state.background if background is None else background,
        weight=weight,
        distance=refined.distance,
    )


def merge(experiment: Experiment, plan: Plan, state: State, options: MergingOptions, figures: Figures) -> State:
    """Return the state with autocorrelations merged from all patterns at their orientations."""
    start = _regridded(state.autocorrelation, plan.size, experiment.workers.threads)
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
            workers=experiment.workers,
        )

    normals = merging.symmetric_normals(summed, orientations.matrices(state.quaternions), experiment.symmetry)
    merged = _solved(experiment, plan, normals, start, options, figures)
    return replace(state, generation=plan.number, voxel_angstrom=plan.voxel_angstrom, autocorrelation=merged)


def phase(
    experiment: Experiment,
    plan: Plan,
    state: State,
    options: PhasingOptions,
    rng: np.random.Generator,
    figures: Figures,
    *,
    last: bool,
) -> State:
    """Return the state with densities phased from the autocorrelations.

    The first phasing starts from several random densities and keeps the best, the others go on from the density at
    hand. The last one adds several from random densities and averages the sound ones. The next generation is matched
    to the density's autocorrelation; the last generation keeps the merged one, which no phasing has touched.
    """
    first = not state.density.any()
    fresh = options.starts if first else options.starts - 1 if last else 0
    phased = phasings(experiment, plan, state, fresh, options, rng)
    best = phasing.combine(phased, SOUND_PHASING if last else 1.0)
    figures.update(phasing_r=float(best.r_factor.max()), phasings=float(phased.r_factor.shape[1]))
    if not last:
        threads = experiment.workers.threads
        model = phasing.autocorrelation(best.density, threads=threads)
        for volume in model if not experiment.symmetry.trivial else ():
            volume[:] = symmetry.symmetric_mean(volume, experiment.symmetry, threads=threads)
        state = replace(state, autocorrelation=model)
    return replace(state, density=best.density, support=best.support)


def phasings(
    experiment: Experiment, plan: Plan, state: State, fresh: int, options: PhasingOptions, rng: np.random.Generator
) -> phasing.Phased:
    """Return phasings (K, starts, ...) of the autocorrelations: from the densities at hand, then `fresh` random ones.

    There are densities at hand if any of them is not zero.
    """
    workers, radius = experiment.workers, experiment.diameter_angstrom / 2
    limit = phasing.ball(plan.size, plan.voxel_angstrom, SUPPORT_LIMIT * radius)
    density, support = _phasing_starts(plan, state, radius, fresh, rng, workers.threads)
    states, starts, *cube = density.shape

    def phase_volume(here: Here, part: slice) -> tuple[Any, Any, Any]:
        k, one = np.unravel_index(part.start, (states, starts))
        target = phasing.amplitudes(
            here.array(state.autocorrelation[k]),
            plan.voxel_angstrom,
            q_min=experiment.q_min,
            q_max=plan.q_merge,
            threads=here.threads,
        )
        phased = phasing.phase(
            target,
            here.array(density[k, one]),
            here.array(support[k, one]),
            here.array(limit),
            options,
            cycles=options.cycles,
            threads=here.threads,
        )
        return phased.density[None], phased.support[None], np.reshape(phased.r_factor, (1,))

    outputs = [Rows(tuple(cube), np.float32), Rows(tuple(cube), np.bool_), Rows((), np.float64)]
    volumes = workers.volumes(phase_volume, states * starts, outputs, plan.size)
    return phasing.Phased(*(array.reshape(states, starts, *array.shape[1:]) for array in volumes))


def _phasing_starts(
    plan: Plan, state: State, radius_angstrom: float, fresh: int, rng: np.random.Generator, threads: int
) -> tuple[Float32, Bool]:
    """Return first densities and supports (K, starts, M, M, M): the one at hand, if there is one, then random ones."""
    inside = phasing.ball(plan.size, plan.voxel_angstrom, radius_angstrom)
    shape = (len(state.density), fresh, *inside.shape)
    density, support = phasing.random_start(shape, inside, rng), np.broadcast_to(inside, shape)
    if state.density.any():
        here = _regridded(state.density, plan.size, threads)[:, None]
        mask = fourier_resize(state.support.astype(np.float32), plan.size, threads=threads)[:, None] > 0.5
        density, support = np.concatenate([here, density], axis=1), np.concatenate([mask, support], axis=1)
    return density, support


def _regridded(volumes: Float32, size: int, threads: int) -> Float32:
    """Return volumes (K, M, M, M) on size^3 voxels with the same transform: a voxel's value shrinks with its volume."""
    resized: Float32 = fourier_resize(volumes, size, threads=threads)
    return resized * np.float32((volumes.shape[-1] / size) ** 3)


def _slicer(experiment: Experiment, state: State, sampling: Sampling) -> Callable[[Float64], Float32]:
    """Return the function that slices all states at rotations (N, 3, 3): (K, N, ...)."""

    def slicer(rotations: Float64) -> Float32:
        return np.stack(
            [
                slicing.slices(volume, state.voxel_angstrom, rotations, sampling.q, workers=experiment.workers)
                for volume in state.autocorrelation
            ]
        )

    return slicer


def shortlist(state: State, candidates: Candidates, spacing_deg: float) -> Shortlist:
    """Return the candidates worth refining, at most N_CAND + 1 of every pattern.

    One candidate stands for its basin. Where the orientation at hand lies in a candidate's basin it replaces that
    candidate, being refined already; otherwise it is a candidate itself, except before the first match.
    """
    quaternions, labels = candidates.quaternions.copy(), candidates.state
    far = orientations.angle_between(quaternions, quaternions[:, :1]) > SAME_BASIN * spacing_deg
    keep = far | (labels != labels[:, :1])
    keep &= 1 - candidates.distance >= WORTH_REFINING * (1 - candidates.distance[:, :1])
    keep[:, 0] = True
    if state.generation == 1:
        return Shortlist(quaternions, labels, keep)
    near = orientations.angle_between(quaternions, state.quaternions[:, None]) < SAME_BASIN * spacing_deg
    near &= keep & (labels == state.state[:, None])
    quaternions = np.where(near[..., None], state.quaternions[:, None], quaternions)
    return Shortlist(
        np.concatenate([quaternions, state.quaternions[:, None]], axis=1),
        np.concatenate([labels, state.state[:, None]], axis=1),
        np.concatenate([keep, ~near.any(axis=1, keepdims=True)], axis=1),
    )


def _comparable(experiment: Experiment, state: State, candidates: Candidates) -> tuple[State, Candidates]:
    """Return state and candidates with orientations near each other where the particle's symmetry makes them equal."""
    if experiment.symmetry.trivial:
        return state, candidates
    elements, best = experiment.symmetry.rotations, candidates.quaternions[:, 0]
    near = symmetry.nearest_equivalents(candidates.quaternions, best[:, None], elements)
    own = symmetry.nearest_equivalents(state.quaternions, best, elements)
    return replace(state, quaternions=own), replace(candidates, quaternions=near)


def _solved(
    experiment: Experiment,
    plan: Plan,
    normals: list[merging.Normal | None],
    start: Float32,
    options: MergingOptions,
    figures: Figures,
) -> Float32:
    """Return the autocorrelations (K, M, M, M) of all states; a state without patterns keeps the one it has.

    Not all of them can be without: every pattern is in one state.
    """
    support = merging.support_ball(plan.size, plan.voxel_angstrom, SUPPORT_LIMIT * experiment.diameter_angstrom)
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
    merged[filled] = volumes
    figures.update(zip(("cg_iterations", "merge_residual"), numbers.max(axis=0).tolist(), strict=True))
    return merged
