"""All tasks of a GPU work on one stream, after what the streams of Legate wait for and before what waits for them."""

from __future__ import annotations

import sys
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spilegate.kernels import stores


class Stream:
    """A stream that writes down who waits for whom."""

    def __init__(self, log: list[Any], name: Any) -> None:
        self.log, self.name = log, name

    def record(self) -> Any:
        self.log.append(("recorded", self.name))
        return self.name

    def wait_event(self, event: Any) -> None:
        self.log.append(("waits", self.name, event))

    def __enter__(self) -> None:
        self.log.append(("begins", self.name))

    def __exit__(self, *error: Any) -> None:
        self.log.append(("ends", self.name))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens on the streams of a stand-in for CuPy whose current device is number 0."""
    written: list[Any] = []
    made = count()

    def stream(*, non_blocking: bool) -> Stream:
        assert non_blocking
        return Stream(written, f"own {next(made)}")

    cupy: Any = ModuleType("cupy")
    cupy.device = 0
    cupy.cuda = SimpleNamespace(
        ExternalStream=lambda pointer: Stream(written, pointer),
        Stream=stream,
        Device=lambda: SimpleNamespace(id=cupy.device),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    stores._stream.cache_clear()
    return written


def task(stream: int) -> Any:
    return SimpleNamespace(task_stream=stream)


def test_tasks_on_different_streams_work_on_one(log: list[Any]) -> None:
    for stream in (7, 9):
        with stores.working(True, task(stream)) as xp:
            assert xp is sys.modules["cupy"]
        assert log == [
            ("recorded", stream),
            ("waits", "own 0", stream),
            ("begins", "own 0"),
            ("ends", "own 0"),
            ("recorded", "own 0"),
            ("waits", stream, "own 0"),
        ]
        log.clear()


def test_every_device_has_a_stream(log: list[Any]) -> None:
    for device in (0, 1, 0):
        sys.modules["cupy"].device = device  # type: ignore[attr-defined]
        with stores.working(True, task(3)):
            pass
    assert [name for did, name, *_ in log if did == "begins"] == ["own 0", "own 1", "own 0"]


def test_a_task_that_fails_is_waited_for_too(log: list[Any]) -> None:
    with pytest.raises(ValueError, match="no"), stores.working(True, task(3)):
        raise ValueError("no")
    assert log[-1] == ("waits", 3, "own 0")


def test_on_a_cpu_nothing_is_asked_of_cupy(log: list[Any]) -> None:
    with stores.working(False, task(3)) as xp:
        assert xp is np
    assert log == []
