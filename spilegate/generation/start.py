"""The blind start: annealed soft assignments, each from random orientations, and which of them to trust."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from spilegate.backend import to_host
from spilegate.generation.models import Figures, merge, slicer
from spilegate.generation.soft import assign, average
from spilegate.geometry import orientations, symmetry
from spilegate.kernels.blocks import GROUP
from spilegate.patterns.experiment import Experiment
from spilegate.records import Float64, State
from spilegate.schedule import COLD_SPACING, START_STEPS, WARM_SPACING, Plan
from spilegate.schedule import plan as plan_of
from spilegate.settings import MergingOptions, Settings, StartOptions
from spilegate.stages.likeness import orientations_alike

# The soft start moves between rough models, where a close fit of each means nothing.
START_MERGING = MergingOptions(iterations=8, regularisation=1e-3)
# The last two iterations of the annealing keep the lowest temperature.
COLD_ITERATIONS = 2
# Starts whose mean distances are within this factor have found the same, if the parts of the patterns that they explain
# are within the first of these; or if those are within the second.
AGREEMENT = 1.1
EXPLAINED_ALIKE, EXPLAINED_SAME = 0.97, 0.985
# A model has too many orientations that look alike if their logarithm is more than this: 40 of them. (At 2.5 speckles
# 4.8 for 3IYF, a cage with 16 that are equal, 2.9 at 3.6; 1.0 to 1.6 for proteins of 60 angstrom, from no noise to 300
# photons.) So many slices of it tell, at this temperature.
MOST_ALIKE, SLICES, TELLING_TEMPERATURE = 3.7, 48, 0.01
# A model whose slices differ by less than this part of the variance of the patterns has nothing to tell.
LEAST_TOLD = 0.1
# Temperatures above this are warm.
WARM = 0.03
# A start that goes on outwards does so in so many steps, within this part of its iterations.
OUTWARDS, WARM_PART = 4, 0.8
# With a symmetry wrong starts look alike (their mistake is how the axes lie) and a start takes as many fewer views as
# the group has elements: this many times as many starts at most, and no early end.
SYMMETRIC_STARTS = 6
# A start is made from so many patterns of each conformation, or as many as have so many photons. (At 1000, 300 and 100
# photons 1000, 4000 and 20,000 patterns have been enough, ten times of ten each.)
START_PATTERNS, START_PHOTONS = 1000, 2e6


def temperatures(options: StartOptions) -> Float64:
    """Return the temperatures of the annealing, one for each iteration."""
    cooling = max(1, options.iterations - COLD_ITERATIONS)
    steps = np.geomspace(options.temperature_first, options.temperature_last, cooling)
    return np.append(steps, np.full(options.iterations - cooling, options.temperature_last))


def mean_distance(state: State) -> float:
    """Return the mean distance of the patterns to their slices: what tells a good start from a bad one."""
    return float(state.distance.mean())


def agree(starts: list[State], *known: float) -> bool:
    """Tell whether the two best starts are equally good: wrong starts are wrong in different ways.

    known : mean distances of other starts
    """
    distances = sorted([*map(mean_distance, starts), *known])
    if len(distances) < 2:
        return False
    best, second = distances[:2]
    # Where noise is most of every distance, it is what a start explains that tells.
    least = EXPLAINED_ALIKE if second <= AGREEMENT * best else EXPLAINED_SAME
    return 1 - second >= least * (1 - best)


def enough(starts: list[State], most: int, group: symmetry.Group, *known: float) -> bool:
    """Tell whether to stop looking for a better start than these.

    most : without symmetry never more than this; known : mean distances of other starts
    """
    if group.trivial:
        return len(starts) >= most or agree(starts, *known)
    return len(starts) >= most * min(len(group.rotations), SYMMETRIC_STARTS)


def sample(experiment: Experiment, settings: Settings) -> Experiment:
    """Return the experiment with as many of its patterns as a blind start needs."""
    least: float = settings.start.patterns or (
        settings.matching.states * max(START_PATTERNS, START_PHOTONS / experiment.photons)
    )
    step = 1
    while 2 * step <= GROUP and len(experiment.images) >= 2 * step * least:
        step *= 2
    return experiment.every(step)


def stairs(experiment: Experiment, start: int, options: StartOptions) -> list[tuple[Plan, float]]:
    """Return plan and temperature of every iteration of a start that goes on outwards `start` times.

    The first temperatures see what shows near the beam: what shows further out is looked for where that leaves it.
    """
    first, last = experiment.plan(1).q_match, experiment.plan(1, start).q_match
    warm = WARM_PART * options.iterations

    def planned(iteration: int, temperature: float) -> Plan:
        done = min(math.ceil(OUTWARDS * iteration / warm), OUTWARDS) / OUTWARDS
        radius = first * (last / first) ** done
        spacing = WARM_SPACING if temperature > WARM else COLD_SPACING
        return plan_of(experiment.diameter_angstrom, 1, radius, radius, soft=True, spacing=spacing)

    return [(planned(i, temperature), temperature) for i, temperature in enumerate(temperatures(options).tolist())]


def ambiguity(experiment: Experiment, state: State) -> float:
    """Return the logarithm of how many orientations of a start's model look alike: of the state that has the most.

    An imposed symmetry does not count.
    """
    rng, plan = np.random.default_rng(0), experiment.plan(1, state.start)
    sampling = experiment.at(state).rings(plan).sampling
    views = symmetry.asymmetric_unit(orientations.view_grid(plan.n_views, rng), experiment.symmetry.rotations)
    some = orientations.matrices(orientations.random_quaternions(SLICES, rng))
    sliced = to_host(slicer(experiment, state, sampling)(np.concatenate([some, views])))
    weight, least = sampling.cell / sampling.variance, LEAST_TOLD * float(sampling.cell.sum(dtype=np.float64))
    return max(
        orientations_alike(sliced[k, :SLICES], sliced[k, SLICES:], weight, TELLING_TEMPERATURE, least=least)
        for k in np.flatnonzero(state.members)
    )


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
    return merge(experiment, plan, state, START_MERGING)[0]


def annealed(experiment: Experiment, settings: Settings, rng: np.random.Generator) -> tuple[State, Figures]:
    """Return the best of a few states annealed from random ones, as far out as it takes to tell orientations.

    Near the beam a cage or a barrel looks like a cylinder, or a ball: whatever is found there is turned at random.
    """
    for start in range(experiment.started.outwards if experiment.started else 0, START_STEPS + 1):
        further = start < START_STEPS and experiment.plan(1, start).q_match < experiment.q_max
        state, figures = best_of(experiment, start, settings, rng, most_alike=MOST_ALIKE if further else np.inf)
        if not further or figures["ambiguity"] <= MOST_ALIKE:
            break
    return state, figures


def best_of(
    experiment: Experiment, start: int, settings: Settings, rng: np.random.Generator, *, most_alike: float = np.inf
) -> tuple[State, Figures]:
    """Return the best of a few states annealed from random ones; start : how many times they go on outwards.

    most_alike : ambiguity of the first of them above which there is no use in more
    """
    starts: list[State] = []
    figures = Figures()
    known = (experiment.started.distance,) if experiment.started else ()
    while not enough(starts, settings.start.count, experiment.symmetry, *known):
        steps = stairs(experiment, start, settings.start)
        state = replace(random_state(experiment, steps[0][0], settings, rng), start=start)
        for plan, temperature in steps:
            state, figures = anneal(experiment, plan, state, temperature, rng)
        starts.append(state)
        if len(starts) == 1:
            alike = ambiguity(experiment, state)
            if alike > most_alike:
                break
    best = min(starts, key=mean_distance)
    figures |= {"mean_distance": mean_distance(best), "starts": len(starts), "ambiguity": alike}
    return replace(best, started=mean_distance(best)), figures | {"steps_outwards": start}


def anneal(
    experiment: Experiment, plan: Plan, state: State, temperature: float, rng: np.random.Generator
) -> tuple[State, Figures]:
    """Return the state after one soft assignment to a freshly turned grid of views."""
    assigned, figures = assign(experiment, plan, state, rng, temperature=temperature)
    state, _ = average(experiment, plan, assigned.state(state, plan.n_phi), assigned, START_MERGING)
    return replace(state, distance=np.full_like(state.distance, assigned.expected.mean_distance)), figures


def for_all(
    experiment: Experiment,
    plan: Plan,
    state: State,
    options: StartOptions,
    rng: np.random.Generator,
) -> tuple[State, Figures]:
    """Return the state of all patterns that follows from the model of some of them: one more soft assignment."""
    count = len(experiment.images)
    if len(state.quaternions) == count:
        return state, Figures()
    state = replace(state, scale=experiment.scale, weight=experiment.weight, distance=np.ones(count))
    return anneal(experiment, plan, state, options.temperature_last, rng)
