"""Poses: orientation, conformation and scale of every pattern, searched on a grid and refined; and outliers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spilegate.generation import seen
from spilegate.generation.models import Figures, slicer
from spilegate.geometry import orientations, symmetry
from spilegate.likelihood.sampling import Sampling
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.outliers import inliers
from spilegate.records import Bool, Float64, Int64, State
from spilegate.schedule import Plan
from spilegate.settings import MatchingOptions
from spilegate.stages import matching, refining
from spilegate.stages.matching import Candidates
from spilegate.stages.refining import Shortlist

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
# A pattern of something else is further from its best slice than others by more than that.
LEAST_OUTLYING = 0.05
# Distances that are usually less are those of patterns without noise, and scatter like lognormal ones.
NOISELESS = 0.1
# Nothing is divided by less.
LEAST_DISTANCE = 1e-9
# Orientations whose misfits differ by less than this factor fit a pattern alike where all that is left is the model's
# own error, if the worse one explains this part of what the other does; where there is noise, so that distances are
# usually more than NOISY, those whose likelihoods differ by less than this many nats.
ALIKE, EXPLAIN_ALIKE, NOISY, ALIKE_NATS = 3.0, 0.9, 0.2, 2.0


def match(
    experiment: Experiment,
    plan: Plan,
    state: State,
    options: MatchingOptions,
    rng: np.random.Generator,
) -> tuple[Candidates, Figures]:
    """Return the best orientations of every pattern on a freshly turned search grid, of those whose turn it is.

    The others are where they are: what refinement finds from there is all that they need, if they are right.
    """
    turn, every = plan.number % plan.search_every, plan.search_every
    matcher = {"polar": matching.polar, "gemm": matching.gemm}[options.method]
    experiment = experiment.at(state).every(every, turn)
    likelihood = experiment.rings(plan) if options.method == "polar" else experiment.pixels(plan.q_match)
    views = symmetry.asymmetric_unit(orientations.view_grid(plan.n_views, rng), experiment.symmetry.rotations)
    sizes = seen.sizes(state, plan.q_match * experiment.diameter_angstrom)
    of_sizes = [
        matcher(
            experiment.images,
            likelihood,
            slicer(experiment, state, likelihood.sampling, size),
            views,
            plan.n_phi,
            n_candidates=options.candidates,
            highest=plan.highest,
            workers=experiment.workers,
        )
        for size in sizes
    ]
    candidates = _best_size(of_sizes, sizes)
    distance = float(candidates.distance[:, 0].mean())
    figures = {"grid_distance": distance, "q_max": plan.q_match, "views": len(views), "shifts": plan.n_phi}
    if every > 1:
        candidates = _with_others(candidates, state, slice(turn, None, every))
    return candidates, figures | {"searched": 1 / every}


def _best_size(found: list[Candidates], sizes: list[float]) -> Candidates:
    """Return the candidates of every pattern for the size at which its best one fits best."""
    if len(found) == 1:
        return found[0]
    best = np.argmin([each.distance[:, 0] for each in found], axis=0)
    row = np.arange(len(best))
    quaternions, state, distance = (
        np.stack([getattr(each, name) for each in found])[best, row] for name in ("quaternions", "state", "distance")
    )
    return Candidates(quaternions, state, distance, size=np.array(sizes)[best])


def _with_others(found: Candidates, state: State, searched: slice) -> Candidates:
    """Return candidates of all patterns: those found for the searched ones; the others are where they are."""
    most = found.state.shape[1]
    quaternions = np.repeat(state.quaternions[:, None], most, axis=1)
    labels = np.repeat(state.state[:, None], most, axis=1)
    distance = np.repeat(state.distance[:, None].astype(np.float32), most, axis=1)
    quaternions[searched], labels[searched] = found.quaternions, found.state
    distance[searched] = found.distance
    size = found.size
    if len(size):
        size = state.size.copy()
        size[searched] = found.size
    return Candidates(quaternions, labels, distance, searched, size)


def refine(
    experiment: Experiment,
    plan: Plan,
    state: State,
    candidates: Candidates,
    options: MatchingOptions,
    rng: np.random.Generator,
) -> tuple[State, Figures]:
    """Return the state with every pattern at its best candidate, refined on the detector's own pixels.

    Of two that fit alike one is drawn. The better one is, by nothing but chance, where there are more patterns already:
    those of a symmetric particle, always taking it, would leave some of their equal orientations, until nothing is
    measured there, and what is not measured fits nothing.
    """
    experiment = experiment.at(state)
    largest_turn = LARGEST_TURN * plan.view_spacing
    inflation = np.ones(2)
    if options.differ:
        asked = seen.asked(experiment, plan, state, options.refine_iterations, largest_turn)
        state, inflation = seen.freed(experiment, state, asked.spread), asked.inflation
    experiment = experiment.at(state)
    state, candidates = _comparable(experiment, state, candidates)
    likelihood = experiment.pixels(plan.q_match)
    refined = refining.refine(
        experiment.images,
        likelihood,
        state.scale,
        state.autocorrelation,
        state.voxel_angstrom,
        shortlist(state, candidates, np.degrees(plan.view_spacing), rng),
        iterations=options.refine_iterations,
        largest_turn=largest_turn,
        alike=alike(state, likelihood.sampling),
        seeing=seen.seeing_in(state),
        spread=seen.spread_in(state),
        workers=experiment.workers,
    )
    if len(state.size):
        state = seen.after(state, refined, inflation)
    return settled(
        experiment,
        plan,
        state,
        refined.quaternions,
        refined.state,
        state.scale * refined.factor,
        refined.distance,
        options,
        equal=refined.equal,
        searched=candidates.searched,
    )


def alike(state: State, sampling: Sampling) -> float:
    """Return the factor by which the misfits of orientations may differ that fit a pattern alike; 1 for none.

    The first model is too rough for that. Misfits of a pattern of noise are about a nat for every two points.
    """
    if state.generation == 1:
        return 1.0
    distance = float(np.median(state.distance))
    if distance < NOISY:
        return min(ALIKE, (1 - EXPLAIN_ALIKE * (1 - distance)) / max(distance, LEAST_DISTANCE))
    return 1 + 2 * ALIKE_NATS / len(sampling.q)


def settled(
    experiment: Experiment,
    plan: Plan,
    state: State,
    quaternions: Float64,
    labels: Int64,
    scale: Float64,
    distance: Float64,
    options: MatchingOptions,
    *,
    equal: Bool | None = None,
    searched: slice = slice(None),
) -> tuple[State, Figures]:
    """Return the state with new poses of all patterns, and with what follows from them: outliers, background, history.

    quaternions : (N_IMG, 4); labels : (N_IMG,), the conformation of each; scale, distance : (N_IMG,)
    equal : (N_IMG,) bool, as good as another; a pattern that goes from one of them to the other has not moved
    searched : the patterns that might have
    """
    turned = orientations.angle_between(quaternions, state.quaternions)
    far: Bool = (turned > np.degrees(plan.view_spacing)) | (labels != state.state)
    if equal is not None:
        far &= ~equal
    weight = state.weight
    if options.outliers and state.generation >= FIRST_WEIGHED:
        # What is no pattern at all does not tell how far patterns are from their slices.
        known, weight = experiment.weight > 0, experiment.weight.copy()
        apart, bright = distance[known], experiment.brightness[known]
        weight[known] = inliers(apart, bright, limit=OUTLYING, wide=wide_limit(apart), least=LEAST_OUTLYING)
    good = weight > 0
    tried = far[searched, ...][good[searched]]
    figures = {
        "mean_distance": float(distance[good].mean()),
        "moved": float(tried.mean()) if len(tried) else 0.0,
        "median_turn_deg": float(np.median(turned[good])),
        "outliers": float((~good).sum()),
    }
    scale = scale / scale[good].mean()
    # Where sizes differ, brightness does not go with the counts of every ring alike.
    background = None if state.size_spread else experiment.background(scale, weight)
    merits = [plan.q_match, figures["mean_distance"], figures["moved"]]
    state = replace(
        state,
        history=np.concatenate([state.history, [merits]]),
        quaternions=quaternions,
        state=labels,
        scale=scale,
        background=state.background if background is None else background,
        weight=weight,
        distance=distance,
    )
    return state, figures


def wide_limit(distance: Float64) -> float:
    """Return how many standard deviations of their logarithms distances (n,) of patterns may be from the usual ones."""
    return OUTLYING if np.median(distance) < NOISELESS else 0.0


def shortlist(state: State, candidates: Candidates, spacing_deg: float, rng: np.random.Generator) -> Shortlist:
    """Return the candidates worth refining, at most N_CAND + 1 of every pattern.

    One candidate stands for its basin. Where the orientation at hand lies in a candidate's basin it replaces that
    candidate, being refined already; otherwise it is a candidate itself, except before the first match.
    """
    quaternions, labels = candidates.quaternions.copy(), candidates.state
    count, most = labels.shape
    lot = rng.random((count, most + 1))
    far = orientations.angle_between(quaternions, quaternions[:, :1]) > SAME_BASIN * spacing_deg
    keep = far | (labels != labels[:, :1])
    keep &= 1 - candidates.distance >= WORTH_REFINING * (1 - candidates.distance[:, :1])
    keep[:, 0] = True
    size = np.repeat(candidates.size[:, None], most, axis=1) if len(candidates.size) and len(state.size) else None
    if state.generation == 1:
        return Shortlist(quaternions, labels, keep, lot[:, :most])
    near: Bool = orientations.angle_between(quaternions, state.quaternions[:, None]) < SAME_BASIN * spacing_deg
    near &= keep & (labels == state.state[:, None])
    quaternions = np.where(near[..., None], state.quaternions[:, None], quaternions)
    if size is not None:
        size = np.concatenate([np.where(near, state.size[:, None], size), state.size[:, None]], axis=1)
    return Shortlist(
        np.concatenate([quaternions, state.quaternions[:, None]], axis=1),
        np.concatenate([labels, state.state[:, None]], axis=1),
        np.concatenate([keep, ~near.any(axis=1, keepdims=True)], axis=1),
        lot,
        np.where(near.any(axis=1), near.argmax(axis=1), most),
        size,
    )


def _comparable(experiment: Experiment, state: State, candidates: Candidates) -> tuple[State, Candidates]:
    """Return state and candidates with orientations near each other where the particle's symmetry makes them equal."""
    if experiment.symmetry.trivial:
        return state, candidates
    elements, best = experiment.symmetry.rotations, candidates.quaternions[:, 0]
    near = symmetry.nearest_equivalents(candidates.quaternions, best[:, None], elements)
    own = symmetry.nearest_equivalents(state.quaternions, best, elements)
    return replace(state, quaternions=own), replace(candidates, quaternions=near)
