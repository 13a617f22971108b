"""Machines for `scripts/scaling_model.py`: how fast each resource is, measured here in a few seconds, or assumed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import scipy.fft

from spilegate.forecast.counts import ROUNDING_BYTES, Load, fft_operations, merged_elements
from spilegate.forecast.rates import evaluation_rate, product_rate, seconds, step_seconds, summation_rate
from spilegate.generation import poses
from spilegate.geometry import orientations
from spilegate.kernels.packing import Pack
from spilegate.kernels.workers import libraries
from spilegate.records import State
from spilegate.simulation.experiment import detector_q
from spilegate.stages import matching


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
    there_and_back = seconds(lambda: scipy.fft.irfftn(scipy.fft.rfftn(big), big.shape))
    small, part = np.ones(8), np.ones(merged_elements(plan.size))
    block = np.ones(2**18, np.float32)
    return replace(
        THIS_MACHINE,
        source="measured just now on one core; launch, latency and network as once between two ranks",
        evaluate=evaluation_rate(q, plan.size),
        gather=summation_rate(q, plan.size),
        gemm=product_rate(load),
        fft=fft_operations(len(big)) / there_and_back,
        memory=3 * block.nbytes * 50 / seconds(lambda: [block + block for _ in range(50)]),
        call=seconds(lambda: [small + small for _ in range(1000)]) / 1000,
        host=ROUNDING_BYTES * part.size / seconds(lambda: np.add(part, np.rint(part / 0.5) * 0.5, out=part)),
        pattern=seconds(lambda: bookkeeping(20_000, load), 2) / 20_000,
        step=step_seconds(),
    )


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
