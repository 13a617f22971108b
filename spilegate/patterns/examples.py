"""Which patterns are worth a look once a run has ended, so that pictures need no others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spilegate.backend import to_host
from spilegate.findings import Findings
from spilegate.kernels.events import dense
from spilegate.patterns.experiment import Experiment
from spilegate.patterns.outliers import expected
from spilegate.patterns.statistics import mean_pattern
from spilegate.records import Bool, Float64, Int64, State

# Outliers shown as examples.
EXAMPLES = 4


@dataclass(frozen=True)
class Fits:
    """How every pattern fits.

    brightness : (N_IMG,), counts less background, over their mean; distance : (N_IMG,), to the best slice
    kept : (N_IMG,), False for outliers; scale : (N_IMG,), of mean 1, as the fit has it
    usual : (N_IMG,), the distance expected at each brightness; most : times `usual` that a pattern's distance may be
    """

    brightness: Float64
    distance: Float64
    kept: Bool
    scale: Float64
    usual: Float64
    most: float


def examples(fits: Fits) -> tuple[int | None, Int64]:
    """Return the pattern that fits as is usual, None if there is none, and up to EXAMPLES outliers.

    Outliers are spread evenly from the one that stands out least to the one that stands out most.
    """
    ratio = fits.distance / fits.usual
    out, kept = np.flatnonzero(~fits.kept), np.flatnonzero(fits.kept)
    order = out[np.argsort(ratio[out], kind="stable")]
    places = np.linspace(0, max(len(order) - 1, 0), min(EXAMPLES, len(order))).round().astype(np.int64)
    middle = int(kept[np.argsort(ratio[kept], kind="stable")[len(kept) // 2]]) if len(kept) else None
    return middle, order[places]


def choose(distance: Float64, used: Bool) -> list[tuple[str, int, float]]:
    """Return the patterns of the smallest, the median and the largest distance: (name, index, distance).

    distance, used : (N_IMG,), those that the run has worked on
    """
    order = np.argsort(distance, kind="stable")
    order = order[used[order]]
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    return [(name, int(order[place]), float(distance[order[place]])) for name, place in places.items()]


def fits(state: State, brightness: Float64, limit: float, wide: float) -> Fits:
    """Return how the patterns fit in a state.

    brightness : (N_IMG,), by the counts alone; limit, wide : as `inliers` takes them
    """
    usual, most = expected(state.distance, brightness, limit=limit, wide=wide)
    return Fits(brightness, state.distance, state.weight > 0, state.scale, usual, most)


def with_examples(experiment: Experiment, state: State, limit: float, wide: float) -> Findings:
    """Return the findings with the patterns that pictures of a run's last state show, and their mean.

    limit, wide : from which on a pattern counts as an outlier, as `inliers` takes them
    """
    middle, outlying = examples(fits(state, experiment.brightness, limit, wide))
    named = [index for _, index, _ in choose(state.distance, experiment.weight > 0)]
    shown = np.unique([*named, *outlying, *([] if middle is None else [middle])]).astype(np.int64)
    images, n_pixel = experiment.images, len(experiment.detector.q)
    patterns = [dense(to_host(images[index : index + 1]), n_pixel)[0] for index in shown]
    bound = None if experiment.sums is None else experiment.sums.most
    mean = mean_pattern(images, experiment.detector, state.weight, workers=experiment.workers, bound=bound)
    return replace(
        experiment.findings, mean=mean, shown=shown, examples=np.stack(patterns).astype(np.float32, copy=False)
    )
