"""What one generation computes, moves and keeps, counted from the data, the schedule and the tiles of the stages.

Every term says what it takes of which resource (`forecast.rates` measures how fast each is here), for all patterns
together, and into how many pieces it can be divided at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spilegate import schedule
from spilegate.geometry.detector import FEWEST_NEIGHBOURS
from spilegate.kernels import fft, nufft
from spilegate.kernels.blocks import GROUP, block_rows
from spilegate.kernels.exact import Output, Rows
from spilegate.kernels.packing import Pack
from spilegate.kernels.polar import harmonic_order
from spilegate.patterns.experiment import FEWEST_RINGS, FIRST_RING, RINGS_PER_SPECKLE
from spilegate.schedule import Plan
from spilegate.stages import matching, phasing, refining

# Who does it: processors that hold the patterns; processors that share views, or volumes, among them; every rank.
Place = Literal["patterns", "views", "volumes", "rank", "network"]

# Array operations and copies of a tile, counted in the stages' text; tests count them as well.
CALLS_OF_VIEW_TILE = 13
CALLS_OF_PATTERN_TILE = 45
CALLS_OF_GRADIENT, CALLS_OF_VALUE = 26, 8
CALLS_OF_BLOCK = 30
CALLS_OF_PHASING, CALLS_OF_CG = 12, 20
# Bytes that array operations read and write: for every pixel refined with and without gradient, and merged.
GRADIENT_BYTES, VALUE_BYTES, MERGE_BYTES = 300, 60, 200
# For every voxel: an iteration of phasing (float32), one of CG (float64), the even part of a merged block.
PHASING_BYTES, CG_BYTES, EVEN_BYTES = 80, 200, 112
# For every number of a sum: divided, rounded, multiplied, added, each read and written.
ROUNDING_BYTES = 72
# What a rank's host holds of every pattern at once, at most: rows, candidates, their matrices, the shortlist.
HOST_BYTES_PER_PATTERN = 1400
# Bytes of a weight, with its index, of a pixel in a sample on a ring.
WEIGHT_BYTES = 12
# Patterns of a Levenberg-Marquardt step.
LM_TILE = 64


@dataclass(frozen=True)
class Load:
    """One generation: its data and how far the iterations go.

    patterns, stored : patterns, and pixels kept of each; used_match, used_merge : pixels refined and merged of each
    plan, rings, states : from the schedule
    contested : candidates per pattern that are refined by one step to choose among; gradients, values : evaluations of
    the chosen one with and without gradient; cg : iterations; cycles, phasings : of phasing, and how many for a state
    split_voxels : volumes with as many voxels are split over processors
    """

    patterns: int
    stored: int
    used_match: int
    used_merge: int
    plan: Plan
    rings: int
    states: int = 1
    candidates: int = 3
    contested: float = 0.2
    gradients: float = 2.0
    values: float = 0.0
    cg: int = 8
    cycles: int = 6
    phasings: int = 1
    split_voxels: int = 128**3

    @property
    def views(self) -> int:
        """Views searched, of all states: HEALPix has 12 n^2."""
        return self.states * 12 * math.ceil(math.sqrt(self.plan.n_views / 12)) ** 2

    @property
    def harmonics(self) -> int:
        """Angular harmonics of a ring."""
        return len(harmonic_order(self.plan.n_phi, self.plan.highest)[0])

    @property
    def products_per_pair(self) -> int:
        """Operations of the GEMMs for a pattern and a view: the products of harmonics and both Fourier sums."""
        return 8 * self.harmonics * self.rings + 2 * self.harmonics * self.plan.n_phi

    @property
    def match_rows(self) -> list[Output]:
        """What matching returns of every pattern: score, view, shift and distance of its candidates."""
        row = (self.candidates,)
        return [Rows(row, np.float32), Rows(row, np.int64), Rows(row, np.int64), Rows(row, np.float32)]

    @property
    def refine_rows(self) -> list[Output]:
        """What refinement returns: quaternion, state, factor of scale, distance, cost, whether another is as good."""
        numbers = [Rows((), np.float64) for _ in range(3)]
        return [Rows((4,), np.float64), Rows((), np.int64), *numbers, Rows((), np.bool_)]

    @property
    def row_bytes(self) -> tuple[int, int]:
        """Bytes of a pattern that every rank gathers after matching and after refinement."""
        return Pack.of(self.match_rows).row_bytes, Pack.of(self.refine_rows).row_bytes

    @property
    def sum_bytes(self) -> int:
        """Bytes of the kernels and right-hand sides that are summed over ranks."""
        return 8 * self.states * merged_elements(self.plan.size)

    @property
    def block(self) -> int:
        """Patterns that stay together."""
        return block_rows(self.patterns, self.stored)

    @property
    def blocks(self) -> int:
        """Blocks of patterns: more processors than these have nothing to do."""
        return math.ceil(self.patterns / self.block)

    @property
    def slice_bytes(self) -> int:
        """Bytes of the slices of all views."""
        return 4 * self.views * self.rings * self.plan.n_phi

    @property
    def stack_bytes(self) -> int:
        """Bytes of the harmonics of all views."""
        tiles = math.ceil(self.views / matching.TILE_VIEWS)
        return 4 * tiles * matching.TILE_VIEWS * self.harmonics * 2 * self.rings

    @property
    def split(self) -> bool:
        """Whether the volumes are split over processors."""
        return self.plan.size**3 >= self.split_voxels


@dataclass(frozen=True)
class Term:
    """A part of a generation: what it takes of every resource, and into how many pieces it can be divided."""

    name: str
    place: Place
    pieces: int
    amounts: dict[str, float]


def full_radius(patterns: int, side: int, speckles: float) -> Load:
    """Return a generation at full radius: detectors of side x side pixels, diameter times q_max = speckles."""
    return at_plan(schedule.plan(speckles, 3, 1.0, 1.0, spacing=schedule.AGAIN_SPACING), patterns, side, speckles, 1.0)


def at_plan(plan: Plan, patterns: int, side: int, diameter_angstrom: float, q_max: float) -> Load:
    """Return the generation of a plan; q_max : the circle inscribed in the square detector [1/angstrom]."""
    spacing = min(1 / (RINGS_PER_SPECKLE * diameter_angstrom), plan.q_match / FEWEST_RINGS)
    rings = max(2, math.ceil((plan.q_match - FIRST_RING / diameter_angstrom) / spacing) + 1)
    circle = math.pi / 4 * side**2
    used = [round(circle * (q / q_max) ** 2) for q in (plan.q_match, plan.q_merge)]
    return Load(patterns, side**2, used[0], used[1], plan, rings)


def fft_operations(size: int) -> float:
    """Return the operations of a complex transform of size^3 voxels; a real one takes half of them."""
    return 5.0 * size**3 * math.log2(float(size) ** 3)


def merged_elements(size: int) -> int:
    """Return the elements of kernel and right-hand side of one state."""
    return int((2 * size - 1) ** 3 + size**3)


def refine_points(load: Load) -> float:
    """Return the points of refinement's transforms: two transforms with gradient, one without."""
    with_gradient, without = load.contested + load.gradients, load.contested + load.values
    return load.patterns * load.used_match * (2 * with_gradient + without)


