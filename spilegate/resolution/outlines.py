"""Half-set FSC less what the supports contribute to it: agreement that their outlines make, whatever was measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spilegate.evaluation.fsc import FscCurve, fourier_shell_correlation
from spilegate.records import Bool, Float32, Float64

# Surrogates know nothing beyond where the halves' correlation first falls below this.
KNOWN_ABOVE = 0.8
# What a support makes of the strong shells inside the radius reaches this many speckles beyond it.
REACH_SPECKLES = 1.5
# One draw scatters by 0.03 to 0.08: enough of them for a mean that does not move where a curve crosses 0.143.
DRAWS = 8

Surrogate = Callable[[Float32, Bool, float], Float32]


def corrected_correlation(
    curve: FscCurve,
    halves: tuple[Float32, Float32],
    supports: tuple[Bool, Bool],
    move: Callable[[Float32], Float32],
    surrogate: Surrogate,
    voxel_angstrom: float,
    diameter_angstrom: float,
    *,
    threads: int,
) -> Float64:
    """Return the shell correlation (N_SHELL,) of two halves less what their supports contribute.

    Chen et al., Ultramicroscopy 135:24 (2013): `(FSC_t - FSC_n) / (1 - FSC_n)`, where n are halves that know nothing
    beyond some radius. Densities are zero outside of their supports, whose outlines come from the lowest shells: those
    alone make halves agree further out, on what nobody has measured. As there, the curve is left as it is up to a
    little beyond that radius.

    There n has random phases and is masked anew. That would take off too much here: densities of phasing have been
    masked already, so that random phases lose most of their power to the mask, and what the outlines make loses none.
    So n is phased anew from amplitudes that are noise beyond the radius.

    curve : their correlation as it is
    halves, supports : (M, M, M) float32 and bool, each in its own place; move : brings the second half onto the first
    surrogate : returns n of a half, its support and that radius [1/voxel], another one each time
    """
    low = np.flatnonzero(curve.correlation < KNOWN_ABOVE)
    if not len(low):
        return curve.correlation
    q_known = float(curve.q[low[0]])
    outlines = np.zeros_like(curve.correlation)
    for _ in range(DRAWS):
        first, second = (
            surrogate(half, support, q_known * voxel_angstrom) for half, support in zip(halves, supports, strict=True)
        )
        outlines += fourier_shell_correlation(first, move(second), voxel_angstrom, threads=threads).correlation / DRAWS
    # A chance agreement below zero is no reason to raise the curve, and 1 leaves nothing to divide by.
    outlines = np.clip(outlines, 0.0, 0.999)
    outside = curve.q > q_known + REACH_SPECKLES / diameter_angstrom
    return np.where(outside, (curve.correlation - outlines) / (1 - outlines), curve.correlation)
