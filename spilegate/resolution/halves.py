"""Two reconstructions of disjoint halves of the patterns, started independently, and what they agree on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from spilegate.errors import InputError
from spilegate.evaluation.alignment import Alignment, align, moved
from spilegate.geometry.detector import pixel_spacing
from spilegate.patterns.checks import check_patterns
from spilegate.patterns.experiment import Experiment
from spilegate.reconstruction import HeldOut, Reconstruction
from spilegate.records import Float64, State, Watcher
from spilegate.resolution.held_out import bands, significance
from spilegate.resolution.outlines import corrected_correlation
from spilegate.resolution.surrogates import surrogate
from spilegate.settings import Settings
from spilegate.streams import Purpose, seed_of, stream


class Run(Protocol):
    """How prepared patterns are reconstructed."""

    def __call__(self, experiment: Experiment, settings: Settings, *, watcher: Watcher | None) -> Reconstruction:
        """Reconstruct them."""


@dataclass(frozen=True)
class HalfSets:
    """Agreement of two halves; states are numbered like those of the reconstruction from all patterns.

    plain : (K, N_SHELL) float64, Fourier shell correlation of each state's two densities, all shells to Nyquist
    corrected : the same, less what their supports contribute
    patterns : how many each half has; held_out : whether each half's model foresees the other half's patterns
    """

    plain: Float64
    corrected: Float64
    patterns: tuple[int, int]
    held_out: HeldOut


def half_sets(
    settings: Settings,
    experiment: Experiment,
    whole: State,
    run: Run,
    watcher: Watcher | None = None,
) -> HalfSets:
    """Reconstruct the even and the odd patterns, each from its own blind start, and compare what came out.

    A half begins as far out as all patterns had to, and takes the first start that explains it as well as they were
    explained, instead of repeating starts until two agree; of models it is told nothing.

    Rosenthal and Henderson, J. Mol. Biol. 333:721 (2003): their Fourier shell correlation meets 0.143 where the full
    set's would meet 0.5 against the truth.

    experiment, whole : what all patterns were measured to be, and came to; run : reconstructs a half
    watcher : is asked who is to watch each half
    """
    workers = experiment.workers
    options = options_of_halves(settings)
    experiments, results = [], []
    for half in (0, 1):
        check_patterns(experiment.weight[half::2], f"half {half + 1}")
        part = experiment.half(half, whole)
        seed = seed_of(settings.seed, Purpose.HALF, half)
        of_half = None if watcher is None else watcher.half(half + 1)
        results.append(run(part, options.model_copy(update={"seed": seed}), watcher=of_half))
        experiments.append(part)
    first, second = results
    plain, corrected = state_correlations(
        first.state, second.state, first.q_max, experiment.diameter_angstrom, settings.seed, threads=workers.threads
    )
    if len(whole.density) > 1:
        plain, corrected = numbered_like(whole, first.state, (plain, corrected), first.q_max, threads=workers.threads)
    return HalfSets(
        plain=plain,
        corrected=corrected,
        patterns=(len(experiments[0].images), len(experiments[1].images)),
        held_out=held_out(experiments, [second.state, first.state], settings),
    )


def options_of_halves(settings: Settings) -> Settings:
    """Return the settings of both halves, which have no halves of their own.

    What all patterns were found to be is not found again by each half for itself: with a diameter of its own each
    volume would have a grid of its own, and halves about as bright as where one way of matching gives way to another
    could go different ways.
    """
    own = settings.resolution.model_copy(update={"half_sets": False, "phasings": 0})
    return settings.model_copy(update={"resolution": own})


def state_correlations(
    first: State, second: State, q_max: float, diameter_angstrom: float, seed: int, *, threads: int
) -> tuple[Float64, Float64]:
    """Return the shell correlations (K, N_SHELL) of each state's density with its counterpart, plain and corrected.

    A state without patterns, or with a density that cannot be aligned, being empty, agrees with nothing.
    """
    voxel = first.voxel_angstrom
    nothing = np.zeros(first.density.shape[-1] // 2)
    curves = []
    for k, (j, pair) in enumerate(counterparts(first, second, q_max, threads=threads)):
        if pair is None:
            curves.append((nothing, nothing))
            continue
        curves.append(
            corrected_correlation(
                (first.density[k], second.density[j]),
                (first.support[k], second.support[j]),
                partial(moved, alignment=pair, voxel_angstrom=voxel, threads=threads),
                partial(surrogate, rng=stream(seed, Purpose.SURROGATE, k), threads=threads),
                voxel,
                diameter_angstrom,
                threads=threads,
            )
        )
    plain, corrected = (np.stack(kind) for kind in zip(*curves, strict=True))
    return plain, corrected


def numbered_like(
    whole: State, half: State, curves: tuple[Float64, Float64], q_max: float, *, threads: int
) -> tuple[Float64, Float64]:
    """Return curves (K, N_SHELL) over a half's states in the order of the states of all patterns.

    Zeros for a state that has no counterpart in the half.
    """
    pairs = counterparts(whole, half, q_max, threads=threads)
    plain, corrected = (
        np.stack([np.zeros_like(curve[j]) if pair is None else curve[j] for j, pair in pairs]) for curve in curves
    )
    return plain, corrected


def counterparts(first: State, second: State, q_max: float, *, threads: int) -> list[tuple[int, Alignment | None]]:
    """Return the counterpart in `second` of each state of `first`, and how to lay it onto it.

    Two runs number their states as they please: every state is aligned to every other one, and counterparts are the
    pairing with the largest sum of correlations (Kuhn, Nav. Res. Logist. Q. 2:83, 1955). The alignment is None if one
    of the two has no patterns, or a density that is constant.
    """
    states = range(len(first.density))

    def aligned(k: int, j: int) -> Alignment | None:
        # What is left of a state that has lost its patterns shows what they all have in common.
        if not (first.members[k] and second.members[j]):
            return None
        try:
            return align(second.density[j], first.density[k], first.voxel_angstrom, q_max=q_max, threads=threads)
        except InputError:
            return None

    pairs = [[aligned(k, j) for j in states] for k in states]
    merit = [[-1.0 if pair is None else pair.correlation for pair in row] for row in pairs]
    _, best = linear_sum_assignment(merit, maximize=True)
    return [(int(j), pairs[k][j]) for k, j in enumerate(best)]


def held_out(experiments: list[Experiment], models: list[State], settings: Settings) -> HeldOut:
    """Return how well each model foresees the patterns of one experiment that it was not made from, the worse of them.

    One half that is right about the particle does not make up for another that is not.
    """
    one = experiments[0]
    compared = bands(one.diameter_angstrom, one.q_max, pixel_spacing(one.detector.q[one.detector.matched]))
    deviations = np.full(len(compared), np.inf)
    for number, band in enumerate(compared):
        for half, (experiment, model) in enumerate(zip(experiments, models, strict=True)):
            rng = stream(settings.seed, Purpose.HELD_OUT, number, half)
            found = significance(experiment, model, band, settings.matching, rng)
            deviations[number] = min(deviations[number], found)
    return HeldOut(
        q_first=np.array([band.q_first for band in compared]),
        q_last=np.array([band.q_last for band in compared]),
        deviations=deviations,
    )
