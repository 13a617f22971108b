"""Values that single patterns lack, and what is expected there: the mean over shells of |q|, as bright as the pattern.

How bright patterns are and what shells hold is fitted to the values that there are, so that what is missing biases
neither; all that follows is measured with what is expected in its place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from spilegate.geometry.detector import Detector
from spilegate.kernels.blocks import pattern_bytes
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here, Workers
from spilegate.patterns import zingers
from spilegate.patterns.brightness import DARKEST, TINY
from spilegate.patterns.statistics import TILE, Sums
from spilegate.patterns.zingers import Zingers
from spilegate.records import Dataset, Float64

# Alternations between the brightness of patterns and the means over shells.
ROUNDS = 8
# Steps of a sequence that fills the square evenly (Roberts' R2): what is rounded up and what down, without a bias.
STEPS = 0.7548776662466927, 0.5698402909980532


def expected(dataset: Dataset, sums: Sums, detector: Detector) -> Zingers:
    """Return the values that patterns lack and what belongs in their place; nothing is broken.

    sums : of the patterns with 0 in these places; detector : with the background, if that is known
    Whole numbers of photons stay whole: of an expected 0.3 three in ten become 1.
    """
    pattern, pixel, shells = dataset.missing_pattern, dataset.missing_pixel, sums.shells
    used = shells.of[pixel] >= 0
    pattern, pixel = pattern[used], pixel[used]
    shell = shells.of[pixel]
    seen, dark = (_present(sums, of, pattern, pixel) for of in (detector.response, detector.background))
    scale, mean = _fitted(sums.values - dark, seen)
    value = scale[pattern] * mean[shell] * detector.response[pixel] + detector.background[pixel]
    if dataset.counts:
        value = np.floor(value + (STEPS[0] * pattern + STEPS[1] * pixel) % 1)
    return replace(Zingers.none(len(shells.of)), pattern=pattern, pixel=pixel, value=value.astype(np.float32))


def _present(sums: Sums, of: Float64, pattern: Any, pixel: Any) -> Float64:
    """Return the sums (N_IMG, N_SHELL) of something (N_PIX,) over the pixels that have values."""
    shells, used = sums.shells, sums.shells.of >= 0
    whole = np.bincount(shells.of[used], of[used], len(shells.q))
    gone = csr_matrix((of[pixel], (pattern, shells.of[pixel])), sums.values.shape)
    result: Float64 = whole - gone.toarray()
    return result


def _fitted(signal: Float64, seen: Float64) -> tuple[Float64, Float64]:
    """Return brightness (N_IMG,) and means over shells (N_SHELL,), whose product fits signals (N_IMG, N_SHELL) best.

    seen : (N_IMG, N_SHELL), pixels that have values, times their response
    The likeliest ones of photons; sums over an axis are the same for any number of threads.
    """
    scale = np.ones(len(signal))
    for _ in range(ROUNDS):
        mean = np.maximum(signal.sum(0) / np.maximum((scale[:, None] * seen).sum(0), TINY), 0)
        scale = np.maximum(signal.sum(1) / np.maximum((mean * seen).sum(1), TINY), DARKEST)
    return scale, mean


def filled(images: Any, gaps: Zingers, n_pixel: int, *, workers: Workers) -> Any:
    """Return patterns, or lists of their photons, with what is expected where they lack values: a copy, if they do."""
    if len(gaps.pattern) == 0 or images.dtype.kind == "f":
        return zingers.mended(images, gaps, n_pixel, workers=workers)

    def entries(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        return (here.xp.sum(here.xp.astype(block != n_pixel, here.xp.float64), axis=1),)

    needed = workers.run(
        entries, len(images), [Rows((), np.float64)], tile=TILE, split=[images], row_bytes=pattern_bytes(n_pixel)
    )[0]
    bits = np.frexp(gaps.value.astype(np.float64))[1]
    needed = needed + np.bincount(gaps.pattern, bits, len(images))
    length = max(images.shape[1], int(needed.max()))
    return zingers.mended(images, gaps, n_pixel, workers=workers, length=length)


def without(hot: Zingers, gaps: Zingers) -> Zingers:
    """Return hot values less those where patterns lack values."""
    size = len(hot.broken)
    own = ~np.isin(hot.pattern * size + hot.pixel, gaps.pattern * size + gaps.pixel)
    return replace(hot, pattern=hot.pattern[own], pixel=hot.pixel[own], value=hot.value[own])
