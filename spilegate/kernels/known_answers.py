"""Small results with known answers, to be found by any array module and NUFFT library, and the speed of larger ones.

The text is the same for all modules, so that NumPy and finufft try what CuPy and cufinufft are asked to do. The answers
are NumPy's in double precision; those of the NUFFTs are the sums themselves, without any such library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Voxels along an edge and points of the NUFFTs that are compared.
SIZE, POINTS = 21, 2000
# Voxels along an edge where the speed is measured.
VOLUME = 81
# A NUFFT in single precision is asked for the fewer digits of the two, one in double precision for the more; either may
# miss what it was asked for by as much as a factor of ten.
COARSE, FINE, MISSED_BY = 1e-5, 1e-6, 10.0
# Of the matrix product and the FFT in single precision. With ten bits fewer (TF32), the product would be off by 3e-4.
SINGLE, DOUBLE = 1e-5, 1e-12
REPEATS = 3


@dataclass(frozen=True)
class Hands:
    """Who does the work: an array module, the name of a NUFFT library, and the number of the device if it has any."""

    xp: Any
    library: str
    device: int = 0

    @property
    def on_device(self) -> bool:
        """Whether the module has devices and streams."""
        return hasattr(self.xp, "cuda")

    def to_host(self, array: Any) -> NDArray[Any]:
        """Return an array as NumPy's."""
        return np.asarray(self.xp.asnumpy(array) if self.on_device else array)

    def wait(self) -> None:
        """Wait for what was started."""
        if self.on_device:
            self.xp.cuda.get_current_stream().synchronize()

    def plan(self, kind: int, size: int, dtype: str, tolerance: float) -> Any:
        """Return a plan; a library on a device uses device 0 and a stream of its own unless told otherwise."""
        options: dict[str, Any] = {"eps": tolerance, "isign": -1 if kind == 2 else 1, "dtype": dtype, "upsampfac": 2.0}
        if self.on_device:
            options |= {"gpu_device_id": self.device, "gpu_stream": self.xp.cuda.get_current_stream().ptr}
            # In double precision the grid of a block of points is too large for the memory that a block shares.
            options |= {"gpu_method": 1} if kind == 1 and dtype == "complex128" else {}
        else:
            options |= {"nthreads": 1}
        return import_module(self.library).Plan(kind, (size,) * 3, **options)


def fourier(hands: Hands) -> float:
    """Return the relative error of an FFT in single precision."""
    volume = _complex((2 * SIZE,) * 3).astype(np.complex64)
    return relative(hands.to_host(hands.xp.fft.fftn(hands.xp.asarray(volume))), np.fft.fftn(volume.astype(complex)))


def product(hands: Hands) -> float:
    """Return the relative error of a matrix product in single precision."""
    left, right = (_random().standard_normal((2, 256, 256))).astype(np.float32)
    got = hands.xp.asarray(left) @ hands.xp.asarray(right)
    return relative(hands.to_host(got), left.astype(float) @ right.astype(float))


def total(hands: Hands) -> float:
    """Return the relative error of a sum in double precision."""
    values = _random().random(100_003)
    return relative(hands.to_host(hands.xp.sum(hands.xp.asarray(values))), np.sum(values))


def evaluation(hands: Hands) -> float:
    """Return the relative error of a volume's transform at points, in single precision."""
    points = _points(POINTS).astype(np.float32)
    volume = _complex((SIZE,) * 3).astype(np.complex64)
    plan = hands.plan(2, SIZE, "complex64", COARSE)
    plan.setpts(*hands.xp.asarray(points))
    return relative(hands.to_host(plan.execute(hands.xp.asarray(volume))), evaluated(volume, points))


def summation(hands: Hands) -> float:
    """Return the relative error of the sum of points onto a volume, in double precision."""
    points, strengths = _points(POINTS), _complex((POINTS,))
    plan = hands.plan(1, SIZE, "complex128", FINE)
    plan.setpts(*hands.xp.asarray(points))
    return relative(hands.to_host(plan.execute(hands.xp.asarray(strengths))), summed(strengths, points, SIZE))


