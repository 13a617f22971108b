"""How much memory of a computer a reconstruction will take, and whether there is as much."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spilegate.errors import InputError
from spilegate.forecast.counts import Load, merged_elements
from spilegate.forecast.outline import Outline, of_experiment
from spilegate.formats import pixels
from spilegate.geometry.detector import pixel_spacing
from spilegate.kernels import host_memory
from spilegate.kernels.blocks import SCRATCH, tile_rows
from spilegate.kernels.memory import GIB, SOFT_COPIES
from spilegate.kernels.plans import grid_bytes
from spilegate.patterns.checks import FEWEST_SPECKLES
from spilegate.patterns.experiment import Experiment
from spilegate.records import NEVER, Dataset
from spilegate.schedule import START_RING
from spilegate.settings import Settings
from spilegate.stages.assigning import SUM_BYTES
from spilegate.stages.matching import BLOCK_BYTES, COPIES

# Python, its libraries, and what they keep.
BASE = 320 * 2.0**20
# Of these, before the first generation.
HELD = 160 * 2.0**20
# Of a point that is merged, as it was measured; less than what tiles are cut by.
POINT_BYTES = 128.0
# Of the sums of a tile, of which not all are there at once.
PART_OF_SUMS = 0.9
# Estimates are right to this factor: a run is refused only if it would not fit even so.
SURE = 1.3
# Binning leaves speckles this wide [pixels].
NARROWEST = 2.0


def of_run(run: Outline, threads: int) -> float:
    """Return the largest memory that a run takes [bytes]; threads : tiles that are worked on side by side."""
    patterns = 4.0 * run.patterns * run.stored
    plans = run.plans
    largest = max(_generation(run, run.load(plan, last=plan is plans[-1]), threads) for plan in plans)
    start = run.load(run.start_plans[-1])
    return BASE + patterns + max(largest, _softly(start, threads))


def _generation(run: Outline, load: Load, threads: int) -> float:
    """Return the largest memory of a generation's stages [bytes]."""
    size = load.plan.size
    rows = min(run.patterns, tile_rows(run.patterns, run.stored, load.block))
    tiles = min(threads, math.ceil(run.patterns / rows))
    sums = grid_bytes(2 * size - 1) + 32.0 * (2 * size - 1) ** 3
    merge = tiles * (POINT_BYTES * load.used_merge * rows + PART_OF_SUMS * load.states * sums)
    merge += 8.0 * load.states * merged_elements(size)
    phase = min(threads, load.states * load.phasings) * 4.0 * SCRATCH * size**3
    solve = 8 * 4.0 * SCRATCH * size**3
    searched = load.states * COPIES * min(BLOCK_BYTES, load.slice_bytes / load.states)
    return max(merge, phase, solve, _softly(load, threads) if run.soft else searched)


def _softly(load: Load, threads: int) -> float:
    """Return the memory of a soft assignment [bytes]."""
    sums = SUM_BYTES * (load.plan.n_phi // 2 + 1) * 2 * load.rings * load.views
    return SOFT_COPIES * float(load.slice_bytes) + threads * sums


def binned(run: Outline, factor: int) -> Outline:
    """Return the run with its pixels binned further by a factor."""
    some = slice(None, None, factor**2)
    return replace(
        run,
        stored=-(-run.stored // factor**2),
        n_pixel=-(-run.n_pixel // factor**2),
        matched=run.matched[some],
        merged=run.merged[some],
    )


def ending_at(run: Outline, q_max: float) -> Outline:
    """Return the run with its data cut off at a radius [1/angstrom]."""
    return replace(run, q_max=q_max, matched=run.matched[run.matched <= q_max], merged=run.merged[run.merged <= q_max])


def remedy(run: Outline, free: float, width: float, divisors: list[int], binning: int) -> tuple[str, ...]:
    """Return words of a command line with which a run fits into so much memory [bytes]; none if nothing helps.

    width : of a speckle [pixels]; divisors : by which panels can be binned further; binning : by which they are now
    """

    def fits(changed: Outline) -> bool:
        return of_run(changed, 1) <= free

    for factor in divisors:
        if width / factor >= NARROWEST and fits(binned(run, factor)):
            return "--set", f"prepare.binning={binning * factor}"
    least = max(FEWEST_SPECKLES, run.q_first * run.diameter + START_RING) / run.diameter
    for q_max in np.geomspace(run.q_max, least, 40)[1:] if least < run.q_max else ():
        # The diameter as well: another radius might make another one of the patterns.
        rounded = float(f"{q_max:.3g}")
        if least <= rounded < run.q_max and fits(ending_at(run, rounded)):
            return "--set", f"prepare.q_max={rounded:g}", "--diameter-angstrom", f"{run.diameter:.10g}"
    return ()


def check_host_memory(experiment: Experiment, dataset: Dataset, settings: Settings) -> None:
    """Raise InputError if a run by the threads of this process has too little memory, its patterns being there."""
    run = of_experiment(experiment, settings)

    def width() -> float:
        return 1 / (run.diameter * pixel_spacing(dataset.q[dataset.mask < NEVER]))

    check(run, width, pixels.divisors(dataset.panel_shape), dataset.binning, held=True)


def check(run: Outline, width: Callable[[], float], divisors: list[int], binning: int, *, held: bool = False) -> None:
    """Raise InputError if a run does not fit into the memory that is free, with the setting that makes it fit.

    Threads do not count: where there is little memory, fewer tiles are worked on side by side. The others as `remedy`.
    held : whether the process holds its libraries and the patterns already
    """
    free, needed = host_memory.available_bytes(), of_run(run, 1)
    if held:
        free += HELD + 4.0 * run.patterns * run.stored
    if needed / SURE <= free:
        return
    words = remedy(run, free, width(), divisors, binning)
    mended = f"{' '.join(words)} (which fits), or a machine with more memory" if words else "a machine with more memory"
    raise InputError(
        f"this run needs about {needed:.3g} bytes of memory ({needed / GIB:.3g} GiB), {free:.3g} are free "
        f"({free / GIB:.3g} GiB); expected that much; {mended}"
    )
