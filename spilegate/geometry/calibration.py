"""Before any model: how bright every pattern is, and what all patterns have in common that is not signal.

The signal of a pixel grows with the pulse, a common background does not. So over patterns of different scale s the
counts of a pixel lie about a line, `d = s I + b`, whatever the orientations: its slope is the mean intensity, its
intercept the background.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spilegate.geometry.detector import Detector
from spilegate.geometry.inliers import expected
from spilegate.kernels.events import dense
from spilegate.kernels.workers import GROUP, Here, Rows, Total, Workers, pattern_bytes
from spilegate.state import Bool, Float64

# Relative spread of the scales below which patterns are too alike to tell signal from background.
LEAST_SPREAD = 0.2
# The background is a polynomial in |q| of this degree; pixels of their own would need more photons than there are.
DEGREE = 2
ROUNDS = 4
# Shells compared, and standard deviations beyond which a pattern is not worth a closer look.
FALL_OFF_SHELLS, STRANGE = 8, 20.0
# The same of the logarithms of their distances, as a long particle falls off in as many ways as it can be seen; and how
# many times as far as is usual the one that counts may be at most.
STRANGE_WIDE, STRANGEST = 4.5, 25.0
# Part of the patterns that may be strangers, however bright, and still be something else than the particle.
FEW_STRANGERS = 0.2
# A pattern is never taken for darker than this part of the mean.
DARKEST = 1e-3
# Patterns of less signal than this part of the usual one's show no particle, nor do those whose signal is not so many
# standard deviations above the photons of the background, as long as those are no more than that part of the usual one.
DARK, DARK_DEVIATIONS, DARK_MOST = 0.01, 3.0, 0.3
# Patterns of fewer photons do not even tell how bright they are. (At 300 photons, where refinement finds the scales
# anew, starting from the sums as they are gives the better density.)
FEW_PHOTONS = 200
TINY = 1e-30


def pattern_sums(images: Any, detector: Detector, pixels: Bool, *, workers: Workers) -> Float64:
    """Return the counts (N_IMG,) of every pattern on some of the pixels (N_PIX,)."""
    chosen, n_pixel = pixels.astype(np.float32), len(detector.q)

    def add(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        return (here.xp.matmul(dense(block, n_pixel), here.array(chosen)),)

    (sums,) = workers.run(
        add, len(images), [Rows((), np.float64)], tile=GROUP, split=[images], row_bytes=pattern_bytes(n_pixel)
    )
    return np.asarray(sums)


def shell_sums(images: Any, detector: Detector, edges: Float64, *, workers: Workers) -> Float64:
    """Return the counts (N_IMG, N_SHELL) of every pattern on the pixels for matching between radii (N_SHELL + 1,)."""
    n_pixel, n_shell = len(detector.q), len(edges) - 1
    shell = np.searchsorted(edges, np.linalg.norm(detector.q, axis=-1), side="right") - 1
    indicator = ((shell[:, None] == np.arange(n_shell)) & detector.matched[:, None]).astype(np.float32)

    def add(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        return (here.xp.matmul(dense(block, n_pixel), here.array(indicator)),)

    (sums,) = workers.run(
        add, len(images), [Rows((n_shell,), np.float64)], tile=GROUP, split=[images], row_bytes=pattern_bytes(n_pixel)
    )
    return np.asarray(sums)


def dark(sums: Float64, background: float, weight: Float64, *, counts: bool) -> Bool:
    """Return which patterns (N_IMG,) are too dark to show a particle.

    sums, weight : (N_IMG,), background : as `scales` takes them; counts : whether the values are numbers of photons
    The usual signal is that of the pattern from which the middle one of all photons is: most may be dark.
    """
    signal = sums - background
    order = np.sort(np.maximum(signal[weight > 0], 0))
    reached = np.cumsum(order)
    usual = float(order[np.searchsorted(reached, reached[-1] / 2)]) if len(order) and reached[-1] > 0 else 0.0
    noise = DARK_DEVIATIONS * float(np.sqrt(max(background, 0))) if counts else 0.0
    result: Bool = (signal < DARK * usual + noise * (noise <= DARK_MOST * usual)) | (sums <= 0)
    return result


def strangers(images: Any, detector: Detector, q_max: float, *, among: Bool | None = None, workers: Workers) -> Float64:
    """Return the weights (N_IMG,): 0 for patterns whose mean over rings is nothing like that of the others, else 1.

    Whatever its orientation, a pattern of the particle falls off with |q| like all others.
    among : (N_IMG,), those that are compared, all if left out; others get 0
    """
    q_length = np.linalg.norm(detector.q[detector.matched], axis=-1)
    edges = np.linspace(q_length.min(), q_max, FALL_OFF_SHELLS + 1)
    result = np.ones(len(images)) if among is None else among.astype(np.float64)
    sums = shell_sums(images, detector, edges, workers=workers)[result > 0]
    sums = sums[:, sums.sum(axis=0) > 0]
    total = sums.sum(axis=1, keepdims=True)
    # Of few photons there may be none on these pixels.
    total = np.maximum(total, DARKEST * total.mean())
    # The square root evens the scatter of photons out.
    parts = np.sqrt(sums / total)
    usual = np.median(parts, axis=0)
    scatter = np.median(np.abs(parts - usual), axis=0)
    distance = ((parts - usual) ** 2 / np.maximum(scatter, 1e-3 * usual.max()) ** 2).mean(axis=1)
    line, most = expected(distance, total[:, 0], limit=STRANGE)
    _, wide = expected(distance, total[:, 0], limit=0, wide=STRANGE_WIDE)
    usual = distance / line <= max(most, min(wide, STRANGEST))
    # Where most frames show but the background, strangers are what most photons are in: the particle.
    if (~usual).mean() > FEW_STRANGERS and total[~usual].sum() > total[usual].sum():
        usual = ~usual
    result[result > 0] = usual
    return result


def scales(sums: Float64, background: float, weight: Float64) -> Float64:
    """Return the scales (N_IMG,), of mean 1 where the weight is not 0, from sums of patterns and of the background."""
    signal, good = sums - background, weight > 0
    relative: Float64 = np.maximum(signal / signal[good].mean(), DARKEST)
    relative /= relative[good].mean()
    return relative


def shrunken(scale: Float64, noise: Float64, weight: Float64) -> Float64:
    """Return scales (N_IMG,) drawn towards 1 as far as photon noise and not the pulses makes them differ.

    noise : (N_IMG,), variance of each that counting photons causes; weight : (N_IMG,), 0 for patterns that do not count
    The best linear estimate (James and Stein, Proc. 4th Berkeley Symp. 1:361, 1961); the pulses' own variance is what
    noise leaves of the scales' variance. Patterns of few photons, each given the scale that its photons suggest, would
    all be equally bright, and so would be the particle from all sides.
    """
    good = weight > 0
    own = max(0.0, float(np.var(scale[good]) - noise[good].mean()))
    result: Float64 = 1 + (scale - 1) * own / np.maximum(own + noise, TINY)
    result /= result[good].mean()
    return result


def brightness(sums: Float64, background: float, weight: Float64, *, counts: bool) -> Float64:
    """Return the scales (N_IMG,) of patterns from their sums and that of the background; shrunken, if of few photons.

    sums, weight : (N_IMG,), background : as `scales` takes them; counts : whether the values are numbers of photons
    """
    scale = scales(sums, background, weight)
    signal = float((sums - background)[weight > 0].mean())
    if not counts or signal >= FEW_PHOTONS:
        return scale
    return shrunken(scale, np.maximum(sums, 1) / max(signal, TINY) ** 2, weight)


def alike(scale: Float64, weight: Float64) -> bool:
    """Tell whether scales (N_IMG,), those of weight 0 left out, differ too little to tell signal from background."""
    good = weight > 0
    return bool(np.std(scale[good]) < LEAST_SPREAD * np.mean(scale[good]))


def calibrate(
    images: Any,
    detector: Detector,
    weight: Float64,
    q_max: float,
    *,
    estimate: bool,
    counts: bool = False,
    sums: Float64 | None = None,
    workers: Workers,
) -> tuple[Float64, Detector]:
    """Return the scales (N_IMG,) of all patterns and the detector with its background.

    sums : (N_IMG,), their counts on the pixels for matching up to q_max, if they are known
    weight : (N_IMG,), 0 for patterns that are not to be trusted
    estimate : find the background from the patterns; else it is what the detector has
    counts : whether the values are numbers of photons
    """
    used = detector.matched & (np.linalg.norm(detector.q, axis=-1) <= q_max)
    sums = pattern_sums(images, detector, used, workers=workers) if sums is None else sums
    scale = scales(sums, float(detector.background[used].sum()), weight)
    background = detector.background
    for _ in range(ROUNDS if estimate else 0):
        found = background_of(images, detector, scale, weight, workers=workers)
        if found is None:
            break
        background = found
        scale = scales(sums, float(background[used].sum()), weight)
    scale = brightness(sums, float(background[used].sum()), weight, counts=counts)
    return scale, replace(detector, background=background) if estimate else detector


def background_of(
    images: Any, detector: Detector, scale: Float64, weight: Float64, *, workers: Workers
) -> Float64 | None:
    """Return the background (N_PIX,) [counts], smooth in |q|, from the lines through the counts of every pixel.

    scale, weight : (N_IMG,); patterns of weight 0 are left out
    None if the patterns are too alike in brightness to tell.
    """
    if alike(scale, weight):
        return None
    good = weight > 0
    count, n_pixel = len(images), len(detector.q)
    # Bright patterns scatter more: with the weight 1 / s the line is fitted with the same care everywhere.
    weight = good / scale

    def add(here: Here, part: slice, block: Any) -> tuple[Any, ...]:
        xp = here.xp
        counts = xp.astype(dense(block, n_pixel), xp.float64)
        own, light = here.array(scale[part]), here.array(weight[part])
        return (
            xp.matmul(light, counts),
            xp.matmul(light * own, counts),
            xp.matmul(light, counts * counts),
        )

    def greatest(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        return (here.xp.max(dense(block, n_pixel), axis=1),)

    options: dict[str, Any] = {"tile": GROUP, "split": [images], "row_bytes": pattern_bytes(n_pixel)}
    (most,) = workers.run(greatest, count, [Rows((), np.float32)], **options)
    bound = 4.0 * float((weight * most).sum()) + 1.0
    outputs = [Total((n_pixel,), bound), Total((n_pixel,), 4.0 * float(most.sum()) + 1.0)]
    outputs.append(Total((n_pixel,), bound * float(most.max())))
    zeroth, first, square = workers.run(add, count, outputs, **options)
    w0, w1, w2 = float(weight.sum()), float(good.sum()), float(scale[good].sum())
    determinant = w0 * w2 - w1**2
    intercept = (w2 * zeroth - w1 * first) / determinant
    slope = (w0 * first - w1 * zeroth) / determinant
    scatter = np.maximum(square - intercept * zeroth - slope * first, 0) / w1
    q_length = np.linalg.norm(detector.q, axis=-1)
    pixels = detector.merged & (scatter > 0)
    error, q = np.sqrt(scatter[pixels] * w2 / determinant), q_length[pixels]
    shape = np.polynomial.Polynomial.fit(q, intercept[pixels], DEGREE, w=1 / error)
    background: Float64 = np.maximum(shape(np.clip(q_length, q.min(), q.max())), 0.0)
    return background
