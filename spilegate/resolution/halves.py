"""Two reconstructions of disjoint halves of the patterns, started independently, and what they agree on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from spilegate.evaluation.alignment import moved
from spilegate.evaluation.fsc import fourier_shell_correlation
from spilegate.geometry.detector import pixel_spacing
from spilegate.geometry.symmetry import Group
from spilegate.patterns.checks import check_patterns
from spilegate.patterns.experiment import Experiment
from spilegate.reconstruction import HeldOut, Reconstruction
from spilegate.records import Float32, Float64, State, Watcher
from spilegate.resolution.counterparts import counterparts
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
    maps : (2, K, M, M, M) float32, the densities of both halves, laid over those of all patterns; zeros for a state
        without a counterpart in both
    patterns : how many each half has; held_out : whether each half's model foresees the other half's patterns
    """

    plain: Float64
    corrected: Float64
    maps: Float32
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
    plain, corrected, maps = compared(
        whole, first.state, second.state, first.q_max, experiment.diameter_angstrom, settings.seed,
        symmetry=experiment.symmetry, threads=workers.threads,
    )  # fmt: skip
    return HalfSets(
        plain=plain,
        corrected=corrected,
        maps=maps,
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


def compared(
    whole: State,
    first: State,
    second: State,
    q_max: float,
    diameter_angstrom: float,
    seed: int,
    *,
    symmetry: Group,
    threads: int,
) -> tuple[Float64, Float64, Float32]:
    """Return the plain and the corrected shell correlations (K, N_SHELL) of the halves, and their maps.

    The maps are those that the plain correlation is of, (2, K, M, M, M) float32, laid over the densities of `whole`,
    whose states number all three. A state without a counterpart in both halves agrees with nothing: zeros everywhere.
    """
    voxel, size = first.voxel_angstrom, first.density.shape[-1]
    plain, corrected = np.zeros((2, len(whole.density), size // 2))
    maps = np.zeros((2, len(whole.density), size, size, size), np.float32)
    for k, triple in enumerate(counterparts(whole, first, second, q_max, symmetry, threads=threads)):
        if triple is None:
            continue
        maps[0, k] = triple.onto_whole.volume
        both = triple.onto_first.then(triple.onto_whole)
        maps[1, k] = moved(second.density[triple.second], both, voxel, threads=threads)
        curve = fourier_shell_correlation(maps[0, k], maps[1, k], voxel, threads=threads)
        plain[k] = curve.correlation
        corrected[k] = corrected_correlation(
            curve,
            (first.density[triple.first], second.density[triple.second]),
            (first.support[triple.first], second.support[triple.second]),
            partial(moved, placement=triple.onto_first, voxel_angstrom=voxel, threads=threads),
            partial(surrogate, rng=stream(seed, Purpose.SURROGATE, triple.first), threads=threads),
            voxel,
            diameter_angstrom,
            threads=threads,
        )
    return plain, corrected, maps


def held_out(experiments: list[Experiment], models: list[State], settings: Settings) -> HeldOut:
    """Return how well each model foresees the patterns of one experiment that it was not made from, the worse of them.

    One half that is right about the particle does not make up for another that is not.
    """
    one = experiments[0]
    spacing = pixel_spacing(one.detector.q[one.detector.matched])
    compared = bands(one.diameter_angstrom, one.q_max, spacing, one.q_first)
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
