"""Machines for `scripts/scaling_model.py`: how fast each resource is, measured here in a few seconds, or assumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import scipy.fft
from scaling_counts import LM_TILE, ROUNDING_BYTES, Load, fft_operations, merged_elements

from spilegate.generation import poses
from spilegate.geometry import orientations
from spilegate.kernels import nufft
from spilegate.kernels.packing import Pack
from spilegate.kernels.polar import Correlator
from spilegate.kernels.workers import libraries
from spilegate.records import Float64, State
from spilegate.simulation.experiment import detector_q
from spilegate.stages import matching, merging, refining


@dataclass(frozen=True)
class Machine:
    """A processor (GPU, or CPU core), the rank it belongs to, and the network between ranks.

    source : where the numbers come from; per_rank : processors of a rank; gpu : whether they are GPUs
    evaluate, gather : NUFFT points a second, type 2 (float32, 1e-4) and type 1 (float64, 1e-6), FFT of the grid apart
    gemm, fft : float32 operations a second; memory : bytes a second through a processor's memory in array operations
    call : seconds to start an array operation; link : bytes a second between host and processor
    host : bytes a second through the host's memory; pattern : seconds a rank's host spends on every pattern of the run
    step : seconds the host spends on a Levenberg-Marquardt step of one pattern
    launch : seconds to launch tasks and to wait for them; latency : seconds of a message; network : bytes a second of a
    rank; processor_bytes, host_bytes : memory of a processor and of a rank's host
    """

    name: str
    source: str
    gpu: bool
    per_rank: int
    evaluate: float
    gather: float
    gemm: float
    fft: float
    memory: float
    call: float
    link: float
    host: float
    pattern: float
    step: float
    launch: float
    latency: float
    network: float
    processor_bytes: float
    host_bytes: float

    def seconds(self, resource: str, amount: float) -> float:
        """Return the time that an amount of a resource takes: of those that count calls it is known for one."""
        value = float(getattr(self, resource))
        return amount * value if resource in PER_UNIT else amount / value

    def changed(self, assignments: list[str]) -> Machine:
        """Return the machine with constants replaced by texts like `gemm=5e10`.

        Raises ValueError for a text that names no constant or has no number.
        """
        numbers = {name: type(value) for name, value in asdict(self).items() if type(value) in (int, float)}
        changes: dict[str, Any] = {}
        for text in assignments:
            name, _, value = text.partition("=")
            if name not in numbers:
                raise ValueError(f"--rate {text}: expected NAME=NUMBER with one of {', '.join(numbers)}")
            try:
                changes[name] = numbers[name](float(value))
            except ValueError as error:
                raise ValueError(f"--rate {text}: expected a number after {name}=") from error
            if not changes[name] > 0:
                raise ValueError(f"--rate {text}: expected a number above 0")
        return replace(self, **changes, source=f"{self.source}; {', '.join(assignments)}") if changes else self


# Resources known in seconds each; the others in units a second.
PER_UNIT = ("call", "pattern", "step", "launch", "latency")

# Of a node of four GPUs, and of a core like this machine's.
_CONSTANTS: dict[str, tuple[float, float]] = {
    "evaluate": (1e9, 1.2e7),
    "gather": (1e8, 3.6e6),
    "gemm": (8e12, 7e10),
    "fft": (1e12, 7e9),
    "memory": (1.5e12, 1.4e10),
    "call": (8e-6, 7e-7),
    "link": (1e10, math.inf),
    "host": (1e10, 2e10),
    "pattern": (4e-6, 4e-6),
    "step": (5e-6, 5e-6),
    "launch": (2e-3, 2e-3),
    "latency": (5e-5, 1.5e-2),
    "network": (2.5e10, 1e9),
    "processor_bytes": (80e9, 8e9),
    "host_bytes": (256e9, 8e9),
}

# One node of four GPUs a rank, as scripts/perlmutter starts it.
GPU_NODE = Machine(
    name="a node of four GPUs of the A100/H100 class a rank",
    source="ASSUMED, not measured on a GPU: in the manner of published cuFINUFFT, cuFFT and GEMM rates; "
    "8 us for an array operation from Python, 2 ms for a launch",
    gpu=True,
    per_rank=4,
    **{name: gpu for name, (gpu, _) in _CONSTANTS.items()},
)

# Defaults for a computer like the one this was written on; --measure replaces what needs no launcher to be measured.
THIS_MACHINE = Machine(
    name="CPU cores like this machine's, one a rank",
    source="measured once on a core of an AMD EPYC and between two ranks on it",
    gpu=False,
    per_rank=1,
    **{name: core for name, (_, core) in _CONSTANTS.items()},
)


def measured(load: Load) -> Machine:
    """Return this machine with the rates of one of its cores on arrays like those of a load, in a few seconds."""
    with libraries().limit(limits=1, user_api="blas"):
        return _measured(load)


def _measured(load: Load) -> Machine:
    """Measure with one thread."""
    plan = load.plan
    q = detector_q(round(load.stored**0.5), 100.0, 0.01)[0].reshape(-1, 3)
    length = np.linalg.norm(q, axis=1)
    # The plan's own points: pixels to the edge of the detector, in radians per voxel.
    q = q[length <= 0.01] * (2 * np.pi * plan.voxel_angstrom * plan.q_merge / 0.01)
    big = np.zeros((2 * plan.size,) * 3, np.float32)
    there_and_back = _seconds(lambda: scipy.fft.irfftn(scipy.fft.rfftn(big), big.shape))
    small, part = np.ones(8), np.ones(merged_elements(plan.size))
    block = np.ones(2**18, np.float32)
    return replace(
        THIS_MACHINE,
        source="measured just now on one core; launch, latency and network as once between two ranks",
        evaluate=_evaluation_rate(q, plan.size),
        gather=_summation_rate(q, plan.size),
        gemm=_product_rate(load),
        fft=fft_operations(len(big)) / there_and_back,
        memory=3 * block.nbytes * 50 / _seconds(lambda: [block + block for _ in range(50)]),
        call=_seconds(lambda: [small + small for _ in range(1000)]) / 1000,
        host=ROUNDING_BYTES * part.size / _seconds(lambda: np.add(part, np.rint(part / 0.5) * 0.5, out=part)),
        pattern=_seconds(lambda: bookkeeping(20_000, load), 2) / 20_000,
        step=_step_seconds(),
    )


def _seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Return the shortest of `repeats` times."""
    times = []
    for _ in range(repeats):
        begin = perf_counter()
        work()
        times.append(perf_counter() - begin)
    return min(times)


