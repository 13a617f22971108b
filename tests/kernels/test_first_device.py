"""Who is asked for a GPU: a CuPy that is not there, that finds no GPU, or that works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import assert_one_line, run

from spilegate.errors import InputError
from spilegate.kernels import launch, plans
from spilegate.kernels.device import Device, room_of
from spilegate.settings import Settings


@pytest.fixture
def not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(launch.LAUNCHED, raising=False)


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch, not_launched: None) -> None:
    """CuPy is not installed, wherever this runs."""
    monkeypatch.setitem(sys.modules, "cupy", None)


def stand_in(monkeypatch: pytest.MonkeyPatch, zeros: Callable[..., Any]) -> None:
    """Put a CuPy in place whose `zeros` is given; its GPU has 500 of 900 bytes free, and 70 are in its pool."""
    runtime = SimpleNamespace(
        getDeviceProperties=lambda number: {"name": f"GPU {number}".encode()}, memGetInfo=lambda: (500, 900)
    )
    cupy = ModuleType("cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    cupy.__version__ = "14.0"
    cupy.zeros = zeros
    cupy.cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=3))
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 70)
    monkeypatch.setitem(sys.modules, "cupy", cupy)


@pytest.fixture
def cufinufft_anew() -> Any:
    """Whether cufinufft loads is asked again."""
    plans.load_cufinufft.cache_clear()
    yield
    plans.load_cufinufft.cache_clear()


def works(*shape: Any, **options: Any) -> Any:
    return SimpleNamespace(get=lambda: np.zeros(*shape))


def refused() -> str:
    """What the request for a GPU is refused with: one line."""
    with pytest.raises(InputError) as caught:
        launch.start("cupy", 2, Settings().compute.split_voxels)
    message = str(caught.value)
    assert message.startswith("--backend cupy: ")
    assert "expected" in message
    assert "\n" not in message
    return message


def test_without_cupy_a_line_says_how_to_get_it(no_cupy: None) -> None:
    message = refused()
    assert "CuPy is not there" in message
    assert "pip install 'spilegate[gpu]'" in message
    assert "spilegate doctor" in message


def test_without_a_gpu_a_line_says_what_is_expected(monkeypatch: pytest.MonkeyPatch, not_launched: None) -> None:
    def zeros(*shape: Any) -> Any:
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient\nwith a second line")

    stand_in(monkeypatch, zeros)
    message = refused()
    assert "no GPU can be used (cudaErrorInsufficientDriver: CUDA driver version is insufficient)" in message
    assert "an NVIDIA GPU and its driver" in message
    assert "--backend numpy needs none" in message


def test_an_error_without_words_has_a_name(monkeypatch: pytest.MonkeyPatch, not_launched: None) -> None:
    def zeros(*shape: Any) -> Any:
        raise RuntimeError

    stand_in(monkeypatch, zeros)
    assert "no GPU can be used (RuntimeError)" in refused()


def test_without_cufinufft_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, not_launched: None, cufinufft_anew: None
) -> None:
    stand_in(monkeypatch, works)
    monkeypatch.setitem(sys.modules, "cufinufft", None)
    message = refused()
    assert "cufinufft does not load" in message
    assert "spilegate doctor" in message


def test_the_first_gpu_is_taken_if_all_is_there(
    monkeypatch: pytest.MonkeyPatch, not_launched: None, cufinufft_anew: None
) -> None:
    stand_in(monkeypatch, works)
    monkeypatch.setitem(sys.modules, "cufinufft", ModuleType("cufinufft"))
    workers = launch.start("cupy", 2, Settings().compute.split_voxels)
    assert isinstance(workers, Device)
    assert workers.name == "GPU 3"
    assert workers.free() == 570
    assert workers.threads == 2
    assert workers.here.xp is sys.modules["cupy"]
    assert workers.here.room == room_of(570)


@pytest.mark.parametrize("there", [True, False])
def test_under_the_launcher_there_is_no_single_gpu(monkeypatch: pytest.MonkeyPatch, no_cupy: None, there: bool) -> None:
    if there:
        stand_in(monkeypatch, works)
    monkeypatch.setenv(launch.LAUNCHED, "--cpus 1")
    message = refused()
    assert "started by the legate launcher" in message
    assert "spilegate reconstruct ... --backend cupy" in message
    assert "leave the option out" in message


@pytest.mark.parametrize("missing", ["cupy", "gpu"])
def test_the_command_line_refuses_in_one_line_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, no_cupy: None, data: Path, tmp_path: Path, missing: str
) -> None:
    if missing == "gpu":

        def zeros(*shape: Any) -> Any:
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

        stand_in(monkeypatch, zeros)
    folder = tmp_path / "out"
    result = run("reconstruct", data, "--output", folder, "--backend", "cupy")
    line = "CuPy is not there" if missing == "cupy" else "no CUDA-capable device"
    assert_one_line(result.exit_code, result.stdout, result.stderr, line)
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []
