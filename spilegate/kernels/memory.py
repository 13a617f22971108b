"""What a reconstruction takes of a GPU's memory, and patterns of the host's: what would not fit is said beforehand.

On a GPU counted is what cannot be made smaller by working on fewer rows at once. Patterns are not: those that do not
fit come from the host in blocks. All parts are added, also those of different stages: memory that CuPy keeps to give it
out again is of no use to cufinufft and to recordings, which keep theirs as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import scipy.fft

from spilegate.errors import InputError
from spilegate.kernels import host_memory
from spilegate.kernels.blocks import SCRATCH
from spilegate.kernels.device import MOST_ROOM, room_of
from spilegate.kernels.fft import fast_size

GIB = 2.0**30
DOUBLE, SINGLE = 16, 8  # bytes of a complex number
# A plan of a NUFFT has a grid, and cuFFT works in as much memory again.
GRID_COPIES = 2
# The last plans of eight kinds are kept: beside the three of the last size those of the two sizes before. Each is 1.25
# times as coarse, so that all of these take 0.7 times as much as the last ones.
KEPT = 1.7
# The sum over patterns: a transform, its flipped copy; for every state its even part, the sum, and what is added to it.
SUM_BYTES, STATE_SUM_BYTES = 32, 32
# Conjugate gradients: two spectra, the padded vector, its transform, its inverse and what cuFFT works in; for every
# voxel the vectors of two iterations and of their recording.
SPECTRUM_BYTES, VECTOR_BYTES = 40, 96
# Float32 arrays as large as all slices. Searched: slices, what is correlated and what is summed, harmonics, and one
# that comes and goes. Softly: slices and harmonics, a product, and in double precision two sums and their rounding.
SEARCHED_COPIES, SOFT_COPIES = 5, 10
# A point of a pattern that is merged, as tiles are measured by.
POINT_BYTES = 256
LEAST_SCRATCH = 2**26
# Views whose harmonics are made together.
TILE_VIEWS = 128


@dataclass(frozen=True)
class Needs:
    """Memory that a generation takes on every device [bytes].

    slices : model slices that are searched at once, of all states, and what is made of them
    grids : of the NUFFTs' plans; merging : normal equations and conjugate gradients; phasing : of one volume
    copies : of patterns that lie on the device, made for half sets; scratch : of the smallest tile
    """

    slices: float
    grids: float
    merging: float
    phasing: float
    copies: float
    scratch: float

    @property
    def total(self) -> float:
        """Return the sum of all parts [bytes]."""
        return float(sum(getattr(self, part.name) for part in fields(self)))

    def beside(self, free: float) -> float:
        """Return the sum [bytes] where so much is free: tiles are as large as the room that a device gives them."""
        return self.total - self.scratch + max(self.scratch, room_of(free))


def needs(
    *, size: int, n_slices: int, n_samples: int, n_phi: int, states: int, n_pixel: int, copies: float, soft: bool
) -> Needs:
    """Return what a generation takes.

    size : voxels along an edge, M; n_slices : of all states; n_samples : points of a slice
    n_phi : in-plane angles; n_pixel : pixels of a pattern; copies : see `Needs` [bytes]
    soft : whether patterns are assigned by probability, and the expected slices merged
    """
    kernel, padded, volume = float(2 * size - 1) ** 3, float(fast_size(2 * size - 1)) ** 3, float(size) ** 3
    samples = float(n_slices) * n_samples
    row = POINT_BYTES * n_pixel + 24.0 * n_slices + 64.0 * n_slices * n_phi * soft
    return Needs(
        # A search takes as many views at once as there is room for.
        slices=4.0 * SOFT_COPIES * samples if soft else min(4.0 * SEARCHED_COPIES * samples, states * MOST_ROOM),
        # One sum in double precision, and evaluations of one volume and of two at once.
        grids=KEPT * GRID_COPIES * (DOUBLE * _grid(2 * size - 1) + 3 * SINGLE * _grid(size)),
        merging=(SUM_BYTES + STATE_SUM_BYTES * states) * kernel + SPECTRUM_BYTES * padded + VECTOR_BYTES * volume,
        phasing=4.0 * SCRATCH * volume,
        copies=copies,
        scratch=max(LEAST_SCRATCH, row, 4.0 * SCRATCH * min(TILE_VIEWS, n_slices) * n_samples),
    )


def _grid(size: int) -> float:
    """Return the points of a NUFFT's grid for volumes of size^3: twice as fine, and a size that is fast."""
    return float(2 * scipy.fft.next_fast_len(size, real=True)) ** 3