def _slope(work: Callable[[int], Callable[[], Any]], few: int, many: int) -> float:
    """Return the seconds that one more unit of work takes, whatever the work costs at all."""
    return max(1e-12, (_seconds(work(many)) - _seconds(work(few))) / (many - few))


def _points(count: int, q: Float64, dtype: Any) -> Any:
    """Return the points (3, N) of so many patterns at random orientations."""
    rotations = orientations.matrices(orientations.random_quaternions(count, np.random.default_rng(0)))
    return orientations.rotated_points(rotations.astype(dtype), q.astype(dtype)).reshape(3, -1)


def _evaluation_rate(q: Float64, size: int) -> float:
    """Return type-2 points a second."""
    volumes = np.ones((2, size, size, size), np.complex64)

    def work(count: int) -> Callable[[], Any]:
        points = _points(count, q, np.float32)
        return lambda: nufft.forward(volumes, points, tolerance=refining.TOLERANCE, threads=1)

    many = max(2, 600_000 // len(q))
    return 2 * len(q) / _slope(work, many // 4, many)


def _summation_rate(q: Float64, size: int) -> float:
    """Return type-1 points a second."""

    def work(count: int) -> Callable[[], Any]:
        points = _points(count, q, np.float64)
        strengths = np.ones(points.shape[1], np.complex128)
        return lambda: nufft.adjoint(strengths, points, 2 * size - 1, tolerance=merging.TOLERANCE)

    many = max(2, 1_000_000 // len(q))
    return len(q) / _slope(work, many // 4, many)


def _product_rate(load: Load) -> float:
    """Return operations a second in the products of a tile of patterns and a tile of views."""
    correlator = Correlator(load.plan.n_phi, load.plan.highest)
    n_harmonic, patterns, views = len(correlator.order), matching.TILE_PATTERNS, matching.TILE_VIEWS
    own = np.ones((n_harmonic, 2 * patterns, 2 * load.rings), np.float32)
    tile = np.ones((n_harmonic, 2 * load.rings, views), np.float32)
    operations = load.products_per_pair * patterns * views
    return operations * 10 / _seconds(lambda: [correlator.halves(np.matmul(own, tile)) for _ in range(10)])


def _step_seconds() -> float:
    """Return the host's time for a step of one pattern, in the numbers that refinement takes them."""
    quaternions = orientations.random_quaternions(LM_TILE, np.random.default_rng(0))
    hessian = np.broadcast_to(np.eye(4), (LM_TILE, 4, 4)).copy()
    gradient, damping = np.ones((LM_TILE, 4)), np.ones(LM_TILE)
    pose = refining._Pose(quaternions, np.ones(LM_TILE))

    def work() -> None:
        for _ in range(20):
            orientations.matrices(pose.moved(refining._steps(hessian, gradient, damping, 0.1)).quaternions)

    return _seconds(work) / 20 / LM_TILE


def bookkeeping(count: int, load: Load) -> Pack:
    """Do what every rank's host does in a generation for `count` patterns of a load, and return the last rows' layout.

    Rows are taken apart, candidates become orientations, are listed for refinement, compared and made into matrices.
    """
    rng = np.random.default_rng(0)
    views = orientations.view_grid(load.views, rng)
    match, refine = (Pack.of(outputs) for outputs in (load.match_rows, load.refine_rows))
    gathered = np.zeros((count, match.row_bytes), np.uint8)
    unpacked = match.unpacked(load.match_rows, np.array(gathered), np.zeros(1), iter(()))
    found = matching._Best(*unpacked[:3]).candidates(views, load.plan.n_phi, unpacked[3])
    quaternions, zeros = orientations.random_quaternions(count, rng), np.zeros(count)
    volumes = np.zeros((1, 1, 1, 1), np.float32)
    state = State(
        generation=2,
        voxel_angstrom=1.0,
        history=np.empty((1, 3)),
        quaternions=quaternions,
        state=zeros.astype(int),
        scale=zeros,
        background=zeros,
        weight=zeros,
        distance=zeros,
        autocorrelation=volumes,
        density=volumes,
        support=volumes > 0,
    )
    poses.shortlist(state, found, 1.0, np.random.default_rng(0))
    gathered = np.zeros((count, refine.row_bytes), np.uint8)
    better, label, *_ = refine.unpacked(load.refine_rows, np.array(gathered), np.zeros(1), iter(()))
    orientations.angle_between(better, state.quaternions)
    orientations.matrices(state.quaternions)
    np.bincount(label)
    return refine
