"""Plans of non-uniform FFTs: what cufinufft is told, and to whom a plan is lent, by stand-ins for it and for CuPy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spilegate.kernels import nufft, plans
from spilegate.kernels.plans import BY_BIN, BY_POINT, UNSORTED_SIZE, plan_of

SIZE, TOLERANCE = 9, 1e-4


class OnDevice:
    """An array of the stand-in for CuPy: no NumPy array."""

    def __init__(self, values: Any, number: int = 0) -> None:
        self.values, self.device = values, SimpleNamespace(id=number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.values, name)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[OnDevice]:
        return (OnDevice(row, self.device.id) for row in self.values)

    def reshape(self, *shape: int) -> OnDevice:
        return OnDevice(self.values.reshape(*shape), self.device.id)


OnDevice.__module__ = "cupy"


def on_device(values: Any, number: int = 0) -> OnDevice:
    return OnDevice(np.asarray(values), number)


class Library:
    """Stand-ins: the stream that is current, and every call of cufinufft."""

    def __init__(self) -> None:
        self.stream = 0
        self.made: list[Any] = []
        self.pictures: list[dict[str, Any]] = []
        library = self

        class Plan:
            def __init__(self, kind: int, shape: tuple[int, ...], **options: Any) -> None:
                self.kind, self.shape, self.options, self.calls = kind, shape, options, []
                library.made.append(self)

            def setpts(self, *points: Any) -> None:
                self.calls.append(("setpts", points))
                self.count = len(points[0])

            def execute(self, values: Any) -> Any:
                self.calls.append(("execute", values))
                n_trans = self.options["n_trans"]
                shape = self.shape if self.kind == 1 else (*([n_trans] if n_trans > 1 else []), self.count)
                return on_device(np.zeros(shape, self.options["dtype"]))

        def pictures(x: Any, y: Any, strengths: Any, shape: tuple[int, int], **options: Any) -> Any:
            library.pictures.append(options)
            return on_device(np.zeros((len(strengths), *shape), strengths.dtype))

        self.cupy, self.cufinufft = ModuleType("cupy"), ModuleType("cufinufft")
        self.cupy.ndarray = OnDevice
        self.cupy.ascontiguousarray = lambda array: on_device(np.ascontiguousarray(array.values), array.device.id)
        self.cupy.cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=self.stream))
        self.cufinufft.Plan, self.cufinufft.nufft2d1 = Plan, pictures


@pytest.fixture(autouse=True)
def no_idle_plans() -> Iterator[None]:
    """Every test begins and ends without plans."""
    plans._idle.cache_clear()
    plans.load_cufinufft.cache_clear()
    yield
    plans._idle.cache_clear()
    plans.load_cufinufft.cache_clear()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    stand_ins = Library()
    monkeypatch.setitem(sys.modules, "cupy", stand_ins.cupy)
    monkeypatch.setitem(sys.modules, "cufinufft", stand_ins.cufinufft)
    return stand_ins


def lent(like: Any, kind: int = 2, size: int = SIZE, n_trans: int = 1, dtype: str = "complex64") -> Any:
    return plan_of(like, kind, size, n_trans, dtype, TOLERANCE, 1)


def test_arrays_say_which_library() -> None:
    assert plans.library_of(np.zeros(1)) == "finufft"


@pytest.mark.parametrize(("number", "stream"), [(0, 0), (0, 77), (3, 77)])
@pytest.mark.parametrize("size", [UNSORTED_SIZE - 1, UNSORTED_SIZE])
@pytest.mark.parametrize("kind", [1, 2])
def test_what_cufinufft_is_told(library: Library, number: int, stream: int, size: int, kind: int) -> None:
    library.stream = stream
    like = on_device(np.zeros(1), number)
    assert plans.library_of(like) == "cufinufft"
    with lent(like, kind, size, n_trans=2, dtype="complex128") as plan:
        assert library.made == [plan]
    assert (plan.kind, plan.shape) == (kind, (size,) * 3)
    method = {
        1: {"isign": 1, "gpu_method": BY_BIN, "gpu_sort": 1},
        2: {"isign": -1, "gpu_method": BY_POINT, "gpu_sort": int(size >= UNSORTED_SIZE)},
    }
    assert plan.options == {
        "n_trans": 2,
        "eps": TOLERANCE,
        "dtype": "complex128",
        "upsampfac": 2.0,
        "gpu_device_id": number,
        "gpu_stream": stream,
        **method[kind],
    }


def test_a_plan_is_lent_again_where_it_was_made_and_nowhere_else(library: Library) -> None:
    places = [(0, 0), (0, 5), (1, 0), (1, 5)]
    for _ in range(3):
        for number, stream in places:
            library.stream = stream
            with lent(on_device(np.zeros(1), number)) as plan:
                assert (plan.options["gpu_device_id"], plan.options["gpu_stream"]) == (number, stream)
    assert len(library.made) == len(places)


def test_a_plan_is_lent_again_for_the_same_transform_only(library: Library) -> None:
    like = on_device(np.zeros(1))
    kinds: list[dict[str, Any]] = [{}, {"kind": 1}, {"size": SIZE + 2}, {"n_trans": 2}, {"dtype": "complex128"}]
    for _ in range(2):
        for kind in kinds:
            with lent(like, **kind):
                pass
    assert len(library.made) == len(kinds)


def test_a_plan_in_use_is_lent_to_nobody_else(library: Library) -> None:
    like = on_device(np.zeros(1))
    with ExitStack() as stack:
        together = [stack.enter_context(lent(like)) for _ in range(3)]
        assert len({id(plan) for plan in together}) == 3
    with lent(like) as first, lent(like) as second:
        assert first is not second
        assert {id(first), id(second)} <= {id(plan) for plan in together}
    assert len(library.made) == 3


def test_a_plan_that_failed_is_never_lent_to_two(library: Library) -> None:
    like = on_device(np.zeros(1))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lent(like):
            raise ZeroDivisionError
    with lent(like) as first, lent(like) as second:
        assert first is not second
    assert len(library.made) <= 4


def test_transforms_are_on_the_device_and_stream_of_their_arrays(library: Library) -> None:
    """And arrays without gaps, which is all that cufinufft reads."""
    library.stream = 9
    volumes = on_device(np.zeros((2, SIZE, SIZE, 2 * SIZE), np.complex64)[..., ::2], 1)
    points = on_device(np.zeros((8, 3), np.float32).T, 1)
    values = nufft.forward(volumes, points, tolerance=TOLERANCE, threads=4)
    assert values.shape == (2, 8)
    (plan,) = library.made
    assert (plan.kind, plan.options["n_trans"], plan.options["dtype"]) == (2, 2, "complex64")
    assert (plan.options["gpu_device_id"], plan.options["gpu_stream"]) == (1, 9)
    assert [name for name, _ in plan.calls] == ["setpts", "execute"]
    assert all(array.flags.c_contiguous for array in (*plan.calls[0][1], plan.calls[1][1]))
    summed = nufft.adjoint(on_device(np.zeros(8, np.complex64), 1), points, SIZE, tolerance=TOLERANCE)
    assert summed.shape == (SIZE,) * 3
    assert (library.made[1].kind, library.made[1].options["gpu_stream"]) == (1, 9)
    # Again, whatever the number of threads.
    nufft.forward(volumes, points, tolerance=TOLERANCE, threads=1)
    assert len(library.made) == 2


def test_pictures_are_made_on_the_device_and_stream_of_their_arrays(library: Library) -> None:
    library.stream = 9
    strengths, points = on_device(np.zeros((3, 8), np.complex64), 1), on_device(np.zeros((2, 8), np.float32), 1)
    assert nufft.adjoint_pictures(strengths, points, 7, tolerance=TOLERANCE, threads=4).shape == (3, 7, 7)
    options = {"eps": TOLERANCE, "isign": 1, "upsampfac": 2.0, "gpu_device_id": 1, "gpu_stream": 9}
    assert library.pictures == [options]


def test_plans_of_the_host_are_known_by_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """For which neither CuPy nor cufinufft has to be there."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setitem(sys.modules, "cufinufft", None)
    like = np.zeros(1)

    def plan(threads: int) -> Any:
        return plan_of(like, 2, SIZE, 1, "complex64", TOLERANCE, threads)

    with plan(1) as one, plan(2) as two, plan(1) as another:
        assert len({id(one), id(two), id(another)}) == 3
    for threads, known in ((1, {id(one), id(another)}), (2, {id(two)})):
        with plan(threads) as again:
            assert id(again) in known


@pytest.mark.parametrize("error", [ImportError, OSError])
def test_cudas_libraries_are_loaded_first_if_they_can_be(library: Library, monkeypatch: Any, error: type) -> None:
    """Where they are not found, cufinufft looks for them itself."""
    seen = []

    def load(name: str) -> None:
        seen.append(name)
        if error is OSError:
            raise OSError(f"no {name}")

    pathfinder = ModuleType("cuda.pathfinder")
    pathfinder.load_nvidia_dynamic_lib = load
    cuda = ModuleType("cuda")
    cuda.pathfinder = pathfinder
    monkeypatch.setitem(sys.modules, "cuda", cuda)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None if error is ImportError else pathfinder)
    assert plans.load_cufinufft() is library.cufinufft
    assert seen == ([] if error is ImportError else ["cudart", "cufft"])
