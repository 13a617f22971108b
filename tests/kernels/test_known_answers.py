"""What a GPU and its libraries are asked, and that wrong answers are found out."""

import ctypes
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import finufft
import numpy as np
import pytest
from conftest import found

from spilegate.kernels import known_answers, trial, trying
from spilegate.kernels.findings import Check, Driver, Gpu, Speed


def test_the_sums_themselves_are_right() -> None:
    random = np.random.default_rng(3)
    points = random.uniform(-np.pi, np.pi, (3, 5))
    volume = random.standard_normal((4, 4, 4)) + 1j * random.standard_normal((4, 4, 4))
    voxels = np.stack(np.meshgrid(*[np.arange(4) - 2] * 3, indexing="ij"), -1)
    waves = np.exp(1j * voxels @ points)
    np.testing.assert_allclose(known_answers.evaluated(volume, points), np.einsum("xyz,xyzj", volume, waves.conj()))
    strengths = volume.ravel()[:5]
    np.testing.assert_allclose(known_answers.summed(strengths, points, 4), waves @ strengths)


class Wrong(finufft.Plan):  # type: ignore[misc]
    """A NUFFT of the wrong sign."""

    def __init__(self, kind: int, shape: tuple[int, ...], *, isign: int, **options: Any) -> None:
        super().__init__(kind, shape, isign=-isign, **options)


class Slightly(finufft.Plan):  # type: ignore[misc]
    """One that is off by a thousandth."""

    def execute(self, data: Any) -> Any:
        return 1.001 * super().execute(data)


class Gone(finufft.Plan):  # type: ignore[misc]
    """One with a value that is no number."""

    def execute(self, data: Any) -> Any:
        result = super().execute(data)
        result.ravel()[-1] = np.nan
        return result


class Short(finufft.Plan):  # type: ignore[misc]
    """One that leaves something out."""

    def execute(self, data: Any) -> Any:
        return super().execute(data)[1:]


@pytest.mark.parametrize("plan", [Wrong, Slightly, Gone, Short])
def test_a_wrong_library_is_found_out(
    plan: type, monkeypatch: pytest.MonkeyPatch, written: tuple[trying.Report, list[dict[str, Any]]]
) -> None:
    report, records = written
    monkeypatch.setitem(sys.modules, "wrong_nufft", SimpleNamespace(Plan=plan))
    trying.compare(report, "CPU", known_answers.Hands(np, "wrong_nufft"), nuffts=True)
    reasons = [check.reason for check in found(records) if isinstance(check, Check)]
    assert len(reasons) == 2
    assert all(reason is not None and "\n" not in reason for reason in reasons)


def test_wrong_arithmetic_is_found_out(written: tuple[trying.Report, list[dict[str, Any]]]) -> None:
    report, records = written

    class Rounded(np.ndarray):
        def __matmul__(self, other: Any) -> Any:
            # Ten bits of the mantissa, which is what TF32 keeps.
            left, right = ((np.asarray(x).view(np.uint32) & 0xFFFFE000).view(np.float32) for x in (self, other))
            return left @ right

    wrong = SimpleNamespace(
        fft=SimpleNamespace(fftn=np.fft.ifftn),
        asarray=lambda array: np.asarray(array).view(Rounded),
        sum=lambda array: np.sum(array.astype(np.float32), dtype=np.float32),
    )
    trying.compare(report, "CPU", known_answers.Hands(wrong, "finufft"), nuffts=False)
    assert [isinstance(check, Check) and check.reason is not None for check in found(records)] == [True] * 3


@pytest.fixture
def numpy_as_cupy(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """CuPy and cufinufft are NumPy and finufft with what of CUDA's the trial asks for; returns options of the plans."""
    made: list[dict[str, Any]] = []

    class Plan(finufft.Plan):  # type: ignore[misc]
        def __init__(self, kind: int, shape: Any, *, gpu_stream: int, gpu_device_id: int, **options: Any) -> None:
            made.append({"kind": kind, "stream": gpu_stream, "device": gpu_device_id, **options})
            options.pop("gpu_method", None)
            super().__init__(kind, shape, **options)

    class Device:
        attributes = {"MemoryClockRate": 2_619_000, "GlobalMemoryBusWidth": 5120}  # noqa: RUF012

        def __init__(self, index: int) -> None:
            assert index == 3

        def __enter__(self) -> None:
            pass

        def __exit__(self, *error: object) -> None:
            pass

    runtime = SimpleNamespace(
        getDeviceProperties=lambda _: {"name": b"H100", "major": 9, "minor": 0},
        memGetInfo=lambda: (80 << 20, 90 << 20),
        driverGetVersion=lambda: 13010,
        runtimeGetVersion=lambda: 13000,
    )
    stream = SimpleNamespace(ptr=17, synchronize=lambda: None)
    cuda = SimpleNamespace(Device=Device, runtime=runtime, get_current_stream=lambda: stream)
    for name, contents in (
        ("cupy", {**vars(np), "cuda": cuda, "asnumpy": np.asarray}),
        ("cufinufft", {"Plan": Plan, "__version__": "7"}),
    ):
        module = ModuleType(name)
        vars(module).update(contents)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trying, "SIZES", {"matrix product": 64, "NUFFT type 2": 1000})
    return made


