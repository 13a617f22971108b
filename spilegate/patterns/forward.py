"""How bright the pulse of every pattern was, by what it scattered forwards: there a particle is alike from all sides.

How much light a pattern holds depends on how the particle lies: a rod along the beam scatters several times as much as
one across it. Close to the beam the logarithm of a pattern is a parabola in q, steeper where the particle is longer
(Guinier, Ann. Phys. 11:161, 1939), whose value at q = 0 is the square of the particle's electrons times the pulse.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spilegate.geometry.detector import Detector
from spilegate.kernels.blocks import GROUP, pattern_bytes, tiles
from spilegate.kernels.events import dense
from spilegate.kernels.exact import Rows
from spilegate.kernels.workers import Here, Workers
from spilegate.patterns.robust import NORMAL
from spilegate.records import Float64

# How far out the parabola is fitted, in speckles: the first radius that has enough pixels. (Scales of 15 speckles,
# 2000 patterns, all pulses alike: rod 2.9 %, ring 2.9 %, cage 1.9 %, two lobes 2.6 %, by all counts 28, 24, 4 and 12 %;
# a protein of 8 speckles 0.5 %, by all counts 15 %.)
REACH = (0.8, 1.0)
# A parabola has four terms. Of more than MOST pixels as many are taken, from all radii alike.
FEWEST, MOST = 12, 256
# Rounds of Fisher scoring; patterns that are fitted at a time; largest logarithm.
ROUNDS, BLOCK, HIGHEST = 6, 4096, 100.0
# No particle scatters forwards so many times more or less of its light than the usual one: junk might.
MOST_APART = 10.0
# Fits that are mostly noise, so that less than this part of what they say would count, are of no use.
LEAST_PART = 0.5
# Where nothing is, the model is taken for that part of the usual pattern's mean, or a step would go anywhere.
FAINTEST = 1e-3


def first_scales(
    images: Any,
    detector: Detector,
    brightness: Float64,
    weight: Float64,
    diameter_angstrom: float,
    *,
    workers: Workers,
) -> Float64:
    """Return the scales (N_IMG,) of patterns, of mean 1 where the weight is not 0: as the counts near the beam have it.

    images : (N_IMG, N_PIX), or lists of their photons; brightness : (N_IMG,), what all counts say, of mean 1
    weight : (N_IMG,), 0 for patterns that do not count
    How far scattering forwards differs from what all counts say is a finding for each pattern as far as all of them
    differ by more than a fit is uncertain (James and Stein, Proc. 4th Berkeley Symp. 1:361, 1961). Where the centre is
    not seen, or photons are few, brightness is what is left.
    """
    pixels = central(detector, diameter_angstrom)
    good = weight > 0
    if not len(pixels):
        return brightness

    def take(here: Here, part: slice, block: Any) -> tuple[Any]:  # noqa: ARG001 - the signature of every body
        return (here.xp.take(dense(block, len(detector.q)), here.array(pixels), axis=1),)

    options: dict[str, Any] = {"tile": GROUP, "split": [images], "row_bytes": pattern_bytes(len(detector.q))}
    counts = np.asarray(workers.run(take, len(images), [Rows((len(pixels),), np.float32)], **options)[0], np.float64)
    forward, variance = parabolas(counts, detector, pixels, diameter_angstrom, brightness, good)
    apart = forward - np.log(brightness)
    known = good & np.isfinite(apart) & np.isfinite(variance)
    if not known.any():
        return brightness
    middle = float(np.median(apart[known]))
    own = max(0.0, (NORMAL * float(np.median(np.abs(apart[known] - middle)))) ** 2 - float(np.median(variance[known])))
    part = np.where(known, own / np.maximum(own + np.where(known, variance, np.inf), 1e-30), 0.0)
    if np.median(part[known]) < LEAST_PART:
        return brightness
    most = math.log(MOST_APART)
    scale: Float64 = brightness * np.exp(part * np.clip(np.where(known, apart - middle, 0.0), -most, most))
    scale /= scale[good].mean()
    return scale


def central(detector: Detector, diameter_angstrom: float) -> Any:
    """Return the pixels (n,) int64 that the parabola is fitted to, none if the centre is not seen."""
    speckles = np.linalg.norm(detector.q, axis=-1) * diameter_angstrom
    for reach in REACH:
        pixels = np.flatnonzero(detector.merged & (speckles < reach))
        if len(pixels) >= FEWEST:
            order = pixels[np.argsort(speckles[pixels], kind="stable")]
            return np.sort(order[:: -(-len(order) // MOST)])
    return np.zeros(0, np.int64)


def parabolas(
    counts: Float64, detector: Detector, pixels: Any, diameter_angstrom: float, brightness: Float64, good: Any
) -> tuple[Float64, Float64]:
    """Return the logarithm of every pattern's intensity at q = 0, to an offset, and its variance, (N_IMG,) each.

    counts : (N_IMG, n), at the pixels (n,); brightness : (N_IMG,), where the fit begins; good : (N_IMG,) bool
    Fisher scoring of `counts = exp(parabola) response + background`, whose variance is as the mean; in what ratio to it
    is what the patterns themselves say.
    """
    response, background = detector.response[pixels], np.maximum(detector.background[pixels], 0)
    x, y = (detector.q[pixels] * diameter_angstrom)[:, :2].T
    terms = np.stack([np.ones(len(x)), x * x, x * y, y * y], axis=1)
    usual = np.maximum((counts[good].mean(0) - background) / response, 0)
    usual = np.maximum(usual, FAINTEST * max(float(usual.mean()), np.finfo(float).tiny))
    first = np.linalg.lstsq(terms, np.log(usual), rcond=None)[0]
    value, variance = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    misfit = np.full(len(counts), np.nan)
    for part in tiles(0, len(counts), BLOCK):
        found = np.repeat(first[None], part.stop - part.start, axis=0)
        found[:, 0] += np.log(brightness[part])
        least = FAINTEST * brightness[part, None] * usual.mean()
        for step in range(ROUNDS + 1):
            level = np.maximum(np.exp(np.clip(found @ terms.T, -HIGHEST, HIGHEST)), least)
            signal = level * response
            expected = signal + background
            leverage = signal**2 / expected
            information = np.einsum("ij,jk,jl->ikl", leverage, terms, terms)
            information += 1e-9 * np.trace(information, axis1=1, axis2=2)[:, None, None] * np.eye(terms.shape[1])
            inverse = np.linalg.inv(information)
            off = counts[part] - expected
            if step == ROUNDS:
                break
            towards = np.einsum("ij,jk->ik", leverage * off / signal, terms)
            found += np.clip(np.einsum("ikl,il->ik", inverse, towards), -1.0, 1.0)
        value[part], variance[part] = found[:, 0], inverse[:, 0, 0]
        misfit[part] = (off**2 / expected).sum(1) / (len(pixels) - terms.shape[1])
    return value, variance * float(np.median(misfit[good]))
