"""The trial of libraries and processors: crashes and hangs are findings, wrong results are seen; NumPy acts as CuPy."""

import json
import sys
import time
from pathlib import Path

import finufft
import numpy as np
import pytest

from spilegate.kernels import findings, known_answers, trial
from spilegate.kernels.findings import Check, Driver, Finding, Gpu, Library, Speed, Trial

GPU = Gpu(0, "A100", "8.0", 13010, 13000, 79_000, 81_000, 1935.5)


def package(folder: Path, name: str, text: str) -> None:
    """Make a package that is imported as this text."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


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
