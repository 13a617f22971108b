"""How likely it is that a pattern shows a single particle: by its group, or by how far it is from a model."""

from __future__ import annotations

import numpy as np

from spilegate.records import Float64
from spilegate.selection.groups import Mixture, mixture
from spilegate.selection.trial import parts

# Patterns that the distribution of misfits is found from.
SAMPLE = 2500
# Unit of misfits of a model, and standard deviations of the best ones within which others count.
MODEL_UNIT, NEAR = 0.02, 6.0
# How many more particles than droplets there are of their size, before that is measured.
PARTICLES = 3.0


def compactness(groups: Mixture) -> Float64:
    """Return how much alike the patterns of every group (G,) are in size and shape, by their number."""
    spread = np.sqrt(np.maximum(np.linalg.det(groups.covariance[:, :2, :2]), 1e-12))
    result: Float64 = groups.share / spread
    return result


def by_group(groups: Mixture, belongs: Float64, structure: Float64) -> Float64:
    """Return probabilities (n,) to be a single particle by the most compact group alone.

    belongs : (n, G + 1), probabilities of the groups; structure : (n,), see `structure.significance`
    A pattern that shows no more than a spheroid may as well be of a droplet of that size.
    """
    own = belongs[:, int(compactness(groups).argmax())]
    more = np.maximum(structure, 0.0)
    result: Float64 = own / (1 + np.exp(-(np.minimum(more, 30.0) ** 2) / 2) / PARTICLES)
    return result


def by_misfit(misfit: Float64, rng: np.random.Generator) -> Float64:
    """Return probabilities (n,) of patterns to be of the model that they are off by misfits (n,).

    The second mixture is of those near the smallest misfits alone: how those far off are spread says nothing there.
    """
    value = np.arcsinh(misfit / MODEL_UNIT)[:, None]
    points = value[parts(np.arange(len(value)), SAMPLE, rng)]
    found = mixture(points, rng)
    first = int(np.argmin(found.mean[:, 0]))
    near = found.mean[first, 0] + NEAR * np.sqrt(found.covariance[first, 0, 0])
    found = mixture(points[points[:, 0] < near], rng)
    deviation = np.sqrt(found.covariance[:, 0, 0])
    # The group of the smallest misfits, and those that it runs into.
    order = np.argsort(found.mean[:, 0], kind="stable")
    good = [order[0]]
    for k in order[1:]:
        last = max(found.mean[j, 0] + deviation[j] for j in good)
        if found.mean[k, 0] - deviation[k] > last:
            break
        good.append(k)
    belongs = found.probabilities(value)
    result: Float64 = belongs[:, good].sum(axis=1)
    # Less than is usual is no worse.
    result[value[:, 0] < found.mean[order[0], 0]] = 1.0
    result[value[:, 0] >= near] = 0.0
    return result
