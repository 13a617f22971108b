"""What makes a pattern likely, given a slice of the model: squared distances (Gaussian) or photon statistics (Poisson).

A pattern is modelled as `d = s c I + b`: the slice I times the pattern's scale s (the pulse's fluence) and the pixel's
response c, plus a background b common to all patterns. The grid search wants, for every slice and in-plane shift, a
correlation of something of the pattern with something of the slice, joined by a score with a sum over the slice:

    Gaussian   min_s sum_j w_j (x_j - s I_j)^2 = |x|^2 - C^2 / |I|^2,   C = sum_j w_j x_j I_j,   x = (d - b) / c
    Poisson    max_s sum_j (d_j log mu_j - mu_j) = C - N log sum_j mu_j + ...,   C = sum_j d_j log mu_j,   N = sum_j d_j

Either way the best scale is found with the orientation. Losses are in nats, half a squared distance for the Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from spilegate.backend import array_module, from_host
from spilegate.kernels.algebra import squared_norms
from spilegate.likelihood.sampling import MODEL_ERROR, Sampling
from spilegate.records import Float32

TINY = 1e-30


@dataclass(frozen=True)
class Observed:
    """Patterns as a likelihood wants them.

    values : (n, ...) float32, to be correlated with slices; amount : (n,), what turns scores into losses
    perfect, mean : (n,) losses of a slice that equals the pattern and of the mean over all orientations
    """

    values: Any
    amount: Any
    perfect: Any
    mean: Any

    def distance(self, loss: Any) -> Any:
        """Return losses (n, m) as distances: 0 for a perfect slice, 1 for one no better than the mean pattern."""
        xp = array_module(loss)
        span = xp.maximum(self.mean - self.perfect, TINY)
        return (loss - self.perfect[:, None]) / span[:, None]


class Likelihood(Protocol):
    """Statistics of a pattern on the points of a sampling; all methods take and return arrays of any module.

    noise : what a point costs at least where nothing but noise is left
    """

    noise: float

    @property
    def sampling(self) -> Sampling:
        """The points compared on."""

    def observed(self, counts: Any) -> Observed:
        """Return what is needed of patterns (n, ...) float32 [counts], whatever their scale."""

    def expected(self, slices: Any) -> tuple[Any, Any]:
        """Return what of slices (N, ...) is correlated with patterns, and what is summed over the points covered."""

    def score(self, correlation: Any, sums: Any) -> Any:
        """Join correlations with the slices' sums; the best slice has the largest score."""

    def loss(self, score: Any, amount: Any) -> Any:
        """Return the negative logarithm of the likelihood at the best scale, up to a constant of each pattern."""

    @property
    def loss_of(self) -> Callable[[Any, Any, Any], Any]:
        """The function (correlation, sums, amount) that is `loss(score(correlation, sums), amount)`."""

    def target(self, counts: Any, scale: Any) -> tuple[Any, ...]:
        """Return what `residuals` wants of patterns (n, N_POINT) with scales (n,): arrays (n, N_POINT) float32."""

    def residuals(self, target: tuple[Any, ...], intensity: Any, factor: Any) -> tuple[Any, Any, Any]:
        """Return residuals (n, N_POINT), by what they shrink for each unit of intensity, and costs (n,).

        intensity : (n, N_POINT), or that of one slice for all; factor : (n,), what the scales are to be multiplied by
        The cost is twice the loss less that of a perfect slice; the residuals are those of its Gauss-Newton model.
        """

    def mean_cost(self, target: tuple[Any, ...]) -> Any:
        """Return the costs (n,) of the mean pattern at its best scale."""


def _cosine(correlation: Any, sums: Any) -> Any:
    xp = array_module(correlation)
    return correlation / xp.sqrt(xp.maximum(sums, TINY))


def _half_square(score: Any, amount: Any) -> Any:
    positive = array_module(score).maximum(score, 0.0)
    return 0.5 * amount * (1.0 - positive * positive)


def _gaussian_loss(correlation: Any, sums: Any, amount: Any) -> Any:
    return _half_square(_cosine(correlation, sums), amount)


def _per_photon(correlation: Any, sums: Any) -> Any:
    return correlation - array_module(sums).log(sums)


def _negative(score: Any, amount: Any) -> Any:
    return -score * amount


def _poisson_loss(correlation: Any, sums: Any, amount: Any) -> Any:
    return _negative(_per_photon(correlation, sums), amount)


