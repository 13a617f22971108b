"""The point group that a merged intensity shows, by its self-rotation function; it is said, and never imposed.

Turned by an element of its particle's point group an intensity looks the same (Rossmann and Blow, Acta Cryst. 15:24,
1962). Its Friedel symmetry adds no rotation. Peaks of the self-rotation function give axes; an axis is n-fold if a turn
by 2 pi / n brings the intensity onto itself, and one by half of that does not: a cylinder has no order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from spilegate.evaluation.rotation_search import find_rotations, sampled, separate, transform_of
from spilegate.geometry.orientations import angle_between, directions, quaternions
from spilegate.geometry.symmetry import rotations
from spilegate.reconstruction import PointGroup
from spilegate.records import Float32, Float64

# Shells compared: from where particles begin to differ from balls, as far as intensities are well known [speckles].
FIRST, LAST, SHELLS, POINTS = 2.5, 8.0, 8, 128
# With fewer speckles than this nothing can be told.
FEWEST_SPECKLES = 4.0
# Peaks of the search.
PEAKS = 96
# Steps of that [degrees], each until it leads no further, or so many times, and the least correlation with which there
# is any use in it.
STEPS, MOST_STEPS = ((2.0, 0.3), (0.7, 0.6), (0.25, 0.75)), 10
# Rotations and axes nearer to each other than this are the same [degrees].
SAME = 6.0
# Least correlation of what is the same. Between the turns of an axis it is further from 1: by this factor, and as much.
ALIKE, TIMES, MORE = 0.9, 3.0, 0.02
MOST_FOLD = 24
NEIGHBOURS = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])

Correlate = Callable[[Float64], Float64]


def point_group(
    autocorrelation: Float32,
    density: Float32,
    voxel_angstrom: float,
    diameter_angstrom: float,
    q: float,
    *,
    threads: int,
) -> PointGroup | None:
    """Return the point group of a particle; None if too few speckles are known to tell.

    autocorrelation, density : (M, M, M) float32, centre at M // 2; the density only says where to look
    q : how far the intensity is known [1/angstrom]
    """
    last = min(LAST, q * diameter_angstrom)
    if last < FEWEST_SPECKLES or not density.any():
        return None
    edge = len(density) * voxel_angstrom / diameter_angstrom
    correlate = self_rotation(autocorrelation, np.linspace(FIRST, last, SHELLS) * edge, threads=threads)
    found = find_rotations(density, density, FIRST * edge, last * edge, PEAKS, threads=threads)
    found = refined(found, correlate)
    best_first = np.concatenate([np.eye(3)[None], found[np.argsort(-correlate(found), kind="stable")]])
    peaks = separate(best_first, len(best_first), SAME)
    name, elements = identified(peaks[correlate(peaks) >= ALIKE], correlate)
    agreement = correlate(elements)
    rest = [peak for peak in peaks if angle_between(quaternions(elements), quaternions(peak)).min() > SAME]
    return PointGroup(
        name,
        float(agreement[1:].min()) if len(elements) > 1 else 1.0,
        max(0.0, float(correlate(np.array(rest)).max())) if rest else 0.0,
    )


def self_rotation(autocorrelation: Float32, radii: Float64, *, threads: int) -> Correlate:
    """Return the function that gives correlations (n,) of an intensity with itself turned by rotations (n, 3, 3).

    radii : (N_SHELL,) of the shells compared [Fourier voxels], each with its own mean and spread
    """
    points = radii[:, None, None] * directions(POINTS)
    transform = transform_of(autocorrelation, radii[-1], threads=threads)

    def normalised(turns: Float64) -> Float64:
        at = np.einsum("spa,nab->nspb", points, turns)
        values = sampled(transform, at, threads=threads).real.astype(np.float64)
        values -= values.mean(axis=-1, keepdims=True)
        scaled: Float64 = values / np.maximum(values.std(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
        return scaled

    fixed = normalised(np.eye(3)[None])

    def correlate(turns: Float64) -> Float64:
        result: Float64 = (normalised(turns) * fixed).mean(axis=(1, 2)) if len(turns) else np.zeros(0)
        return result

    return correlate


def refined(turns: Float64, correlate: Correlate) -> Float64:
    """Return rotations (n, 3, 3) climbed to the tops of their peaks."""
    turns = turns.copy()
    for step, least in STEPS:
        around = Rotation.from_rotvec(np.radians(step) * NEIGHBOURS).as_matrix()
        climbing = np.flatnonzero(correlate(turns) > least)
        for _ in range(MOST_STEPS if len(climbing) else 0):
            trial = around @ turns[climbing, None]
            best = correlate(trial.reshape(-1, 3, 3)).reshape(len(climbing), -1).argmax(axis=1)
            turns[climbing] = trial[np.arange(len(climbing)), best]
            climbing = climbing[best > 0]
            if not len(climbing):
                break
    return turns


def identified(turns: Float64, correlate: Correlate) -> tuple[str, Float64]:
    """Return the name of the largest group that rotations (n, 3, 3) tell of, and its elements, the identity first."""
    axes = {tuple(axis): fold(axis, correlate) for axis in axes_of(turns)}
    ordered = sorted((axis for axis, n in axes.items() if n > 1), key=lambda axis: -axes[axis])
    for name, frames in hypotheses(ordered, [axes[axis] for axis in ordered]):
        group = rotations(name)
        group = group[np.argsort(-np.trace(group, axis1=1, axis2=2), kind="stable")]
        best = max(frames, key=lambda frame: float(correlate(frame @ group @ frame.T).mean()))
        elements = best @ group @ best.T
        if correlate(elements).min() >= ALIKE:
            return name, elements
    return "C1", np.eye(3)[None]


def axes_of(turns: Float64) -> list[Float64]:
    """Return the axes (3,) of rotations (n, 3, 3), those of several turns once."""
    chosen: list[Float64] = []
    for vector in Rotation.from_matrix(turns).as_rotvec():
        angle = np.linalg.norm(vector)
        if np.degrees(angle) > SAME and all(abs(vector @ axis) < np.cos(np.radians(SAME)) * angle for axis in chosen):
            chosen.append(vector / angle)
    return chosen


def fold(axis: Float64, correlate: Correlate) -> int:
    """Return the order of an axis, 1 for none."""
    numbers = np.arange(2, MOST_FOLD + 1)
    whole, half = (
        correlate(Rotation.from_rotvec((part * 2 * np.pi / numbers)[:, None] * axis).as_matrix()) for part in (1.0, 0.5)
    )
    good = numbers[(whole >= ALIKE) & (1 - half >= TIMES * (1 - whole) + MORE)]
    return int(good.max(initial=1))


def hypotheses(axes: list[tuple[float, ...]], folds: list[int]) -> list[tuple[str, list[Float64]]]:
    """Return names of groups that axes of these orders, highest first, may make, largest group first.

    Each with frames (3, 3) whose columns are x, y and z of the group as `geometry.symmetry` has it.
    """
    if not axes:
        return []
    of = {n: [np.array(axis) for axis, own in zip(axes, folds, strict=True) if own == n] for n in set(folds)}
    steep, main, most = sum(n > 2 for n in folds), np.array(axes[0]), folds[0]
    found: list[tuple[str, list[Float64]]] = []
    if steep >= 4:
        for name, own in (("I", of.get(2, [])), ("O", of.get(4, [])), ("T", of.get(2, []))):
            frames = [frame(z, x) for z in own for x in own if abs(z @ x) < np.sin(np.radians(SAME))]
            found += [(name, frames)] if frames else []
    across = [axis for axis in map(np.array, axes[1:]) if abs(axis @ main) < np.sin(np.radians(SAME))]
    if across:
        found.append((f"D{most}", [frame(main, x) for x in across]))
    return [*found, (f"C{most}", [frame(main, np.eye(3)[np.abs(main).argmin()])])]


def frame(z: Float64, x: Float64) -> Float64:
    """Return (3, 3) with the columns x, y and z, right-handed, z as given and x as near to that given as can be."""
    x = x - (x @ z) * z
    x = x / np.linalg.norm(x)
    result: Float64 = np.stack([x, np.cross(z, x), z], axis=1)
    return result
