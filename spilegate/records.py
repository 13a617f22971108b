"""The records that travel: what is measured (`Dataset`) and what is known so far (`State`).

Glossary of the capital letters in array shapes, used in every docstring of the package:

    N_IMG    patterns                      N_PIX   detector pixels of one pattern, all panels flattened
    K        states (conformations)        M       voxels along one edge of a volume, odd; the centre is at M // 2
    N_VIEW   view directions               N_R     polar rings          N_PHI   samples on a ring (= in-plane shifts)
    N_CAND   candidates kept per pattern   N_ATOM  atoms
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mode
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]

# Levels of a mask, Dragonfly's: used throughout; merged but not matched; never used.
USE, MERGE_ONLY, NEVER = 0, 1, 2
# What is 1 by construction is so but for this.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Origin:
    """What every pattern came from.

    file : the first that they were in; values : name to (N_IMG,) numbers or names: `index` there, train, pulse ...
    """

    file: str = ""
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def some(self, which: Int64, file: str) -> Origin:
        """Return that of some patterns of `file`, (n,) numbers: where they were first if that is known, or there."""
        known = {name: value[which] for name, value in self.values.items()}
        return Origin(self.file, known) if "index" in known else Origin(file, {"index": which, **known})

    @staticmethod
    def joined(parts: Sequence[tuple[Origin, str, int]]) -> Origin:
        """Return that of the patterns of several files; parts : of each what they came from, its name, their number."""
        each = [origin.some(np.arange(count), name) for origin, name, count in parts]
        names = [name for name in each[0].values if all(name in one.values for one in each)]
        values = {name: np.concatenate([one.values[name] for one in each]) for name in names}
        files = np.array([one.file.encode() for one in each])
        return Origin("", {"file": np.repeat(files, [count for _, _, count in parts]), **values})


@dataclass(frozen=True)
class Dataset:
    """Measured patterns and where their pixels lie in reciprocal space. Holds nothing of the truth.

    images : (N_IMG, N_PIX) float32 [photons or arbitrary intensity units], finite, 0 where the mask is 2, no photons
        < 0; or, of few photons, (N_IMG, N_EVENT) int32, the pixels that photons hit (`kernels.events`); a NumPy array,
        or one that is spread over many processors
    counts : whether the values are whole numbers of photons
    q : (N_PIX, 3) float64 [1/angstrom], laboratory frame, beam along +z, on the Ewald sphere
    mask : (N_PIX,) uint8, 0 use, 1 merge only (not used for matching orientations), 2 never
    panel_shape : (panels, y, x) of the pixels before flattening (after binning)
    pixel_index_map : (N_PIX, 2) int64, (row, column) of every pixel in the assembled picture, for display only
    digest : hexadecimal SHA-256 of the patterns, pixel positions, mask and background as read
    source : the file it came from, for messages
    background : (N_PIX,) float64 [counts per pattern], mean of a common additive background, 0 where the mask is 2;
        None if not known
    taken_for : what the values of the file were taken for, in words; remarks : what else was done on reading them
    response : (N_PIX,) float64, what every pixel counts of what it would at the beam; None if that is not known
    origin : what every pattern came from
    beam : (row, column) where the beam goes through a flat detector, in pixels of the file; None where every pixel has
        a position of its own; binning : pixels of the file along an edge of one of these
    area : (N_PIX,) float64, what pixels count of what most do, some being larger; None if all are alike
    missing_pattern, missing_pixel : (n,) int64, values that single patterns lack, by pattern; they are 0 in `images`
    """

    images: Any
    q: Float64
    mask: UInt8
    panel_shape: tuple[int, int, int]
    pixel_index_map: Int64
    digest: str
    source: str
    counts: bool = False
    background: Float64 | None = None
    taken_for: str = ""
    remarks: tuple[str, ...] = ()
    response: Float64 | None = None
    origin: Origin = field(default_factory=Origin)
    beam: tuple[float, float] | None = None
    binning: int = 1
    missing_pattern: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    missing_pixel: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    area: Float64 | None = None


def misshapen(record: object, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, str, str]]:
    """Yield the faults of a record's arrays that have other shapes than these, or values that are no numbers."""
    for name, shape in shapes.items():
        found = getattr(record, name)
        if found.shape != shape:
            yield name, f"shape {found.shape}", f"shape {shape}"
        elif not np.isfinite(found).all():
            yield name, "values that are no numbers", "finite numbers"


def ill_valued(record: object, name: str, good: Any, expected: str) -> Iterator[tuple[str, str, str]]:
    """Yield the fault of a field whose values are not all good."""
    if not np.all(good):
        values = np.asarray(getattr(record, name))
        span = f", {values.min():g} to {values.max():g}" if values.size and values.dtype.kind != "b" else ""
        yield name, f"shape {values.shape}{span}", expected