def test_what_a_gpu_is_asked_to_do_runs_on_numpy(
    numpy_as_cupy: list[dict[str, Any]], written: tuple[trying.Report, list[dict[str, Any]]]
) -> None:
    report, records = written
    trying.try_gpu(report, 3, nuffts=True)
    results = found(records)
    assert results[0] == Gpu(3, "H100", "9.0", 13010, 13000, 80, 90, 3352.32)
    checks = [result for result in results if isinstance(result, Check)]
    assert [check.reason for check in checks] == [None] * 5
    assert {check.where for check in checks} == {"GPU 3"}
    speeds = {result.name: result for result in results if isinstance(result, Speed)}
    assert set(speeds) == set(known_answers.SPEEDS)
    assert all(speed.value > 0 for speed in speeds.values())
    assert speeds["copy"].most == 3352.32
    assert [(options["kind"], options["dtype"], options.get("gpu_method")) for options in numpy_as_cupy] == [
        (2, "complex64", None),
        (1, "complex128", 1),
        (2, "complex64", None),
    ]
    assert all((options["stream"], options["device"]) == (17, 3) for options in numpy_as_cupy)
    assert all(options["upsampfac"] == 2.0 for options in numpy_as_cupy)


def test_without_cufinufft_a_gpu_is_tried_all_the_same(
    numpy_as_cupy: list[dict[str, Any]], written: tuple[trying.Report, list[dict[str, Any]]]
) -> None:
    report, records = written
    trying.try_gpu(report, 3, nuffts=False)
    assert numpy_as_cupy == []
    assert [check.name for check in found(records) if isinstance(check, Check)] == ["FFT", "matrix product", "sum"]


def test_a_fault_on_the_way_is_a_line_and_the_rest_goes_on(
    numpy_as_cupy: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    written: tuple[trying.Report, list[dict[str, Any]]],
) -> None:
    def fault(*arguments: object) -> None:
        raise MemoryError("no memory\nleft")

    report, records = written
    monkeypatch.setattr(sys.modules["cupy"], "sum", fault)
    monkeypatch.setattr(sys.modules["cupy"], "copyto", fault)
    trying.try_gpu(report, 3, nuffts=True)
    checks = [result for result in found(records) if isinstance(result, Check) and result.reason is not None]
    assert [check.reason for check in checks] == [
        "GPU 3, sum: MemoryError: no memory",
        "GPU 3, speed of copy: MemoryError: no memory",
    ]
    assert len([result for result in found(records) if isinstance(result, Speed)]) == 2


def test_a_driver_is_asked_without_any_library_of_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "DRIVER", str(tmp_path / "libcuda.so.1"))
    gone = trying.ask_driver()
    assert (gone.loads, gone.names) == (False, ())
    assert gone.fault is not None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, Driver(None, 13010, ("H100", "GPU 1"), (7, 7), loads=True)),
        (100, Driver(None, 13010, loads=True)),
        (803, Driver("CUDA error 803, no match", 13010, loads=True)),
    ],
)
def test_a_driver_tells_which_gpus_there_are_or_what_is_wrong(
    code: int, expected: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(reference: Any, value: Any, code: int = 0) -> int:
        reference._obj.value = value
        return code

    def name_of(name: Any, size: int, index: int) -> int:
        name.value = b"H100"
        return index

    driver = SimpleNamespace(
        cuInit=lambda _: code,
        cuDriverGetVersion=lambda number: put(number, 13010),
        cuDeviceGetCount=lambda number: put(number, 2),
        cuDeviceGetName=name_of,
        cuDeviceTotalMem_v2=lambda size, _: put(size, 7 << 20),
        cuGetErrorString=lambda _, text: put(text, b"no match"),
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    assert trying.ask_driver() == expected


@pytest.mark.device
def test_every_gpu_here_is_right_within_seconds() -> None:
    first = trial.attempt()
    began = time.perf_counter()
    result = trial.attempt()
    count = len(result.gpus)
    assert count > 0
    assert [check.reason for check in (*first.checks, *result.checks) if check.reason is not None] == []
    assert len(result.speeds) == 3 * count
    # CuPy keeps what it has compiled, so that the second time is the measure.
    assert time.perf_counter() - began < 5 + 3 * count