def largest_radius(needed_at: Callable[[float], Needs], least: float, most: float, free: float) -> float | None:
    """Return the largest radius q [1/angstrom], of three digits, up to which a run fits; None if there is none.

    needed_at : what a run takes up to a radius; least, most : radii between which to look; free : [bytes]
    """

    def fits(q: float) -> bool:
        return needed_at(q).beside(free) <= free

    if not fits(least):
        return None
    low, high = least, most
    while high - low > 1e-4 * low:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    found = float(_digits(low, math.floor))
    # Grids grow in steps and rings shift a little, so that what fits further out need not fit here.
    while found >= least and not fits(found):
        found = float(_digits(found * 0.995, math.floor))
    return found if found >= least else None


def check(
    needed_at: Callable[[float], Needs],
    q_max: float,
    free: float,
    name: str,
    *,
    least: float,
    diameter_angstrom: float,
    patterns: float,
    option: str | None = None,
) -> None:
    """Raise InputError if a run up to q_max [1/angstrom] would not fit, with the largest radius that does.

    needed_at : what it takes up to a radius; least : no run goes less far than this radius [1/angstrom]
    free : memory of the device [bytes]; name : of the device; patterns : size of all patterns [bytes]
    option : what the device was asked for with, --backend cupy if left out
    """
    needed = needed_at(q_max)
    if needed.beside(free) <= free:
        return
    takes, has, others = needed.beside(free), _gib(free, math.floor), _gib(patterns, math.ceil)
    parts = {part.name: getattr(needed, part.name) for part in fields(needed)}
    parts["scratch"] = max(needed.scratch, room_of(free))
    listed = ", ".join(f"{part} {_gib(size, math.ceil)}" for part, size in parts.items() if size)
    radius = largest_radius(needed_at, least, q_max, free)
    remedy = "a GPU with more memory, or --backend numpy"
    if radius is not None:
        # The diameter as well: another radius might make another one of the patterns.
        remedy = (
            f"--set prepare.q_max={radius:.3g} --diameter-angstrom {diameter_angstrom:.10g} "
            f"(which fits, with data to {1 / radius:.3g} angstrom), or {remedy}"
        )
    raise InputError(
        f"{option or '--backend cupy'}: {name} has {has} GiB free; this run needs {_gib(takes, math.ceil)} GiB "
        f"({listed}; not counted: patterns {others}, which can come from the host); expected that much; {remedy}"
    )


def check_host(what: str, needed: float, binnings: Sequence[int], binning: int) -> None:
    """Raise InputError if patterns do not fit into the memory of the host, with the least binning that makes them fit.

    what : the patterns, for messages; needed : what they take [bytes], binned by `binning`
    binnings : by which the pixels can be binned instead
    """
    free = host_memory.available_bytes()
    if needed <= free:
        return
    fits = next((other for other in binnings if needed * (binning / other) ** 2 <= free), None)
    remedy = "a machine with more memory, or fewer patterns in a file"
    if fits is not None:
        remedy = f"--set prepare.binning={fits} (which fits), or {remedy}"
    raise InputError(
        f"{what}: they take {_gib(needed, math.ceil)} GiB of memory (two copies), {_gib(max(free, 1.0), math.floor)} "
        f"GiB are available; expected that much; {remedy}"
    )


def _gib(size: float, rounded: Callable[[float], int]) -> str:
    """Return a size [bytes] in GiB."""
    return _digits(size / GIB, rounded)


def _digits(value: float, rounded: Callable[[float], int]) -> str:
    """Return a positive number with three digits, rounded up (math.ceil) or down (math.floor)."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2) if value > 0 else 1.0
    return f"{rounded(value / step) * step:.6g}"
