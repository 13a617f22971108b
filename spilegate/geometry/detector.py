"""The detector in reciprocal space: the Ewald sphere, polar rings, and resampling of patterns onto rings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from scipy.spatial import cKDTree

from spilegate.backend import array_module
from spilegate.kernels.resample import resampled
from spilegate.records import Bool, Float64

# Pixels of the local quadratic fit that resamples patterns onto rings: this many determine its 6 terms with room to
# average noise; more where the rings are so coarse that pixels between their samples would otherwise have no say.
FEWEST_NEIGHBOURS, MOST_NEIGHBOURS = 16, 64
PIXELS_PER_SAMPLE = 2.0
# A sample that lies further than this many pixel spacings from every usable pixel is not covered.
REACH = 0.9


@dataclass(frozen=True)
class Detector:
    """What is known of every pixel.

    q : (N_PIX, 3) float64 [1/angstrom], on one Ewald sphere
    matched, merged : (N_PIX,) bool, used to find orientations, and to merge at them
    response : (N_PIX,) float64, counts for each unit of intensity, 1 at the beam: polarisation and solid angle
    background : (N_PIX,) float64 [counts], the same in every pattern
    trust : (N_PIX,) float64, what a pixel says by its noise, over others at its |q|; None where all say as much
    """

    q: Float64
    matched: Bool
    merged: Bool
    response: Float64
    background: Float64
    trust: Float64 | None = None


@dataclass(frozen=True)
class Rings:
    """Polar detector coordinates on the Ewald sphere.

    q : (N_R, N_PHI, 3) float64 [1/angstrom]; q[:, j] is q[:, 0] turned about the beam by 2 pi j / N_PHI
    cell : (N_R,) float64, area of the detector that a sample stands for [pixels]
    coverage : (N_R, N_PHI) float64, 1 where there are usable pixels, 0 elsewhere: patterns are 0 there
    resample : (N_R * N_PHI, N_PIX) sparse float32, patterns on the rings = resample @ patterns.T
    """

    q: Float64
    cell: Float64
    coverage: Float64
    resample: scipy.sparse.csr_array

    def patterns(self, images: Any) -> Any:
        """Return patterns (N_IMG, N_PIX) float32 on the rings, (N_IMG, N_R, N_PHI) float32."""
        polar = resampled(self.resample, images)
        return array_module(polar).reshape(polar, (-1, *self.q.shape[:2]))


def ewald_wavelength(q: Float64) -> float:
    """Return the wavelength [angstrom] of the Ewald sphere `q_z = -wavelength |q|^2 / 2` through (..., 3) points.

    By least squares, so that the rounding of pixels near the beam does not count.
    """
    squared = (q**2).sum(-1)
    return float(-2 * (q[..., 2] * squared).sum() / (squared**2).sum())


def ewald_points(q_length: Float64, phi: Float64, wavelength: float) -> Float64:
    """Return points of the Ewald sphere by their distance from the origin and angle about the beam, (..., 3)."""
    q_z = -wavelength * q_length**2 / 2
    across = np.sqrt(q_length**2 - q_z**2)
    return np.stack(np.broadcast_arrays(across * np.cos(phi), across * np.sin(phi), q_z), axis=-1)


def pixel_spacing(q: Float64) -> float:
    """Return the typical distance between neighbouring pixels (N, 3) [1/angstrom]."""
    distance, _ = cKDTree(q).query(q, k=2)
    return float(np.median(distance[:, 1]))


def rings(q: Float64, usable: Bool, *, q_first: float, q_last: float, spacing: float, n_phi: int) -> Rings:
    """Lay rings over the detector's usable pixels.

    q : (N_PIX, 3) float64 [1/angstrom], pixels on one Ewald sphere; usable : (N_PIX,) bool
    q_first, q_last, spacing : radii |q| of the first and last ring and their distance at most [1/angstrom]
    """
    count = max(2, int(np.ceil((q_last - q_first) / spacing)) + 1)
    radius = np.linspace(q_first, q_last, count)
    phi = 2 * np.pi * np.arange(n_phi) / n_phi
    points = ewald_points(radius[:, None], phi[None, :], ewald_wavelength(q))
    pixel = pixel_spacing(q[usable])
    cell = (radius[1] - radius[0]) * radius * (phi[1] / pixel**2)
    most_alike = PIXELS_PER_SAMPLE * float(cell[-1])
    matrix, covered = _local_fit(
        q[usable, :2],
        points[..., :2].reshape(-1, 2),
        neighbours=int(np.clip(most_alike, FEWEST_NEIGHBOURS, MOST_NEIGHBOURS)),
        reach=REACH * pixel,
    )
    columns = scipy.sparse.csr_array(matrix) @ _selector(usable)
    return Rings(points, cell, covered.reshape(count, n_phi).astype(np.float64), columns.astype(np.float32))


def _selector(usable: Bool) -> scipy.sparse.csr_array:
    """Return the (n_usable, N_PIX) matrix that picks the usable pixels."""
    index = np.flatnonzero(usable)
    return scipy.sparse.csr_array(
        (np.ones(len(index)), (np.arange(len(index)), index)), shape=(len(index), len(usable))
    )


def _local_fit(
    pixels: Float64, points: Float64, *, neighbours: int, reach: float
) -> tuple[scipy.sparse.csr_array, Bool]:
    """Return the matrix whose rows are the value, at each point, of a local quadratic fit to the nearest pixels.

    pixels : (n, 2), points : (m, 2), reach : same unit. Moving least squares (Lancaster and Salkauskas, Math. Comp.
    37:141, 1981) needs no regular grid: panels make no difference. Points with no pixel within reach, as in a gap, get
    an empty row; the second result (m,) says which are covered.
    """
    count = min(neighbours, len(pixels))
    distance, index = cKDTree(pixels).query(points, k=count)
    covered = distance[:, 0] <= reach
    radius = distance[:, -1:]
    x, y = np.moveaxis((pixels[index] - points[:, None]) / radius[..., None], -1, 0)
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    root = np.exp(-2.0 * (distance / radius) ** 2)
    inverse = np.linalg.pinv(basis * root[..., None], rcond=1e-6)
    rows = inverse[:, 0] * root * covered[:, None]
    indptr = np.arange(0, rows.size + 1, count)
    return scipy.sparse.csr_array((rows.ravel(), index.ravel(), indptr), shape=(len(points), len(pixels))), covered
