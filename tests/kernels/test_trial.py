"""The trial of libraries and processors: crashes and hangs are findings, wrong results are seen; NumPy acts as CuPy."""

import ctypes
import json
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import finufft
import numpy as np
import pytest

from spilegate.kernels import findings, known_answers, trial, trying
from spilegate.kernels.findings import Check, Driver, Finding, Gpu, Library, Speed, Trial

GPU = Gpu(0, "A100", "8.0", 13010, 13000, 79_000, 81_000, 1935.5)


def package(folder: Path, name: str, text: str) -> None:
    """Make a package that is imported as this text."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


@pytest.fixture
def written() -> tuple[trying.Report, list[dict[str, Any]]]:
    """A report, and the records that were written to it."""
    records: list[dict[str, Any]] = []
    return trying.Report(lambda line: records.append(json.loads(line))), records


def found(records: list[dict[str, Any]]) -> list[Finding]:
    return [findings.from_record(record) for record in records if "begin" not in record]


# --- Processes -------------------------------------------------------------------------------------------------------


def test_numpy_and_finufft_load_and_are_right_here() -> None:
    result = trial.attempt()
    assert result.library("numpy") == Library("numpy", np.__version__)
    assert result.library("finufft") == Library("finufft", finufft.__version__)
    names = [name for name, _, _ in (*known_answers.CHECKS, *known_answers.NUFFT_CHECKS)]
    assert [check.name for check in result.checks if check.where == "CPU"] == names
    assert all(check.reason is None for check in result.checks if check.where == "CPU")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('\\n====\\n  no such thing\\nadvice')", "ImportError: no such thing"),
        (
            "raise ImportError('advice') from OSError('libcufft.so.11: cannot open')",
            "OSError: libcufft.so.11: cannot open",
        ),
        ("raise SystemExit('gone')", "SystemExit: gone"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os; os.abort()", "the process ended by SIGABRT"),
        ("import os; os._exit(0)", "the process ended with exit code 0"),
        ("import ctypes; ctypes.string_at(0)", "the process ended by SIGSEGV"),
    ],
)
def test_a_library_that_does_not_load_is_a_line(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "cupy", f"{text}\n")
    package(tmp_path, "cufinufft", "__version__ = '7'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    # What crashes does not keep the next one from being tried.
    result = trial.attempt(("cupy", "cufinufft"))
    assert result.libraries == (Library("cupy", None, reason), Library("cufinufft", "7"))


def test_a_library_that_hangs_is_a_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "cupy", "__version__ = '7'\n")
    package(tmp_path, "cufinufft", "import time; time.sleep(600)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    began = time.perf_counter()
    result = trial.attempt(("cupy", "cufinufft"), seconds=5.0)
    assert time.perf_counter() - began < 120
    assert result.libraries == (Library("cupy", "7"), Library("cufinufft", None, "it took longer than 5 s"))


def test_a_shared_object_that_lacks_another_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "cufinufft", "raise ImportError('Could not find cufinufft library in system path')\n")
    (tmp_path / "cufinufft" / "libcufinufft.so").write_bytes(b"no library")
    monkeypatch.syspath_prepend(str(tmp_path))
    reason = trial.attempt(("cufinufft",)).library("cufinufft").fault
    assert reason is not None
    assert reason.startswith("OSError: ")
    assert "libcufinufft.so: " in reason


def test_cudas_libraries_are_loaded_before_cufinufft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder = (
        "loaded = []\ndef load_nvidia_dynamic_lib(name):\n    loaded.append(name)\n    raise RuntimeError(name)\n"
    )
    package(tmp_path, "cuda", "")
    package(tmp_path / "cuda", "pathfinder", pathfinder)
    package(tmp_path, "cufinufft", "from cuda import pathfinder\n__version__ = '+'.join(pathfinder.loaded)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert trial.attempt(("cufinufft",)).libraries == (Library("cufinufft", "cudart+cufft"),)


def test_a_process_that_does_not_start_is_a_line_for_every_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho broken interpreter >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    reason = "the process ended with exit code 3 (broken interpreter)"
    result = trial.attempt(("numpy", "driver", "CPU"))
    expected = Trial((Library("numpy", None, reason),), Driver(reason), (), (Check("CPU", "started", fault=reason),))
    assert result.libraries == expected.libraries
    assert result.driver == expected.driver
    assert result.checks[0].reason == f"CPU, started: {reason}"


def test_without_an_interpreter_there_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert "No such file" in (trial.attempt(("numpy",)).library("numpy").fault or "")


def test_a_gpu_that_ends_the_process_does_not_hide_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It ends the process on GPU 0 and fails on GPU 1.
    text = "import os\n__version__ = '7'\nclass cuda:\n    @staticmethod\n    def Device(index):\n"
    package(tmp_path, "cupy", f"{text}        os.abort() if index == 0 else 1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    known = Trial(driver=Driver(names=("A", "B"), loads=True))
    result = trial._tried(known, ("GPU 0", "GPU 1"), 60.0)
    assert [check.reason for check in result.checks] == [
        "GPU 0, start: the process ended by SIGABRT",
        "GPU 1, start: ZeroDivisionError: division by zero",
    ]


def test_lines_cut_short_or_of_others_are_passed_over() -> None:
    library = json.dumps(findings.as_record(Library("cupy", "7")))
    seen = trial._seen(
        f'{{"begin": "start", "step": "cupy"}}\nother words\n{{"kind": "Other"}}\n[1]\n{library}\n{{"begin": "st'
    )
    assert (seen.found, seen.begun, seen.open) == ([Library("cupy", "7")], ["cupy"], "start")


# --- Findings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "finding",
    [
        Library("cupy", None, "why"),
        Driver("why", 13010, ("A", "B"), (1, 2), loads=True),
        GPU,
        Check("GPU 0", "FFT", 1e-7, 1e-5),
        Speed("GPU 0", "copy", 1.5, "GB/s", 3.0),
    ],
)
def test_findings_survive_being_written_down(finding: Finding) -> None:
    assert findings.from_record(json.loads(json.dumps(findings.as_record(finding)))) == finding


def test_what_was_found_is_said_in_lines() -> None:
    checks = (Check("GPU 0", "FFT", 1e-7, 1e-5), Check("GPU 0", "sum", 0.3, 1e-12), Check("GPU 0", "sum", fault="why"))
    speeds = (Speed("GPU 0", "copy", 1800.4, "GB/s", 1935.5), Speed("GPU 0", "matrix product", 18.26, "TFLOP/s"))
    assert Trial(gpus=(GPU,), checks=checks, speeds=speeds).lines() == [
        (
            "GPU 0: A100, compute capability 8.0, driver for CUDA 13.1, CUDA 13.0 in use, 79000 of 81000 MiB free",
            True,
        ),
        ("GPU 0, sum: wrong, relative error 3.0e-01; expected at most 1e-12", False),
        ("GPU 0, sum: why", False),
        ("GPU 0: FFT 1e-07 of 1e-05", True),
        ("GPU 0: copy 1800 of 1936 GB/s, matrix product 18.26 TFLOP/s", True),
    ]


def test_an_error_that_is_no_number_is_no_small_one() -> None:
    assert (
        Check("CPU", "FFT", float("nan"), 1e-5).reason == "CPU, FFT: wrong, relative error nan; expected at most 1e-05"
    )


# --- Known answers ---------------------------------------------------------------------------------------------------


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
