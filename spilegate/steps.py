"""The steps of a generation: the stages applied to a `State`, state by state, with a generation's plan.

A step takes the state and returns the next one; what it learned about convergence goes into `figures`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from spilegate.geometry import orientations
from spilegate.geometry.fourier import fourier_resize
from spilegate.geometry.sampling import Sampling
from spilegate.preparation import Experiment
from spilegate.schedule import Plan
from spilegate.settings import MatchingOptions, MergingOptions, PhasingOptions, Settings, StartOptions
from spilegate.stages import matching, merging, phasing, refining, slicing, starting
from spilegate.stages.matching import Candidates
from spilegate.state import Bool, Float32, Float64, Int64, State

Figures = dict[str, float]

# The soft start moves between rough models, where a close fit of each means nothing.
START_MERGING = MergingOptions(iterations=8, regularisation=1e-3)
# The last two iterations of the annealing keep the lowest temperature.
COLD_ITERATIONS = 2
# Starts whose mean distances are within this factor have found the same.
AGREEMENT = 1.1
# The support may grow to this part of the particle's radius, the first one is the particle's own ball.
SUPPORT_LIMIT = 1.15
# Largest turn of one Gauss-Newton step, as a part of the angle that moves the outermost speckle by its own width.
LARGEST_TURN = 0.5
# Candidates nearer to the best one than this many view spacings lie in the same basin.
SAME_BASIN = 1.5
# Candidates that explain less than this part of what the best one explains are left out.
WORTH_REFINING = 0.8
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
    return len(distances) > 1 and distances[1] <= AGREEMENT * distances[0]


def random_state(experiment: Experiment, plan: Plan, settings: Settings, rng: np.random.Generator) -> State:
    """Return random orientations and states, and the autocorrelations merged from them."""
    count, states = len(experiment.images), settings.matching.states
    shape = (states, plan.size, plan.size, plan.size)
    state = State(
        generation=plan.number,
        voxel_angstrom=plan.voxel_angstrom,
        quaternions=orientations.random_quaternions(count, rng),
        state=rng.integers(states, size=count),
        scale=np.ones(count),
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
    sampling, threads = experiment.rings(plan), experiment.threads
    views = orientations.view_grid(plan.n_views, rng)
    slices = _slicer(experiment, state, sampling)(views)
    expected = starting.expect(
        experiment.images, sampling, slices.reshape(-1, *slices.shape[2:]), temperature, threads=threads
    )
    area = sampling.rings.area if sampling.rings is not None else np.ones(1)
    weight = (expected.weight[:, None, None] * area[:, None]).astype(np.float32)
    mean, weight = (array.reshape(len(slices), len(views), *array.shape[1:]) for array in (expected.mean, weight))
    volumes = [
        _merged(experiment, plan, [(mean[k], weight[k], views)], sampling.q, state.autocorrelation[k], START_MERGING)[0]
        for k in range(len(slices))
    ]
    figures.update(mean_distance=expected.mean_distance, entropy=expected.entropy, q_max=plan.q_match, views=len(views))
    return replace(
        state,
        autocorrelation=np.stack(volumes),
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
    sampling = experiment.rings(plan) if options.method == "polar" else experiment.pixels(plan.q_match)
    views = orientations.view_grid(plan.n_views, rng)
    candidates = matcher(
        experiment.images,
        sampling,
        _slicer(experiment, state, sampling),
        views,
        plan.n_phi,
        n_candidates=options.candidates,
        highest=plan.highest,
        threads=experiment.threads,
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
    sampling = experiment.pixels(plan.q_match)

    def improve(index: Int64, quaternions: Float64, labels: Int64, iterations: int) -> tuple[Float64, Float64]:
        better, distance = quaternions.copy(), np.empty(len(index))
        for k, volume in enumerate(state.autocorrelation):
            mine = labels == k
            refined = refining.refine(
                experiment.images,
                index[mine],
                sampling,
                volume,
                state.voxel_angstrom,
                quaternions[mine],
                iterations=iterations,
                largest_turn=LARGEST_TURN * plan.view_spacing,
                threads=experiment.threads,
            )
            better[mine], distance[mine] = refined.quaternions, refined.distance
        return better, distance

    index, quaternions, labels = shortlist(state, candidates, np.degrees(plan.view_spacing))
    contested = np.bincount(index, minlength=len(state.state))[index] > 1
    score = np.zeros(len(index))
    quaternions[contested], score[contested] = improve(
        index[contested], quaternions[contested], labels[contested], min(1, options.refine_iterations)
    )
    order = np.lexsort((score, index))
    chosen = order[np.unique(index[order], return_index=True)[1]]
    labels = labels[chosen]
    better, distance = improve(index[chosen], quaternions[chosen], labels, options.refine_iterations)
    turned = orientations.angle_between(better, state.quaternions)
    figures.update(
        mean_distance=float(distance.mean()),
        moved=float(((turned > np.degrees(plan.view_spacing)) | (labels != state.state)).mean()),
        median_turn_deg=float(np.median(turned)),
    )
    return replace(state, quaternions=better, state=labels, distance=distance)


def merge(experiment: Experiment, plan: Plan, state: State, options: MergingOptions, figures: Figures) -> State:
    """Return the state with autocorrelations merged from all patterns at their orientations."""
    sampling = experiment.pixels(plan.q_merge)
    # Rotated pixels crowd towards the centre as 1 / |q|; this weight evens them out, so that CG converges fast.
    density = np.linalg.norm(sampling.q, axis=-1)
    weight = (density / density.mean()).astype(np.float32)
    rotations = orientations.matrices(state.quaternions)
    start = _regridded(state.autocorrelation, plan.size, experiment.threads)
    step = max(1, merging.BLOCK_POINTS // len(weight))
    volumes = []
    for k in range(len(start)):
        mine = np.flatnonzero(state.state == k)
        blocks = (
            (sampling.patterns(experiment.images[part]), weight, rotations[part])
            for part in (mine[begin : begin + step] for begin in range(0, len(mine), step))
        )
        volume, numbers = _merged(experiment, plan, blocks, sampling.q, start[k], options)
        volumes.append(volume)
        figures.update({name: max(value, figures.get(name, 0.0)) for name, value in numbers.items()})
    return replace(state, generation=plan.number, voxel_angstrom=plan.voxel_angstrom, autocorrelation=np.stack(volumes))


def phase(
    experiment: Experiment,
    plan: Plan,
    state: State,
    options: PhasingOptions,
    rng: np.random.Generator,
    figures: Figures,
) -> State:
    """Return the state with densities phased from the autocorrelations.

    The first phasing starts from several random densities and keeps the best, the others go on from the density at
    hand. The last one adds several from random densities and averages the sound ones. The next generation is matched
    to the density's autocorrelation; the last generation keeps the merged one, which no phasing has touched.
    """
    threads, radius = experiment.threads, experiment.diameter_angstrom / 2
    target = phasing.amplitudes(
        state.autocorrelation[:, None], plan.voxel_angstrom, q_min=experiment.q_min, q_max=plan.q_merge, threads=threads
    )
    limit = phasing.ball(plan.size, plan.voxel_angstrom, SUPPORT_LIMIT * radius)
    first = not state.density.any()
    fresh = options.starts if first else options.starts - 1 if plan.last else 0
    density, support = _phasing_starts(plan, state, radius, fresh, rng, threads)
    phased = phasing.phase(target, density, support, limit, options, cycles=options.cycles, threads=threads)
    best = phasing.combine(phased, SOUND_PHASING if plan.last else 1.0)
    figures.update(phasing_r=float(best.r_factor.max()), phasings=float(density.shape[1]))
    if not plan.last:
        state = replace(state, autocorrelation=phasing.autocorrelation(best.density, threads=threads))
    return replace(state, density=best.density, support=best.support)


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
                slicing.slices(volume, state.voxel_angstrom, rotations, sampling.q, threads=experiment.threads)
                for volume in state.autocorrelation
            ]
        )

    return slicer


def shortlist(state: State, candidates: Candidates, spacing_deg: float) -> tuple[Int64, Float64, Int64]:
    """Return pattern index (n,), quaternion (n, 4) and state (n,) of the candidates worth refining.

    One candidate stands for its basin. Where the orientation at hand lies in a candidate's basin it replaces that
    candidate, being refined already; otherwise it is a candidate itself, except before the first match.
    """
    count, n_cand = candidates.distance.shape
    index = np.repeat(np.arange(count), n_cand)
    quaternions, labels = candidates.quaternions.reshape(-1, 4).copy(), candidates.state.ravel()
    best = np.repeat(candidates.quaternions[:, 0], n_cand, axis=0)
    same_state = labels == np.repeat(candidates.state[:, 0], n_cand)
    keep = (orientations.angle_between(quaternions, best) > SAME_BASIN * spacing_deg) | ~same_state
    keep &= (1 - candidates.distance >= WORTH_REFINING * (1 - candidates.distance[:, :1])).ravel()
    keep[::n_cand] = True
    if state.generation == 1:
        return index[keep], quaternions[keep], labels[keep]
    near = (orientations.angle_between(quaternions, state.quaternions[index]) < SAME_BASIN * spacing_deg) & (
        labels == state.state[index]
    )
    near &= keep
    quaternions[near] = state.quaternions[index[near]]
    extra = np.flatnonzero(np.bincount(index[near], minlength=count) == 0)
    return (
        np.concatenate([index[keep], extra]),
        np.concatenate([quaternions[keep], state.quaternions[extra]]),
        np.concatenate([labels[keep], state.state[extra]]),
    )


def _merged(
    experiment: Experiment,
    plan: Plan,
    blocks: Iterable[tuple[Float32, Float32, Float64]],
    q: Float64,
    start: Float32,
    options: MergingOptions,
) -> tuple[Float32, Figures]:
    """Return one state's autocorrelation (M, M, M) and the figures of its CG.

    blocks : patterns, their weight and their rotations; a state without patterns keeps its autocorrelation
    """
    parts = (
        merging.normal_equations(*block, q, plan.size, plan.voxel_angstrom, threads=experiment.threads)
        for block in blocks
    )
    first = next(parts, None)
    if first is None:
        return start, {}
    support = merging.support_ball(plan.size, plan.voxel_angstrom, SUPPORT_LIMIT * experiment.diameter_angstrom)
    return merging.solve(sum(parts, first), support, start, options, threads=experiment.threads)