def merge_points(load: Load) -> int:
    """Return the points of the merge's transform."""
    return load.patterns * load.used_merge


def phasing_updates(load: Load) -> int:
    """Return the pairs of transforms of one phasing: cycles with their shrink-wrap, and the last error reduction."""
    cycle = 2 * phasing.ITERATIONS_ER + phasing.ITERATIONS_GLOBAL + 1
    return load.cycles * cycle + phasing.ITERATIONS_ER + 3


def terms(load: Load, *, device: bool) -> list[Term]:
    """Return all terms of a generation, but for what goes over the network."""
    return [
        *_search(load, device),
        _match(load, device),
        _refine(load, device),
        *_merge(load),
        *_volumes(load),
        _bookkeeping(load),
    ]


def _search(load: Load, device: bool) -> list[Term]:
    """Return what is made of the model before matching."""
    size, samples = load.plan.size, load.rings * load.plan.n_phi
    tile = max(1, nufft.block_points(size) // samples)
    tiles = math.ceil(load.views / load.states / tile) * load.states
    points = load.views * samples
    slices: dict[str, float] = {
        "evaluate": points,
        "fft": (tiles if device else load.states) * fft_operations(fft.fast_size(2 * size)),
        "memory": 60 * points,
        "call": 8 * tiles,
        "link": 8 * size**3 * tiles + 4 * points,
    }
    stacks = math.ceil(load.views / matching.TILE_VIEWS)
    harmonics: dict[str, float] = {
        "fft": 2.5 * points * math.log2(load.plan.n_phi),
        "memory": 3 * load.slice_bytes + 6 * load.stack_bytes,
        "call": 12 * stacks,
        "link": load.slice_bytes + load.stack_bytes,
    }
    return [
        Term("match: slices", "views", tiles, slices),
        Term("match: harmonics", "views", stacks, harmonics),
        Term("match: slices on every host", "rank", 1, {"host": 6 * load.slice_bytes * (1 + device)}),
    ]


def _tile(load: Load, of_stage: int, device: bool) -> int:
    """Return the patterns of a tile: a stage's own number fits the cache of a core, devices take whole blocks."""
    return min(max(of_stage, load.block) if device else of_stage, load.patterns)


def _match(load: Load, device: bool) -> Term:
    """Return the search of all patterns, in tiles of patterns and of views."""
    tile = _tile(load, matching.TILE_PATTERNS, device)
    tiles = load.patterns / tile
    view_tiles = math.ceil(load.views / matching.TILE_VIEWS)
    pairs = load.patterns * view_tiles * matching.TILE_VIEWS
    samples = load.rings * load.plan.n_phi
    largest = 8 * (8 + 3 * load.candidates)
    weights = FEWEST_NEIGHBOURS * WEIGHT_BYTES * samples
    amounts: dict[str, float] = {
        "gemm": load.products_per_pair * pairs,
        "memory": (16 * load.plan.n_phi + largest) * pairs + load.patterns * (weights + 4 * load.stored),
        "fft": 2.5 * load.patterns * samples * math.log2(load.plan.n_phi),
        "call": tiles * (view_tiles * CALLS_OF_VIEW_TILE + CALLS_OF_PATTERN_TILE + (load.candidates + 1) * tile),
        "link": tiles * (load.stack_bytes + weights),
    }
    return Term("match: patterns x views", "patterns", load.blocks, amounts)


def _refine(load: Load, device: bool) -> Term:
    """Return Gauss-Newton on the pixels, in tiles of patterns, their parts and parts of these."""
    size = load.plan.size
    step = max(1, nufft.block_points(size) // load.used_match)
    tile = _tile(load, max(1, round(step / GROUP)) * GROUP, device)
    tiles = load.patterns / tile
    # Every part is evaluated until its last pattern settles.
    rounds = math.ceil(load.gradients) + math.ceil(load.values)
    parts = tiles * math.ceil(tile / step)
    contested = tiles * math.ceil(tile * load.contested / step)
    gradients = load.patterns * (load.contested + load.gradients)
    values = load.patterns * (load.contested + load.values)
    grids: float = 2 * load.states
    if device:
        grids = 2 * (contested + parts * math.ceil(load.gradients)) + contested + parts * math.ceil(load.values)
    amounts: dict[str, float] = {
        "evaluate": refine_points(load),
        "fft": grids * fft_operations(fft.fast_size(2 * size)),
        "memory": load.used_match * (GRADIENT_BYTES * gradients + VALUE_BYTES * values),
        "call": 10 * (2 * contested + parts * rounds)
        + (CALLS_OF_GRADIENT * gradients + CALLS_OF_VALUE * values) / refining.TILE_PATTERNS,
        "step": gradients,
        "link": 16 * size**3 * (parts + contested),
    }
    return Term("refine: pixels", "patterns", load.blocks, amounts)


def _merge(load: Load) -> list[Term]:
    """Return the sums over patterns: points, and the grid of every block."""
    grid, elements = fft.fast_size(2 * (2 * load.plan.size - 1)), load.states * merged_elements(load.plan.size)
    points, blocks = merge_points(load), load.blocks
    sums: dict[str, float] = {
        # Twice for double precision.
        "fft": 2 * load.states * blocks * fft_operations(grid),
        "memory": blocks * (EVEN_BYTES * elements + 32 * load.states * grid**3),
        "host": blocks * ROUNDING_BYTES * elements,
        "call": CALLS_OF_BLOCK * blocks * load.states,
        "link": blocks * 2 * 8 * elements,
    }
    pixels: dict[str, float] = {"gather": points, "memory": MERGE_BYTES * points}
    return [
        Term("merge: pixels", "patterns", blocks, pixels),
        Term("merge: grids of blocks", "patterns", blocks, sums),
    ]


def _volumes(load: Load) -> list[Term]:
    """Return CG and phasing, which take whole volumes."""
    size, padded = load.plan.size, fft.fast_size(2 * load.plan.size - 1)
    applications = load.states * (load.cg + 3)
    updates = load.states * load.phasings * phasing_updates(load)
    solve: dict[str, float] = {
        "fft": 2 * applications * fft_operations(padded),
        "memory": CG_BYTES * applications * (padded**3 / 4 + size**3),
        "call": CALLS_OF_CG * applications,
    }
    phase: dict[str, float] = {
        "fft": updates * fft_operations(size),
        "memory": PHASING_BYTES * updates * size**3,
        "call": CALLS_OF_PHASING * updates,
    }
    return [
        Term("merge: CG", "volumes", load.states, solve),
        Term("phase: iterations", "volumes", load.states * load.phasings, phase),
    ]


def _bookkeeping(load: Load) -> Term:
    """Return what every rank's host does for every pattern of the run."""
    return Term("match: state on every host", "rank", 1, {"pattern": load.patterns})