# Name, trial and largest relative error.
Known = tuple[str, Callable[[Hands], float], float]
CHECKS: tuple[Known, ...] = (
    ("FFT", fourier, SINGLE),
    ("matrix product", product, SINGLE),
    ("sum", total, DOUBLE),
)
NUFFT_CHECKS: tuple[Known, ...] = (
    ("NUFFT type 2", evaluation, MISSED_BY * COARSE),
    ("NUFFT type 1", summation, MISSED_BY * FINE),
)


def product_speed(hands: Hands, size: int) -> tuple[float, str]:
    """Return how fast matrices of `size` rows are multiplied in single precision."""
    matrix = hands.xp.asarray(_random().random((size, size), dtype=np.float32))
    return 2.0 * size**3 / _seconds(hands, lambda: matrix @ matrix) / 1e12, "TFLOP/s"


def copy_speed(hands: Hands, size: int) -> tuple[float, str]:
    """Return how fast `size` bytes are copied within the memory, reading and writing counted."""
    source = hands.xp.zeros(size, dtype=hands.xp.uint8)
    target = hands.xp.empty_like(source)

    def copy() -> None:
        hands.xp.copyto(target, source)

    return 2.0 * size / _seconds(hands, copy) / 1e9, "GB/s"


def evaluation_speed(hands: Hands, count: int) -> tuple[float, str]:
    """Return how fast a volume's transform is evaluated, at new points each time, which is what the program does."""
    points = hands.xp.asarray(_points(count).astype(np.float32))
    volume = hands.xp.asarray(_complex((VOLUME,) * 3).astype(np.complex64))
    plan = hands.plan(2, VOLUME, "complex64", COARSE)

    def evaluate() -> None:
        plan.setpts(*points)
        plan.execute(volume)

    return count / _seconds(hands, evaluate) / 1e6, "million points/s"


# Name, and what returns the speed at some size and its unit.
SPEEDS: dict[str, Callable[[Hands, int], tuple[float, str]]] = {
    "matrix product": product_speed,
    "copy": copy_speed,
    "NUFFT type 2": evaluation_speed,
}


def relative(got: NDArray[Any], expected: Any) -> float:
    """Return the relative error of an array, not a number if it holds any that is not."""
    if np.shape(got) != np.shape(expected):
        raise ValueError(f"the result has shape {np.shape(got)}; expected {np.shape(expected)}")
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def evaluated(volume: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Return `sum_x volume(x) exp(-i points.x)` by the sum itself, one axis after the other."""
    size = volume.shape[0]
    x, y, z = _waves(points, size, -1)
    along_z = (volume.reshape(-1, size) @ z).reshape(size, size, -1)
    result: NDArray[Any] = ((along_z * y).sum(1) * x).sum(0)
    return result


def summed(strengths: NDArray[Any], points: NDArray[Any], size: int) -> NDArray[Any]:
    """Return `sum_j strengths_j exp(+i points_j.x)` by the sum itself."""
    x, y, z = _waves(points, size, +1)
    result: NDArray[Any] = ((x[:, None] * y).reshape(size * size, -1) @ (strengths * z).T).reshape((size,) * 3)
    return result


def _waves(points: NDArray[Any], size: int, sign: int) -> Iterator[NDArray[Any]]:
    """Yield, for every axis, the waves of all points along it, (size, N)."""
    voxels = np.arange(size) - size // 2
    return (np.exp(sign * 1j * np.outer(voxels, axis.astype(float))) for axis in points)


def _random() -> np.random.Generator:
    """Return the numbers that every trial begins with."""
    return np.random.default_rng(0)


def _points(count: int) -> NDArray[Any]:
    """Return points all over the period of a voxel, (3, count)."""
    return _random().uniform(-np.pi, np.pi, (3, count))


def _complex(shape: tuple[int, ...]) -> NDArray[Any]:
    """Return random complex numbers."""
    values = _random().standard_normal((2, *shape))
    result: NDArray[Any] = values[0] + 1j * values[1]
    return result


def _seconds(hands: Hands, work: Callable[[], Any]) -> float:
    """Return the shortest time of a few runs, after one that made what is made once."""
    work()
    times = []
    for _ in range(REPEATS):
        hands.wait()
        began = time.perf_counter()
        work()
        hands.wait()
        times.append(time.perf_counter() - began)
    return min(times)
