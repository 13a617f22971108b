"""How long a reconstruction will take, by what it computes and how fast this machine is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spilegate.forecast.counts import Load, fft_operations, terms
from spilegate.forecast.outline import Outline
from spilegate.forecast.rates import Rates
from spilegate.formats.reading import FEWEST_PATTERNS
from spilegate.generation.start import START_MERGING
from spilegate.kernels import fft

# What stages take over the sum of their terms: what is not counted, and what others do to the caches meanwhile.
FACTORS = {"start": 1.0, "match": 1.2, "refine": 1.2, "merge": 1.2, "phase": 1.2}
# Bytes that array operations read and write for every probability of a soft assignment, as tiles are cut.
PROBABILITY_BYTES = 240.0
# Photon statistics take so many times as long: stages, and probabilities.
LOGARITHMS, OF_PROBABILITIES = {"match": 1.3, "refine": 1.15}, 1.8
# Of every iteration of a start, whatever its patterns: grids of views, rings, small transforms [seconds].
ITERATION_SECONDS = 0.04
# Python's and the libraries' start, and the last pictures; what is done besides the stages for every pattern and pixel:
# read, sorted, looked at for hot pixels and the diameter [seconds].
FIXED_SECONDS, VALUE_SECONDS = 4.0, 3e-7
# The point group, and laying the halves over each other: transforms of the last grid. The search for axes [seconds].
GROUP_TRANSFORMS, HALVES_TRANSFORMS, GROUP_SECONDS = 60.0, 150.0, 2.0
# Part of the time in which threads work side by side.
SHARED = 0.85


@dataclass(frozen=True)
class Times:
    """Seconds of one thread by part of a run, and of the run by so many threads."""

    parts: dict[str, float]
    threads: int

    @property
    def work(self) -> float:
        """Return the seconds of one thread."""
        return sum(self.parts.values())

    @property
    def seconds(self) -> float:
        """Return the seconds by all threads."""
        fixed = self.parts["fixed"]
        return fixed + (self.work - fixed) * (1 - SHARED + SHARED / self.threads)


def of_run(run: Outline, rates: Rates, threads: int) -> Times:
    """Return how long a run takes."""
    parts = _reconstruction(run, rates)
    options, last = run.settings.resolution, run.load(run.plans[-1], last=True)
    transform = rates.seconds("fft", fft_operations(last.plan.size))
    if options.phasings > 1:
        parts["prtf"] = options.phasings * _phasing(last, rates)
    if run.group.trivial:
        parts["group"] = run.settings.matching.states * (GROUP_SECONDS + GROUP_TRANSFORMS * transform)
    if options.half_sets and run.patterns >= 2 * FEWEST_PATTERNS:
        parts["halves"] = 2 * sum(_reconstruction(run.half(), rates).values()) + HALVES_TRANSFORMS * transform
    parts["prepare"] = VALUE_SECONDS * run.patterns * run.n_pixel
    parts["fixed"] = FIXED_SECONDS
    return Times(parts, threads)


def _reconstruction(run: Outline, rates: Rates) -> dict[str, float]:
    """Return seconds by stage of all patterns, or of a half of them."""
    found = dict.fromkeys(FACTORS, 0.0)
    dear = OF_PROBABILITIES if run.poisson else 1.0
    for plan in run.start_plans:
        found["start"] += run.starts * _softly(run.load(plan), rates, run.started, START_MERGING.iterations, dear)
    found["start"] += run.starts * len(run.start_plans) * ITERATION_SECONDS
    if run.started < run.patterns:
        found["start"] += _softly(run.load(run.start_plans[-1]), rates, run.patterns, START_MERGING.iterations, dear)
    plans = run.plans
    for plan in plans:
        load = run.load(plan, last=plan is plans[-1])
        if run.soft:
            found["match"] += _softly(load, rates, run.patterns, load.cg, dear)
            found["phase"] += load.states * load.phasings * _phasing(load, rates)
        else:
            for stage, seconds in _generation(load, rates, len(run.group.representatives)).items():
                found[stage] += seconds * (LOGARITHMS.get(stage, 1.0) if run.poisson else 1.0)
    return {stage: FACTORS[stage] * seconds for stage, seconds in found.items()}


def _generation(load: Load, rates: Rates, cosets: int) -> dict[str, float]:
    """Return seconds by stage; every pattern is merged at so many cosets of a symmetry."""
    found: dict[str, float] = {}
    for term in terms(load, device=False):
        stage = term.name.partition(":")[0]
        seconds = sum(rates.seconds(resource, amount) for resource, amount in term.amounts.items())
        if term.name == "match: patterns x views":
            seconds /= load.plan.search_every
        elif stage == "merge" and term.place == "patterns":
            seconds *= cosets
        found[stage] = found.get(stage, 0.0) + seconds
    return found


def _phasing(load: Load, rates: Rates) -> float:
    """Return seconds of one phasing."""
    (seconds,) = (
        sum(rates.seconds(resource, amount) for resource, amount in term.amounts.items())
        for term in terms(load, device=False)
        if term.name == "phase: iterations"
    )
    return seconds / (load.states * load.phasings)


def _softly(load: Load, rates: Rates, patterns: int, iterations: int, dear: float) -> float:
    """Return seconds of a soft assignment of so many patterns to all views, and of the merge of what is expected.

    iterations : of conjugate gradients; dear : how many times as long probabilities take as by squared distances
    """
    plan, views = load.plan, load.views
    harmonics, pairs = plan.n_phi // 2 + 1, float(patterns) * views
    points, grid = float(views) * load.rings * plan.n_phi, 2 * (2 * plan.size - 1)
    padded = fft.fast_size(2 * plan.size - 1)
    amounts = {
        # Correlations, and the sums over patterns; Fourier sums over the shifts and back.
        "gemm": pairs * harmonics * (16 * load.rings + 4 * plan.n_phi),
        "memory": dear * PROBABILITY_BYTES * pairs * plan.n_phi,
        "evaluate": points,
        "gather": points,
        "fft": fft_operations(2 * plan.size) + 2 * fft_operations(grid)
        + 2 * (iterations + 3) * fft_operations(padded),
    }  # fmt: skip
    return math.fsum(rates.seconds(resource, amount) for resource, amount in amounts.items())
