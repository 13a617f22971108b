"""How much a body takes at once, and how arrays come to it."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from spilegate.backend import to_host
from spilegate.kernels.device import MOST_ROOM, ROOM_PART, WIDTH, Device, room_of
from spilegate.kernels.workers import Here

COUNT, PIXELS = 333, 40

STRICT = type(array_api_strict.asarray(0.0))


def test_the_room_is_a_part_of_what_is_free_and_bounded() -> None:
    assert room_of(1e9) == ROOM_PART * 1e9
    assert room_of(1e12) == MOST_ROOM
    assert Device(np, 2, lambda: 1e9, "a device").here.room == room_of(1e9)


@pytest.mark.parametrize(
    ("width", "room", "few", "row_bytes", "rows"),
    [
        (1, np.inf, 7, 1e12, 7),
        (1, 10.0, 7, 1e12, 7),
        (64, 1e30, 7, 1e3, 448),
        (64, 1e6, 7, 1e3, 448),
        (64, 1e5, 7, 1e3, 100),
        (64, 1e5, 7, 999.0, 100),
        (64, 1e5, 7, 1e6, 1),
        (64, 0.0, 7, 1e6, 1),
        (64, 1e6, 7, 0.0, 448),
    ],
)
def test_rows_at_once_fill_a_cache_or_a_device(width: int, room: float, few: int, row_bytes: float, rows: int) -> None:
    assert Here(np, 1, width, room).rows(few, row_bytes) == rows


def test_arrays_of_the_module_pass_and_others_are_brought() -> None:
    here = Here(array_api_strict, 1, WIDTH, 1e9)
    own = array_api_strict.asarray([1.0, 2.0])
    for given in (own, np.array([1.0, 2.0])):
        array = here.array(given)
        assert type(array) is STRICT
        np.testing.assert_array_equal(to_host(array), [1.0, 2.0])
    host = np.array([1.0, 2.0])
    assert Here(np, 1).array(host) is host
    assert Here(np, 1).array(host, np.float32).dtype == np.float32