@dataclass(frozen=True)
class State:
    """What a reconstruction knows after a generation; a checkpoint is exactly this record.

    generation : generations finished so far, the blind start counted as the first
    voxel_angstrom : edge of a voxel of the three volumes [angstrom]; `voxel_angstrom * M` stays the same all run
    history : (generation - 1, 3) float64, of every generation after the start: radius matched [1/angstrom], mean
        distance, part of the orientations that moved by more than the view spacing, to none that fits alike
    quaternions : (N_IMG, 4) float64, unit, (w, x, y, z); R(quaternion) takes the particle to the laboratory frame
    state : (N_IMG,) int64, the conformation each pattern belongs to
    scale : (N_IMG,) float64, of mean 1; pattern = scale * model slice + background
    background : (N_PIX,) float64 [counts], the same in every pattern
    weight : (N_IMG,) float64, 1 for a pattern of the particle, 0 for an outlier
    distance : (N_IMG,) float64, misfit of the best slice: 0 is perfect, 1 no better than the mean of all patterns
    autocorrelation : (K, M, M, M) float32 in (x, y, z) index order, real, centrosymmetric, centre at M // 2
    density : (K, M, M, M) float32 in (x, y, z) index order, real, >= 0, centre at M // 2; zeros before a phasing
    support : (K, M, M, M) bool, where the density may be non-zero
    start : how many times the blind start went on outwards, because nearer to the beam orientations did not show
    started : mean distance that it ended with
    size : (N_IMG,) float64, the particle's size in each pattern over that of the model; empty where all have the same
    shift : (N_IMG, 2) float64 [1/angstrom], how far q_x and q_y of its pixels are off; empty where they are not
    size_spread, shift_spread : standard deviation of the logarithm of sizes, and of each shift [1/angstrom]; 0 for none
    """

    generation: int
    voxel_angstrom: float
    history: Float64
    quaternions: Float64
    state: Int64
    scale: Float64
    background: Float64
    weight: Float64
    distance: Float64
    autocorrelation: Float32
    density: Float32
    support: Bool
    start: int = 0
    started: float = 1.0
    size: Float64 = field(default_factory=lambda: np.zeros(0))
    shift: Float64 = field(default_factory=lambda: np.zeros((0, 2)))
    size_spread: float = 0.0
    shift_spread: float = 0.0

    @property
    def members(self) -> Int64:
        """Return how many patterns each conformation has, (K,), outliers left out."""
        return np.bincount(self.state[self.weight > 0], minlength=len(self.density)).astype(np.int64)

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yield (field, what was found, what is expected) wherever this is no state, shapes before values."""
        per_pattern = ("quaternions", "state", "scale", "weight", "distance")
        volumes, count = (
            ("density", "autocorrelation", "support"),
            mode(len(getattr(self, name)) for name in per_pattern),
        )
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(per_pattern, (count,))
        shapes |= {"quaternions": (count, 4), "history": (max(self.generation - 1, 0), 3)}
        shapes |= {"background": self.background.shape[:1]}
        own = count * bool(len(self.size))
        shapes |= {"size": (own,), "shift": (own, 2)}
        states, *_, size = mode(getattr(self, name).shape for name in volumes)
        shapes |= dict.fromkeys(volumes, (states, size, size, size))
        yield from misshapen(self, shapes)
        kept = self.scale[self.weight > 0]
        for name, good, expected in (
            ("generation", self.generation >= 1, "1 or more"),
            ("start", self.start >= 0, "0 or more"),
            ("started", np.isfinite(self.started), "a finite distance"),
            ("voxel_angstrom", 0 < self.voxel_angstrom < np.inf, "a positive length"),
            ("history", self.history >= [0, -np.inf, 0], "nothing negative but distances"),
            ("history", self.history[:, 2] <= 1, "parts of the orientations in the last column"),
            ("quaternions", np.abs(np.hypot.reduce(self.quaternions, axis=1) - 1) < ROUNDING, "unit quaternions"),
            ("state", (self.state >= 0) & (self.state < states), f"conformations, from 0 to {states - 1}"),
            ("weight", (self.weight >= 0) & (self.weight <= 1), "0 to 1"),
            ("scale", not len(kept) or abs(kept.mean() - 1) < ROUNDING, "a mean of 1"),
            ("size", self.size > 0, "nothing but positive numbers"),
            ("size_spread", 0 <= self.size_spread < np.inf, "0 or more"),
            ("shift_spread", 0 <= self.shift_spread < np.inf, "0 or more"),
            ("density", self.density >= 0, "nothing negative"),
            ("density", size % 2 == 1, "an odd number of voxels along an edge"),
        ):
            yield from ill_valued(self, name, good, expected)


@dataclass(frozen=True)
class Progress:
    """One stage of one generation has ended.

    generation, generations : which one (from 1; the blind start is generation 1) of how many
    stage : "start", "slice", "match", "refine", "merge" or "phase"
    seconds : wall time of the stage
    figures : what tells whether the run converges, e.g. mean_distance, moved (fraction of orientations that changed by
        more than the view spacing, to none that fits alike), cg_iterations, merge_residual, phasing_r, q_max, views
    """

    generation: int
    generations: int
    stage: str
    seconds: float
    figures: dict[str, float]


class Watcher(Protocol):
    """What hangs on the loop: progress lines, checkpoints, figures. It sees everything and changes nothing."""

    def begin(self, generation: int, generations: int, stage: str) -> None:
        """Take note that a stage of a generation, of so many, begins."""

    def stage(self, progress: Progress) -> None:
        """Take note that a stage has ended."""

    def generation(self, state: State, *, last: bool) -> None:
        """Take note that a generation, the last one or not, has ended (the place for the checkpoint)."""

    def half(self, number: int) -> Watcher | None:
        """Return who watches the reconstruction of half `number`, 1 or 2, of the patterns: a run of its own."""
