"""What patterns have of their own: whether their sizes and beams differ, and by how much.

At every radius a few patterns, refined with size and shift free, tell whether these differ by more than chance; if
they do they are unknowns of all patterns. Where they do not, nothing is refined that could only fit noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spilegate.geometry.detector import pixel_spacing
from spilegate.geometry.seeing import Seeing, Spread
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.robust import NORMAL
from spilegate.records import Bool, Float64, State
from spilegate.schedule import Plan
from spilegate.stages import refining
from spilegate.stages.refining import Refined, Shortlist

TINY = 1e-30
# A deviation is never found to be less than that part of what one pattern leaves uncertain, squared.
LEAST_PART = 1e-3
# Generations before models are good enough to tell.
FIRST = 2
# Patterns that are asked, at least, and priors that they are asked with: of size, and of the shift in pixels.
ASKED, TRIAL_SIZE, TRIAL_SHIFT = 250, 0.1, 1.5
# What differs by less is left alone: size, and shift in pixels; so does what might be by chance, in deviations.
LEAST_SIZE, LEAST_SHIFT, SURE = 0.01, 0.2, 4.0
# Beyond so many deviations it is not the spread that makes a pattern differ.
MOST_DEVIATIONS = 3.0
ROUNDS = 20
# Where sizes move the outermost speckle by more than that part of its width, patterns are searched for with several:
# so many deviations from the mean.
SEARCHED, SEARCHED_AT = 0.2, (-1.25, 0.0, 1.25)


def seeing_in(state: State) -> Seeing | None:
    """Return what the patterns of a state have of their own, None if nothing."""
    return Seeing(state.size, state.shift) if len(state.size) else None


def spread_in(state: State) -> Spread:
    """Return how much the patterns of a state differ in that."""
    return Spread(state.size_spread, state.shift_spread)


def _seen(state: State, seeing: Seeing, spread: Spread) -> State:
    """Return the state with what patterns have of their own."""
    return replace(state, size=seeing.size, shift=seeing.shift, size_spread=spread.size, shift_spread=spread.shift)


def sizes(state: State, speckles: float) -> list[float]:
    """Return the sizes, over the model's, that patterns are searched for with; one where they hardly differ.

    speckles : radius of the search times the diameter
    """
    if state.size_spread * speckles < SEARCHED:
        return [1.0]
    return [float(np.exp(deviations * state.size_spread)) for deviations in SEARCHED_AT]


@dataclass(frozen=True)
class Asked:
    """What some of the patterns tell of all.

    spread : how much patterns differ; inflation : (2,), by how much variances of size and shift are larger than
    refinement has them, which takes the errors of neighbouring pixels for independent
    """

    spread: Spread
    inflation: Float64


def asked(experiment: Experiment, plan: Plan, state: State, iterations: int, largest_turn: float) -> Asked:
    """Return how much patterns differ, as far as some of them tell.

    Each is refined on two quadrants that face each other, and on the two others. Friedel's law makes the pixels of one
    half independent of the other's, so that noise and a rough model's errors are: what both halves say alike is true.
    """
    spread = spread_in(state)
    # Where nothing differed at this radius before, it does not now.
    again = not spread.any and len(state.history) > 0 and plan.q_match <= state.history[-1, 0]
    if state.generation < FIRST or again:
        return Asked(spread, np.ones(2))
    step = 2 ** max(0, int(np.log2(max(1, len(state.scale) // ASKED))))
    few, own = experiment.every(step), slice(0, None, step)
    good, detector = state.weight[own] > 0, experiment.detector
    pixel = pixel_spacing(detector.q[detector.matched])
    trial = Spread(TRIAL_SIZE, TRIAL_SHIFT * pixel)
    labels = state.state[own, None]
    shortlist = Shortlist(state.quaternions[own, None], labels, np.ones(labels.shape, np.bool_))
    corner = detector.q[:, 0] * detector.q[:, 1] > 0
    found = []
    for side in (corner, ~corner):
        half = replace(few, detector=replace(detector, matched=detector.matched & side))
        if not (half.detector.matched & (np.linalg.norm(detector.q, axis=-1) <= plan.q_match)).any():
            return Asked(spread, np.ones(2))
        refined = refining.refine(
            half.images,
            half.pixels(plan.q_match),
            state.scale[own],
            state.autocorrelation,
            state.voxel_angstrom,
            shortlist,
            iterations=iterations,
            largest_turn=largest_turn,
            spread=trial,
            workers=half.workers,
        )
        found.append(_alone(refined, trial, good))
    (size, shift), inflation = zip(*(_shared(*both) for both in zip(*found, strict=True)), strict=True)
    least = Spread(LEAST_SIZE, LEAST_SHIFT * pixel)
    spread = Spread(size if size > least.size else 0.0, shift if shift > least.shift else 0.0)
    return Asked(spread, np.array(inflation))


def freed(experiment: Experiment, state: State, spread: Spread) -> State:
    """Return the state with unknowns of every pattern where patterns differ by a spread, without where they do not."""
    if not spread.any:
        return _seen(state, Seeing(np.zeros(0), np.zeros((0, 2))), spread)
    if spread.size and not state.size_spread and experiment.sums is not None:
        # It was told by how patterns differ in brightness, which larger particles do most near the beam.
        state = replace(state, background=np.zeros_like(state.background))
    seeing = seeing_in(state) or Seeing.nominal(len(state.scale))
    nominal = Seeing.nominal(len(state.scale))
    seeing = Seeing((seeing if spread.size else nominal).size, (seeing if spread.shift else nominal).shift)
    return _seen(state, seeing, spread)


def after(state: State, refined: Refined, inflation: Float64) -> State:
    """Return the state with what refinement found of patterns' own; sizes are over their mean.

    inflation : of variances, see `Asked`
    """
    good, spread, seeing = state.weight > 0, spread_in(state), refined.seeing
    (size, of_size), (shift, of_shift) = _alone(refined, spread, good)
    spread = Spread(
        _deviation(size, of_size * inflation[0]) if spread.size else 0.0,
        _deviation(shift, of_shift * inflation[1]) if spread.shift else 0.0,
    )
    usual = float(np.exp(np.log(seeing.size[good]).mean()))
    return _seen(state, Seeing(seeing.size / usual, seeing.shift), spread)


def _alone(refined: Refined, prior: Spread, good: Bool) -> list[tuple[Float64, Float64]]:
    """Return logarithms of size (n,) and shifts (2 n,) as they would be without priors, and their variances."""
    size, shift, variance = np.log(refined.seeing.size[good]), refined.seeing.shift[good], refined.variance[good]
    size = size - np.median(size)
    of_size, of_shift = variance[:, 0], variance[:, 1:].T.ravel()
    return [
        (size * (1 + of_size / max(prior.size, TINY) ** 2), of_size),
        (shift.T.ravel() * (1 + of_shift / max(prior.shift, TINY) ** 2), of_shift),
    ]


def _shared(first: tuple[Float64, Float64], second: tuple[Float64, Float64]) -> tuple[float, float]:
    """Return the standard deviation that two independent estimates (n,), with variances, share; 0 if it may be chance.

    Second, by how much the variances are too small.
    """
    limit = [MOST_DEVIATIONS * NORMAL * float(np.median(np.abs(values))) for values, _ in (first, second)]
    a, b = (np.clip(values, -most, most) for (values, _), most in zip((first, second), limit, strict=True))
    shared = float((a * b).mean())
    chance = float(np.sqrt((a**2).mean() * (b**2).mean() / len(a)))
    told = float(np.median(np.concatenate([first[1], second[1]])))
    inflation = max(1.0, (NORMAL * float(np.median(np.abs(a - b)))) ** 2 / 2 / max(told, TINY))
    return (float(np.sqrt(shared)) if shared > SURE * chance else 0.0), inflation


def _deviation(alone: Float64, variance: Float64) -> float:
    """Return the most likely standard deviation of values that were found (n,) with errors of variances (n,)."""
    own = float(np.median(alone**2)) * NORMAL**2
    for _ in range(ROUNDS):
        total = own + variance
        square = np.minimum(alone**2, MOST_DEVIATIONS**2 * total)
        weight = 1 / total**2
        own = max(float((weight * (square - variance)).sum() / weight.sum()), LEAST_PART * float(np.median(variance)))
    return float(np.sqrt(own))