@dataclass(frozen=True)
class Gaussian:
    """Weighted squared distances, the weight of a point the inverse variance of all patterns at its |q|."""

    sampling: Sampling
    noise = 0.0

    def observed(self, counts: Any) -> Observed:
        """Return weighed patterns scaled to norm 1."""
        xp = array_module(counts)
        root = self.sampling.coverage * self._root()
        values = self.sampling.normalised(counts, xp.ones(counts.shape[0])) * from_host(root, counts)
        norm = squared_norms(xp.reshape(values, (values.shape[0], -1)))
        values /= xp.reshape(xp.sqrt(xp.maximum(norm, TINY)), (-1, *(1,) * (values.ndim - 1)))
        mean = np.ravel(self.sampling.mean * root)
        mean = from_host((mean / np.linalg.norm(mean)).astype(np.float32), counts)
        score = xp.matmul(xp.reshape(values, (values.shape[0], -1)), mean)
        return Observed(values, norm, 0.0 * norm, self.loss(score, norm))

    def _root(self) -> Float32:
        """Return the square root of the weight of every point, covered or not."""
        root: Float32 = np.sqrt(self.sampling.cell / self.sampling.variance).astype(np.float32)
        return root

    def expected(self, slices: Any) -> tuple[Any, Any]:
        """Return weighed slices, and their squares under a weight that knows no mask."""
        weighed = slices * from_host(self._root(), slices)
        return weighed, weighed * weighed

    def score(self, correlation: Any, sums: Any) -> Any:
        """Return the cosine of the angle between pattern and slice."""
        return _cosine(correlation, sums)

    def loss(self, score: Any, amount: Any) -> Any:
        """Return half the squared distance; a slice that needs a negative scale is as bad as none."""
        return _half_square(score, amount)

    loss_of = staticmethod(_gaussian_loss)

    def target(self, counts: Any, scale: Any) -> tuple[Any, ...]:
        """Return weighed intensities."""
        return (self.sampling.normalised(counts, scale) * from_host(self._root(), counts),)

    def residuals(self, target: tuple[Any, ...], intensity: Any, factor: Any) -> tuple[Any, Any, Any]:
        """Return weighed differences; their squares' sum is the cost."""
        root = from_host(self._root(), intensity) * factor[:, None]
        residual = target[0] - intensity * root
        return residual, root, squared_norms(residual)

    def mean_cost(self, target: tuple[Any, ...]) -> Any:
        """Return the costs (n,) of the mean pattern at its best scale."""
        xp = array_module(target[0])
        mean = self.sampling.mean * self._root()
        along = xp.matmul(target[0], from_host((mean / np.linalg.norm(mean)).astype(np.float32), target[0]))
        return squared_norms(target[0]) - along * along


@dataclass(frozen=True)
class Poisson:
    """Photon statistics. The background enters at the scale 1, of which the patterns' scales are multiples."""

    sampling: Sampling
    noise = 1.0

    def observed(self, counts: Any) -> Observed:
        """Return photons on every point's cell, scaled to the sum 1."""
        xp = array_module(counts)
        cell = self.sampling.coverage * self.sampling.cell
        values = counts * from_host(cell, counts)
        axes = tuple(range(1, values.ndim))
        amount = xp.maximum(xp.sum(values, axis=axes), TINY)
        response = self.sampling.in_plane_mean(self.sampling.response)
        mean = cell * response * self.sampling.level(self.sampling.mean)
        relative = values / from_host(np.maximum(mean, TINY).astype(np.float32), counts)
        values /= xp.reshape(amount, (-1, *(1,) * len(axes)))
        # What is left where a background was taken off may be less than nothing.
        saturated = xp.sum(values * xp.log(xp.maximum(xp.abs(relative), 1e-6)), axis=axes) - xp.log(amount)
        of_mean = self.loss(xp.full_like(amount, -float(np.log(mean.sum()))), amount)
        return Observed(values, amount, xp.minimum(self.loss(saturated, amount), of_mean), of_mean)

    def expected(self, slices: Any) -> tuple[Any, Any]:
        """Return logarithms of expected counts over those of the mean pattern, and the expected counts."""
        level = self.sampling.level(slices)
        relative = array_module(slices).log(level / from_host(self.sampling.level(self.sampling.mean), slices))
        response = self.sampling.in_plane_mean(self.sampling.response)
        return relative, level * from_host(self.sampling.cell * response, slices)

    def score(self, correlation: Any, sums: Any) -> Any:
        """Return the mean log-likelihood of a photon."""
        return _per_photon(correlation, sums)

    def loss(self, score: Any, amount: Any) -> Any:
        """Return the negative log-likelihood."""
        return _negative(score, amount)

    loss_of = staticmethod(_poisson_loss)

    def target(self, counts: Any, scale: Any) -> tuple[Any, ...]:
        """Return counts for each unit of intensity at scale 1, these units, and the level that is no intensity."""
        xp = array_module(counts)
        scale = xp.astype(scale, counts.dtype)[:, None]
        unit = from_host(self.sampling.response, counts) * scale
        ground = from_host(MODEL_ERROR * np.abs(self.sampling.mean), counts)
        return counts / unit, unit, from_host(self.sampling.background, counts) / unit + ground

    def residuals(self, target: tuple[Any, ...], intensity: Any, factor: Any) -> tuple[Any, Any, Any]:
        """Return differences over the expected deviation (Fisher scoring); the cost is the deviance."""
        values, unit, ground = target
        xp = array_module(values)
        level = xp.maximum(intensity, 0.0) * factor[:, None] + ground
        root = xp.sqrt(unit / level)
        deviance = level - values + values * xp.log(xp.maximum(xp.abs(values), TINY) / level)
        return root * (values - level), root * factor[:, None], 2.0 * xp.sum(unit * deviance, axis=1)

    def mean_cost(self, target: tuple[Any, ...]) -> Any:
        """Return the costs (n,) of the mean pattern at its best scale."""
        values, unit, ground = target
        xp = array_module(values)
        mean = from_host(np.maximum(self.sampling.mean, TINY), values)
        factor = xp.sum(unit * (values - ground), axis=1) / xp.sum(unit * mean, axis=1)
        return self.residuals(target, mean, xp.maximum(factor, 1e-3))[2]
