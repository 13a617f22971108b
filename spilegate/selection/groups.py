"""Groups of patterns that are alike in size, shape and misfit: a mixture of normal distributions.

How many there are is what describes them in the fewest words (Schwarz, Ann. Stat. 6:461, 1978).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spilegate.records import Float64, Int64

# Most groups that are tried; how often from other beginnings, if points are few and if they are MANY; rounds of
# expectation maximisation.
MOST, TRIES, ROUNDS = 7, (8, 3), 200
# Part of the patterns that may be like no others, spread evenly over all that is seen.
STRAYS = 0.02
# A group is no narrower than this, in units of the features' own scatter; relative change that ends the rounds.
NARROWEST, SETTLED, MANY = 0.02, 1e-6, 1000


@dataclass(frozen=True)
class Mixture:
    """share : (G,) of every group; mean : (G, F); covariance : (G, F, F); of stray points the rest, at this density."""

    share: Float64
    mean: Float64
    covariance: Float64
    strays: float

    def densities(self, points: Float64) -> Float64:
        """Return the density (N, G + 1) of every group at points (N, F), times its share; the strays' last."""
        columns = []
        for share, mean, covariance in zip(self.share, self.mean, self.covariance, strict=True):
            root = np.linalg.cholesky(covariance)
            white = np.linalg.solve(root, (points - mean).T)
            logarithm = -0.5 * (white**2).sum(axis=0) - np.log(np.diag(root)).sum()
            columns.append(share * np.exp(logarithm - 0.5 * len(mean) * np.log(2 * np.pi)))
        columns.append(np.full(len(points), self.strays))
        return np.stack(columns, axis=1)

    def probabilities(self, points: Float64) -> Float64:
        """Return the probability (N, G + 1) of every point (N, F) to belong to each group; the strays' last."""
        found = self.densities(points)
        result: Float64 = found / found.sum(axis=1, keepdims=True)
        return result


def mixture(points: Float64, rng: np.random.Generator) -> Mixture:
    """Return the mixture that describes points (N, F) best, the largest group first."""
    spread = np.maximum(points.std(axis=0), 1e-6)
    scaled = points / spread
    total = len(points)
    best: tuple[float, Mixture] | None = None
    for groups in range(1, MOST + 1):
        numbers = groups * (1 + points.shape[1] + points.shape[1] * (points.shape[1] + 1) / 2)
        if numbers * 1.5 > total:
            break
        for _ in range(TRIES[int(total >= MANY)] if groups > 1 else 1):
            found, fit = _maximised(scaled, groups, rng)
            cost = numbers * np.log(total) - 2 * fit
            if best is None or cost < best[0]:
                best = cost, found
    assert best is not None  # noqa: S101 - one group is always tried
    order, found = np.argsort(-best[1].share, kind="stable"), best[1]
    outer = spread[:, None] * spread[None, :]
    return Mixture(
        found.share[order], found.mean[order] * spread, found.covariance[order] * outer,
        found.strays / float(np.prod(spread)),
    )  # fmt: skip


def _maximised(points: Float64, groups: int, rng: np.random.Generator) -> tuple[Mixture, float]:
    """Return the mixture of so many groups from beginnings far apart, and the logarithm of its likelihood."""
    size = np.maximum(np.ptp(points, axis=0), 1e-6)
    strays = STRAYS / float(np.prod(size))
    centres = _apart(points, groups, rng)
    nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    belongs = np.eye(groups)[nearest]
    last = -np.inf
    for _ in range(ROUNDS):
        now = _moments(points, belongs, strays)
        densities = now.densities(points)
        total = np.maximum(densities.sum(axis=1), 1e-300)
        fit = float(np.log(total).sum())
        belongs = densities[:, :-1] / total[:, None]
        if abs(fit - last) < SETTLED * abs(fit):
            break
        last = fit
    return now, fit


def _moments(points: Float64, belongs: Float64, strays: float) -> Mixture:
    share = belongs.sum(axis=0) + 1e-9
    mean = belongs.T @ points / share[:, None]
    covariance = []
    for k, centre in enumerate(mean):
        apart = points - centre
        covariance.append((belongs[:, k, None] * apart).T @ apart / share[k] + NARROWEST**2 * np.eye(points.shape[1]))
    return Mixture((1 - STRAYS) * share / share.sum(), mean, np.array(covariance), strays)


def _apart(points: Float64, groups: int, rng: np.random.Generator) -> Float64:
    """Return beginnings (groups, F) far apart (k-means++; Arthur and Vassilvitskii, SODA 1027, 2007)."""
    chosen: Int64 = np.array([rng.integers(len(points))])
    while len(chosen) < groups:
        distance = ((points[:, None] - points[chosen]) ** 2).sum(axis=2).min(axis=1)
        chosen = np.append(chosen, rng.choice(len(points), p=distance / distance.sum()))
    result: Float64 = points[chosen]
    return result
